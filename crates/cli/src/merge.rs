//! The verb `merge`: a base with its adapter folded in, as a model folder.
//!
//! Invariant: as for `quantize`, the folder is there whole or not at all, and under `--force` only a model that remat wrote is
//! replaced. What was lost to rounding is measured and told.

use crate::exit::exit_code;
use crate::folded::FoldedArgs;
use crate::terminal;
use crate::units::{bytes, count, counted, duration};
use clap::ValueEnum;
use remat_hub::Wanted;
use remat_model::{MergeOptions, MergeReport};
use remat_plan::ByteSize;
use remat_tensor::DType;
use remat_train::TrainError;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Instant;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat merge --adapter run --out merged
  remat merge --adapter run --model Llama-3.2-1B --dtype bf16 --out merged
  remat merge --model Llama-3.2-1B-nf4 --out Llama-3.2-1B-dequantised

Weights become W + scale x B A, computed in f32 and rounded once. Tokenizer, chat template and
generation settings come along, the adapter's own where it has some. A base in four or eight bits
is dequantised: what comes out is what the adapter was trained beside; to fold it into the original
weights, name these with --model. The model is read tensor by tensor, so it may be larger than
memory.";

/// Flags of `remat merge`.
#[derive(Debug, clap::Args)]
pub(crate) struct MergeArgs {
    #[command(flatten)]
    folded: FoldedArgs,

    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Number format to write [default: the base's]
    #[arg(long, value_enum)]
    dtype: Option<DtypeKind>,

    /// Most bytes of tensors in one file: 5GB is 5 x 10^9, 5GiB or 5G is 5 x 2^30
    #[arg(long, value_name = "SIZE", default_value = "5GB")]
    shard_size: ByteSize,

    /// Replace a model that remat wrote to --out before; other files there stay
    #[arg(long)]
    force: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Number formats of a merged model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DtypeKind {
    F32,
    Bf16,
    F16,
}

impl From<DtypeKind> for DType {
    fn from(kind: DtypeKind) -> Self {
        match kind {
            DtypeKind::F32 => DType::F32,
            DtypeKind::Bf16 => DType::BF16,
            DtypeKind::F16 => DType::F16,
        }
    }
}

/// Merges and returns the exit code.
pub(crate) fn run(arguments: &MergeArgs) -> u8 {
    let start = Instant::now();
    match merge(arguments) {
        Ok((report, memory)) => {
            let seconds = start.elapsed().as_secs_f64();
            let text = match arguments.json {
                true => as_json(&report, memory, seconds),
                false => as_text(&report, seconds),
            };
            terminal::say(&text);
            0
        }
        Err(error) => {
            terminal::error(&error.to_string());
            exit_code(error.kind())
        }
    }
}

type Memory = [(&'static str, Value); 2];

fn merge(arguments: &MergeArgs) -> Result<(MergeReport, Memory), TrainError> {
    let folded = arguments.folded.open(Wanted::Weights)?;
    let options = MergeOptions {
        dtype: arguments.dtype.map(DType::from),
        shard_bytes: arguments.shard_size.0 as u64,
        replace: arguments.force,
    };
    let report = folded.model.write_merged(folded.adapter.as_deref(), &options, &arguments.out)?;
    if report.adapted > 0 && report.rounding > 0.25 * report.change {
        terminal::note(&format!(
            "rounding to {} takes {} of the weights, much beside the {} that the adapter changes; --dtype f32 keeps all",
            report.dtype.name(),
            percent(report.rounding),
            percent(report.change)
        ));
    }
    Ok((report, folded.memory(report.held_bytes)))
}

fn as_text(report: &MergeReport, seconds: f64) -> String {
    let MergeReport { parameters, adapted, dequantised, dtype, files, bytes: size, change, rounding, .. } = *report;
    let mut lines = vec![format!(
        "{} parameters in {} · {}, {} · {}",
        count(parameters),
        dtype.name(),
        counted(files, "file"),
        bytes(size),
        duration(seconds)
    )];
    if adapted > 0 {
        lines.push(format!(
            "{} with the adapter, which changes them by {}",
            counted(adapted, "linear"),
            percent(change)
        ));
    }
    if dequantised > 0 {
        lines.push(format!("{} dequantised", counted(dequantised, "linear")));
    }
    if adapted + dequantised > 0 {
        lines.push(format!("rounding to {} changed these weights by {}", dtype.name(), percent(rounding)));
    }
    lines.join("\n")
}

/// A relative difference, in root mean squares.
fn percent(share: f64) -> String {
    match share {
        0.0 => "nothing".to_string(),
        share => format!("{} %", significant(100.0 * share)),
    }
}

/// Two significant digits.
fn significant(number: f64) -> String {
    let digits = (1.0 - number.abs().log10().floor()).clamp(0.0, 12.0) as usize;
    format!("{number:.digits$}")
}

fn as_json(report: &MergeReport, memory: Memory, seconds: f64) -> String {
    let MergeReport { parameters, adapted, dequantised, dtype, files, bytes, change, rounding, .. } = *report;
    let mut object = json!({
        "schema": 1,
        "parameters": parameters,
        "adapted_linears": adapted,
        "dequantised_linears": dequantised,
        "dtype": dtype.name(),
        "files": files,
        "bytes": bytes,
        "relative_change": change,
        "relative_rounding": rounding,
        "seconds": seconds,
    });
    if let Value::Object(keys) = &mut object {
        keys.extend(memory.into_iter().map(|(key, value)| (key.to_string(), value)).collect::<Map<String, Value>>());
    }
    object.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_two_digits() {
        let cases = [(0.0, "nothing"), (0.0017, "0.17 %"), (0.123, "12 %"), (0.0000012, "0.00012 %"), (1.5, "150 %")];
        for (share, text) in cases {
            assert_eq!(percent(share), text);
        }
    }
}
