//! Generation of many texts side by side: lanes, each a prompt and its continuation, in one plan.
//!
//! Invariants: lane b is row b of every cache, and row p of that belongs to its token at position p; rows behind its last
//! token are never seen. No bit of a row depends on the rows beside it or on how many tokens are read at a time, so a
//! continuation is the one that its prompt has alone. A lane whose text has ended takes the next prompt at once.

use super::cached_model::CachedModel;
use super::decoding::{Continuation, Ending, Request};
use crate::TrainError;
use remat_model::Model;
use remat_step::DeviceOptions;
use std::path::Path;

/// A chunk of every lane is read where at least one of so many of its tokens is one of a prompt. A step that reads one token
/// of each lane takes what reading all weights takes, which is about the products of some tens of tokens.
const USEFUL_SHARE: usize = 8;

/// What happens in a batch; numbers are places in the list of requests.
#[derive(Debug)]
pub enum BatchEvent {
    /// A request has got a lane.
    Started(usize),
    /// A request is answered.
    Ended(usize, Continuation),
}

/// One row of the plan.
#[derive(Debug, Default)]
struct Lane {
    /// The request that is answered in it; none: it has nothing to do.
    request: Option<usize>,
    /// The prompt and what was chosen behind it.
    text: Vec<u32>,
    /// Tokens of the prompt.
    prompt: usize,
    /// Tokens of the text whose keys and values are in the caches.
    read: usize,
}

impl Lane {
    /// Tokens of the prompt that are still to be read, but for the last, whose logits are wanted.
    fn unread(&self) -> usize {
        self.prompt.saturating_sub(self.read + 1)
    }

    /// Where a chunk of so many tokens begins: at what is unread, or so that it ends with what is read or with the prompt.
    fn chunk_start(&self, chunk: usize) -> usize {
        let end = self.read.max(self.prompt.saturating_sub(1));
        self.read.min(end.saturating_sub(chunk))
    }

    fn id(&self, position: usize) -> i32 {
        self.text.get(position).map_or(0, |&id| id as i32)
    }
}

/// A loaded model that generates several texts at a time.
pub struct BatchGenerator {
    model: CachedModel,
    order: Vec<u32>,
}

impl BatchGenerator {
    /// Loads a model, with a PEFT adapter if one is given, and caches for `batch` texts of `capacity` tokens each, prompts
    /// included.
    ///
    /// # Errors
    /// Files that are missing or do not fit each other; more tokens than the model has positions; too little memory.
    pub fn open(
        model: &Model,
        adapter: Option<&Path>,
        batch: usize,
        capacity: usize,
        options: DeviceOptions,
    ) -> Result<Self, TrainError> {
        let loaded = CachedModel::open(model, adapter, batch, capacity, options)?;
        Ok(BatchGenerator { model: loaded, order: Vec::with_capacity(model.config().vocab_size) })
    }

    /// Bytes allocated for arena, weights, adapter and caches.
    pub fn allocated_bytes(&self) -> usize {
        self.model.allocated_bytes()
    }

    /// Continues all prompts, in whatever order they end. `on_event` says whether to go on.
    ///
    /// # Errors
    /// Before anything is generated: an empty prompt, more tokens than the caches hold. A token outside the vocabulary,
    /// logits that are no numbers.
    pub fn generate(
        &mut self,
        requests: &[Request<'_>],
        on_event: &mut dyn FnMut(BatchEvent) -> bool,
    ) -> Result<(), TrainError> {
        let shape = self.model.shape();
        requests.iter().try_for_each(|request| request.check(shape.capacity))?;
        let mut lanes: Vec<Lane> = (0..shape.batch).map(|_| Lane::default()).collect();
        let mut waiting = 0..requests.len();
        while take_up(&mut lanes, &mut waiting, requests, on_event) {
            let unread: usize = lanes.iter().map(|lane| lane.unread().min(shape.chunk)).sum();
            if unread * USEFUL_SHARE >= shape.batch * shape.chunk {
                self.read_chunk(&mut lanes)?;
            } else if !self.read_token(&mut lanes, requests, on_event)? {
                break;
            }
        }
        Ok(())
    }

    /// Keys and values of one chunk of each lane. Lanes whose prompt is read repeat what they have, which changes nothing:
    /// the same tokens at the same positions give the same bits, and what stands behind them is overwritten before it
    /// is seen.
    fn read_chunk(&mut self, lanes: &mut [Lane]) -> Result<(), TrainError> {
        let chunk = self.model.shape().chunk;
        let places = |lane: &Lane| {
            let start = lane.chunk_start(chunk);
            start..start + chunk
        };
        let ids: Vec<i32> = lanes.iter().flat_map(|lane| places(lane).map(|at| lane.id(at))).collect();
        let positions: Vec<i32> = lanes.iter().flat_map(|lane| places(lane).map(|at| at as i32)).collect();
        self.model.prefill(&ids, &positions)?;
        for lane in lanes {
            lane.read += lane.unread().min(chunk);
        }
        Ok(())
    }

    /// Reads one token of each lane, and chooses the next of those that have read all they have. Whether to go on.
    fn read_token(
        &mut self,
        lanes: &mut [Lane],
        requests: &[Request<'_>],
        on_event: &mut dyn FnMut(BatchEvent) -> bool,
    ) -> Result<bool, TrainError> {
        let ids: Vec<i32> = lanes.iter().map(|lane| lane.id(lane.read)).collect();
        let positions: Vec<i32> = lanes.iter().map(|lane| lane.read as i32).collect();
        self.model.decode(&ids, &positions)?;
        for (row, lane) in lanes.iter_mut().enumerate() {
            let Some(index) = lane.request else { continue };
            lane.read += 1;
            if lane.read < lane.text.len() {
                continue;
            }
            let (request, number) = (&requests[index], lane.text.len() - lane.prompt);
            let chosen = request.sampling.choose(self.model.logits(row), number as u64, &mut self.order);
            let token = chosen.ok_or(TrainError::NoToken { number: number + 1 })?;
            let stopped = request.stop.contains(&token);
            if !stopped {
                lane.text.push(token);
            }
            if stopped || number + 1 == request.max_tokens {
                let ending = if stopped { Ending::Stopped } else { Ending::Length };
                let tokens = std::mem::take(lane).text.split_off(request.prompt.len());
                if !on_event(BatchEvent::Ended(index, Continuation { tokens, ending })) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// Gives free lanes the next prompts; whether there is anything to do.
fn take_up(
    lanes: &mut [Lane],
    waiting: &mut std::ops::Range<usize>,
    requests: &[Request<'_>],
    on_event: &mut dyn FnMut(BatchEvent) -> bool,
) -> bool {
    for lane in lanes.iter_mut().filter(|lane| lane.request.is_none()) {
        for index in waiting.by_ref() {
            if !on_event(BatchEvent::Started(index)) {
                return false;
            }
            let request = &requests[index];
            if request.max_tokens > 0 {
                let text = request.prompt.to_vec();
                *lane = Lane { request: Some(index), prompt: text.len(), text, read: 0 };
                break;
            }
            let nothing = Continuation { tokens: Vec::new(), ending: Ending::Length };
            if !on_event(BatchEvent::Ended(index, nothing)) {
                return false;
            }
        }
    }
    lanes.iter().any(|lane| lane.request.is_some())
}
