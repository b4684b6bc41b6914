//! Answers to many prompts, several at a time. Invariant: an answer is told when all before it have been, so that answers
//! stand in the order of their prompts whichever ends first.

use crate::answer::{Answer, whole};
use crate::inference::Asked;
use remat_train::{BatchEvent, Request, TrainError};
use std::collections::BTreeMap;
use std::time::Instant;

/// Answers prompts, each with the tokens that may follow at most, `batch` at a time in caches of `capacity` tokens each. `tell`
/// is given each answer's place, the answer and the bytes allocated, and says whether to go on.
pub(super) fn answers(
    asked: &Asked,
    (batch, capacity): (usize, usize),
    prompts: &[(&[u32], usize)],
    tell: &mut dyn FnMut(usize, &Answer, usize) -> bool,
) -> Result<(), TrainError> {
    let mut generator = asked.batch_generator(batch, capacity)?;
    let allocated_bytes = generator.allocated_bytes();
    let request = |&(prompt, max_tokens)| Request { prompt, max_tokens, sampling: asked.sampling, stop: &asked.stop };
    let requests: Vec<Request<'_>> = prompts.iter().map(request).collect();
    let mut started = vec![Instant::now(); prompts.len()];
    let (mut waiting, mut next, mut fault) = (BTreeMap::new(), 0, None);
    let mut on_event = |event| {
        let (index, continuation) = match event {
            BatchEvent::Started(index) => {
                started[index] = Instant::now();
                return true;
            }
            BatchEvent::Ended(index, continuation) => (index, continuation),
        };
        match whole(asked, prompts[index].0, continuation, started[index].elapsed().as_secs_f64()) {
            Ok(answer) => drop(waiting.insert(index, answer)),
            Err(error) => {
                fault = Some(error);
                return false;
            }
        }
        while let Some(answer) = waiting.remove(&next) {
            if !tell(next, &answer, allocated_bytes) {
                return false;
            }
            next += 1;
        }
        true
    };
    generator.generate(&requests, &mut on_event)?;
    fault.map_or(Ok(()), Err)
}
