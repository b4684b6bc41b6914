//! Where a device is opened: the one file that names a concrete one.
//!
//! Invariant: whoever holds a [`Device`] does not know which it is. Look next at `remat_plan::Device` for what it can do.

use remat_cpu::{CpuExecutor, CpuOptions};
use remat_plan::{Device, DeviceError, DeviceProfile, FileRange, SpillPrices};
use std::path::Path;

pub use remat_cpu::{Level, SpeedProbe, multiplier_peak, release_freed_memory, speed_probe};

/// How to come to a device with so many threads and kernels of a level.
#[derive(Debug, Clone, Copy)]
pub struct Opener {
    /// Opens it.
    pub open: fn(usize, Level) -> Box<dyn Device>,
    /// What the compiler needs to know of it, without opening it.
    pub profile: fn(usize, Level) -> DeviceProfile,
}

/// The CPU.
const CPU: Opener = Opener {
    open: |threads, level| Box::new(CpuExecutor::new(CpuOptions { threads, level })),
    profile: |threads, level| CpuOptions { threads, level }.profile(),
};

/// Which device, and how it computes.
#[derive(Clone, Copy)]
pub struct DeviceOptions {
    /// Threads, the caller's included.
    pub threads: usize,
    /// Instruction level of the kernels.
    pub level: Level,
    opener: Opener,
}

impl std::fmt::Debug for DeviceOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceOptions({} threads, {})", self.threads, self.level)
    }
}

impl PartialEq for DeviceOptions {
    fn eq(&self, other: &Self) -> bool {
        (self.threads, self.level) == (other.threads, other.level)
            && std::ptr::fn_addr_eq(self.opener.open, other.opener.open)
    }
}

impl Eq for DeviceOptions {}

impl DeviceOptions {
    /// The CPU with so many threads, at the strongest level of this machine.
    pub fn cpu(threads: usize) -> Self {
        DeviceOptions { threads, level: Level::detect(), opener: CPU }
    }

    /// At another level.
    pub fn at_level(self, level: Level) -> Self {
        DeviceOptions { level, ..self }
    }

    /// A device of one's own in place of the CPU.
    pub fn opened_by(self, opener: Opener) -> Self {
        DeviceOptions { opener, ..self }
    }

    /// The device, without plans.
    pub fn open(&self) -> Box<dyn Device> {
        (self.opener.open)(self.threads, self.level)
    }

    /// What the compiler needs to know of it, with nominal prices. The device need not be opened for it.
    pub fn profile(&self) -> DeviceProfile {
        (self.opener.profile)(self.threads, self.level)
    }
}

/// Bytes per second of a range of a file, past the page cache; of 32 MiB of it at most.
///
/// # Errors
/// A file that cannot be read.
pub fn measure_reads(range: &FileRange) -> Result<f64, DeviceError> {
    remat_cpu::measure_reads(range)
}

/// What copies to a folder and back cost: a file of 32 MiB is written there, read and gone.
///
/// # Errors
/// A folder that cannot be written to.
pub fn measure_spill(folder: &Path) -> Result<SpillPrices, DeviceError> {
    remat_cpu::measure_spill(folder)
}
