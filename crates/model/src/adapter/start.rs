//! What adapters start with, as PEFT has it.
//!
//! Invariants: each tensor draws from a stream of its own name, so that adding a target changes no other; what starts at zero
//! is left as the device has it; what is computed of a weight of the base is computed of the numbers that the device holds,
//! quantised or rounded as they are, and read from there piece by piece.

use super::adapter_start::AdapterStart;
use super::base_weights::BaseWeights;
use super::dora::MAGNITUDE;
use super::embedding;
use super::file_names::PREFIX;
use super::origin;
use super::table::VARIANTS;
use super::trained_tokens;
use super::variant::{LoraConfig, Start};
use super::weight_reader::WeightReader;
use crate::precision::{refresh_working_copies, write_parameter};
use crate::{ModelError, Precision};
use remat_formats::ModelConfig;
use remat_ir::{Parameter, ParameterKind, Storage};
use remat_plan::{Device, SourceWriter};
use remat_tensor::{Philox, stream_of_name};

/// Elements that are initialised at a time.
const PIECE: usize = 1 << 14;

/// What an adapter's tensor starts with; `None` for a parameter of the base.
fn start_of(kind: ParameterKind) -> Option<Start> {
    let mut tensors = VARIANTS.iter().flat_map(|variant| variant.0.tensors()).chain(embedding::TENSORS);
    tensors.find(|tensor| tensor.kind == kind).map(|tensor| tensor.start)
}

/// Initialises adapters on a device that holds the base.
///
/// # Errors
/// A state that the device does not have; a row of the base without a norm.
pub(crate) fn init(
    (config, precision, weights): (&ModelConfig, Precision, &dyn BaseWeights),
    lora: &LoraConfig,
    parameters: &[Parameter],
    seed: u64,
    device: &mut dyn Device,
) -> Result<(), ModelError> {
    let base = (config, precision);
    // Rows of tokens start as the base's.
    for (name, rows) in trained_tokens::starts(config, weights, lora)? {
        write_parameter(&name, device, &mut |sink| {
            sink(&rows);
            Ok(())
        })?;
    }
    if lora.start.takes_from_base() {
        return origin::fill(base, lora, seed, true, device);
    }
    for parameter in parameters {
        match start_of(parameter.kind) {
            Some(Start::KaimingUniform) if lora.start == AdapterStart::Gaussian => gaussian(parameter, seed, device)?,
            Some(Start::KaimingUniform) => kaiming_uniform(parameter, seed, device)?,
            Some(Start::Normal) => draw(parameter, seed, device, &|philox, element| philox.normal(element))?,
            Some(Start::RowNorms) => row_norms(base.0, parameter, device)?,
            Some(Start::Zeros) | None => {}
        }
    }
    refresh_working_copies(parameters, device)
}

/// Fills in what adapters took out of the base when they began, where they did; states are left as they are.
///
/// # Errors
/// As [`init`].
pub(crate) fn refill(
    base: (&ModelConfig, Precision),
    lora: &LoraConfig,
    seed: u64,
    device: &mut dyn Device,
) -> Result<(), ModelError> {
    if lora.start.takes_from_base() { origin::fill(base, lora, seed, false, device) } else { Ok(()) }
}

/// Normal with a deviation of 1/r.
fn gaussian(parameter: &Parameter, seed: u64, device: &mut dyn Device) -> Result<(), ModelError> {
    let deviation = 1.0 / parameter.ty.shape[0] as f32;
    draw(parameter, seed, device, &|philox, element| deviation * philox.normal(element))
}

fn kaiming_uniform(parameter: &Parameter, seed: u64, device: &mut dyn Device) -> Result<(), ModelError> {
    let bound = 1.0 / (parameter.ty.shape.last() as f32).sqrt();
    draw(parameter, seed, device, &|philox, element| (2.0 * philox.uniform(element) - 1.0) * bound)
}

/// Writes what `number` draws for each element.
fn draw(
    parameter: &Parameter,
    seed: u64,
    device: &mut dyn Device,
    number: &dyn Fn(&Philox, u64) -> f32,
) -> Result<(), ModelError> {
    let philox = Philox::new(seed, stream_of_name(&parameter.name));
    let state = device.known(Storage::State, &parameter.name)?;
    let mut writer = SourceWriter::new(device, state);
    let mut piece = Vec::with_capacity(PIECE);
    for first in (0..parameter.ty.shape.numel()).step_by(PIECE) {
        let end = (first + PIECE).min(parameter.ty.shape.numel());
        piece.clear();
        piece.extend((first..end).map(|i| number(&philox, i as u64)));
        writer.push(&piece);
    }
    Ok(writer.finish()?)
}

/// Writes the norms of the rows of the weight that a module's norms belong to: of the numbers that `adapted_norm` reads, which
/// are not rounded where codes stand for them, so that a fresh adapter divides by what it multiplies by.
fn row_norms(base: &ModelConfig, parameter: &Parameter, device: &mut dyn Device) -> Result<(), ModelError> {
    let module = parameter.name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(MAGNITUDE)).unwrap_or_default();
    let weight = format!("{module}weight");
    let norms = WeightReader::of((base, Precision::F32), &weight, device)?.output_norms(device)?;
    let norms: Vec<f32> = norms.into_iter().map(|norm| norm as f32).collect();
    if let Some(row) = norms.iter().position(|&norm| norm == 0.0 || !norm.is_finite()) {
        let problem = format!("row {row} has the norm {}, by which DoRA cannot divide", norms[row]);
        return Err(ModelError::Setting(format!("{weight}: {problem}; leave the module out of the targets")));
    }
    let state = device.known(Storage::State, &parameter.name)?;
    Ok(device.write_all(state, &norms)?)
}
