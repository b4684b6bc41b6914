//! Learning-rate schedules, as transformers' `get_{constant,linear,cosine}_schedule_with_warmup` define them.
//!
//! Update k (from 0) uses `base · λ(k)`. With W warm-up updates and S updates in all:
//!
//! ```text
//! k < W       λ = k / W                                  so the very first update has rate 0
//! constant    λ = 1
//! linear      λ = (S − k) / (S − W)
//! cosine      λ = (1 + cos(π (k − W) / (S − W))) / 2
//! ```
//!
//! Invariant: a rate is a pure function of its update, so a resumed run needs no schedule state.

/// How the learning rate goes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// Stays.
    Constant,
    /// Falls to 0 on a straight line.
    Linear,
    /// Falls to 0 on half a cosine.
    Cosine,
}

/// A schedule over a whole run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Its form.
    pub decay: Decay,
    /// The highest rate.
    pub base: f64,
    /// Updates of the warm-up.
    pub warmup_updates: u64,
    /// Updates of the run.
    pub total_updates: u64,
}

impl Schedule {
    /// The same rate at every update.
    pub fn constant(rate: f64) -> Self {
        Schedule { decay: Decay::Constant, base: rate, warmup_updates: 0, total_updates: 0 }
    }

    /// Up from 0 over `warmup_updates`, then down to 0 at `total_updates` on a straight line.
    pub fn linear(highest: f64, warmup_updates: u64, total_updates: u64) -> Self {
        Schedule { decay: Decay::Linear, base: highest, warmup_updates, total_updates }
    }

    /// Up from 0 over `warmup_updates`, then down to 0 at `total_updates` on half a cosine.
    pub fn cosine(highest: f64, warmup_updates: u64, total_updates: u64) -> Self {
        Schedule { decay: Decay::Cosine, base: highest, warmup_updates, total_updates }
    }

    /// The rate of update `update`, counted from 0.
    pub fn rate(&self, update: u64) -> f64 {
        self.base * self.factor(update)
    }

    fn factor(&self, update: u64) -> f64 {
        let warmup = self.warmup_updates;
        if update < warmup {
            return update as f64 / warmup as f64;
        }
        let span = self.total_updates.saturating_sub(warmup).max(1) as f64;
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => self.total_updates.saturating_sub(update) as f64 / span,
            Decay::Cosine => {
                let progress = (update - warmup) as f64 / span;
                (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decay: Decay, warmup_updates: u64, total_updates: u64) -> Vec<f64> {
        let schedule = Schedule { decay, base: 2.0, warmup_updates, total_updates };
        (0..total_updates + 2).map(|update| schedule.rate(update)).collect()
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!((found - expected).abs() < 1e-12, "update {index}: {found} instead of {expected}");
        }
    }

    #[test]
    fn constant_stays_after_its_warmup() {
        assert_close(&rates(Decay::Constant, 0, 2), &[2.0; 4]);
        assert_close(&rates(Decay::Constant, 4, 3), &[0.0, 0.5, 1.0, 1.5, 2.0]);
    }

    #[test]
    fn linear_reaches_zero_at_the_end_and_stays() {
        assert_close(&rates(Decay::Linear, 0, 4), &[2.0, 1.5, 1.0, 0.5, 0.0, 0.0]);
        assert_close(&rates(Decay::Linear, 2, 6), &[0.0, 1.0, 2.0, 1.5, 1.0, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn cosine_is_half_way_at_half_time() {
        let root = 2.0_f64.sqrt() / 2.0;
        let expected = [2.0, 1.0 + root, 1.0, 1.0 - root, 0.0, 1.0 - root];
        assert_close(&rates(Decay::Cosine, 0, 4), &expected);
        assert_close(&rates(Decay::Cosine, 1, 3), &[0.0, 2.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn a_warmup_longer_than_the_run_only_rises() {
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine] {
            let schedule = Schedule { decay, base: 1.0, warmup_updates: 10, total_updates: 5 };
            let rates: Vec<f64> = (0..5).map(|update| schedule.rate(update)).collect();
            assert_close(&rates, &[0.0, 0.1, 0.2, 0.3, 0.4]);
        }
    }
}
