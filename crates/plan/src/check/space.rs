//! Rules 4 and 5: sizes, bounds, and no two live residents on one byte.
//!
//! Method: every buffer and every workspace is a resident with a slot and the steps that touch it. A walk over the steps
//! keeps those that are alive by offset; one that begins must share no byte with them. Where several queues run, a walk
//! back from the last resident to begin knows of each byte which resident of each queue takes it next, and all that
//! touched the byte must be done by then, by happens-before. It need not look further: what a step knows to be done, the
//! later steps of its queue know, too. O(n log n) in residents and in pieces of slots that they meet.

use super::CheckError;
use super::order::Order;
use crate::{Action, Place, Plan, Queue, Slot};
use remat_ir::{OpDef, Storage};
use std::collections::{BTreeMap, BTreeSet};

struct Resident {
    slot: Slot,
    first: usize,
    last: usize,
    /// `None` for a workspace.
    buffer: Option<u32>,
    /// Steps that touch it, where several queues run.
    touched: Vec<usize>,
}

impl Resident {
    fn name(&self, plan: &Plan) -> String {
        match self.buffer {
            Some(buffer) => plan.graph.value(plan.buffers[buffer as usize].value).name.clone(),
            None => workspace_of(self.first),
        }
    }
}

fn workspace_of(step: usize) -> String {
    format!("workspace of step {step}")
}

pub(super) fn check(plan: &Plan, order: &Order) -> Result<(), CheckError> {
    let residents = residents(plan)?;
    let alignment = plan.rules.slot_alignment_bytes;
    let end = residents.iter().map(|resident| resident.slot.end()).max().unwrap_or(0);
    for resident in &residents {
        if resident.slot.end() > plan.arena_bytes {
            let (value, end) = (resident.name(plan), resident.slot.end());
            return Err(CheckError::OutsideArena { value, end, arena_bytes: plan.arena_bytes });
        }
        if !resident.slot.offset.is_multiple_of(alignment) {
            let (value, offset) = (resident.name(plan), resident.slot.offset);
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
        // How many bytes of a weight or a state are fetched, rule 3 has compared.
        if value.storage == Storage::Arena && buffer.slot.bytes != needed {
            return Err(CheckError::WrongSize { value: value.name.clone(), needed, bytes: buffer.slot.bytes });
        }
        residents.push(Resident {
            slot: buffer.slot,
            first: buffer.first.index(),
            last: buffer.last.index(),
            buffer: Some(index as u32),
            touched: Vec::new(),
        });
    }
    let several_queues = has_several_queues(plan);
    for (at, step) in plan.steps.iter().enumerate() {
        for place in step.reads.iter().chain(&step.writes) {
            if let (Place::Arena(id), true) = (place, several_queues) {
                residents[id.index()].touched.push(at);
            }
        }
        let needed = match step.action {
            Action::Compute(op) => {
                let node = plan.graph.node(op);
                let (inputs, _) = plan.graph.node_types(node);
                plan.rules.workspace_bytes(&node.op, &inputs) + plan.streamed(node).1
            }
            _ => 0,
        };
        let slot = step.workspace.unwrap_or(Slot { offset: 0, bytes: 0 });
        if slot.bytes != needed {
            return Err(CheckError::WrongSize { value: workspace_of(at), needed, bytes: slot.bytes });
        }
        if slot.bytes > 0 {
            residents.push(Resident { slot, first: at, last: at, buffer: None, touched: vec![at] });
        }
    }
    Ok(residents)
}

fn has_several_queues(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| step.queue != Queue::Compute)
}

fn no_overlap(plan: &Plan, order: &Order, residents: &[Resident]) -> Result<(), CheckError> {
    alive_apart(plan, residents)?;
    if !has_several_queues(plan) {
        return Ok(());
    }
    let mut by_first: Vec<usize> = (0..residents.len()).filter(|&index| residents[index].slot.bytes > 0).collect();
    by_first.sort_by_key(|&index| residents[index].first);
    let mut next: [Takers; Queue::ALL.len()] = Default::default();
    for &index in by_first.iter().rev() {
        let early = &residents[index];
        for late in next.iter().flat_map(|takers| takers.over(early.slot)).map(|late| &residents[late]) {
            let raced = early.touched.iter().find(|&&touch| touch != late.first && !order.before(touch, late.first));
            if let Some(&on) = raced {
                let what = format!("bytes of \"{}\" and \"{}\"", early.name(plan), late.name(plan));
                return Err(CheckError::MissingWait { step: late.first as u32, on: on as u32, what });
            }
        }
        next[plan.steps[early.first].queue.index()].take(early.slot, index);
    }
    Ok(())
}

/// Who takes each byte of the arena next: pieces that do not overlap, by their first byte, with their end.
#[derive(Default)]
struct Takers {
    pieces: BTreeMap<usize, (usize, usize)>,
}

impl Takers {
    /// Those that take a byte of a slot.
    fn over(&self, slot: Slot) -> impl Iterator<Item = usize> {
        let before = self.pieces.range(..slot.offset).next_back().filter(move |(_, (end, _))| *end > slot.offset);
        before.into_iter().chain(self.pieces.range(slot.offset..slot.end())).map(|(_, &(_, taker))| taker)
    }

    /// Lets a resident be the one that takes a slot.
    fn take(&mut self, slot: Slot, taker: usize) {
        let cut = |pieces: &mut BTreeMap<usize, (usize, usize)>, at: usize| {
            let (&start, &(end, of)) = pieces.range(..at).next_back()?;
            (end > at).then(|| {
                pieces.insert(start, (at, of));
                pieces.insert(at, (end, of))
            })
        };
        cut(&mut self.pieces, slot.offset);
        cut(&mut self.pieces, slot.end());
        while let Some((&start, _)) = self.pieces.range(slot.offset..slot.end()).next() {
            self.pieces.remove(&start);
        }
        self.pieces.insert(slot.offset, (slot.end(), taker));
    }
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
                return Err(CheckError::Overlap { a: early.name(plan), b: late.name(plan), from, to });
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
