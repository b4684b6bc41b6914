//! The supported architectures, one file each. A family is a function from configuration to graph; the Llama-like ones
//! share `decoder` and differ in its traits.

mod decoder;
mod gpt2;
mod llama;
mod mistral;
mod qwen2;
mod qwen3;

use crate::ModelError;
use crate::build::{Hidden, ModelBuilder};
use remat_formats::ModelConfig;

/// The graph up to the last hidden state.
pub(crate) fn forward(config: &ModelConfig, m: &mut ModelBuilder<'_>) -> Result<Hidden, ModelError> {
    match config {
        ModelConfig::Llama(config) => decoder::forward(config, llama::traits(config), m),
        ModelConfig::Mistral(config) => decoder::forward(config, mistral::traits(), m),
        ModelConfig::Qwen2(config) => decoder::forward(config, qwen2::traits(), m),
        ModelConfig::Qwen3(config) => decoder::forward(config, qwen3::traits(config), m),
        ModelConfig::Gpt2(config) => gpt2::forward(config, m),
    }
}

/// Full names of the linear modules of all blocks, in graph order.
pub(crate) fn linear_names(config: &ModelConfig) -> Vec<String> {
    match config {
        ModelConfig::Llama(config)
        | ModelConfig::Mistral(config)
        | ModelConfig::Qwen2(config)
        | ModelConfig::Qwen3(config) => decoder::linear_names(config),
        ModelConfig::Gpt2(config) => gpt2::linear_names(config),
    }
}

/// Whether linears are stored [in, out].
pub(crate) fn stores_in_out(config: &ModelConfig) -> bool {
    matches!(config, ModelConfig::Gpt2(_))
}

/// Longest sequence the model has positions for.
pub(crate) fn max_positions(config: &ModelConfig) -> usize {
    match config {
        // Rotary positions have no table that ends; a longer sequence than trained for is the user's decision.
        ModelConfig::Llama(_) | ModelConfig::Mistral(_) | ModelConfig::Qwen2(_) | ModelConfig::Qwen3(_) => {
            i32::MAX as usize
        }
        ModelConfig::Gpt2(config) => config.n_positions,
    }
}
