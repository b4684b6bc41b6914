//! Choosing the next token from logits: greedy, or at random with temperature, top-k and top-p, in that order, as
//! transformers' warpers do. Fan et al., 2018 (top-k); Holtzman et al., *The curious case of neural text degeneration*,
//! 2020 (top-p).
//!
//! Invariant: the choice is a function of logits, settings, seed and the token's number alone; of equal logits the
//! smaller id wins.

use crate::TrainError;
use remat_formats::GenerationConfig;
use remat_tensor::{Philox, stream_of_name};

/// What transformers chooses among where chance is asked for and nothing else is said.
const DEFAULT_TOP_K: usize = 50;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 always takes the most probable token.
    pub temperature: f32,
    /// Choose among the so many most probable tokens only.
    pub top_k: Option<usize>,
    /// Choose among the fewest most probable tokens whose probabilities reach this sum; 1 is all.
    pub top_p: f32,
    /// Of the random numbers.
    pub seed: u64,
}

impl Sampling {
    /// The most probable token, always.
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: None, top_p: 1.0, seed: 0 };

    /// As a model's makers ask for in `generation_config.json`; where they do not ask for chance, the most probable token.
    pub fn asked_for(settings: &GenerationConfig, seed: u64) -> Self {
        let temperature = if settings.do_sample { settings.temperature.unwrap_or(1.0) as f32 } else { 0.0 };
        let top_k = settings.top_k.or(settings.do_sample.then_some(DEFAULT_TOP_K)).filter(|k| *k > 0);
        Sampling { temperature, top_k, top_p: settings.top_p.map_or(1.0, |p| p as f32), seed }
    }

    /// Refuses settings that mean nothing.
    ///
    /// # Errors
    /// A setting out of range, by its flag.
    pub fn check(&self) -> Result<(), TrainError> {
        let refuse = |key, value: String, rule| Err(TrainError::OutOfRange { key, value, rule });
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return refuse("temperature", self.temperature.to_string(), "a number from 0 (always the most probable)");
        }
        if self.top_k == Some(0) {
            return refuse("top-k", "0".to_string(), "at least 1 token");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top-p", self.top_p.to_string(), "above 0 and at most 1");
        }
        Ok(())
    }

    /// The id of token `number` of a continuation; `None` if no logit is a number. `order` is a buffer.
    pub(crate) fn choose(&self, logits: &[f32], number: u64, order: &mut Vec<u32>) -> Option<u32> {
        let logit = |id: u32| logits[id as usize];
        order.clear();
        order.extend((0..logits.len() as u32).filter(|&id| !logit(id).is_nan()));
        let best_first = |a: &u32, b: &u32| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b));
        if self.temperature == 0.0 {
            return order.iter().copied().min_by(best_first);
        }
        if let Some(k) = self.top_k.filter(|&k| k < order.len()) {
            order.select_nth_unstable_by(k - 1, best_first);
            order.truncate(k);
        }
        order.sort_unstable_by(best_first);
        let top = logit(*order.first()?);
        let weight = |id: u32| (f64::from(logit(id) - top) / f64::from(self.temperature)).exp();
        let mut total: f64 = order.iter().map(|&id| weight(id)).sum();
        if self.top_p < 1.0 {
            let wanted = f64::from(self.top_p) * total;
            let mut sum = 0.0;
            let reached = order.iter().position(|&id| {
                sum += weight(id);
                sum >= wanted
            });
            order.truncate(reached.map_or(order.len(), |last| last + 1));
            total = sum;
        }
        let philox = Philox::new(self.seed, stream_of_name("sampling"));
        let mut left = f64::from(philox.uniform(number)) * total;
        let chosen = order.iter().copied().find(|&id| {
            left -= weight(id);
            left < 0.0
        });
        // Rounding may leave a remainder behind the last token.
        chosen.or_else(|| order.last().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, f32::NEG_INFINITY];

    /// How often each token is chosen, of `draws`.
    fn shares(sampling: Sampling, draws: u64) -> Vec<f64> {
        let (mut counts, mut order) = (vec![0.0; LOGITS.len()], Vec::new());
        for number in 0..draws {
            let id = sampling.choose(&LOGITS, number, &mut order).expect("a token");
            counts[id as usize] += 1.0 / draws as f64;
        }
        counts
    }

    fn check(sampling: Sampling, weights: [f64; 5]) {
        let total: f64 = weights.iter().sum();
        for (share, weight) in shares(sampling, 20_000).into_iter().zip(weights) {
            assert!((share - weight / total).abs() < 0.015, "{sampling:?}: {share}, not {}", weight / total);
            assert!(weight > 0.0 || share == 0.0, "{sampling:?} takes what was cut");
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let mut order = Vec::new();
        assert_eq!(Sampling::GREEDY.choose(&LOGITS, 7, &mut order), Some(1));
        assert_eq!(Sampling::GREEDY.choose(&[f32::NAN, -5.0, f32::NAN], 0, &mut order), Some(1));
        assert_eq!(Sampling::GREEDY.choose(&[f32::NAN; 3], 0, &mut order), None);
    }

    #[test]
    fn shares_follow_temperature_top_k_and_top_p() {
        let plain = Sampling { temperature: 1.0, top_k: None, top_p: 1.0, seed: 5 };
        let [one, two, three] = [1.0f64, 2.0, 3.0].map(f64::exp);
        check(plain, [one, three, two, three, 0.0]);
        let [one, two, three] = [0.5f64, 1.0, 1.5].map(f64::exp);
        check(Sampling { temperature: 2.0, ..plain }, [one, three, two, three, 0.0]);
        check(Sampling { top_k: Some(1), ..plain }, [0.0, 1.0, 0.0, 0.0, 0.0]);
        check(Sampling { top_k: Some(2), ..plain }, [0.0, 1.0, 0.0, 1.0, 0.0]);
        check(Sampling { top_k: Some(9), ..plain }, [1f64.exp(), 3f64.exp(), 2f64.exp(), 3f64.exp(), 0.0]);
        // The two largest have 0.40 each: one reaches 0.3, two reach 0.7, the third is needed for 0.9.
        check(Sampling { top_p: 0.3, ..plain }, [0.0, 1.0, 0.0, 0.0, 0.0]);
        check(Sampling { top_p: 0.7, ..plain }, [0.0, 1.0, 0.0, 1.0, 0.0]);
        check(Sampling { top_p: 0.9, ..plain }, [0.0, 3f64.exp(), 2f64.exp(), 3f64.exp(), 0.0]);
    }

    #[test]
    fn one_seed_gives_one_series() {
        let sampling = Sampling { temperature: 1.0, top_k: None, top_p: 1.0, seed: 5 };
        let series = |sampling: Sampling| {
            let mut order = Vec::new();
            (0..40).map(|number| sampling.choose(&LOGITS, number, &mut order)).collect::<Vec<_>>()
        };
        assert_eq!(series(sampling), series(sampling));
        assert_ne!(series(sampling), series(Sampling { seed: 6, ..sampling }));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let good = Sampling { temperature: 0.7, top_k: Some(40), top_p: 0.9, seed: 1 };
        good.check().expect("fine");
        for (bad, flag) in [
            (Sampling { temperature: -1.0, ..good }, "`temperature` -1"),
            (Sampling { temperature: f32::NAN, ..good }, "`temperature` NaN"),
            (Sampling { top_k: Some(0), ..good }, "`top-k` 0"),
            (Sampling { top_p: 0.0, ..good }, "`top-p` 0"),
            (Sampling { top_p: 1.5, ..good }, "`top-p` 1.5"),
        ] {
            let message = bad.check().expect_err(flag).to_string();
            assert!(message.starts_with(flag), "{message}");
        }
    }
}
