//! The times of the steps of one update, in the order in which they ran.
//!
//! Invariant: memory for them is taken beforehand, so that a traced run allocates nothing either.

use remat_plan::{ProgramId, StepId, StepTime};
use std::time::Instant;

/// One step that ran.
#[derive(Debug, Clone, Copy)]
pub struct Ran {
    /// The plan.
    pub program: ProgramId,
    /// The step of it.
    pub step: StepId,
    /// Seconds since the trace began.
    pub start: f64,
    /// How long it took.
    pub seconds: f64,
}

/// Collects what ran.
#[derive(Debug)]
pub struct StepTrace {
    started: Instant,
    times: Vec<StepTime>,
    ran: Vec<Ran>,
}

impl StepTrace {
    /// Of so many steps in all, in runs of at most `longest` steps.
    pub fn new(steps: usize, longest: usize) -> Self {
        let (times, ran) = (vec![StepTime::default(); longest], Vec::with_capacity(steps));
        StepTrace { started: Instant::now(), times, ran }
    }

    /// What a trace of so many steps holds in memory.
    pub fn bytes(steps: usize, longest: usize) -> usize {
        steps * size_of::<Ran>() + longest * size_of::<StepTime>()
    }

    /// What ran.
    pub fn ran(&self) -> &[Ran] {
        &self.ran
    }

    /// Forgets what ran; the memory stays.
    pub fn clear(&mut self) {
        self.ran.clear();
        self.started = Instant::now();
    }

    /// Where the next run of so many steps writes its times.
    pub(crate) fn times(&mut self, steps: usize) -> &mut [StepTime] {
        self.times.resize(steps.max(self.times.len()), StepTime::default());
        &mut self.times[..steps]
    }

    /// Takes over the times of a run that began at `began`.
    pub(crate) fn take(&mut self, program: ProgramId, steps: usize, began: Instant) {
        let offset = began.duration_since(self.started).as_secs_f64();
        let ran = self.times[..steps].iter().enumerate().map(|(index, time)| Ran {
            program,
            step: StepId(index as u32),
            start: offset + time.start,
            seconds: time.seconds,
        });
        self.ran.extend(ran);
    }
}
