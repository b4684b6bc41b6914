//! Generation: a prompt into the caches in chunks, then one token after the other.
//!
//! Invariants: row p of every cache belongs to the token at position p of the present text; rows behind the last token
//! are never seen. A text that begins as the one before does finds its first rows there, unless the model has changed since
//! ([`Decoding::forget`]). Choosing a token allocates nothing. Look next at `sampling` for the choice.

use crate::{Sampling, TrainError};
use remat_model::CacheShape;
use remat_plan::SourceId;
use remat_step::Forwards;

/// Tokens of a prompt that are taken at a time: enough for matrix products to pay, few enough for a small arena.
const CHUNK: usize = 64;

/// Plans, in the order they are loaded in.
pub(super) const PREFILL: usize = 0;
pub(super) const DECODE: usize = 1;

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

impl Request<'_> {
    /// Refuses what caches for texts of `capacity` tokens do not hold.
    ///
    /// # Errors
    /// An empty prompt, more tokens than `capacity`, settings out of range.
    pub(super) fn check(&self, capacity: usize) -> Result<(), TrainError> {
        let Request { prompt, max_tokens, sampling, .. } = *self;
        sampling.check()?;
        if prompt.is_empty() {
            let problem = "has no token; give at least one character of text".to_string();
            return Err(TrainError::BadFlag { key: "prompt", problem });
        }
        if prompt.len().saturating_add(max_tokens) > capacity {
            let problem = format!(
                "of {} tokens and {max_tokens} more do not fit the {capacity} that are planned for; ask for fewer",
                prompt.len()
            );
            return Err(TrainError::BadFlag { key: "prompt", problem });
        }
        Ok(())
    }
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

/// The two plans of generation at work: what is in their caches, and buffers.
pub(crate) struct Decoding {
    /// Ids and positions of a chunk of the prompt, and of one token.
    prompt: [SourceId; 2],
    token: [SourceId; 2],
    shape: CacheShape,
    /// The tokens whose keys and values are in the caches, by position.
    cached: Vec<u32>,
    logits: Vec<f32>,
    order: Vec<u32>,
}

/// The caches of one text of so many tokens.
pub(crate) fn cache_shape(capacity: usize) -> CacheShape {
    batch_shape(1, capacity)
}

/// The caches of so many texts of so many tokens each.
pub(super) fn batch_shape(batch: usize, capacity: usize) -> CacheShape {
    CacheShape { batch, capacity, chunk: CHUNK.min(capacity) }
}

impl Decoding {
    /// Of plans for caches of this shape, and a vocabulary of so many tokens.
    pub(crate) fn of(plans: &Forwards<'_>, shape: CacheShape, vocabulary: usize) -> Result<Self, TrainError> {
        let prompt = [plans.input("prompt.ids")?, plans.input("prompt.positions")?];
        let token = [plans.input("token.ids")?, plans.input("token.positions")?];
        let (logits, order) = (vec![0.0; vocabulary], Vec::with_capacity(vocabulary));
        Ok(Decoding { prompt, token, shape, cached: Vec::new(), logits, order })
    }

    /// What the buffers take for a vocabulary of so many tokens.
    pub(crate) fn bytes(vocabulary: usize) -> usize {
        vocabulary * (size_of::<f32>() + size_of::<u32>())
    }

    /// The model has changed: nothing in the caches is its own.
    pub(crate) fn forget(&mut self) {
        self.cached.clear();
    }

    /// Continues a prompt. `on_token` is given each token as it is chosen, and says whether to go on.
    ///
    /// # Errors
    /// An empty prompt, more tokens than the caches hold, a token outside the vocabulary, logits that are no numbers.
    pub(crate) fn generate(
        &mut self,
        plans: &mut Forwards<'_>,
        request: &Request<'_>,
        on_token: &mut dyn FnMut(u32) -> bool,
    ) -> Result<Continuation, TrainError> {
        let Request { prompt, max_tokens, sampling, stop } = *request;
        request.check(self.shape.capacity)?;
        let (&last, before) = prompt.split_last().expect("a prompt that was checked");
        self.prefill(plans, before)?;
        let mut text = Continuation { tokens: Vec::with_capacity(max_tokens), ending: Ending::Length };
        let (mut token, mut position) = (last, before.len());
        while text.tokens.len() < max_tokens {
            token = self.next(plans, (token, position), &sampling, text.tokens.len())?;
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

    /// Keys and values of the prompt's tokens, chunk by chunk. The last chunk ends where the tokens do and repeats some
    /// of the one before; fewer tokens than a chunk are followed by zeros, whose rows the continuation overwrites.
    fn prefill(&mut self, plans: &mut Forwards<'_>, tokens: &[u32]) -> Result<(), TrainError> {
        let chunk = self.shape.chunk;
        let known = self.cached.iter().zip(tokens).take_while(|(cached, token)| cached == token).count();
        // What an error leaves half-written is not taken for known.
        self.cached.truncate(known);
        for start in (known..tokens.len()).step_by(chunk) {
            let start = start.min(tokens.len().saturating_sub(chunk));
            let id = |row: usize| tokens.get(start + row).map_or(0, |&id| id as i32);
            let ids: Vec<i32> = (0..chunk).map(id).collect();
            let positions: Vec<i32> = (start..start + chunk).map(|position| position as i32).collect();
            plans.write(self.prompt[0], &ids)?;
            plans.write(self.prompt[1], &positions)?;
            plans.run(PREFILL)?;
        }
        self.cached.extend_from_slice(&tokens[known..]);
        Ok(())
    }

    /// The token behind `token`, which stands at `position`.
    fn next(
        &mut self,
        plans: &mut Forwards<'_>,
        (token, position): (u32, usize),
        sampling: &Sampling,
        number: usize,
    ) -> Result<u32, TrainError> {
        plans.write(self.token[0], &[token as i32])?;
        plans.write(self.token[1], &[position as i32])?;
        self.cached.truncate(position);
        plans.run(DECODE)?;
        self.cached.push(token);
        plans.read_output(DECODE, "logits", &mut self.logits)?;
        let chosen = sampling.choose(&self.logits, number as u64, &mut self.order);
        chosen.ok_or(TrainError::NoToken { number: number + 1 })
    }
}
