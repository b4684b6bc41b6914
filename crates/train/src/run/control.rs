//! How a run is started, stopped and watched, beside its settings. Invariant: nothing here changes what is computed.

use crate::folder::existing::Existing;
use remat_comm::Engine;
use remat_step::device::Opener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How a run is started and stopped, beside its settings.
#[derive(Debug, Clone, Copy)]
pub struct RunControl<'a> {
    /// What to do with a run folder that is there already.
    pub existing: Existing,
    /// Set by whoever wants the run to save and stop.
    pub interrupt: &'a AtomicBool,
    /// Where the trace of one update goes, if it is wanted.
    pub trace: Option<&'a Path>,
    /// The file that the settings came from, if a person named one: it is not to be written over.
    pub config_file: Option<&'a Path>,
    /// What is checked while it goes.
    pub checks: Checks,
    /// What opens the device in place of the CPU, for a device of one's own.
    pub device: Option<Opener>,
    /// Whether the peak of each phase is measured by itself. The process's high-water mark is set back for it, so that
    /// whoever reads that mark from outside sees the last phase's only.
    pub phases_apart: bool,
    /// How long the run waits for room where the disk is full before it ends; zero: not at all.
    pub disk_wait: Duration,
    /// The ranks that train together, of which this is one; none where the process trains alone.
    pub ranks: Option<&'a Arc<dyn Engine>>,
}

/// Checks of a run, for those who doubt it. They cost time; the result is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// Hold recomputed values to the forward's bits in every update, and all values to the f64 interpreter in the first
    /// two, where that is small enough to follow.
    pub validate: bool,
    /// Fill free bytes of the arena with NaN, so that a use after free shows in the loss.
    pub poison: bool,
    /// Of several ranks: after how many updates, at least 1, they compare what all of them have to hold alike. They do so
    /// before the first update and before whatever is written, too.
    pub compare_ranks_every: u64,
}

impl Default for Checks {
    fn default() -> Self {
        Checks { validate: false, poison: false, compare_ranks_every: 100 }
    }
}
