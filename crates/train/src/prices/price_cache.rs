//! The file that keeps measured prices between runs, with how they were come by.
//!
//! Invariant: a file that is missing, damaged, of another machine or holds numbers that no machine has is no file, never an
//! error; one that cannot be written costs the time to measure and nothing else.

use remat_formats::write_atomic;
use remat_plan::Prices;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Of the file's form, and of what is measured: either may change with it.
pub(crate) const SCHEMA: u32 = 7;

/// A file of prices is a few KiB; anything much larger is not one.
pub(crate) const MOST_BYTES: u64 = 1 << 16;

/// Corrections that are remembered.
const MOST_CORRECTIONS: usize = 8;

/// Prices with how they were come by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PriceCache {
    pub(crate) schema: u32,
    pub(crate) fingerprint: String,
    pub(crate) prices: Prices,
    pub(crate) history: PriceHistory,
}

/// How prices were come by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PriceHistory {
    /// When they were measured, in seconds since 1970.
    pub measured_at: u64,
    /// How far the passes of a trial lay apart at most, as a part of their median; of single passes nobody knows.
    pub spread: Option<f64>,
    /// Whether the machine did something else at the time, so that they may be too high.
    pub busy: bool,
    /// The fastest probe of the machine while they were measured.
    pub rounds_per_second: f64,
    /// By runs that took longer or shorter, the oldest first.
    pub corrections: Vec<PriceCorrection>,
}

/// What a run found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PriceCorrection {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Seconds of the run's step by the prices before.
    pub predicted_seconds: f64,
    /// What it took.
    pub measured_seconds: f64,
    /// By how much each class of ops takes longer than its price said.
    pub factors: BTreeMap<String, f64>,
}

impl PriceCache {
    /// The file's, if they can be trusted.
    pub(crate) fn read(path: &Path, fingerprint: &str) -> Option<PriceCache> {
        let text = remat_formats::read_file(path, MOST_BYTES).ok()?;
        let cached: PriceCache = serde_json::from_slice(&text).ok()?;
        let same = cached.schema == SCHEMA && cached.fingerprint == fingerprint;
        (same && cached.prices.measured && cached.prices.are_plausible()).then_some(cached)
    }

    /// Whether they were measured on a busy machine and no run has corrected them since.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.history.busy && self.history.corrections.is_empty()
    }

    /// Keeps them; false where that cannot be done.
    pub(crate) fn write(&self, path: &Path) -> bool {
        let folder = path.parent().map(std::fs::create_dir_all);
        match (folder, serde_json::to_vec_pretty(self)) {
            (Some(Ok(())), Ok(text)) => write_atomic(path, &text).is_ok(),
            _ => false,
        }
    }

    /// The same with corrected prices; `None` if these are not the prices `of` which that was found out, or if no machine
    /// could have the corrected ones.
    pub(crate) fn corrected(mut self, of: &Prices, correction: PriceCorrection) -> Option<PriceCache> {
        if self.prices.rates != of.rates {
            return None;
        }
        for (class, rate) in remat_plan::OpClass::ALL.iter().zip(&mut self.prices.rates) {
            if let Some(&factor) = correction.factors.get(class.name()) {
                *rate = rate.slower(factor);
            }
        }
        self.history.corrections.push(correction);
        let surplus = self.history.corrections.len().saturating_sub(MOST_CORRECTIONS);
        self.history.corrections.drain(..surplus);
        self.prices.are_plausible().then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remat_plan::{OpClass, Rate};

    fn cache(prices: Prices) -> PriceCache {
        let history = PriceHistory {
            measured_at: 1_700_000_000,
            spread: Some(0.02),
            busy: false,
            rounds_per_second: 1e9,
            corrections: Vec::new(),
        };
        PriceCache { schema: SCHEMA, fingerprint: "this".to_string(), prices, history }
    }

    fn good() -> Prices {
        Prices { measured: true, ..Prices::nominal(2) }
    }

    #[test]
    fn only_what_this_machine_could_have_written_is_read() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("prices.json");
        let write = |prices: &Prices, fingerprint: &str, schema| {
            let fingerprint = fingerprint.to_string();
            assert!(PriceCache { schema, fingerprint, ..cache(prices.clone()) }.write(&path));
            PriceCache::read(&path, "this").map(|cached| cached.prices)
        };
        assert_eq!(write(&good(), "this", SCHEMA), Some(good()));
        assert_eq!(write(&good(), "another", SCHEMA), None);
        assert_eq!(write(&good(), "this", SCHEMA + 1), None);
        let with = |rate: f64| {
            let mut prices = good();
            prices.rates[3] = Rate { flops_per_second: rate, ..prices.rates[3] };
            prices
        };
        for rate in [0.0, -1.0, 1e300] {
            assert_eq!(write(&with(rate), "this", SCHEMA), None, "{rate}");
        }
        let short = Prices { rates: good().rates[1..].to_vec(), ..good() };
        assert_eq!(write(&short, "this", SCHEMA), None);
        assert_eq!(write(&Prices { measured: false, ..good() }, "this", SCHEMA), None);
        for text in ["", "{", "[]", "{\"schema\": 1}", "\u{0}\u{1}", "null"] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(PriceCache::read(&path, "this"), None, "{text:?}");
        }
        std::fs::write(&path, "[".repeat(1 << 20)).expect("written");
        assert_eq!(PriceCache::read(&path, "this"), None);
        assert_eq!(PriceCache::read(folder.path(), "this"), None);
        assert_eq!(PriceCache::read(&folder.path().join("absent"), "this"), None);
    }

    #[test]
    fn a_correction_changes_the_classes_it_names_and_is_remembered() {
        let of = |factor: f64| PriceCorrection {
            at: 1_700_000_100,
            predicted_seconds: 2.0,
            measured_seconds: 1.0,
            factors: BTreeMap::from([(OpClass::Head.name().to_string(), factor)]),
        };
        let (before, mut after) = (cache(good()), cache(good()).corrected(&good(), of(0.5)).expect("plausible"));
        for &class in OpClass::ALL {
            let ratio = after.prices.rate(class).flops_per_second / before.prices.rate(class).flops_per_second;
            assert_eq!(ratio, if class == OpClass::Head { 2.0 } else { 1.0 }, "{}", class.name());
        }
        for _ in 0..2 * MOST_CORRECTIONS {
            let prices = after.prices.clone();
            after = after.corrected(&prices, of(1.01)).expect("plausible");
        }
        assert_eq!(after.history.corrections.len(), MOST_CORRECTIONS);
        assert_eq!(cache(good()).corrected(&good(), of(1e-300)), None, "no machine is as fast");
        assert_eq!(after.corrected(&good(), of(0.5)), None, "another run has changed them");
    }
}
