//! Launches of losses on logits, and of sums over all elements.

use crate::call::OpTypes;
use crate::launch::Launch;
use remat_ir::ops;

type Launches = Result<Vec<Launch>, String>;

/// `cross_entropy`.
pub fn cross_entropy(op: &ops::CrossEntropy, call: &OpTypes<'_>) -> Launches {
    let rows = call.rows(0);
    let launch = Launch::of("cross_entropy", call.named("cross_entropy", 0)?).read(0).read(1);
    let launch = launch.maybe_read(op.weighted.then_some(2)).write(0).write(1);
    Ok(vec![launch.f32(op.smoothing).i32(op.ignored).u32(call.last(0)).u32(rows).warps(rows)])
}

/// `cross_entropy_grad`.
pub fn cross_entropy_grad(op: &ops::CrossEntropyGrad, call: &OpTypes<'_>) -> Launches {
    let rows = call.rows(0);
    let launch = (0..4).fold(Launch::of("cross_entropy_grad", call.named("cross_entropy_grad", 0)?), Launch::read);
    let launch = launch.maybe_read(op.weighted.then_some(4)).write(0);
    Ok(vec![launch.f32(op.smoothing).i32(op.ignored).u32(call.last(0)).u32(rows).warps(rows)])
}

/// `target_weight`.
pub fn target_weight(op: &ops::TargetWeight, call: &OpTypes<'_>) -> Launches {
    let (count, classes) = (call.numel(0), if op.weighted { call.numel(1) } else { 0 });
    let launch = Launch::of("target_weight", "target_weight_f32").read(0).maybe_read(op.weighted.then_some(1));
    Ok(vec![launch.write(0).i32(op.ignored).u32(classes).u64(count).over(count)])
}

/// `sum`.
pub fn sum(call: &OpTypes<'_>) -> Launches {
    Ok(vec![Launch::of("reduction", "sum_f32").read(0).write(0).u64(call.numel(0))])
}

/// `grad_norm`: one tensor after the other.
pub fn grad_norm(call: &OpTypes<'_>) -> Launches {
    let one = |index: usize| Launch::of("reduction", "grad_norm_f32").read(index).write(0).flag(index == 0);
    Ok((0..call.reads.len()).map(|index| one(index).u64(call.numel(index))).collect())
}

/// `clip_scale`.
pub fn clip_scale(op: &ops::ClipScale) -> Launches {
    let launch = Launch::of("reduction", "clip_scale_f32").read(0).write(0);
    Ok(vec![launch.f32(op.max_norm).flag(op.max_norm == f32::MAX).grid([1; 3], 1)])
}
