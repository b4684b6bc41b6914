//! Launches of the ops that make each element from those at the same place: one thread for each.

use crate::call::{OpTypes, float_name};
use crate::launch::Launch;
use remat_ir::ops;
use remat_ir::ops::GeluForm;
use std::iter::once;

type Launches = Result<Vec<Launch>, String>;

/// Operands, then results, then what `attributes` adds, then the number of elements.
fn elements(
    module: &'static str,
    kernel: String,
    call: &OpTypes<'_>,
    attributes: impl FnOnce(Launch) -> Launch,
) -> Vec<Launch> {
    let count = call.result_numel(0);
    let launch = (0..call.reads.len()).fold(Launch::of(module, kernel), Launch::read);
    let launch = attributes((0..call.writes.len()).fold(launch, Launch::write));
    vec![launch.u64(count).over(count)]
}

/// An op without attributes.
pub fn plain(module: &'static str, call: &OpTypes<'_>) -> Launches {
    Ok(elements(module, call.named(module, 0)?, call, |launch| launch))
}

/// An op of one of GELU's forms.
pub fn gelu(module: &'static str, form: GeluForm, call: &OpTypes<'_>) -> Launches {
    let form = match form {
        GeluForm::Tanh => "tanh",
        GeluForm::Exact => "exact",
    };
    Ok(elements(module, call.named(&format!("{module}_{form}"), 0)?, call, |launch| launch))
}

/// `scale`.
pub fn scale(op: &ops::Scale, call: &OpTypes<'_>) -> Launches {
    Ok(elements("scale", call.named("scale", 0)?, call, |launch| launch.f32(op.factor)))
}

/// `softcap` and its gradient.
pub fn softcap(module: &'static str, cap: f32, call: &OpTypes<'_>) -> Launches {
    Ok(elements(module, call.named(module, 0)?, call, |launch| launch.f32(cap)))
}

/// `cast`; a state that the result replaces is not read.
pub fn cast(call: &OpTypes<'_>) -> Launches {
    let (from, to) = (call.float(0)?, float_name(call.writes[0])?);
    let count = call.numel(0);
    Ok(vec![Launch::of("cast", format!("cast_{from}_{to}")).read(0).write(0).u64(count).over(count)])
}

/// `accumulate`: the state is the result.
pub fn accumulate(call: &OpTypes<'_>) -> Launches {
    let count = call.numel(0);
    Ok(vec![Launch::of("accumulate", call.named("accumulate", 1)?).write(0).read(1).u64(count).over(count)])
}

/// `add_gradient`: both are the results.
pub fn add_gradient(call: &OpTypes<'_>) -> Launches {
    let count = call.numel(0);
    Ok(vec![Launch::of("add_gradient", "add_gradient_f32").write(0).write(1).u64(count).over(count)])
}

/// `column_scale`.
pub fn column_scale(call: &OpTypes<'_>) -> Launches {
    Ok(elements("column_scale", call.named("column_scale", 0)?, call, |launch| launch.u32(call.last(0))))
}

/// `broadcast`.
pub fn broadcast(call: &OpTypes<'_>) -> Launches {
    Ok(elements("broadcast", "broadcast_f32".to_string(), call, |launch| launch))
}

/// Fills a whole result with zeros.
pub fn zeroed(call: &OpTypes<'_>, result: usize) -> Launch {
    filled(result, call.writes[result].bytes())
}

fn filled(result: usize, bytes: usize) -> Launch {
    let (kernel, width) = if bytes.is_multiple_of(4) { ("zeros_u32", 4) } else { ("zeros_u8", 1) };
    let count = bytes / width;
    Launch::of("zeros", kernel).write(result).u32(0).u64(count).over(count)
}

/// `zeros`.
pub fn zeros(call: &OpTypes<'_>) -> Launches {
    Ok(vec![zeroed(call, 0)])
}

/// `selection`: zeros, then the ones; they are few.
pub fn selection(op: &ops::Selection, call: &OpTypes<'_>) -> Launches {
    let kernel = format!("selection_{}", float_name(call.writes[0])?);
    let one = |(column, row): (usize, &usize)| {
        Launch::of("selection", kernel.clone()).write(0).u64(row * op.chosen.len() + column).grid([1; 3], 1)
    };
    Ok(once(zeroed(call, 0)).chain(op.chosen.iter().enumerate().map(one)).collect())
}

/// `clip_value`: the gradient is the result.
pub fn clip_value(op: &ops::ClipValue, call: &OpTypes<'_>) -> Launches {
    let count = call.numel(0);
    Ok(vec![Launch::of("clip_value", "clip_value_f32").write(0).read(1).f32(op.max_value).u64(count).over(count)])
}
