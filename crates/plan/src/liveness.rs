//! Lifetimes re-derived from the steps alone, and what they imply: no arena can be smaller than the bytes alive at once.

use crate::{Place, Plan};

/// The largest sum of bytes alive at one step of this order: buffers between their first and last actual use, one of two
/// that share a slot in place, and the step's workspace. No placement of the same steps can need less.
pub fn lower_bound_bytes(plan: &Plan) -> usize {
    let mut spans: Vec<Option<(usize, usize)>> = vec![None; plan.buffers.len()];
    for (at, step) in plan.steps.iter().enumerate() {
        for place in step.reads.iter().chain(&step.writes) {
            if let Place::Arena(id) = place {
                let span = spans[id.index()].get_or_insert((at, at));
                span.1 = at;
            }
        }
    }
    let end = plan.steps.len().saturating_sub(1);
    for &output in &plan.graph.outputs {
        if let Some(index) = plan.buffers.iter().rposition(|buffer| buffer.value == output)
            && let Some(span) = &mut spans[index]
        {
            span.1 = end;
        }
    }
    let mut alive: Vec<isize> = vec![0; plan.steps.len() + 1];
    for (buffer, span) in plan.buffers.iter().zip(&spans) {
        if let Some((first, last)) = *span {
            alive[first] += buffer.slot.bytes as isize;
            alive[last + 1] -= buffer.slot.bytes as isize;
        }
    }
    let mut now = 0isize;
    let mut peak = 0isize;
    for (at, step) in plan.steps.iter().enumerate() {
        now += alive[at];
        let shared: usize = in_place_bytes(plan, step);
        let workspace = step.workspace.map_or(0, |slot| slot.bytes);
        peak = peak.max(now - shared as isize + workspace as isize);
    }
    peak.max(0) as usize
}

fn in_place_bytes(plan: &Plan, step: &crate::Step) -> usize {
    let slot = |place: &Place| match place {
        Place::Arena(id) => Some((*id, plan.buffers[id.index()].slot)),
        _ => None,
    };
    let reads: Vec<_> = step.reads.iter().filter_map(slot).collect();
    step.writes
        .iter()
        .filter_map(slot)
        .filter(|(id, out)| reads.iter().any(|(read, operand)| read != id && operand == out))
        .map(|(_, out)| out.bytes)
        .sum()
}
