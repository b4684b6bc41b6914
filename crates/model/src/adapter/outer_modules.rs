//! The two modules outside of blocks that adapters know: the embedding and the head, by their names in transformers' model.

use remat_formats::ModelConfig;

/// What transformers calls every head's module in memory, whatever checkpoints call it.
pub(crate) const HEAD_MODULE: &str = "lm_head";

/// The embedding's module.
pub(crate) fn embedding_module(base: &ModelConfig) -> String {
    base.outer(base.block.names.embedding)
}
