//! Launches of linears, the gradients of their weights, and norms of adapted weights.

use super::tile::Tile;
use super::weight::{format_name, strides, weight};
use crate::call::OpTypes;
use crate::launch::Launch;
use remat_ir::ops::{self, Layout};

type Launches = Result<Vec<Launch>, String>;

/// `linear`.
pub fn linear(op: &ops::Linear, call: &OpTypes<'_>) -> Launches {
    let (rows, inputs, outputs) = (call.rows(0), call.last(0), call.writes[0].shape.last());
    let (tile, format) = (Tile::of(call.reads[0], rows, outputs), format_name(call.reads[1]));
    let at = op.low_rank_operand();
    let launch = tile.launch(["linear", "linear_bf16"], "linear", call, 0, format)?;
    let launch = launch.read(0).write(0).maybe_read(op.residual_operand());
    let launch = launch.maybe_read(op.bias.then_some(2)).maybe_read(at).maybe_read(at.map(|at| at + 1));
    let launch = strides(op.layout, call.shape(1)).into_iter().fold(launch, Launch::u64);
    let (rank, beta, v) = match (&op.low_rank, at) {
        (Some(low_rank), Some(at)) => (call.last(at), low_rank.beta, strides(low_rank.layout, call.shape(at + 1))),
        _ => (0, 0.0, [0; 2]),
    };
    let launch = v.into_iter().fold(launch, Launch::u64).u32(rows).u32(outputs).u32(inputs).u32(rank);
    let launch = weight(launch.f32(op.alpha).f32(beta), call, 1)?;
    Ok(vec![tile.cover(launch, rows, outputs, format.is_empty())])
}

/// `linear_dw`.
pub fn linear_dw(op: &ops::LinearDw, call: &OpTypes<'_>) -> Launches {
    // The kernel's rows are the gradient's.
    let [rows, columns] = match op.layout {
        Layout::OutIn => [1, 0],
        Layout::InOut => [0, 1],
    };
    let (m, n, tokens) = (call.last(rows), call.last(columns), call.rows(0));
    let tile = Tile::of(call.reads[0], m, n);
    let launch = tile.launch(["linear_dw", "linear_dw_bf16"], "linear_dw", call, 0, "")?;
    let launch = launch.read(rows).read(columns).write(0).u32(m).u32(n).u32(tokens);
    Ok(vec![tile.cover(launch.flag(op.accumulate).f32(op.alpha), m, n, true)])
}

/// `adapted_norm`.
pub fn adapted_norm(op: &ops::AdaptedNorm, call: &OpTypes<'_>) -> Launches {
    let (rank, inputs, outputs) = (call.shape(0)[0], call.shape(0)[1], call.result_numel(0));
    let kernel = format!("{}{}", call.named("adapted_norm", 0)?, format_name(call.reads[2]));
    let launch = Launch::of("adapted_norm", kernel).read(0).read(1).write(0);
    let launch = strides(op.layout, call.shape(2)).into_iter().fold(launch, Launch::u64);
    let launch = weight(launch.u32(inputs).u32(outputs).u32(rank).f32(op.scale), call, 2)?;
    Ok(vec![launch.warps(outputs)])
}
