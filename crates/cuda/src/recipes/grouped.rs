//! Launches of experts: the choice of them, and a product for each, whose rows the card finds by the ends of groups.

use super::tile::Tile;
use super::weight::{format_name, strides, weight};
use crate::call::OpTypes;
use crate::launch::Launch;
use remat_ir::ops::{self, Layout};

type Launches = Result<Vec<Launch>, String>;

/// `grouped_linear`: as many blocks for each expert as if all rows were its own.
pub fn grouped_linear(op: &ops::GroupedLinear, call: &OpTypes<'_>) -> Launches {
    let (rows, inputs, outputs) = (call.rows(1), call.last(1), call.writes[0].shape.last());
    let tile = Tile::of(call.reads[1], rows, outputs);
    let one = |group: usize| {
        let (operand, modules) = (2 + group, ["grouped_linear", "grouped_linear_bf16"]);
        let format = format_name(call.reads[operand]);
        let launch = tile.launch(modules, "grouped_linear", call, 1, format)?.read(0).read(1).write(0).u32(group);
        let launch = strides(op.layout, call.shape(operand)).into_iter().fold(launch, Launch::u64);
        let launch = weight(launch.u32(rows).u32(outputs).u32(inputs).f32(op.alpha), call, operand)?;
        Ok(tile.cover(launch, rows, outputs, format.is_empty()))
    };
    (0..call.shape(0)[0]).map(one).collect()
}

/// `grouped_linear_dw`.
pub fn grouped_linear_dw(op: &ops::GroupedLinearDw, call: &OpTypes<'_>) -> Launches {
    // The kernel's rows are the gradient's.
    let [a, b] = match op.layout {
        Layout::OutIn => [2, 1],
        Layout::InOut => [1, 2],
    };
    let (m, n, rows) = (call.last(a), call.last(b), call.rows(1));
    let tile = Tile::of(call.reads[1], m, n);
    let modules = ["grouped_linear_dw", "grouped_linear_dw_bf16"];
    let one = |group: usize| {
        let launch = tile.launch(modules, "grouped_linear_dw", call, 1, "")?.read(0).read(a).read(b).write(group);
        let launch = launch.u32(group).u32(m).u32(n).u32(rows).flag(op.accumulate).f32(op.alpha);
        Ok(tile.cover(launch, m, n, true))
    };
    (0..op.groups).map(one).collect()
}

/// `route`: later launches read what earlier ones wrote.
pub fn route(op: &ops::Route, call: &OpTypes<'_>) -> Launches {
    let (experts, tokens, each) = (call.last(0), call.rows(0), op.experts_per_token);
    let rows = tokens * each;
    let choose = Launch::of("route", "route_choose").read(0).write(0).u32(experts).u32(each).u32(tokens);
    let count = Launch::of("route", "route_count").write(0).write(3).u32(experts).u32(rows);
    let place = Launch::of("route", "route_place").write(0).write(3).write(1).write(2);
    let place = place.u32(experts).u32(each).u32(rows);
    Ok(vec![choose.over(tokens), count.over(experts), place.over(experts)])
}
