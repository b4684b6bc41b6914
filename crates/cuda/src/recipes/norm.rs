//! Launches of norms, their gradients, and other sums over rows: a warp for each row, or a thread for each column.

use crate::call::OpTypes;
use crate::launch::Launch;
use remat_ir::ops;

type Launches = Result<Vec<Launch>, String>;

fn offset(unit_offset: bool) -> f32 {
    if unit_offset { 1.0 } else { 0.0 }
}

/// `rms_norm`.
pub fn rms_norm(op: &ops::RmsNorm, call: &OpTypes<'_>) -> Launches {
    let (width, groups) = (call.last(1), call.result_numel(1));
    let launch = Launch::of("rms_norm", call.named("rms_norm", 0)?).read(0).read(1).write(0).write(1);
    Ok(vec![launch.f32(offset(op.unit_offset)).f32(op.eps).u32(width).u32(groups).warps(groups)])
}

/// `rms_norm_grad`.
pub fn rms_norm_grad(op: &ops::RmsNormGrad, call: &OpTypes<'_>) -> Launches {
    let (width, groups) = (call.last(2), call.numel(3));
    let launch = Launch::of("rms_norm_grad", call.named("rms_norm_grad", 0)?).read(0).read(1).read(2).read(3).write(0);
    Ok(vec![launch.f32(offset(op.unit_offset)).u32(width).u32(groups).warps(groups)])
}

/// `rms_norm_dw`.
pub fn rms_norm_dw(op: &ops::RmsNormDw, call: &OpTypes<'_>) -> Launches {
    let (width, groups, rows) = (call.result_numel(0), call.last(2), call.rows(2));
    let launch = Launch::of("rms_norm_dw", call.named("rms_norm_dw", 0)?).read(0).read(1).read(2).write(0);
    Ok(vec![launch.flag(op.accumulate).u32(width).u32(groups).u32(rows).over(width)])
}

/// `layer_norm`.
pub fn layer_norm(op: &ops::LayerNorm, call: &OpTypes<'_>) -> Launches {
    let (width, rows) = (call.last(0), call.rows(0));
    let launch = Launch::of("layer_norm", call.named("layer_norm", 0)?).read(0).read(1).read(2);
    Ok(vec![launch.write(0).write(1).write(2).f32(op.eps).u32(width).u32(rows).warps(rows)])
}

/// `layer_norm_grad`.
pub fn layer_norm_grad(call: &OpTypes<'_>) -> Launches {
    let (width, rows) = (call.last(0), call.rows(0));
    let launch = (0..5).fold(Launch::of("layer_norm_grad", call.named("layer_norm_grad", 0)?), Launch::read);
    Ok(vec![launch.write(0).u32(width).u32(rows).warps(rows)])
}

/// `layer_norm_dw`.
pub fn layer_norm_dw(op: &ops::LayerNormDw, call: &OpTypes<'_>) -> Launches {
    let (width, rows) = (call.last(0), call.rows(0));
    let launch = (0..4).fold(Launch::of("layer_norm_dw", call.named("layer_norm_dw", 0)?), Launch::read);
    Ok(vec![launch.write(0).write(1).flag(op.accumulate).u32(width).u32(rows).over(width)])
}

/// `bias_grad`.
pub fn bias_grad(op: &ops::BiasGrad, call: &OpTypes<'_>) -> Launches {
    let (width, rows) = (call.last(0), call.rows(0));
    let launch = Launch::of("bias_grad", call.named("bias_grad", 0)?).read(0).write(0);
    Ok(vec![launch.flag(op.accumulate).u32(width).u32(rows).over(width)])
}

/// `column_scale_dw`.
pub fn column_scale_dw(op: &ops::ColumnScaleDw, call: &OpTypes<'_>) -> Launches {
    let (width, rows) = (call.last(0), call.rows(0));
    let launch = Launch::of("column_scale_dw", call.named("column_scale_dw", 0)?).read(0).read(1).read(2).write(0);
    Ok(vec![launch.flag(op.accumulate).u32(width).u32(rows).over(width)])
}

/// `rope`.
pub fn rope(op: &ops::Rope, call: &OpTypes<'_>) -> Launches {
    let (half, heads) = (call.numel(2), call.last(0) / op.head_size);
    let threads = call.rows(0) * heads * (op.head_size - half);
    let launch = Launch::of("rope", call.named("rope", 0)?).read(0).read(1).read(2).write(0);
    let launch = launch.f32(op.scale).flag(op.inverse).u32(half).u32(op.head_size).u32(heads);
    Ok(vec![launch.u64(threads).over(threads)])
}
