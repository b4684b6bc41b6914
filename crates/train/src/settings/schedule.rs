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

use serde::{Deserialize, Serialize, Serializer};

/// How the learning rate goes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Stays.
    Constant,
    /// Falls to 0 on a straight line.
    Linear,
    /// Falls to 0 on half a cosine.
    Cosine,
}

impl std::fmt::Display for ScheduleKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ScheduleKind::Constant => "constant",
            ScheduleKind::Linear => "linear",
            ScheduleKind::Cosine => "cosine",
        })
    }
}

/// How long the learning rate rises: a number of updates, or below 1 a share of the run's.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
pub struct Warmup(pub f64);

impl Warmup {
    /// Whether it is a share or a whole number that can be counted exactly.
    pub fn is_valid(self) -> bool {
        (0.0..1.0).contains(&self.0) || (self.0.fract() == 0.0 && (1.0..=MOST_EXACT).contains(&self.0))
    }

    /// Its updates in a run of `total_updates`; a part of an update is one.
    pub fn updates(self, total_updates: u64) -> u64 {
        let updates = if self.0 < 1.0 { whole_updates(self.0 * total_updates as f64) } else { self.0 };
        updates as u64
    }
}

impl std::str::FromStr for Warmup {
    type Err = std::num::ParseFloatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Warmup)
    }
}

impl std::fmt::Display for Warmup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Warmup {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        whole_or_fraction(&Some(self.0), serializer)
    }
}

/// Whole numbers up to this one are floats, too.
const MOST_EXACT: f64 = (1u64 << 53) as f64;

/// A number as it was given: `2` stays `2`, and is not `2.0`.
pub(crate) fn whole_or_fraction<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match *number {
        None => serializer.serialize_none(),
        Some(number) if number.fract() == 0.0 && (0.0..=MOST_EXACT).contains(&number) => {
            serializer.serialize_some(&(number as u64))
        }
        Some(number) => serializer.serialize_some(&number),
    }
}

/// Updates with the last one whole; what only roundings add is none.
pub(crate) fn whole_updates(updates: f64) -> f64 {
    (updates - 1e-6).ceil().max(0.0)
}

/// A schedule over a whole run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Its form.
    pub kind: ScheduleKind,
    /// The highest rate.
    pub base: f64,
    /// Updates of the warm-up.
    pub warmup_updates: u64,
    /// Updates of the run.
    pub total_updates: u64,
}

impl Schedule {
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
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => self.total_updates.saturating_sub(update) as f64 / span,
            ScheduleKind::Cosine => {
                let progress = (update - warmup) as f64 / span;
                (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(kind: ScheduleKind, warmup_updates: u64, total_updates: u64) -> Vec<f64> {
        let schedule = Schedule { kind, base: 2.0, warmup_updates, total_updates };
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
        assert_close(&rates(ScheduleKind::Constant, 0, 2), &[2.0; 4]);
        assert_close(&rates(ScheduleKind::Constant, 4, 3), &[0.0, 0.5, 1.0, 1.5, 2.0]);
    }

    #[test]
    fn linear_reaches_zero_at_the_end_and_stays() {
        assert_close(&rates(ScheduleKind::Linear, 0, 4), &[2.0, 1.5, 1.0, 0.5, 0.0, 0.0]);
        assert_close(&rates(ScheduleKind::Linear, 2, 6), &[0.0, 1.0, 2.0, 1.5, 1.0, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn cosine_is_half_way_at_half_time() {
        let root = 2.0_f64.sqrt() / 2.0;
        let expected = [2.0, 1.0 + root, 1.0, 1.0 - root, 0.0, 1.0 - root];
        assert_close(&rates(ScheduleKind::Cosine, 0, 4), &expected);
        assert_close(&rates(ScheduleKind::Cosine, 1, 3), &[0.0, 2.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn a_warmup_below_one_is_a_share() {
        let updates = |warmup, total| Warmup(warmup).updates(total);
        assert_eq!([updates(0.0, 30), updates(0.1, 30), updates(0.1, 31), updates(1.0, 30)], [0, 3, 4, 1]);
        assert_eq!((updates(0.5, 1), updates(7.0, 3)), (1, 7));
        for (warmup, valid) in
            [(0.999, true), (1.0, true), (1.5, false), (-0.5, false), (f64::NAN, false), (1e300, false)]
        {
            assert_eq!(Warmup(warmup).is_valid(), valid, "{warmup}");
        }
    }

    #[test]
    fn a_warmup_longer_than_the_run_only_rises() {
        for kind in [ScheduleKind::Constant, ScheduleKind::Linear, ScheduleKind::Cosine] {
            let schedule = Schedule { kind, base: 1.0, warmup_updates: 10, total_updates: 5 };
            let rates: Vec<f64> = (0..5).map(|update| schedule.rate(update)).collect();
            assert_close(&rates, &[0.0, 0.1, 0.2, 0.3, 0.4]);
        }
    }
}
