//! What the evaluations of a run have come to: the lowest loss of the held-out rows so far, and how long ago that was.
//!
//! Invariant: it follows from the losses in their order, so a run that goes on from a save judges as one that never stopped.

use serde::{Deserialize, Serialize};

/// The evaluation with the lowest loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Updates made before it.
    pub step: u64,
    /// Epochs done, with the current one's part.
    pub epoch: f64,
    /// Negative log-likelihood per token of the held-out rows.
    pub val_loss: f64,
}

/// All evaluations so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct HeldOut {
    /// Hashes of the rows' files: losses of other rows are not compared.
    pub(crate) rows: String,
    /// The lowest; of equal ones the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) best: Option<Best>,
    /// Evaluations since then.
    #[serde(default)]
    pub(crate) since: u64,
}

impl HeldOut {
    /// Of rows whose files have these hashes, before the first evaluation.
    pub(crate) fn of(rows: String) -> Self {
        HeldOut { rows, ..HeldOut::default() }
    }

    /// Takes an evaluation into account. Whether it is the best so far.
    pub(crate) fn see(&mut self, seen: Best) -> bool {
        let is_lower = self.best.is_none_or(|best| seen.val_loss < best.val_loss);
        match is_lower {
            true => (self.best, self.since) = (Some(seen), 0),
            false => self.since += 1,
        }
        is_lower
    }

    /// Whether so many evaluations in a row that `patience` is at its end were no better.
    pub(crate) fn stops(&self, patience: Option<u64>) -> bool {
        patience.is_some_and(|patience| self.since >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lower_loss_is_better_and_patience_counts_from_the_last() {
        let mut held_out = HeldOut::of("rows".to_string());
        let seen = |step: u64, val_loss: f64| Best { step, epoch: 0.0, val_loss };
        let losses = [3.0, 2.0, 2.0, 2.5, 1.5, 1.75, 1.5, 1.6];
        let better: Vec<bool> = (1..).zip(losses).map(|(step, loss)| held_out.see(seen(step, loss))).collect();
        assert_eq!(better, [true, true, false, false, true, false, false, false]);
        assert_eq!((held_out.best, held_out.since), (Some(seen(5, 1.5)), 3));
        assert!(held_out.stops(Some(3)) && !held_out.stops(Some(4)) && !held_out.stops(None));
        let text = serde_json::to_string(&held_out).expect("JSON");
        assert_eq!(serde_json::from_str::<HeldOut>(&text).expect("its own"), held_out);
    }
}
