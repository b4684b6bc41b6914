//! Rule 0: every value, node, buffer and step that the plan names is there, and every range has an end behind its beginning.
//!
//! So that the other rules may index and add without a thought. One pass.

use super::CheckError;
use crate::{Action, Place, Plan, Slot, Step};
use remat_ir::{Storage, ValueId};

pub(super) fn check(plan: &Plan) -> Result<(), CheckError> {
    for (index, buffer) in plan.buffers.iter().enumerate() {
        let of = || format!("buffer {index}");
        value(plan, buffer.value, of)?;
        ends(buffer.slot, of)?;
        if buffer.first > buffer.last || buffer.last.index() >= plan.steps.len() {
            let (first, last) = (buffer.first.0, buffer.last.0);
            return Err(CheckError::Named(format!("buffer {index} lives from step {first} to step {last}")));
        }
    }
    for (index, &weight) in plan.spilled.iter().enumerate() {
        value(plan, weight, || "the list of what is not resident".to_string())?;
        let lies = plan.graph.value(weight);
        let can = lies.producer.is_none() && matches!(lies.storage, Storage::Weight | Storage::State);
        if !can || index.checked_sub(1).is_some_and(|before| plan.spilled[before] >= weight) {
            return Err(CheckError::Named(format!("%{} is no weight or state, or listed out of order", weight.0)));
        }
    }
    for (at, step) in plan.steps.iter().enumerate() {
        self::step(plan, at, step)?;
    }
    Ok(())
}

fn step(plan: &Plan, at: usize, step: &Step) -> Result<(), CheckError> {
    let of = || format!("step {at}");
    match step.action {
        Action::Compute(op) if op.index() >= plan.graph.nodes.len() => {
            return Err(CheckError::Named(format!("step {at} computes node #{}, which does not exist", op.0)));
        }
        Action::Compute(_) => {}
        Action::Evict { value: moved, .. } => value(plan, moved, of)?,
        Action::Fetch { value: moved, rows, .. } => {
            value(plan, moved, of)?;
            rows.map_or(Ok(()), |ids| value(plan, ids, of))?;
        }
    }
    for place in step.reads.iter().chain(&step.writes) {
        match *place {
            Place::Arena(id) if id.index() >= plan.buffers.len() => {
                return Err(CheckError::Named(format!("step {at} names buffer {}, which does not exist", id.0)));
            }
            Place::Arena(_) => {}
            Place::Weight(weight) => value(plan, weight.value, of)?,
            Place::State(id) | Place::Spilled(id) | Place::Input(id) => value(plan, id, of)?,
        }
    }
    step.workspace.map_or(Ok(()), |slot| ends(slot, of))
}

fn value(plan: &Plan, id: ValueId, of: impl Fn() -> String) -> Result<(), CheckError> {
    if id.index() < plan.graph.values.len() {
        return Ok(());
    }
    Err(CheckError::Named(format!("{} names value %{}, which does not exist", of(), id.0)))
}

fn ends(slot: Slot, of: impl Fn() -> String) -> Result<(), CheckError> {
    match slot.offset.checked_add(slot.bytes) {
        Some(_) => Ok(()),
        None => Err(CheckError::Named(format!("{} has {slot}, more than any memory", of()))),
    }
}
