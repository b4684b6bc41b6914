//! An answer as it comes: token after token to text, to stdout at once.
//!
//! Invariant: a terminal is not given what it would act on; a file or pipe gets the text as it is. A reader that goes away
//! ends the answer.

use crate::inference::Asked;
use crate::terminal;
use crate::units::{bytes, counted, duration};
use remat_train::{Continuation, Ending, Generator, Request, TextStream, TrainError};
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// What was answered.
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) continuation: Continuation,
    pub(crate) seconds: f64,
}

/// Answers a prompt of `max_tokens` at most; `show` is given each piece of text and says whether to go on.
pub(crate) fn answer(
    asked: &Asked,
    generator: &mut Generator,
    prompt: &[u32],
    max_tokens: usize,
    show: &mut dyn FnMut(&str) -> bool,
) -> Result<Answer, TrainError> {
    let failed = |problem| TrainError::BadFlag { key: "prompt", problem };
    let mut stream = TextStream::after(asked.tokens.tokenizer(), prompt);
    let (mut text, mut fault) = (String::new(), None);
    let mut on_token = |id| match stream.push(id) {
        Ok(piece) => {
            text.push_str(&piece);
            show(&piece)
        }
        Err(problem) => {
            fault = Some(problem);
            false
        }
    };
    let started = Instant::now();
    let request = Request { prompt, max_tokens, sampling: asked.sampling, stop: &asked.stop };
    let continuation = generator.generate(&request, &mut on_token)?;
    let seconds = started.elapsed().as_secs_f64();
    if let Some(problem) = fault {
        return Err(failed(problem));
    }
    let rest = stream.finish().map_err(failed)?;
    text.push_str(&rest);
    show(&rest);
    Ok(Answer { text, continuation, seconds })
}

/// The answer that a continuation of a prompt is.
pub(crate) fn whole(
    asked: &Asked,
    prompt: &[u32],
    continuation: Continuation,
    seconds: f64,
) -> Result<Answer, TrainError> {
    let failed = |problem| TrainError::BadFlag { key: "prompt", problem };
    let mut stream = TextStream::after(asked.tokens.tokenizer(), prompt);
    let pieces = continuation.tokens.iter().map(|&id| stream.push(id));
    let mut text = pieces.collect::<Result<String, _>>().map_err(failed)?;
    text.push_str(&stream.finish().map_err(failed)?);
    Ok(Answer { text, continuation, seconds })
}

/// Writes a piece of text to stdout; whether that was possible.
pub(crate) fn print(text: &str) -> bool {
    let mut out = std::io::stdout();
    let shown = |text: &str| text.split('\t').map(terminal::visible).collect::<Vec<_>>().join("\t");
    let text = if out.is_terminal() { shown(text) } else { text.to_string() };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

impl Answer {
    /// Why it ended, as a word for programs.
    pub(crate) fn finish_reason(&self) -> &'static str {
        match self.continuation.ending {
            Ending::Stopped => "stop",
            Ending::Length => "length",
            Ending::Cancelled => "cancelled",
        }
    }

    /// A line on it for people.
    pub(crate) fn summary(&self, prompt_tokens: usize, allocated_bytes: usize) -> String {
        let ending = match self.continuation.ending {
            Ending::Stopped => "ended by itself",
            Ending::Length => "ended by --max-tokens",
            Ending::Cancelled => "cut off",
        };
        let tokens = self.continuation.tokens.len();
        let pace = tokens as f64 / self.seconds.max(f64::MIN_POSITIVE);
        format!(
            "{} after a prompt of {prompt_tokens} in {} · {pace:.1} tok/s · {ending} · memory {}",
            counted(tokens, "token"),
            duration(self.seconds),
            bytes(allocated_bytes as u64)
        )
    }
}
