//! The verb `chat`: a conversation in the terminal, or with what comes on stdin, in the model's own chat template.
//!
//! Invariant: stdout holds the answers, each with a newline; prompts, notes and figures go to stderr. A line that begins
//! with a slash is a command and never sent. What the model reads is the whole conversation rendered anew, so a turn means
//! what it meant in training; tokens that it has read before are not computed again.

use crate::answer::{answer, print};
use crate::exit::exit_code;
use crate::inference::{Asked, InferenceArgs};
use crate::terminal;
use remat_formats::Places;
use remat_train::{Ending, Generator, TrainError};
use std::io::{BufRead, IsTerminal, Write};

/// Tokens of a conversation unless the user says otherwise, if the model has positions for them.
const DEFAULT_CONTEXT: usize = 4096;
/// Longest line that is read.
const MOST_LINE_BYTES: u64 = 1 << 20;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat chat --model Qwen2.5-0.5B-Instruct
  remat chat --adapter run --system 'Answer in one sentence.'
  printf 'What is a man?\\nAnd a woman?\\n' | remat chat --adapter run --quiet

Commands: /system TEXT sets the system's message and begins anew, /reset begins anew, /help lists these, /exit ends.";

const COMMANDS: &str = "/system TEXT sets the system's message and begins anew · /reset begins anew · /exit ends";

/// Flags of `remat chat`.
#[derive(Debug, clap::Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    inference: InferenceArgs,

    /// The system's message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// Tokens of an answer at most [default: what the conversation leaves]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_tokens: Option<u64>,

    /// Longest conversation in tokens [default: 4096, or the model's positions if fewer]
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u64).range(1..))]
    seq_len: Option<u64>,

    /// Print the answers and errors only
    #[arg(long)]
    quiet: bool,
}

/// Talks and returns the exit code.
pub(crate) fn run(arguments: &ChatArgs) -> u8 {
    match talk(arguments) {
        Ok(()) => 0,
        Err(error) => {
            terminal::error(&error.to_string());
            exit_code(error.kind())
        }
    }
}

/// A conversation under way.
struct Chat<'a> {
    asked: &'a Asked,
    generator: Generator,
    capacity: usize,
    max_tokens: Option<u64>,
    quiet: bool,
    system: Option<String>,
    /// Role and text of what was said.
    said: Vec<(&'static str, String)>,
}

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Say(&'a str),
    System(&'a str),
    Reset,
    Help,
    Exit,
    Unknown(&'a str),
}

impl<'a> Line<'a> {
    fn of(text: &'a str) -> Self {
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        match word {
            "" => Line::Nothing,
            "/system" => Line::System(rest.trim()),
            "/reset" => Line::Reset,
            "/help" => Line::Help,
            "/exit" => Line::Exit,
            _ if word.starts_with('/') => Line::Unknown(word),
            _ => Line::Say(text),
        }
    }
}

fn talk(arguments: &ChatArgs) -> Result<(), TrainError> {
    let mut asked = arguments.inference.open(Places::new())?;
    asked.template()?;
    asked.stop.extend(asked.end_of_turn());
    let positions = asked.model.config().max_position_embeddings;
    let capacity = arguments.seq_len.map_or(DEFAULT_CONTEXT.min(positions), |tokens| tokens as usize);
    let generator = asked.generator(capacity)?;
    let (system, max_tokens, quiet) = (arguments.system.clone(), arguments.max_tokens, arguments.quiet);
    let mut chat = Chat { asked: &asked, generator, capacity, max_tokens, quiet, system, said: Vec::new() };
    chat.tell(&asked.notes);
    if std::io::stdin().is_terminal() {
        chat.tell(&[COMMANDS.to_string()]);
    }
    chat.listen()
}

impl Chat<'_> {
    fn tell(&self, notes: &[String]) {
        if !self.quiet {
            notes.iter().for_each(|note| terminal::line(&terminal::visible(&format!("note: {note}"))));
        }
    }

    /// Line after line until there is no more. What a person types may be wrong and is said again; of a file it ends all.
    fn listen(&mut self) -> Result<(), TrainError> {
        let stdin = std::io::stdin();
        let is_person = stdin.is_terminal();
        loop {
            if is_person {
                drop(write!(std::io::stderr(), "> ").and_then(|()| std::io::stderr().flush()));
            }
            let Some(line) = read_line(&mut stdin.lock())? else { return Ok(()) };
            match Line::of(&line) {
                Line::Nothing => {}
                Line::Exit => return Ok(()),
                Line::Help => terminal::line(COMMANDS),
                Line::Reset => self.begin_anew(self.system.clone()),
                Line::System(text) => self.begin_anew(Some(text.to_string()).filter(|text| !text.is_empty())),
                Line::Unknown(word) => {
                    let problem = format!("there is no command {word}; {COMMANDS}");
                    self.refuse(TrainError::BadFlag { key: "chat", problem }, is_person)?;
                }
                Line::Say(text) => match self.say(text) {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    Err(error) => self.refuse(error, is_person)?,
                },
            }
        }
    }

    fn refuse(&self, error: TrainError, is_person: bool) -> Result<(), TrainError> {
        if !is_person {
            return Err(error);
        }
        terminal::error(&error.to_string());
        Ok(())
    }

    fn begin_anew(&mut self, system: Option<String>) {
        self.said.clear();
        self.system = system;
        self.tell(&["the conversation begins anew".to_string()]);
    }

    /// Says something and prints the answer; false if nobody reads it any more. Of an error nothing stays.
    fn say(&mut self, text: &str) -> Result<bool, TrainError> {
        self.said.push(("user", text.to_string()));
        let answered = self.answer();
        match answered {
            Ok(Some(text)) => {
                self.said.push(("assistant", text));
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                self.said.pop();
                Err(error)
            }
        }
    }

    fn answer(&mut self) -> Result<Option<String>, TrainError> {
        let system = self.system.as_deref().map(|text| ("system", text));
        let messages = system.into_iter().chain(self.said.iter().map(|(role, text)| (*role, text.as_str())));
        let refuse = |problem: String| TrainError::BadFlag { key: "chat", problem };
        let prompt = self.asked.conversation(&messages.collect::<Vec<_>>()).map_err(refuse)?;
        let left = self.capacity.saturating_sub(prompt.len());
        if left == 0 {
            return Err(refuse(format!(
                "the conversation has {} tokens and no room for an answer in {}; /reset begins anew, --seq-len makes room",
                prompt.len(),
                self.capacity
            )));
        }
        let max_tokens = self.max_tokens.map_or(left, |tokens| left.min(tokens as usize));
        let mut is_read = true;
        let mut show = |text: &str| {
            is_read = print(text);
            is_read
        };
        let answer = answer(self.asked, &mut self.generator, &prompt, max_tokens, &mut show)?;
        is_read &= print("\n");
        if is_read && answer.continuation.ending == Ending::Length {
            self.tell(&[format!("cut off after {max_tokens} tokens")]);
        }
        Ok(is_read.then_some(answer.text))
    }
}

/// The next line, or none at the end.
fn read_line(from: &mut dyn BufRead) -> Result<Option<String>, TrainError> {
    use std::io::Read;
    let refuse = |problem: String| TrainError::BadFlag { key: "chat", problem: format!("stdin: {problem}") };
    let mut line = String::new();
    let read = from.take(MOST_LINE_BYTES).read_line(&mut line).map_err(|error| refuse(error.to_string()))?;
    if read as u64 == MOST_LINE_BYTES && !line.ends_with('\n') {
        return Err(refuse(format!("a line has more than {MOST_LINE_BYTES} bytes")));
    }
    Ok((read > 0).then_some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_or_are_commands() {
        for (text, line) in [
            ("\n", Line::Nothing),
            (" hello  there \r\n", Line::Say("hello  there")),
            ("/system  be brief\n", Line::System("be brief")),
            ("/system", Line::System("")),
            ("/reset\n", Line::Reset),
            ("/exit", Line::Exit),
            ("/help", Line::Help),
            ("/exits now", Line::Unknown("/exits")),
            ("1/2 is a half", Line::Say("1/2 is a half")),
        ] {
            assert_eq!(Line::of(text), line, "{text:?}");
        }
    }
}
