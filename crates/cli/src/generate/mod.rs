//! The verb `generate`: continues a prompt, to stdout as the tokens come; or many, one answer after the other or several at
//! a time.
//!
//! Invariant: stdout holds the continuation and a newline, or with `--json` one object per prompt, nothing else; answers
//! come in the order of the prompts, and are the same at any batch size; a reader that goes away ends the generation.
//! Look next at `prompts` for where prompts come from.

mod prompts;
mod side_by_side;

use crate::answer::{Answer, answer, print};
use crate::exit::exit_code;
use crate::inference::{Asked, InferenceArgs};
use crate::terminal;
use prompts::Prompt;
use remat_formats::Places;
use remat_train::TrainError;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Tokens to generate unless something else says otherwise.
const DEFAULT_MAX_TOKENS: usize = 128;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat generate --model Llama-3.2-1B --prompt 'Once upon a time'
  remat generate --adapter run --chat --prompt 'Why is the sky blue?' --temperature 0.7 --top-p 0.9 --seed 1
  remat generate --model Llama-3.2-1B --prompts questions.jsonl --json > answers.jsonl

Without --prompt and --prompts the prompt is what comes on stdin. A line of --prompts is a JSON text, or an object with
\"prompt\" or \"messages\"; its other keys are in the answer's object, too.";

/// Flags of `remat generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    inference: InferenceArgs,

    /// Text to continue; - reads it from stdin
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "prompts")]
    prompt: Option<String>,

    /// File of prompts, one JSON object or text per line
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,

    /// Prompts of --prompts to answer at a time: faster, and each takes memory for its text; the answers are the same
    #[arg(long, value_name = "N", default_value = "1", requires = "prompts", conflicts_with = "prompt", value_parser = at_least_one)]
    batch_size: usize,

    /// Take a prompt as what a user says, in the model's chat template
    #[arg(long)]
    chat: bool,

    /// With --chat, what stands before everything as the system's message
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,

    /// Tokens to generate at most [default: of generation_config.json, else 128; or what the model has positions for]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,

    /// Print one JSON object per prompt
    #[arg(long)]
    json: bool,

    /// Print the text and errors only
    #[arg(long)]
    quiet: bool,
}

/// Generates and returns the exit code.
pub(crate) fn run(arguments: &GenerateArgs) -> u8 {
    match generate(arguments) {
        Ok(()) => 0,
        Err(error) => {
            terminal::error(&error.to_string());
            exit_code(error.kind())
        }
    }
}

fn generate(arguments: &GenerateArgs) -> Result<(), TrainError> {
    let inputs = arguments.prompts.iter().fold(Places::new(), |places, path| places.reads("--prompts", path));
    let mut asked = arguments.inference.open(inputs)?;
    let prompts = prompts::read(arguments.prompt.as_deref(), arguments.prompts.as_deref())?;
    let prompts: Vec<(Prompt, Vec<u32>)> = encoded(arguments, &mut asked, prompts)?;
    if !arguments.quiet {
        asked.notes.iter().for_each(|note| terminal::line(&terminal::visible(&format!("note: {note}"))));
    }
    let positions = asked.model.config().max_position_embeddings;
    let wanted = arguments.max_tokens.or(asked.max_new_tokens);
    let most = |prompt: &[u32]| match arguments.max_tokens {
        Some(tokens) => tokens,
        None => wanted.unwrap_or(DEFAULT_MAX_TOKENS).min(positions.saturating_sub(prompt.len())).max(1),
    };
    let capacity = prompts.iter().map(|(_, ids)| ids.len().saturating_add(most(ids))).max().unwrap_or(1).max(1);
    let batch = arguments.batch_size.min(prompts.len());
    if batch > 1 {
        let asks: Vec<(&[u32], usize)> = prompts.iter().map(|(_, ids)| (&ids[..], most(ids))).collect();
        let mut tell = |index: usize, answer: &Answer, allocated_bytes: usize| {
            let (prompt, ids) = &prompts[index];
            (arguments.json || print(&answer.text)) && ended(arguments, prompt, ids, answer, allocated_bytes)
        };
        return side_by_side::answers(&asked, (batch, capacity), &asks, &mut tell);
    }
    let mut generator = asked.generator(capacity)?;
    for (prompt, ids) in &prompts {
        let mut show = |text: &str| arguments.json || print(text);
        let answer = answer(&asked, &mut generator, ids, most(ids), &mut show)?;
        if !ended(arguments, prompt, ids, &answer, generator.allocated_bytes()) {
            break;
        }
    }
    Ok(())
}

/// What stands behind the text of an answer, or with `--json` in its place; whether that was possible.
fn ended(arguments: &GenerateArgs, prompt: &Prompt, ids: &[u32], answer: &Answer, allocated_bytes: usize) -> bool {
    let end = if arguments.json { object(prompt, ids, answer).to_string() + "\n" } else { "\n".to_string() };
    let printed = print_as_is(arguments.json, &end);
    if printed && !arguments.quiet {
        terminal::line(&answer.summary(ids.len(), allocated_bytes));
    }
    printed
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&count| count > 0).ok_or_else(|| "must be a whole number from 1".to_string())
}

/// JSON is escaped already, and a terminal shows its newline.
fn print_as_is(json: bool, text: &str) -> bool {
    use std::io::Write;
    if json { std::io::stdout().write_all(text.as_bytes()).is_ok() } else { print(text) }
}

/// The prompts as token ids; with `--chat`, or of messages, through the chat template, whose end of turn ends an answer.
fn encoded(
    arguments: &GenerateArgs,
    asked: &mut Asked,
    prompts: Vec<Prompt>,
) -> Result<Vec<(Prompt, Vec<u32>)>, TrainError> {
    let is_chat = |prompt: &Prompt| arguments.chat || prompt.messages.is_some();
    if prompts.iter().any(is_chat) {
        asked.template()?;
        asked.stop.extend(asked.end_of_turn());
    }
    let ids = |prompt: &Prompt| {
        let system = arguments.system.as_deref().map(|text| ("system", text));
        let given = prompt.messages.iter().flatten().map(|(role, text)| (role.as_str(), text.as_str()));
        match &prompt.messages {
            Some(_) => asked.conversation(&system.into_iter().chain(given).collect::<Vec<_>>()),
            None if arguments.chat => {
                asked.conversation(&system.into_iter().chain([("user", prompt.text.as_str())]).collect::<Vec<_>>())
            }
            None => asked.tokens.tokenizer().encode_prompt(&prompt.text),
        }
    };
    let encode = |prompt: Prompt| match ids(&prompt) {
        Ok(ids) => Ok((prompt, ids)),
        Err(problem) => {
            let at = prompt.line.map_or(String::new(), |line| format!("line {line}: "));
            let key = if prompt.line.is_some() { "prompts" } else { "prompt" };
            Err(TrainError::BadFlag { key, problem: format!("{at}{problem}") })
        }
    };
    prompts.into_iter().map(encode).collect()
}

/// The answer for programs, with what the prompt's line said beside the prompt.
fn object(prompt: &Prompt, ids: &[u32], answer: &Answer) -> Value {
    let mut object = json!({
        "schema": 1,
        "prompt_tokens": ids.len(),
        "text": answer.text,
        "tokens": answer.continuation.tokens.len(),
        "finish_reason": answer.finish_reason(),
        "seconds": answer.seconds,
    });
    match &prompt.messages {
        Some(messages) => {
            object["messages"] = messages.iter().map(|(role, text)| json!({"role": role, "content": text})).collect();
        }
        None => object["prompt"] = json!(prompt.text),
    }
    for (key, value) in &prompt.beside {
        if object.get(key).is_none() {
            object[key.as_str()] = value.clone();
        }
    }
    object
}
