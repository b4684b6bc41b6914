//! Rules 4 and 5: sizes, bounds, and no two live residents on one byte.
//!
//! Method: every buffer and every workspace is a resident with a slot and the steps that touch it. Residents sorted by
//! offset; of each pair that shares a byte one must end before the other begins, in step order and, if they are touched
//! on different queues, by happens-before. Cost: pairs that overlap in space.

use super::CheckError;
use super::order::Order;
use crate::{Action, Place, Plan, Slot};
use remat_ir::OpDef;

struct Resident {
    name: String,
    slot: Slot,
    first: usize,
    last: usize,
    buffer: Option<u32>,
    touched: Vec<usize>,
}

pub(super) fn check(plan: &Plan, order: &Order) -> Result<(), CheckError> {
    let residents = residents(plan)?;
    let alignment = plan.rules.slot_alignment_bytes;
    let end = residents.iter().map(|resident| resident.slot.end()).max().unwrap_or(0);
    for resident in &residents {
        if resident.slot.end() > plan.arena_bytes {
            let (value, end) = (resident.name.clone(), resident.slot.end());
            return Err(CheckError::OutsideArena { value, end, arena_bytes: plan.arena_bytes });
        }
        if !resident.slot.offset.is_multiple_of(alignment) {
            let (value, offset) = (resident.name.clone(), resident.slot.offset);
            return Err(CheckError::Misaligned { value, offset, alignment });
        }
    }
    no_overlap(plan, order, &residents)?;
    if end != plan.arena_bytes {
        return Err(CheckError::ArenaSize { arena_bytes: plan.arena_bytes, end });
    }
    Ok(())
}

fn residents(plan: &Plan) -> Result<Vec<Resident>, CheckError> {
    let mut residents = Vec::with_capacity(plan.buffers.len());
    for (index, buffer) in plan.buffers.iter().enumerate() {
        let value = plan.graph.value(buffer.value);
        let needed = value.ty.bytes();
        if buffer.slot.bytes != needed {
            return Err(CheckError::WrongSize { value: value.name.clone(), needed, bytes: buffer.slot.bytes });
        }
        residents.push(Resident {
            name: value.name.clone(),
            slot: buffer.slot,
            first: buffer.first.index(),
            last: buffer.last.index(),
            buffer: Some(index as u32),
            touched: Vec::new(),
        });
    }
    for (at, step) in plan.steps.iter().enumerate() {
        for place in step.reads.iter().chain(&step.writes) {
            if let Place::Arena(id) = place {
                residents[id.index()].touched.push(at);
            }
        }
        let needed = match step.action {
            Action::Compute(op) => {
                let node = plan.graph.node(op);
                let (inputs, _) = plan.graph.node_types(node);
                plan.rules.workspace_bytes(&node.op, &inputs)
            }
            _ => 0,
        };
        let slot = step.workspace.unwrap_or(Slot { offset: 0, bytes: 0 });
        let name = format!("workspace of step {at}");
        if slot.bytes < needed {
            return Err(CheckError::WrongSize { value: name, needed, bytes: slot.bytes });
        }
        if slot.bytes > 0 {
            residents.push(Resident { name, slot, first: at, last: at, buffer: None, touched: vec![at] });
        }
    }
    Ok(residents)
}

fn no_overlap(plan: &Plan, order: &Order, residents: &[Resident]) -> Result<(), CheckError> {
    let mut by_offset: Vec<&Resident> = residents.iter().filter(|resident| resident.slot.bytes > 0).collect();
    by_offset.sort_by_key(|resident| resident.slot.offset);
    for (i, &a) in by_offset.iter().enumerate() {
        for &b in by_offset[i + 1..].iter().take_while(|b| b.slot.offset < a.slot.end()) {
            let (early, late) = if a.first <= b.first { (a, b) } else { (b, a) };
            if early.last >= late.first && !shared_in_place(plan, early, late) {
                let from = a.slot.offset.max(b.slot.offset);
                let to = a.slot.end().min(b.slot.end());
                return Err(CheckError::Overlap { a: early.name.clone(), b: late.name.clone(), from, to });
            }
            let raced = early.touched.iter().find(|&&touch| touch != late.first && !order.before(touch, late.first));
            if let Some(&on) = raced {
                let what = format!("bytes of \"{}\" and \"{}\"", early.name, late.name);
                return Err(CheckError::MissingWait { step: late.first as u32, on: on as u32, what });
            }
        }
    }
    Ok(())
}

/// Whether `late` takes over `early`'s slot at the one step that reads the one and writes the other, as its op allows.
fn shared_in_place(plan: &Plan, early: &Resident, late: &Resident) -> bool {
    let (Some(early_id), Some(late_id)) = (early.buffer, late.buffer) else { return false };
    if early.last != late.first || early.first == late.first || early.slot != late.slot {
        return false;
    }
    let step = &plan.steps[late.first];
    let Action::Compute(op) = step.action else { return false };
    let reads = |place: &Place| *place == Place::Arena(crate::BufferId(early_id));
    if step.reads.iter().filter(|place| reads(place)).count() != 1 {
        return false;
    }
    plan.graph.node(op).op.in_place().into_iter().any(|(operand, result)| {
        reads(&step.reads[operand]) && step.writes[result] == Place::Arena(crate::BufferId(late_id))
    })
}
