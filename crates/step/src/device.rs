//! Where a device is opened: the one file that names concrete ones.
//!
//! Invariant: whoever holds a [`Device`] does not know which it is. Look next at `remat_plan::Device` for what it can do.

use remat_cpu::{CpuExecutor, CpuOptions};
use remat_cuda::driver::Driver;
use remat_cuda::driver::real::{Notice, RealDriver, cards, initialised};
use remat_cuda::{CudaDevice, device_error};
use remat_plan::{Device, DeviceError, DeviceProfile, FileRange, Prices, SpillPrices};
use std::io::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Mutex;

pub use remat_cpu::{Level, SpeedProbe, multiplier_peak, release_freed_memory, speed_probe};
pub use remat_cuda::driver::Card;
pub use remat_cuda::{CARDS, PublishedCard, RESERVED_BYTES, published};

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

/// Which device it is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Opened(Opener),
    /// A card that is there.
    Cuda(FoundCard),
    /// A card of the table, to be planned for.
    Published(&'static PublishedCard),
}

/// A card that is there, as it was when it was first asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FoundCard {
    /// Its number for the driver.
    index: usize,
    card: &'static Card,
    /// What it had left beside the context.
    free_bytes: usize,
}

/// Which device, and how it computes.
#[derive(Clone, Copy)]
pub struct DeviceOptions {
    /// Threads, the caller's included.
    pub threads: usize,
    /// Instruction level of the kernels.
    pub level: Level,
    kind: Kind,
    /// Most of the device's own memory, where that is limited.
    memory_bytes: Option<usize>,
}

impl std::fmt::Debug for DeviceOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceOptions({} threads, {})", self.threads, self.level)
    }
}

impl PartialEq for DeviceOptions {
    fn eq(&self, other: &Self) -> bool {
        let same_kind = match (self.kind, other.kind) {
            (Kind::Opened(a), Kind::Opened(b)) => std::ptr::fn_addr_eq(a.open, b.open),
            (Kind::Cuda(a), Kind::Cuda(b)) => a == b,
            (Kind::Published(a), Kind::Published(b)) => a == b,
            _ => false,
        };
        same_kind && (self.threads, self.level, self.memory_bytes) == (other.threads, other.level, other.memory_bytes)
    }
}

impl Eq for DeviceOptions {}

/// Cards that were asked for: each is looked at once.
static FOUND: Mutex<Vec<FoundCard>> = Mutex::new(Vec::new());

fn open_card(index: usize) -> Result<RealDriver, DeviceError> {
    initialised().and_then(|library| RealDriver::open(library, index)).map_err(device_error)
}

/// Says something on the error stream, where there is one.
fn note(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "note: {sentence}");
}

fn found(index: usize) -> Result<FoundCard, DeviceError> {
    let mut found = FOUND.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(known) = found.iter().find(|card| card.index == index) {
        return Ok(*known);
    }
    let driver = open_card(index)?;
    let free_bytes = driver.free_bytes().map_err(device_error)?;
    // For the life of the process, so that options are as small as numbers.
    let card = FoundCard { index, card: Box::leak(Box::new(driver.card().clone())), free_bytes };
    found.push(card);
    Ok(card)
}

impl DeviceOptions {
    /// The CPU with so many threads, at the strongest level of this machine.
    pub fn cpu(threads: usize) -> Self {
        DeviceOptions { threads, level: Level::detect(), kind: Kind::Opened(CPU), memory_bytes: None }
    }

    /// At another level.
    pub fn at_level(self, level: Level) -> Self {
        DeviceOptions { level, ..self }
    }

    /// A device of one's own in place of the CPU.
    pub fn opened_by(self, opener: Opener) -> Self {
        DeviceOptions { kind: Kind::Opened(opener), ..self }
    }

    /// The CUDA card of this number in place of the CPU, which still does what is done on the host.
    ///
    /// # Errors
    /// No driver, one that is too old, no such card, one that kernels do not run on.
    pub fn on_cuda(self, index: usize) -> Result<Self, DeviceError> {
        Ok(DeviceOptions { kind: Kind::Cuda(found(index)?), ..self })
    }

    /// A published card, to be planned for.
    pub fn for_published(self, card: &'static PublishedCard) -> Self {
        DeviceOptions { kind: Kind::Published(card), ..self }
    }

    /// With so much of the device's own memory at most; the CPU has none.
    pub fn with_memory(self, memory_bytes: Option<usize>) -> Self {
        DeviceOptions { memory_bytes, ..self }
    }

    /// The device, without plans.
    ///
    /// # Errors
    /// A card that is there no more, or is only in the table.
    pub fn open(&self) -> Result<Box<dyn Device>, DeviceError> {
        match self.kind {
            Kind::Opened(opener) => Ok((opener.open)(self.threads, self.level)),
            Kind::Cuda(card) => {
                let driver = open_card(card.index)?.with_notice(Notice::to(note));
                Ok(Box::new(CudaDevice::new(Rc::new(driver))))
            }
            Kind::Published(card) => {
                let problem = format!("{} is a card of the table, to plan for; to run, use cpu or cuda", card.name);
                Err(DeviceError::Absent { problem })
            }
        }
    }

    /// What the compiler needs to know of it, with nominal prices. The device need not be opened for it.
    pub fn profile(&self) -> DeviceProfile {
        let profile = match self.kind {
            Kind::Opened(opener) => return (opener.profile)(self.threads, self.level),
            Kind::Cuda(of) => DeviceProfile { own_memory_bytes: Some(of.free_bytes), ..remat_cuda::profile(of.card) },
            Kind::Published(card) => card.profile(true),
        };
        let own = profile.own_memory_bytes.map(|bytes| bytes.min(self.memory_bytes.unwrap_or(usize::MAX)));
        DeviceProfile { own_memory_bytes: own, ..profile }
    }

    /// Prices that nobody measures: of a published card, `narrow` where activations are bf16.
    pub fn published_prices(&self, narrow: bool) -> Option<Prices> {
        match self.kind {
            Kind::Published(card) => Some(card.prices(narrow)),
            Kind::Opened(_) | Kind::Cuda(_) => None,
        }
    }

    /// What tells its prices from others', where that is not the CPU.
    pub fn card_name(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Opened(_) => None,
            Kind::Cuda(found) => Some(found.card.name.as_str()),
            Kind::Published(card) => Some(card.name),
        }
    }
}

/// The CUDA cards of this machine.
///
/// # Errors
/// Why there are none: no driver, or one that is too old.
pub fn cuda_cards() -> Result<Vec<Card>, DeviceError> {
    initialised().and_then(|library| cards(&library)).map_err(device_error)
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
