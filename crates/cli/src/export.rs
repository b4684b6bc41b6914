//! The verb `export`: a model or an adapter for another program. `export gguf` writes the file of llama.cpp.
//!
//! Invariant: the file is there whole or not at all, and one that is there goes only under `--force`.

use crate::exit::exit_code;
use crate::folded::FoldedArgs;
use crate::terminal;
use crate::units::{bytes, counted, duration};
use clap::{Args, Subcommand, ValueEnum};
use remat_formats::GgufElement;
use remat_hub::Wanted;
use remat_model::{GgufOptions, GgufReport};
use remat_train::TrainError;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Instant;

const AFTER_HELP: &str = "\
Examples:
  remat export gguf --adapter run --out adapter.gguf
  llama-cli -m base.gguf --lora adapter.gguf
  remat export gguf --adapter run --merge --type q8_0 --out model.gguf
  remat export gguf --model merged --type bf16 --out model.gguf

With --adapter alone the adapter is written by itself, for llama.cpp's --lora; with --merge it is
folded into its base, as remat merge does. Tokenizer and chat template go into the file of a model.
What llama.cpp would compute otherwise is refused by name.";

/// What `remat export` is asked.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Format {
    /// Write a model, or an adapter by itself, as llama.cpp loads it
    #[command(after_help = AFTER_HELP)]
    Gguf(GgufArgs),
}

#[derive(Debug, Args)]
struct GgufArgs {
    #[command(flatten)]
    folded: FoldedArgs,

    /// Fold the adapter into its base and write the model
    #[arg(long, requires = "adapter")]
    merge: bool,

    /// Number format of matrices [default: f16, of an adapter by itself f32]; norms and biases are f32
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    element: Option<ElementKind>,

    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Replace --out if it is there
    #[arg(long)]
    force: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Number formats of a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ElementKind {
    F32,
    F16,
    Bf16,
    /// Eight bits and a scale for 32 numbers of a row
    #[value(name = "q8_0")]
    Q8,
}

impl From<ElementKind> for GgufElement {
    fn from(kind: ElementKind) -> Self {
        match kind {
            ElementKind::F32 => GgufElement::F32,
            ElementKind::F16 => GgufElement::F16,
            ElementKind::Bf16 => GgufElement::Bf16,
            ElementKind::Q8 => GgufElement::Q8_0,
        }
    }
}

/// Exports and returns the exit code.
pub(crate) fn run(arguments: &ExportArgs) -> u8 {
    let Format::Gguf(arguments) = &arguments.format;
    let start = Instant::now();
    match gguf(arguments) {
        Ok(written) => {
            written.report.notes.iter().for_each(|note| terminal::note(note));
            let seconds = start.elapsed().as_secs_f64();
            let text = if arguments.json { as_json(written, seconds) } else { as_text(&written, seconds) };
            terminal::say(&text);
            0
        }
        Err(error) => {
            terminal::error(&error.to_string());
            exit_code(error.kind())
        }
    }
}

/// What was written, of what kind, in which type.
struct Written {
    report: GgufReport,
    is_adapter: bool,
    element: GgufElement,
    memory: [(&'static str, Value); 2],
}

fn gguf(arguments: &GgufArgs) -> Result<Written, TrainError> {
    let is_adapter = arguments.folded.has_adapter() && !arguments.merge;
    let default = if is_adapter { GgufElement::F32 } else { GgufElement::F16 };
    let element = arguments.element.map_or(default, GgufElement::from);
    let options = GgufOptions { element, replace: arguments.force };
    let folded = arguments.folded.open(if is_adapter { Wanted::Shape } else { Wanted::Weights })?;
    let report = match &folded.adapter {
        Some(adapter) if is_adapter => folded.model.export_adapter_gguf(adapter, &options, &arguments.out)?,
        adapter => folded.model.export_gguf(adapter.as_deref(), &options, &arguments.out)?,
    };
    let memory = folded.memory(report.held_bytes);
    Ok(Written { report, is_adapter, element, memory })
}

fn as_text(written: &Written, seconds: f64) -> String {
    let GgufReport { architecture, tensors, fallen_back, adapted, dequantised, file_bytes, .. } = written.report;
    let kind = if written.is_adapter { "an adapter of" } else { "a model of" };
    let mut lines = vec![format!(
        "{kind} llama.cpp's {architecture} · {} in {} · {} · {}",
        counted(tensors, "tensor"),
        written.element.name(),
        bytes(file_bytes),
        duration(seconds)
    )];
    if adapted > 0 && !written.is_adapter {
        lines.push(format!("{} with the adapter folded in", counted(adapted, "linear")));
    }
    if dequantised > 0 {
        lines.push(format!("{} dequantised", counted(dequantised, "linear")));
    }
    if fallen_back > 0 {
        let (matrices, what) = (counted(fallen_back, "tensor"), "rows that are no multiple of 32 wide, and so");
        lines.push(format!("{matrices} with {what} in F16"));
    }
    lines.join("\n")
}

fn as_json(written: Written, seconds: f64) -> String {
    let Written { report, is_adapter, element, memory } = written;
    let mut object = json!({
        "schema": 1,
        "kind": if is_adapter { "adapter" } else { "model" },
        "architecture": report.architecture,
        "type": element.name(),
        "tensors": report.tensors,
        "f16_tensors_instead": report.fallen_back,
        "adapted_linears": report.adapted,
        "dequantised_linears": report.dequantised,
        "file_bytes": report.file_bytes,
        "notes": report.notes,
        "seconds": seconds,
    });
    if let Value::Object(keys) = &mut object {
        keys.extend(memory.into_iter().map(|(key, value)| (key.to_string(), value)).collect::<Map<String, Value>>());
    }
    object.to_string()
}
