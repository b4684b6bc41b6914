//! The ops of experts as calls of their kernels.
//!
//! Invariant: as in `dispatch`: attributes are converted to kernel arguments, and ends that no kernel could use are refused.

use super::call::Call;
use crate::element::Element;
use crate::kernels::grouped_linear::grouped_linear;
use crate::kernels::grouped_linear_dw::grouped_linear_dw;
use crate::kernels::linear::LinearSize;
use crate::kernels::route::{Routed, route};
use remat_ir::ops;
use remat_plan::DeviceError;

/// Where each group of `rows` rows ends.
fn ends<'a>(call: &Call<'a>, rows: usize) -> Result<&'a [i32], DeviceError> {
    let ends = call.ints(0);
    let falls = ends.first().is_some_and(|&first| first < 0) || ends.windows(2).any(|pair| pair[1] < pair[0]);
    match ends.last().is_some_and(|&last| usize::try_from(last) == Ok(rows)) && !falls {
        true => Ok(ends),
        false => {
            Err(call.bad_input(format!("the ends of groups must rise from 0 on, the last to the {rows} rows of x")))
        }
    }
}

pub(super) fn run_route(call: &Call<'_>, op: &ops::Route) {
    let [experts, order, tokens, ends] = [0, 1, 2, 3].map(|result| call.write_ints(result));
    route(op.experts_per_token, call.read(0), Routed { experts, order, tokens, ends });
}

pub(super) fn run_grouped_linear<T: Element>(call: &Call<'_>, op: &ops::GroupedLinear) -> Result<(), DeviceError> {
    let size = LinearSize { tokens: call.rows(1), input: call.last(1), output: call.result_shape(0)[1] };
    let (ends, x) = (ends(call, size.tokens)?, call.read::<T>(1));
    let weight = |group: usize| call.weight::<T>(2 + group);
    grouped_linear(call.pool, size, op.layout, ends, x, weight, op.alpha, call.write::<T>(0));
    Ok(())
}

pub(super) fn run_grouped_linear_dw<T: Element>(call: &Call<'_>, op: &ops::GroupedLinearDw) -> Result<(), DeviceError> {
    let size = LinearSize { tokens: call.rows(1), input: call.last(1), output: call.last(2) };
    let (ends, rows) = (ends(call, size.tokens)?, [1, 2].map(|operand| call.read::<T>(operand)));
    let dw = |group: usize| call.write::<f32>(group);
    grouped_linear_dw(call.pool, size, op.layout, ends, rows, op.alpha, op.accumulate, dw);
    Ok(())
}
