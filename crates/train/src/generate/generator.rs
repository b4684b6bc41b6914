//! A model of files that generates, with an adapter or without. Look next at `decoding` for how.

use crate::TrainError;
use crate::generate::decoding::{Continuation, Decoding, Request, cache_shape};
use crate::generate::forward;
use remat_model::Model;
use remat_step::{DeviceOptions, LoadedForward};
use std::path::Path;

/// A loaded model that generates.
pub struct Generator {
    loaded: LoadedForward,
    decoding: Decoding,
}

impl Generator {
    /// Loads a model, with a PEFT adapter if one is given, and caches for texts of `capacity` tokens, prompt included.
    ///
    /// # Errors
    /// Files that are missing or do not fit each other; more tokens than the model has positions; too little memory.
    pub fn open(
        model: &Model,
        adapter: Option<&Path>,
        capacity: usize,
        options: DeviceOptions,
    ) -> Result<Self, TrainError> {
        let method = forward::method(model, adapter)?;
        let shape = cache_shape(capacity);
        let mut loaded = forward::load_cached(model, adapter, method.as_ref(), shape, options)?;
        let decoding = Decoding::of(&loaded.forwards(), shape, model.config().vocab_size)?;
        Ok(Generator { loaded, decoding })
    }

    /// Continues a prompt. `on_token` is given each token as it is chosen, and says whether to go on.
    ///
    /// # Errors
    /// An empty prompt, more tokens than the caches hold, a token outside the vocabulary, logits that are no numbers.
    pub fn generate(
        &mut self,
        request: &Request<'_>,
        on_token: &mut dyn FnMut(u32) -> bool,
    ) -> Result<Continuation, TrainError> {
        self.decoding.generate(&mut self.loaded.forwards(), request, on_token)
    }

    /// Bytes allocated for arena, weights, adapter and caches.
    pub fn allocated_bytes(&self) -> usize {
        let memory = self.loaded.memory();
        memory.in_domain(memory.domain)
    }
}
