//! Inverse frequencies of rotary positions, scaled as the configuration says. Su et al., *RoFormer*, 2021;
//! transformers' modeling_rope_utils for the scalings.
//!
//! Two scalings depend on how long a sequence is: `dynamic` beyond the context that the model was made for, `longrope` beyond
//! the original one. Invariant: a graph names the frequencies of its own length, so that graphs of several lengths on one
//! device (buckets of rows, evaluation, caches) each have theirs. The length is the graph's, padding and packed rows
//! included, as transformers takes that of the batch.

use remat_formats::{ModelConfig, RopeScaling, Rotary};
use std::f64::consts::PI;

/// Name of the weight that holds the inverse frequencies; computed here, never in a file. Where the length of sequences
/// matters, the length they are for follows behind a dot.
const INV_FREQ: &str = "rope.inv_freq";
/// Name of the weight that holds those of layers with a window, where they are others: the same for all lengths.
pub(crate) const LOCAL_INV_FREQ: &str = "rope.local_inv_freq";

/// The name of the frequencies for sequences of so many tokens.
pub(crate) fn inv_freq_name(config: &ModelConfig, tokens: usize) -> String {
    let longer = match config.rotary().map(|rotary| &rotary.scaling) {
        Some(RopeScaling::Dynamic { .. }) => Some(tokens).filter(|&tokens| tokens > config.max_position_embeddings),
        // All longer sequences have the same.
        Some(RopeScaling::LongRope { original_max_position_embeddings: original, .. }) => {
            (tokens > *original).then_some(original + 1)
        }
        Some(
            RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } | RopeScaling::Yarn { .. },
        )
        | None => None,
    };
    longer.map_or(INV_FREQ.to_string(), |tokens| format!("{INV_FREQ}.{tokens}"))
}

/// Whether a weight is one of frequencies, which no file holds.
pub(crate) fn is_inv_freq(name: &str) -> bool {
    name.starts_with(INV_FREQ) || name == LOCAL_INV_FREQ
}

/// The weight of this name: one inverse frequency per pair of a head, in radians per position.
pub(crate) fn inv_freq(config: &ModelConfig, name: &str) -> Vec<f32> {
    let rotary = config.rotary().expect("only models with rotary positions have frequencies");
    let tokens = name.strip_prefix(INV_FREQ).and_then(|rest| rest.strip_prefix('.')?.parse().ok());
    let frequencies = match rotary.local_theta {
        Some(theta) if name == LOCAL_INV_FREQ => plain(theta, rotary.dims),
        _ => inverse_frequencies(config, rotary, tokens.unwrap_or(1)),
    };
    frequencies.into_iter().map(|frequency| frequency as f32).collect()
}

/// One frequency for each pair of the elements that are rotated.
fn plain(base: f64, dims: usize) -> Vec<f64> {
    (0..dims / 2).map(|pair| base.powf(-2.0 * pair as f64 / dims as f64)).collect()
}

/// What each plain frequency is divided by under Llama 3's scaling, as GGUF files hold it; `None` under any other.
pub(crate) fn frequency_divisors(config: &ModelConfig) -> Option<Vec<f32>> {
    let rotary = config.rotary()?;
    let RopeScaling::Llama3 { .. } = rotary.scaling else { return None };
    let plain = Rotary { scaling: RopeScaling::None, ..rotary.clone() };
    let scaled = inverse_frequencies(config, rotary, 1);
    let plain = inverse_frequencies(config, &plain, 1);
    Some(plain.iter().zip(scaled).map(|(plain, scaled)| (plain / scaled) as f32).collect())
}

fn inverse_frequencies(config: &ModelConfig, rotary: &Rotary, tokens: usize) -> Vec<f64> {
    let mut frequencies = plain(rotary.theta, rotary.dims);
    match rotary.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => frequencies.iter_mut().for_each(|frequency| *frequency /= factor),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let original = original_max_position_embeddings as f64;
            for frequency in &mut frequencies {
                *frequency = llama3(*frequency, factor, low_freq_factor, high_freq_factor, original);
            }
        }
        RopeScaling::Dynamic { factor } => {
            let (head, context) = (rotary.dims as f64, config.max_position_embeddings as f64);
            let longer = factor * (tokens as f64).max(context) / context - (factor - 1.0);
            frequencies = plain(rotary.theta * longer.powf(head / (head - 2.0)), rotary.dims);
        }
        RopeScaling::Yarn { factor, .. } => {
            for (frequency, kept) in frequencies.iter_mut().zip(yarn_kept(rotary)) {
                *frequency = *frequency / factor * (1.0 - kept) + *frequency * kept;
            }
        }
        RopeScaling::LongRope { ref short_factor, ref long_factor, original_max_position_embeddings, .. } => {
            let factors = if tokens > original_max_position_embeddings { long_factor } else { short_factor };
            frequencies.iter_mut().zip(factors).for_each(|(frequency, factor)| *frequency /= factor);
        }
    }
    frequencies
}

fn llama3(frequency: f64, factor: f64, low_freq_factor: f64, high_freq_factor: f64, original: f64) -> f64 {
    let wavelength = 2.0 * PI / frequency;
    if wavelength > original / low_freq_factor {
        frequency / factor
    } else if wavelength < original / high_freq_factor {
        frequency
    } else {
        let smooth = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

/// How much of each frequency YaRN keeps: 1 where it turns more than `beta_fast` times within the original context, 0
/// below `beta_slow`, a line between.
fn yarn_kept(rotary: &Rotary) -> Vec<f64> {
    let RopeScaling::Yarn { beta_fast, beta_slow, truncate, original_max_position_embeddings, .. } = rotary.scaling
    else {
        return Vec::new();
    };
    let head = rotary.dims as f64;
    // The pair that turns so many times.
    let pair_of = |turns: f64| {
        let wavelength = original_max_position_embeddings as f64 / (turns * 2.0 * PI);
        head * wavelength.ln() / (2.0 * rotary.theta.ln())
    };
    let (mut low, mut high) = (pair_of(beta_fast), pair_of(beta_slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(head - 1.0));
    if low == high {
        high += 0.001;
    }
    (0..rotary.dims / 2).map(|pair| 1.0 - ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use remat_formats::ModelConfig;
    use serde_json::Value;
    use std::path::Path;

    /// `fixtures/configs/rope.jsonl`, recorded from transformers by `fixtures/rope.py`.
    #[test]
    fn frequencies_and_factors_are_those_of_transformers() {
        let rows = include_str!("../../../fixtures/configs/rope.jsonl");
        for row in rows.lines() {
            let row: Value = serde_json::from_str(row).expect("JSON");
            let config = ModelConfig::parse(Path::new("config.json"), &row["config"].to_string()).expect("parses");
            let scaling = &config.rotary().expect("rotary positions").scaling;
            let factor = row["attention_factor"].as_f64().expect("a number");
            assert!((scaling.attention_factor() / factor - 1.0).abs() < 1e-6, "{row}");
            let expected = row["inv_freq"].as_array().expect("a list");
            for (index, tokens) in row["lengths"].as_array().expect("a list").iter().enumerate() {
                let name = inv_freq_name(&config, tokens.as_u64().expect("a length") as usize);
                assert!(is_inv_freq(&name));
                let found = inv_freq(&config, &name);
                let expected = expected.get(index).unwrap_or(&expected[0]).as_array().expect("a list");
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    let expected = expected.as_f64().expect("a number");
                    assert!((f64::from(*found) / expected - 1.0).abs() < 1e-6, "{found} {expected}: {tokens} of {row}");
                }
            }
        }
        assert!(rows.lines().count() > 20);
    }
}
