//! The precision of a model's values, and the bf16 working copies of parameters that are trained in f32.
//!
//! Under bf16, frozen weights, activations and cotangents are bf16. A trained parameter stays f32: its *master* is the
//! state of its own name, which AdamW updates; the micro-steps read its *working copy*, the bf16 state `<name>.bf16`.
//! Invariant: outside the update graph, each working copy is its master, rounded. The update graph's last op on a
//! parameter is the cast, once per update, so micro-steps cast nothing however many are accumulated. The copies cost 2
//! bytes for each trained parameter: nothing to speak of for adapters; full fine-tuning takes 18 bytes per parameter
//! (master, gradient and moments 4 each, copy 2) instead of f32's 16, and wins on activations and time.

use crate::load::{floats, halves};
use crate::{ModelError, Parameter};
use half::bf16;
use remat_plan::Executor;
use remat_tensor::DType;
use std::fmt;

/// Suffix of a working copy's name.
const WORKING_COPY: &str = ".bf16";

/// Elements that are rounded at a time.
const CHUNK: usize = 1 << 16;

/// In which precision a model is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Everything in f32.
    #[default]
    F32,
    /// Weights, activations and cotangents in bf16; sums, statistics, gradients of parameters and masters in f32.
    Bf16,
}

impl Precision {
    /// The dtype of weights, activations and cotangents.
    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.dtype().name())
    }
}

/// Name of the working copy of a parameter.
pub(crate) fn working_copy_name(parameter: &str) -> String {
    format!("{parameter}{WORKING_COPY}")
}

/// The parameter that a source of a graph holds or copies.
pub(crate) fn parameter_name(source: &str) -> &str {
    source.strip_suffix(WORKING_COPY).unwrap_or(source)
}

/// Rounds every master into its working copy. To be called after masters were written by anything but the update graph.
/// Does nothing for parameters that have no copy.
///
/// # Errors
/// A state the executor does not have.
pub fn refresh_working_copies(parameters: &[Parameter], executor: &mut dyn Executor) -> Result<(), ModelError> {
    parameters
        .iter()
        .filter(|parameter| parameter.precision == Precision::Bf16)
        .try_for_each(|parameter| refresh(&parameter.name, &working_copy_name(&parameter.name), executor))
}

fn refresh(master: &str, copy: &str, executor: &mut dyn Executor) -> Result<(), ModelError> {
    let mut rounded: Vec<bf16> = Vec::with_capacity(CHUNK);
    let elements = executor.state(master)?.ty.shape.numel();
    for from in (0..elements).step_by(CHUNK) {
        let to = (from + CHUNK).min(elements);
        let values: &[f32] = bytemuck::cast_slice(executor.state(master)?.bytes);
        rounded.clear();
        rounded.extend(values[from..to].iter().map(|&x| bf16::from_f32(x)));
        halves(executor.state_mut(copy)?.bytes)[from..to].copy_from_slice(&rounded);
    }
    Ok(())
}

/// Writes a trained parameter wherever the executor holds it: the f32 master, and the working copy if there is one; or,
/// where nothing is trained, the working copy alone.
pub(crate) fn write_parameter(
    name: &str,
    executor: &mut dyn Executor,
    write_f32: impl FnOnce(&mut [f32]) -> Result<(), ModelError>,
    write_bf16: impl FnOnce(&mut [bf16]) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    let copy = working_copy_name(name);
    let has_copy = executor.state(&copy).is_ok();
    if has_copy && executor.state(name).is_err() {
        return write_bf16(halves(executor.state_mut(&copy)?.bytes));
    }
    write_f32(floats(executor.state_mut(name)?.bytes))?;
    if has_copy { refresh(name, &copy, executor) } else { Ok(()) }
}
