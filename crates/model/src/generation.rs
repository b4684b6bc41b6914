//! The graphs of generation: new tokens in, keys and values into caches, logits of one token out.
//!
//! Invariants: both graphs name the same weights and states, so one executor holds them once; a cache is a state
//! `<attention>.k_cache` or `.v_cache`, [B, S, K·E], and row p of text b belongs to its token at position p; no value of
//! one text reaches another. Only the graph of one token has a head: of a prompt, all but the last token need no logits.
//! Look next at `remat_ir::ops::CachedAttention`.

use crate::model_builder::{Base, ModelBuilder};
use crate::{Method, ModelError, decoder};
use remat_ir::Graph;

/// Static sizes of generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheShape {
    /// B: texts that are generated side by side.
    pub batch: usize,
    /// S: tokens that the caches hold of each text, those of the prompt and all that follow.
    pub capacity: usize,
    /// Tokens of a prompt that are taken at a time; at most `capacity`.
    pub chunk: usize,
}

/// The two graphs of generation.
#[derive(Debug, Clone)]
pub struct Generation {
    /// T = `chunk` tokens of each prompt into the caches. Inputs `prompt.ids` and `prompt.positions`, i32 [B, T]; no output.
    pub prefill: Graph,
    /// One token of each text. Inputs `token.ids` and `token.positions`, i32 [B, 1]; output `logits`, f32 [B, 1, V].
    pub decode: Graph,
}

pub(crate) fn generation(base: Base<'_>, method: Option<&Method>, shape: CacheShape) -> Result<Generation, ModelError> {
    let CacheShape { batch, capacity, chunk } = shape;
    if batch == 0 {
        return Err(ModelError::Setting("a batch of 0 texts: must be at least 1".to_string()));
    }
    let limit = base.config.positions_end();
    if capacity > limit {
        let problem = format!("a prompt and its continuation of {capacity} tokens: this model has {limit} positions");
        return Err(ModelError::Setting(problem));
    }
    if chunk == 0 || chunk > capacity {
        let problem = format!("a prompt in chunks of {chunk}: must be from 1 to the caches' {capacity} tokens");
        return Err(ModelError::Setting(problem));
    }
    let mut prefill = ModelBuilder::cached(base, method, ("prompt", [batch, chunk]), capacity)?;
    decoder::forward(base.config, &mut prefill)?;
    let mut decode = ModelBuilder::cached(base, method, ("token", [batch, 1]), capacity)?;
    decoder::logits(base.config, &mut decode)?;
    Ok(Generation { prefill: prefill.b.finish().graph, decode: decode.b.finish().graph })
}
