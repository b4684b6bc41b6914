//! How the settings name a learning-rate schedule. Look next at `remat_step::Schedule` for what each computes.

use remat_step::Decay;
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

impl From<ScheduleKind> for Decay {
    fn from(kind: ScheduleKind) -> Self {
        match kind {
            ScheduleKind::Constant => Decay::Constant,
            ScheduleKind::Linear => Decay::Linear,
            ScheduleKind::Cosine => Decay::Cosine,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
