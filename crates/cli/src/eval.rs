//! The verb `eval`: loss and perplexity of a model on a file's rows.
//!
//! Invariant: the figures go to stdout, as text or as one JSON object (schema 1; keys are only ever added).

use crate::console;
use crate::exit::exit_code;
use crate::names::{self, NameArgs};
use crate::settings::RowArgs;
use crate::template_args::TemplateArgs;
use crate::terminal;
use crate::units::{count, counted, duration};
use remat_formats::Places;
use remat_hub::Wanted;
use remat_model::Model;
use remat_step::DeviceOptions;
use remat_train::{
    EvaluationReport, EvaluationRequest, Isa, PrecisionChoice, TrainError, TrainedTurns, device_options, evaluate,
};
use serde_json::{Value, json};
use std::path::PathBuf;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat eval --model Llama-3.2-1B --data held-out.jsonl
  remat eval --model Llama-3.2-1B --adapter run --data held-out.jsonl --json";

/// Flags of `remat eval`.
#[derive(Debug, clap::Args)]
pub(crate) struct EvalArgs {
    /// Model folder as Hugging Face writes it, or its name on the Hub
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    #[command(flatten)]
    names: NameArgs,

    /// PEFT adapter to apply
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,

    /// File of rows, or a data set's name on the Hub; may be given more than once
    #[arg(long, value_name = "FILE", required = true)]
    data: Vec<PathBuf>,

    /// Longest sequence in tokens; longer rows are cut [default: 1024, or what the model has positions for]
    #[arg(long, value_name = "T")]
    seq_len: Option<usize>,

    /// What counts: every token, the assistant's turns and completions, or the assistant's last turn
    #[arg(long, value_enum, value_name = "TURNS", default_value = "assistant")]
    train_on: TrainedTurns,

    #[command(flatten)]
    rows: RowArgs,

    #[command(flatten)]
    template: TemplateArgs,

    /// Rows at a time
    #[arg(long, value_name = "B", default_value = "1")]
    batch_size: usize,

    /// Number format of weights and activations
    #[arg(long, value_enum, default_value = "auto")]
    precision: PrecisionChoice,

    /// Threads [default: all]
    #[arg(long, value_name = "N", value_parser = crate::settings::threads)]
    threads: Option<usize>,

    /// Instruction set to compute with [default: the strongest this machine has]; results differ by roundings
    #[arg(long, value_enum)]
    isa: Option<Isa>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Evaluates and returns the exit code.
pub(crate) fn run(arguments: EvalArgs) -> u8 {
    let json = arguments.json;
    match start(arguments) {
        Ok((report, options)) => {
            let text = if json { as_json(&report, options).to_string() } else { as_text(&report) };
            terminal::say(&text);
            0
        }
        Err(error) => {
            terminal::error(&error.to_string());
            exit_code(error.kind())
        }
    }
}

fn start(arguments: EvalArgs) -> Result<(EvaluationReport, DeviceOptions), TrainError> {
    let EvalArgs { model, adapter, data, seq_len, train_on, rows, batch_size, precision, threads, isa, .. } = arguments;
    let TemplateArgs { chat_date, chat_template, chat_template_kwargs } = arguments.template.clone();
    let model = arguments.names.model(&model, Wanted::Weights)?;
    let adapter = adapter.as_deref().map(names::adapter).transpose()?;
    let data = names::rows(data)?;
    let mut places = Places::new().reads("--model", &model);
    places = adapter.iter().fold(places, |places, path| places.reads("--adapter", path));
    places = arguments.template.inputs(places);
    data.iter().fold(places, |places, path| places.reads("--data", &remat_data::file_of(path))).check()?;
    let options = device_options(threads, isa)?;
    let model = Model::open(&model)?;
    let model = match &adapter {
        Some(adapter) => model.with_tokens_of(adapter)?,
        None => model,
    };
    model.notes().iter().for_each(|note| terminal::note(note));
    let precision = precision.of_model(&model, options.level);
    let model = model.in_precision(precision.into());
    console::adapter_notes(&model, adapter.as_deref())?;
    let request = EvaluationRequest {
        data,
        rows: rows.options(),
        seq_len,
        train_on,
        chat_date,
        chat_template,
        chat_template_kwargs,
        batch_size,
        options,
    };
    Ok((evaluate(&model, adapter.as_deref(), &request)?, options))
}

fn as_text(report: &EvaluationReport) -> String {
    let cut: usize = report.data.iter().map(|file| file.truncated).sum();
    let dropped: usize = report.data.iter().map(|file| file.dropped).sum();
    let mut text = format!(
        "loss {:.4} · perplexity {:.3} · {} of {} · {}",
        report.loss,
        report.perplexity,
        counted(report.tokens, "token"),
        counted(report.samples, "row"),
        duration(report.seconds)
    );
    for (number, what) in [(cut, "cut to the sequence length"), (dropped, "left out without a token that counts")] {
        if number > 0 {
            text.push_str(&format!(" · {} rows {what}", count(number)));
        }
    }
    for file in &report.data {
        for (label, note) in crate::file_notes::notes(file) {
            text.push_str(&format!("\n{}: {label}: {note}", file.path.display()));
        }
    }
    text
}

fn as_json(report: &EvaluationReport, options: DeviceOptions) -> Value {
    let file = |stats: &remat_data::SampleStats| {
        json!({
            "path": stats.path.display().to_string(),
            "rows": stats.rows,
            "truncated": stats.truncated,
            "dropped": stats.dropped,
            "ignored": stats.file.ignored,
            "bad_rows": stats.file.bad_rows,
            "trained_tokens": stats.trained_tokens,
        })
    };
    json!({
        "schema": 1,
        "loss": report.loss,
        "perplexity": report.perplexity,
        "tokens": report.tokens,
        "samples": report.samples,
        "seconds": report.seconds,
        "isa": options.level.name(),
        "threads": options.threads,
        "data": report.data.iter().map(file).collect::<Vec<_>>(),
    })
}
