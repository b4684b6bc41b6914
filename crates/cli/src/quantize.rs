//! The verb `quantize`: a model folder in few bits, as bitsandbytes stores it.
//!
//! Invariant: the folder is there whole or not at all; under `--force` a model that remat wrote there goes once the new one
//! is whole, and whatever else is in the folder stays.

use crate::exit::exit_code;
use crate::names::NameArgs;
use crate::terminal;
use crate::units::{bytes, count, duration};
use remat_hub::Wanted;
use remat_model::{Model, QuantiseReport};
use remat_train::{QuantKind, TrainError};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat quantize --model Llama-3.2-1B --out Llama-3.2-1B-nf4
  remat train --model Llama-3.2-1B-nf4 --data rows.jsonl --out run
  remat quantize --model Llama-3.2-1B --quant int8 --out Llama-3.2-1B-int8

Linears become NF4 with double quantisation, or int8; embeddings, norms and the head stay in 16 bits. transformers loads
the folder with bitsandbytes. The model is read tensor by tensor, so it may be larger than memory.";

/// Flags of `remat quantize`.
#[derive(Debug, clap::Args)]
pub(crate) struct QuantizeArgs {
    /// Model folder as Hugging Face writes it, or its name on the Hub
    #[arg(long, value_name = "DIR", required_unless_present = "preset")]
    model: Option<PathBuf>,

    #[command(flatten)]
    names: NameArgs,

    /// Shape of a published model by its name, with random weights, instead of a model folder
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    preset: Option<String>,

    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// What linears are quantised to
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "nf4")]
    quant: QuantKind,

    /// Replace a model that remat wrote to --out before; other files there stay
    #[arg(long)]
    force: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Quantises and returns the exit code.
pub(crate) fn run(arguments: &QuantizeArgs) -> u8 {
    let start = Instant::now();
    match quantise(arguments) {
        Ok(report) => {
            let seconds = start.elapsed().as_secs_f64();
            let text = if arguments.json { as_json(&report, seconds) } else { as_text(&report, seconds) };
            terminal::say(&text);
            0
        }
        Err(error) => {
            terminal::error(&error.to_string());
            exit_code(error.kind())
        }
    }
}

fn quantise(arguments: &QuantizeArgs) -> Result<QuantiseReport, TrainError> {
    let model = match (&arguments.model, &arguments.preset) {
        (Some(folder), _) => Model::open(&arguments.names.model(folder, Wanted::Weights)?)?,
        (None, Some(name)) => Model::from_preset(name)?,
        (None, None) => return Err(TrainError::MissingKey { key: "model", example: "--model DIR" }),
    };
    model.notes().iter().for_each(|note| terminal::note(note));
    Ok(model.write_quantised(arguments.quant.into(), &arguments.out, arguments.force)?)
}

fn bits(report: &QuantiseReport) -> f64 {
    8.0 * report.quantised_bytes as f64 / report.quantised_parameters.max(1) as f64
}

fn as_text(report: &QuantiseReport, seconds: f64) -> String {
    format!(
        "{} parameters in {:.3} bits each, {} in 16 bits · {} · {}",
        count(report.quantised_parameters),
        bits(report),
        count(report.other_parameters),
        bytes(report.file_bytes),
        duration(seconds)
    )
}

fn as_json(report: &QuantiseReport, seconds: f64) -> String {
    json!({
        "schema": 1,
        "quantised_parameters": report.quantised_parameters,
        "bits_per_quantised_parameter": bits(report),
        "other_parameters": report.other_parameters,
        "file_bytes": report.file_bytes,
        "seconds": seconds,
    })
    .to_string()
}
