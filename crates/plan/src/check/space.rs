//! Rules 4 and 5: sizes, bounds, and no two live residents on one byte.
//!
//! Method: every buffer and every workspace is a resident with a slot and the steps that touch it. A walk over the steps
//! keeps those that are alive by offset; one that begins must share no byte with them, O(n log n). Of each pair that shares
//! a byte and is touched on different queues the one must besides end before the other begins by happens-before. Cost of
//! that: pairs that overlap in space, one of them touched by another queue than compute.

use super::CheckError;
use super::order::Order;
use crate::{Action, Place, Plan, Queue, Slot};
use remat_ir::OpDef;
use std::collections::BTreeSet;

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
    alive_apart(plan, residents)?;
    let elsewhere = |step: &usize| plan.steps[*step].queue != Queue::Compute;
    let is_elsewhere = |r: &Resident| r.touched.iter().any(elsewhere) || elsewhere(&r.first);
    if plan.steps.iter().all(|step| step.queue == Queue::Compute) {
        return Ok(());
    }
    let mut by_offset: Vec<(&Resident, bool)> =
        residents.iter().filter(|r| r.slot.bytes > 0).map(|r| (r, is_elsewhere(r))).collect();
    by_offset.sort_by_key(|(resident, _)| resident.slot.offset);
    for (i, &(a, a_elsewhere)) in by_offset.iter().enumerate() {
        let behind = by_offset[i + 1..].iter().take_while(|(b, _)| b.slot.offset < a.slot.end());
        for &(b, _) in behind.filter(|(_, b_elsewhere)| a_elsewhere || *b_elsewhere) {
            let (early, late) = if a.first <= b.first { (a, b) } else { (b, a) };
            let raced = early.touched.iter().find(|&&touch| touch != late.first && !order.before(touch, late.first));
            if let Some(&on) = raced {
                let what = format!("bytes of \"{}\" and \"{}\"", early.name, late.name);
                return Err(CheckError::MissingWait { step: late.first as u32, on: on as u32, what });
            }
        }
    }
    Ok(())
}

/// Whether of all residents that are alive at one step no two share a byte, but for what an op does in place.
fn alive_apart(plan: &Plan, residents: &[Resident]) -> Result<(), CheckError> {
    let mut by_first: Vec<usize> = (0..residents.len()).filter(|&index| residents[index].slot.bytes > 0).collect();
    by_first.sort_by_key(|&index| residents[index].first);
    // Those that are alive, by their first byte; and by the step at which they end. No two of them share a byte, or one
    // took over the other's whole slot: so whatever meets a slot is found by walking down from its end to the first that
    // ends below it.
    let mut alive: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut ends: BTreeSet<(usize, usize)> = BTreeSet::new();
    for index in by_first {
        let late = &residents[index];
        while let Some(&(last, ended)) = ends.first().filter(|(last, _)| *last < late.first) {
            ends.remove(&(last, ended));
            alive.remove(&(residents[ended].slot.offset, ended));
        }
        for &(_, other) in alive.range(..(late.slot.end(), 0)).rev() {
            let early = &residents[other];
            if !early.slot.overlaps(late.slot) {
                break;
            }
            if !shared_in_place(plan, early, late) {
                let from = early.slot.offset.max(late.slot.offset);
                let to = early.slot.end().min(late.slot.end());
                return Err(CheckError::Overlap { a: early.name.clone(), b: late.name.clone(), from, to });
            }
        }
        alive.insert((late.slot.offset, index));
        ends.insert((late.last, index));
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
