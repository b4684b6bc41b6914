//! What the process held at most in each phase of a run, beside what was planned for it.
//!
//! The system keeps one high-water mark. Left alone it only rises, so that a phase is measured with all that came before
//! it. With `apart` the mark is set back where a phase begins, and each is measured by itself. Invariant: the peak of the
//! whole run is the largest of all marks, whether they were set back or not.

use crate::plan::process_memory;
use crate::{PhaseMemory, RunPhase};

/// One phase, planned and measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhasePeak {
    /// The phase.
    pub phase: RunPhase,
    /// What was planned.
    pub planned_bytes: u64,
    /// What the process held at most, where the system tells.
    pub peak_bytes: Option<u64>,
}

/// Takes the mark where phases end.
pub(crate) struct PhasePeaks {
    apart: bool,
    highest: Option<u64>,
    phases: Vec<PhasePeak>,
    planned: Vec<PhaseMemory>,
}

impl PhasePeaks {
    pub(crate) fn new(apart: bool, planned: Vec<PhaseMemory>) -> Self {
        PhasePeaks { apart, highest: None, phases: Vec::new(), planned }
    }

    /// A phase begins. The first, load or resume, holds everything before it and has no beginning of its own.
    pub(crate) fn begin(&mut self) {
        if self.apart {
            self.highest = self.highest.max(process_memory::peak_resident_bytes());
            process_memory::reset_peak();
        }
    }

    /// A phase ends.
    pub(crate) fn end(&mut self, phase: RunPhase) {
        let mark = process_memory::peak_resident_bytes();
        self.highest = self.highest.max(mark);
        match self.phases.iter_mut().find(|peak| peak.phase == phase) {
            Some(peak) => peak.peak_bytes = peak.peak_bytes.max(mark),
            None => {
                let planned = self.planned.iter().find(|planned| planned.phase == phase);
                let planned_bytes = planned.map_or(0, |planned| planned.peak_bytes() as u64);
                self.phases.push(PhasePeak { phase, planned_bytes, peak_bytes: mark });
            }
        }
    }

    /// The peak of the run so far.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.highest.max(process_memory::peak_resident_bytes())
    }

    /// The phases that the run went through, in the order in which it first did, and what was planned of all.
    pub(crate) fn into_phases(self) -> (Vec<PhasePeak>, Vec<PhaseMemory>) {
        (self.phases, self.planned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_keep_their_highest_mark_and_the_run_the_highest_of_all() {
        let mut peaks = PhasePeaks::new(false, Vec::new());
        for phase in [RunPhase::Load, RunPhase::Step, RunPhase::Save, RunPhase::Step] {
            peaks.begin();
            peaks.end(phase);
        }
        let highest = peaks.highest().expect("Linux tells");
        let (phases, _) = peaks.into_phases();
        let expected = [RunPhase::Load, RunPhase::Step, RunPhase::Save];
        assert_eq!(phases.iter().map(|peak| peak.phase).collect::<Vec<_>>(), expected);
        assert!(phases.iter().all(|phase| phase.peak_bytes.is_some_and(|peak| peak <= highest)));
    }
}
