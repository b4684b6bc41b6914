//! Rotary positions as data: which elements of a head are rotated, with which wavelengths, and how these are stretched.
//!
//! Look next at `rope`, which reads them from a file's keys; `model` has the formulas.

/// Rotary positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// Base of the wavelengths.
    pub theta: f64,
    /// How frequencies are stretched.
    pub scaling: RopeScaling,
    /// How many elements of a head are rotated, from its first on; the others are left as they are. Even.
    pub dims: usize,
    /// Base of the wavelengths in layers that have the sliding window, if it is another; there, nothing is stretched.
    pub local_theta: Option<f64>,
    /// For each layer whether its queries and keys are left as they are; empty if none are.
    pub unrotated_layers: Vec<bool>,
}

/// How rotary frequencies are stretched for longer contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency divided by one factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3's: long wavelengths divided, short ones kept, blended between.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above original / this are divided.
        low_freq_factor: f64,
        /// Wavelengths below original / this are kept.
        high_freq_factor: f64,
        /// Context length of the original training, in tokens.
        original_max_position_embeddings: usize,
    },
    /// A larger base for sequences longer than the model was made for.
    Dynamic {
        /// How fast the base grows.
        factor: f64,
    },
    /// Frequencies divided where they turn seldom within the original context, kept where they turn often. Peng et al.,
    /// *YaRN*, 2023.
    Yarn {
        /// What frequencies are divided by.
        factor: f64,
        /// What rotated queries and keys are multiplied by.
        attention_factor: f64,
        /// Turns within the original context above which a frequency is kept.
        beta_fast: f64,
        /// Turns below which it is divided by the whole factor.
        beta_slow: f64,
        /// Whether the range between is widened to whole pairs.
        truncate: bool,
        /// Context length of the original training, in tokens.
        original_max_position_embeddings: usize,
    },
    /// A factor for each frequency. Ding et al., *LongRoPE*, 2024.
    LongRope {
        /// For sequences within the original context; one per pair of a head.
        short_factor: Vec<f64>,
        /// For longer ones.
        long_factor: Vec<f64>,
        /// What rotated queries and keys are multiplied by.
        attention_factor: f64,
        /// Context length of the original training, in tokens.
        original_max_position_embeddings: usize,
    },
}

impl RopeScaling {
    /// What rotated queries and keys are multiplied by.
    pub fn attention_factor(&self) -> f64 {
        match *self {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor
            }
            RopeScaling::None
            | RopeScaling::Linear { .. }
            | RopeScaling::Llama3 { .. }
            | RopeScaling::Dynamic { .. } => 1.0,
        }
    }
}

impl Rotary {
    /// Rotation of whole heads with these wavelengths, the same in all layers.
    pub fn plain(theta: f64, scaling: RopeScaling, dims: usize) -> Self {
        Rotary { theta, scaling, dims, local_theta: None, unrotated_layers: Vec::new() }
    }

    /// Whether queries and keys of a layer are rotated.
    pub fn rotates(&self, layer: usize) -> bool {
        !self.unrotated_layers.get(layer).copied().unwrap_or(false)
    }
}
