//! Calls of what several ranks do together: the bytes of a step, and the engine that moves them.

use super::call::Call;
use crate::kernels;
use remat_ir::ops;
use remat_plan::DeviceError;

/// How many of `ranks` ranks take part, by operand `index`.
pub(super) fn present(call: &Call<'_>, index: usize, ranks: usize) -> Result<usize, DeviceError> {
    let given = call.ints(index)[0];
    let known = usize::try_from(given).ok().filter(|present| (1..=ranks).contains(present));
    known.ok_or_else(|| call.bad_input(format!("{given} ranks are said to have a gradient, of {ranks}")))
}

pub(super) fn run_exchange_shards(call: &Call<'_>, op: &ops::ExchangeShards) -> Result<(), DeviceError> {
    let tensors = op.lengths.len();
    let present = present(call, tensors, op.world.size)?;
    let mut gradients: Vec<&mut [f32]> = (0..tensors).map(|index| call.write(index)).collect();
    let parts: &mut [f32] = if call.step.writes.len() > tensors { call.write(tensors) } else { &mut [] };
    let engine = call.step.engine.as_deref();
    Ok(kernels::exchange_shards::exchange_shards(engine, op, present, &mut gradients, parts)?)
}

pub(super) fn run_gather_shards(call: &Call<'_>, op: &ops::GatherShards) -> Result<(), DeviceError> {
    let mut tensors: Vec<&mut [u8]> = (0..op.lengths.len()).map(|index| call.write_over(index)).collect();
    Ok(kernels::gather_shards::gather_shards(call.step.engine.as_deref(), op, &mut tensors)?)
}
