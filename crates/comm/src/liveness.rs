//! Which ranks are still there, as one rank sees it.
//!
//! Invariant: silence is counted in beats of this rank's own, never read from a clock, so that a machine that slept, or a
//! scheduler that stopped all ranks together, is no rank's failure.

use crate::CommError;
use std::time::Duration;

/// How often a rank says that it is there.
pub(crate) const BEAT: Duration = Duration::from_secs(1);

/// What was heard of the other ranks.
#[derive(Debug)]
pub(crate) struct Liveness {
    /// How many beats a rank may be silent.
    patience: u32,
    others: Vec<Other>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Other {
    silent_beats: u32,
    has_left: bool,
}

impl Liveness {
    /// Of `size` ranks, each of which may be silent for so long, in whole beats.
    pub(crate) fn new(size: usize, silence: Duration) -> Self {
        let patience = silence.as_secs().div_ceil(BEAT.as_secs()).max(1) as u32;
        Liveness { patience, others: vec![Other::default(); size] }
    }

    /// A rank has said something.
    pub(crate) fn heard(&mut self, rank: usize) {
        self.others[rank].silent_beats = 0;
    }

    /// A rank is done and will say nothing more.
    pub(crate) fn left(&mut self, rank: usize) {
        self.others[rank].has_left = true;
    }

    /// Whether a rank is done.
    pub(crate) fn has_left(&self, rank: usize) -> bool {
        self.others[rank].has_left
    }

    /// Whether all ranks but `mine` are done.
    pub(crate) fn have_left(&self, mine: usize) -> bool {
        self.others.iter().enumerate().all(|(rank, other)| rank == mine || other.has_left)
    }

    /// Counts a beat of this rank, `mine`.
    ///
    /// # Errors
    /// A rank that was silent for too long.
    pub(crate) fn beat(&mut self, mine: usize) -> Result<(), CommError> {
        for (rank, other) in self.others.iter_mut().enumerate() {
            if rank == mine || other.has_left {
                continue;
            }
            other.silent_beats += 1;
            if other.silent_beats > self.patience {
                return Err(CommError::Silent { rank, silence: self.patience * BEAT });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_is_silent_for_as_many_beats_as_it_may() {
        let mut liveness = Liveness::new(3, Duration::from_secs(2));
        for _ in 0..5 {
            assert_eq!(liveness.beat(0), Ok(()));
            (1..3).for_each(|rank| liveness.heard(rank));
        }
        for _ in 0..2 {
            assert_eq!(liveness.beat(0), Ok(()), "within its patience");
            liveness.heard(1);
        }
        assert_eq!(liveness.beat(0), Err(CommError::Silent { rank: 2, silence: Duration::from_secs(2) }));
    }

    #[test]
    fn a_rank_that_has_left_may_be_silent() {
        let mut liveness = Liveness::new(3, Duration::from_millis(1));
        liveness.left(2);
        assert!(liveness.has_left(2) && !liveness.have_left(0));
        for _ in 0..5 {
            liveness.heard(1);
            assert_eq!(liveness.beat(0), Ok(()));
        }
        liveness.left(1);
        assert!(liveness.have_left(0) && !liveness.have_left(1), "0 itself is never heard of");
    }
}
