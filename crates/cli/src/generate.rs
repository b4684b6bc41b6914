//! The verb `generate`: continues a prompt, to stdout as the tokens come.
//!
//! Invariant: stdout holds the continuation and a newline, nothing else; a reader that goes away ends the generation.

use crate::console;
use crate::train::exit_code;
use crate::units::{bytes, counted, duration};
use remat_formats::{Places, Tokenizer};
use remat_model::Model;
use remat_train::{
    Continuation, Ending, Generator, Isa, PrecisionChoice, Request, Sampling, TextStream, TrainError, device_options,
};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

/// Tokens to generate unless the user says otherwise.
const DEFAULT_MAX_TOKENS: usize = 128;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat generate --model Llama-3.2-1B --prompt 'Once upon a time'
  remat generate --model Llama-3.2-1B --adapter run --prompt 'Q: why?' --temperature 0.7 --top-p 0.9 --seed 1";

/// Flags of `remat generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    /// Model folder as Hugging Face writes it
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// PEFT adapter to apply
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,

    /// Text to continue
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: String,

    /// Tokens to generate at most [default: 128, or what the model has positions for]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,

    /// Randomness: 0 always takes the most probable token
    #[arg(long, value_name = "T", default_value = "0", allow_negative_numbers = true)]
    temperature: f32,

    /// Choose among the N most probable tokens only
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,

    /// Choose among the fewest tokens whose probabilities sum to P
    #[arg(long, value_name = "P", default_value = "1")]
    top_p: f32,

    /// Seed of the random choices
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,

    /// End before this token too, beside the model's own ends: the text of one token, as <|im_end|>; may be repeated
    #[arg(long, value_name = "TOKEN")]
    stop: Vec<String>,

    /// Number format of weights and activations
    #[arg(long, value_enum, default_value = "auto")]
    precision: PrecisionChoice,

    /// Threads [default: all]
    #[arg(long, value_name = "N", value_parser = crate::threads)]
    threads: Option<usize>,

    /// Instruction set to compute with [default: the strongest this machine has]; results differ by roundings
    #[arg(long, value_enum)]
    isa: Option<Isa>,

    /// Print the text and errors only
    #[arg(long)]
    quiet: bool,
}

/// Generates and returns the exit code.
pub(crate) fn run(arguments: &GenerateArgs) -> u8 {
    match generate(arguments) {
        Ok(()) => 0,
        Err(error) => {
            console::error(&error.to_string());
            exit_code(error.kind())
        }
    }
}

fn generate(arguments: &GenerateArgs) -> Result<(), TrainError> {
    let GenerateArgs { temperature, top_k, top_p, seed, .. } = *arguments;
    let sampling = Sampling { temperature, top_k, top_p, seed };
    sampling.check()?;
    let places = Places::new().reads("--model", &arguments.model);
    arguments.adapter.iter().fold(places, |places, path| places.reads("--adapter", path)).check()?;
    let options = device_options(arguments.threads, arguments.isa)?;
    let model = Model::open(&arguments.model)?;
    let precision = arguments.precision.of_model(&model, options.level);
    let model = model.in_precision(precision.into());
    console::adapter_notes(&model, arguments.adapter.as_deref())?;
    let tokenizer = Tokenizer::from_dir(&arguments.model)?;
    let of_prompt = |problem| TrainError::BadFlag { key: "prompt", problem };
    let prompt = tokenizer.encode_prompt(&arguments.prompt).map_err(of_prompt)?;
    let left = model.config().max_position_embeddings.saturating_sub(prompt.len());
    let max_tokens = arguments.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS.min(left).max(1));
    let mut stop: Vec<u32> = model.config().eos_token_ids.iter().copied().chain(tokenizer.eos()).collect();
    for text in &arguments.stop {
        stop.push(one_token(&tokenizer, text).map_err(|problem| TrainError::BadFlag { key: "stop", problem })?);
    }
    let capacity = prompt.len().saturating_add(max_tokens);
    let mut generator = Generator::open(&model, arguments.adapter.as_deref(), capacity.max(1), options)?;

    let mut stream = TextStream::after(&tokenizer, &prompt);
    let mut fault = None;
    let mut out = std::io::stdout();
    // A terminal is not given what it would act on; a file or pipe gets the text as it is.
    let to_terminal = out.is_terminal();
    let mut print = |text: &str| {
        let shown = |text: &str| text.split('\t').map(console::visible).collect::<Vec<_>>().join("\t");
        let text = if to_terminal { shown(text) } else { text.to_string() };
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
    };
    let mut on_token = |id| match stream.push(id) {
        Ok(piece) => print(&piece),
        Err(problem) => {
            fault = Some(problem);
            false
        }
    };
    let started = Instant::now();
    let request = Request { prompt: &prompt, max_tokens, sampling, stop: &stop };
    let text = generator.generate(&request, &mut on_token)?;
    let seconds = started.elapsed().as_secs_f64();
    let rest = match fault {
        Some(problem) => Err(problem),
        None => stream.finish(),
    };
    print(&rest.map_err(of_prompt)?);
    print("\n");
    if !arguments.quiet {
        console::line(&summary(&text, prompt.len(), seconds, generator.allocated_bytes()));
    }
    Ok(())
}

/// The token that is exactly this text.
fn one_token(tokenizer: &Tokenizer, text: &str) -> Result<u32, String> {
    match tokenizer.encode(text, false)?[..] {
        [id] => Ok(id),
        ref ids => {
            Err(format!("{text:?} is {} for this model; give the text of one token", counted(ids.len(), "token")))
        }
    }
}

fn summary(text: &Continuation, prompt_tokens: usize, seconds: f64, allocated_bytes: usize) -> String {
    let ending = match text.ending {
        Ending::Stopped => "ended by itself",
        Ending::Length => "ended by --max-tokens",
        Ending::Cancelled => "cut off",
    };
    let pace = text.tokens.len() as f64 / seconds.max(f64::MIN_POSITIVE);
    format!(
        "{} after a prompt of {prompt_tokens} in {} · {pace:.1} tok/s · {ending} · memory {}",
        counted(text.tokens.len(), "token"),
        duration(seconds),
        bytes(allocated_bytes as u64)
    )
}
