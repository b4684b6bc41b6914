//! Generation: a prompt into the caches in chunks, then one token after the other.
//!
//! Invariants: row p of every cache belongs to the token at position p of the present text; rows behind the last token
//! are never seen. A text that begins as the one before does finds its first rows there. Choosing a token allocates nothing. Look next at `sampling` for the choice.

pub(crate) mod forward;
pub(crate) mod sampling;
pub(crate) mod text_stream;

use crate::{Sampling, TrainError};
use remat_model::{CacheShape, Model};
use remat_plan::SourceId;
use remat_step::{DeviceOptions, LoadedForward};
use std::path::Path;

/// Tokens of a prompt that are taken at a time: enough for matrix products to pay, few enough for a small arena.
const CHUNK: usize = 64;

/// Plans, in the order they are loaded in.
const PREFILL: usize = 0;
const DECODE: usize = 1;

/// What to generate.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Token ids of the prompt, at least one.
    pub prompt: &'a [u32],
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// Ids that end the text; the one that did is not part of it.
    pub stop: &'a [u32],
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A stop token came.
    Stopped,
    /// As many tokens as were asked for.
    Length,
    /// The callback wanted no more.
    Cancelled,
}

/// A generated continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// Its token ids, without a stop token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub ending: Ending,
}

/// A loaded model that generates.
pub struct Generator {
    loaded: LoadedForward,
    /// Ids and positions of a chunk of the prompt, and of one token.
    prompt: [SourceId; 2],
    token: [SourceId; 2],
    shape: CacheShape,
    /// The tokens whose keys and values are in the caches, by position.
    cached: Vec<u32>,
    logits: Vec<f32>,
    order: Vec<u32>,
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
        let shape = CacheShape { capacity, chunk: CHUNK.min(capacity) };
        let graphs = model.generation(method.as_ref(), shape)?;
        let profile = options.profile();
        // Both have the same weights; that of one token has the head, too.
        let whole = graphs.decode.clone();
        let plans = [graphs.prefill, graphs.decode].map(|graph| LoadedForward::plan(graph, &profile));
        let plans = plans.into_iter().collect::<Result<Vec<_>, _>>()?;
        forward::check(model, &plans, options)?;
        let mut loaded = LoadedForward::load(plans, options)?;
        forward::fill(model, adapter, &whole, loaded.device_mut())?;
        let prompt = [loaded.input("prompt.ids")?, loaded.input("prompt.positions")?];
        let token = [loaded.input("token.ids")?, loaded.input("token.positions")?];
        let vocabulary = model.config().vocab_size;
        let (logits, order) = (vec![0.0; vocabulary], Vec::with_capacity(vocabulary));
        Ok(Generator { loaded, prompt, token, shape, cached: Vec::new(), logits, order })
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
        let Request { prompt, max_tokens, sampling, stop } = *request;
        sampling.check()?;
        let Some((&last, before)) = prompt.split_last() else {
            let problem = "has no token; give at least one character of text".to_string();
            return Err(TrainError::BadFlag { key: "prompt", problem });
        };
        let capacity = self.shape.capacity;
        if prompt.len().saturating_add(max_tokens) > capacity {
            let problem = format!(
                "of {} tokens and {max_tokens} more do not fit the {capacity} that are planned for; ask for fewer",
                prompt.len()
            );
            return Err(TrainError::BadFlag { key: "prompt", problem });
        }
        self.prefill(before)?;
        let mut text = Continuation { tokens: Vec::with_capacity(max_tokens), ending: Ending::Length };
        let (mut token, mut position) = (last, before.len());
        while text.tokens.len() < max_tokens {
            token = self.next(token, position, &sampling, text.tokens.len())?;
            if stop.contains(&token) {
                text.ending = Ending::Stopped;
                break;
            }
            text.tokens.push(token);
            position += 1;
            if !on_token(token) {
                text.ending = Ending::Cancelled;
                break;
            }
        }
        Ok(text)
    }

    /// Bytes allocated for arena, weights, adapter and caches.
    pub fn allocated_bytes(&self) -> usize {
        let memory = self.loaded.memory();
        memory.in_domain(memory.domain)
    }

    /// Keys and values of the prompt's tokens, chunk by chunk. The last chunk ends where the tokens do and repeats some
    /// of the one before; fewer tokens than a chunk are followed by zeros, whose rows the continuation overwrites.
    fn prefill(&mut self, tokens: &[u32]) -> Result<(), TrainError> {
        let chunk = self.shape.chunk;
        let known = self.cached.iter().zip(tokens).take_while(|(cached, token)| cached == token).count();
        // What an error leaves half-written is not taken for known.
        self.cached.truncate(known);
        for start in (known..tokens.len()).step_by(chunk) {
            let start = start.min(tokens.len().saturating_sub(chunk));
            let id = |row: usize| tokens.get(start + row).map_or(0, |&id| id as i32);
            let ids: Vec<i32> = (0..chunk).map(id).collect();
            let positions: Vec<i32> = (start..start + chunk).map(|position| position as i32).collect();
            self.loaded.write(self.prompt[0], &ids)?;
            self.loaded.write(self.prompt[1], &positions)?;
            self.loaded.run(PREFILL)?;
        }
        self.cached.extend_from_slice(&tokens[known..]);
        Ok(())
    }

    /// The token behind `token`, which stands at `position`.
    fn next(&mut self, token: u32, position: usize, sampling: &Sampling, number: usize) -> Result<u32, TrainError> {
        self.loaded.write(self.token[0], &[token as i32])?;
        self.loaded.write(self.token[1], &[position as i32])?;
        self.cached.truncate(position);
        self.loaded.run(DECODE)?;
        self.cached.push(token);
        self.loaded.read_output(DECODE, "logits", &mut self.logits)?;
        let chosen = sampling.choose(&self.logits, number as u64, &mut self.order);
        chosen.ok_or(TrainError::NoToken { number: number + 1 })
    }
}
