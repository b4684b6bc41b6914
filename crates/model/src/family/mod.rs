//! The supported architectures, one file each. A family is a function from configuration to graph.

mod gpt2;
mod llama;

use crate::ModelError;
use crate::build::{Hidden, ModelBuilder};
use remat_formats::ModelConfig;

/// The graph up to the last hidden state.
pub(crate) fn forward(config: &ModelConfig, m: &mut ModelBuilder<'_>) -> Result<Hidden, ModelError> {
    match config {
        ModelConfig::Llama(config) => llama::forward(config, m),
        ModelConfig::Gpt2(config) => gpt2::forward(config, m),
    }
}

/// Full names of the linear modules of all blocks, in graph order.
pub(crate) fn linear_names(config: &ModelConfig) -> Vec<String> {
    match config {
        ModelConfig::Llama(config) => llama::linear_names(config),
        ModelConfig::Gpt2(config) => gpt2::linear_names(config),
    }
}

/// Longest sequence the model has positions for.
pub(crate) fn max_positions(config: &ModelConfig) -> usize {
    match config {
        // Rotary positions have no table that ends; a longer sequence than trained for is the user's decision.
        ModelConfig::Llama(_) => i32::MAX as usize,
        ModelConfig::Gpt2(config) => config.n_positions,
    }
}
