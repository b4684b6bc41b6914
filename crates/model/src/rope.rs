//! Inverse frequencies of rotary positions, scaled as the configuration says. Su et al., *RoFormer*, 2021;
//! transformers' modeling_rope_utils for the scalings.

use remat_formats::{RopeScaling, Rotary};
use std::f64::consts::PI;

/// Name of the weight that holds the inverse frequencies; computed here, never in a file.
pub(crate) const INV_FREQ: &str = "rope.inv_freq";

/// One inverse frequency per pair of a head, in radians per position.
pub(crate) fn inv_freq(rotary: &Rotary, head_dim: usize) -> Vec<f32> {
    let plain = |pair: usize| rotary.theta.powf(-2.0 * pair as f64 / head_dim as f64);
    (0..head_dim / 2).map(|pair| scaled(&rotary.scaling, plain(pair)) as f32).collect()
}

fn scaled(scaling: &RopeScaling, frequency: f64) -> f64 {
    match *scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let original = original_max_position_embeddings as f64;
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
    }
}
