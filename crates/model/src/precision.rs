//! The precision of a model's values, and the bf16 working copies of parameters that are trained in f32.
//!
//! Under bf16, frozen weights, activations and cotangents are bf16. A trained parameter stays f32: its *master* is the
//! state of its own name, which AdamW updates; the micro-steps read its *working copy*, the bf16 state `<name>.bf16`.
//! Invariant: outside the update graph, each working copy is its master, rounded. The update graph's last op on a
//! parameter is the cast, once per update, so micro-steps cast nothing however many are accumulated. The copies cost 2
//! bytes for each trained parameter: nothing to speak of for adapters; full fine-tuning takes 18 bytes per parameter
//! (master, gradient and moments 4 each, copy 2) instead of f32's 16, and wins on activations and time.

use crate::ModelError;
use half::bf16;
use remat_formats::{TensorSpec, write_safetensors_from};
use remat_ir::{Parameter, StateRole, Storage};
use remat_plan::{Device, DeviceError, SourceId};
use remat_tensor::DType;
use std::fmt;
use std::path::Path;

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

/// Rounds every master into its working copy. To be called after masters were written by anything but the update graph.
/// Does nothing for parameters that have no copy.
///
/// # Errors
/// A state the device does not have.
pub fn refresh_working_copies(parameters: &[Parameter], device: &mut dyn Device) -> Result<(), ModelError> {
    let mut piece = vec![0.0; PIECE];
    for parameter in parameters.iter().filter(|parameter| parameter.has_working_copy) {
        let master = device.known(Storage::State, &parameter.name)?;
        let mut copy = Copy::of(device.known(Storage::State, &parameter.state(StateRole::WorkingCopy))?);
        let elements = parameter.ty.shape.numel();
        for first in (0..elements).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(elements - first)];
            device.read(master, first * size_of::<f32>(), bytemuck::cast_slice_mut(piece))?;
            copy.push(piece, device)?;
        }
    }
    Ok(())
}

/// Elements that are rounded at a time.
const PIECE: usize = 1 << 16;

/// A working copy that is being written.
struct Copy {
    source: SourceId,
    elements: usize,
    rounded: Vec<bf16>,
}

impl Copy {
    fn of(source: SourceId) -> Self {
        Copy { source, elements: 0, rounded: Vec::new() }
    }

    fn push(&mut self, piece: &[f32], device: &mut dyn Device) -> Result<(), DeviceError> {
        self.rounded.clear();
        self.rounded.extend(piece.iter().map(|&x| bf16::from_f32(x)));
        let offset = self.elements * size_of::<bf16>();
        self.elements += piece.len();
        device.write(self.source, offset, bytemuck::cast_slice(&self.rounded))
    }
}

/// Hands the elements of a tensor to a sink, piece by piece.
pub(crate) type Pieces<'a> = dyn FnMut(&mut dyn FnMut(&[f32])) -> Result<(), ModelError> + 'a;

/// Writes a trained parameter wherever the device holds it: the f32 master, and the working copy if there is one; or,
/// where nothing is trained, the working copy alone.
pub(crate) fn write_parameter(name: &str, device: &mut dyn Device, read: &mut Pieces<'_>) -> Result<(), ModelError> {
    let mut copy = device.source(Storage::State, &StateRole::WorkingCopy.name(name)).map(Copy::of);
    let master = match copy {
        Some(_) => device.source(Storage::State, name),
        None => Some(device.known(Storage::State, name)?),
    };
    let (mut written, mut outcome) = (0, Ok(()));
    let mut write = |piece: &[f32]| -> Result<(), DeviceError> {
        if let Some(master) = master {
            device.write(master, written, bytemuck::cast_slice(piece))?;
            written += size_of_val(piece);
        }
        copy.as_mut().map_or(Ok(()), |copy| copy.push(piece, device))
    };
    read(&mut |piece| {
        // The first failure is told when all has been read.
        if outcome.is_ok() {
            outcome = write(piece);
        }
    })?;
    Ok(outcome?)
}

/// Writes the states of parameters under names, piece by piece from the device's memory.
pub(crate) fn write_parameters(
    path: &Path,
    parameters: &[(String, &Parameter)],
    device: &dyn Device,
) -> Result<(), ModelError> {
    let specs: Vec<TensorSpec<'_>> = parameters
        .iter()
        .map(|(name, Parameter { ty, .. })| TensorSpec { name, dtype: ty.dtype, shape: &ty.shape })
        .collect();
    let mut buffer = Vec::new();
    write_safetensors_from(path, &specs, &[("format", "pt")], &mut |index, sink| {
        let state = device.known(Storage::State, &parameters[index].1.name)?;
        device.read_pieces(state, &mut buffer, &mut |piece| Ok::<(), ModelError>(sink(piece)?))
    })
}
