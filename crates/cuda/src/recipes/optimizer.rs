//! Launches of optimizers: states are the results, the step's scalars operands.

use crate::call::OpTypes;
use crate::launch::{Argument, Launch, blocks};
use remat_ir::ops::{self, MOMENT_BLOCK};
use remat_tensor::DynamicMap;

type Launches = Result<Vec<Launch>, String>;

/// Decays of the moments, eps and the parameter's decay.
fn constants(launch: Launch, op: &ops::AdamW) -> Launch {
    launch.f64(f64::from(op.beta1)).f64(f64::from(op.beta2)).f32(op.eps).f64(f64::from(op.weight_decay))
}

/// The elements that are updated: all of a parameter.
fn updated(call: &OpTypes<'_>) -> Result<usize, String> {
    let count = call.numel(0);
    let is_whole = call.numel(1) == count;
    is_whole.then_some(count).ok_or_else(|| "there is no CUDA kernel for a part of a parameter".to_string())
}

/// `adamw`.
pub fn adamw(op: &ops::AdamW, call: &OpTypes<'_>) -> Launches {
    let count = updated(call)?;
    let launch = (0..4).fold(Launch::of("adamw", "adamw_f32"), Launch::write).read(4).read(5).read(6);
    Ok(vec![constants(launch, op).u64(count).over(count)])
}

/// `adamw8bit`.
pub fn adamw8bit(op: &ops::AdamW, call: &OpTypes<'_>) -> Launches {
    let count = updated(call)?;
    let launch = (0..6).fold(Launch::of("adamw8bit", "adamw8bit_f32"), Launch::write).read(6).read(7).read(8);
    let map = |map: &DynamicMap| Argument::Bytes(map.numbers().iter().flat_map(|x| x.to_le_bytes()).collect());
    let launch = constants(launch, op).u64(count).with(map(DynamicMap::signed())).with(map(DynamicMap::unsigned()));
    Ok(vec![launch.grid([blocks(count, MOMENT_BLOCK), 1, 1], MOMENT_BLOCK as u32)])
}

/// `sgd`.
pub fn sgd(op: &ops::Sgd, call: &OpTypes<'_>) -> Launches {
    let (count, states) = (call.numel(0), call.writes.len());
    let launch = Launch::of("sgd", "sgd_f32").write(0).write(1);
    let launch = if op.has_momentum() { launch.write(2) } else { launch.null() };
    let launch = launch.read(states).read(states + 1).f32(op.momentum).flag(op.nesterov).f32(op.weight_decay);
    Ok(vec![launch.u64(count).over(count)])
}

/// `lion`.
pub fn lion(op: &ops::Lion, call: &OpTypes<'_>) -> Launches {
    let count = call.numel(0);
    let launch = (0..3).fold(Launch::of("lion", "lion_f32"), Launch::write).read(3).read(4);
    let launch = launch.f64(f64::from(op.beta1)).f64(f64::from(op.beta2)).f64(f64::from(op.weight_decay));
    Ok(vec![launch.u64(count).over(count)])
}
