//! Rule 3: every operand is in the place the step reads it from, when it reads it.
//!
//! Method: walk the steps once, remembering who wrote each buffer, which value each state now holds and who touched it,
//! and what was evicted; a weight that is not
//! resident is read from a buffer that it was fetched into, from the tier that the plan declares; each use must be ordered after its definition by the happens-before relation.

use super::CheckError;
use super::order::Order;
use crate::{Action, BufferId, Place, Plan, Step, Tier};
use remat_ir::{OpDef, Storage, ValueId};
use remat_tensor::DType;
use std::collections::HashMap;

struct Contents<'a> {
    plan: &'a Plan,
    order: &'a Order,
    writer: Vec<Option<usize>>,
    /// By the root of a state: the value that it holds, who read that, and who wrote it.
    state_holds: Vec<ValueId>,
    state_users: Vec<Vec<usize>>,
    state_writer: Vec<Option<usize>>,
    evicted: HashMap<(ValueId, Tier), usize>,
    /// Of a buffer that holds looked-up rows of a weight, by which ids.
    rows_of: Vec<Option<ValueId>>,
}

pub(super) fn check(plan: &Plan, order: &Order) -> Result<(), CheckError> {
    let values = plan.graph.values.len();
    let mut contents = Contents {
        plan,
        order,
        writer: vec![None; plan.buffers.len()],
        state_holds: plan.graph.value_ids().collect(),
        state_users: vec![Vec::new(); values],
        state_writer: vec![None; values],
        evicted: HashMap::new(),
        rows_of: vec![None; plan.buffers.len()],
    };
    for (at, step) in plan.steps.iter().enumerate() {
        contents.step(at, step)?;
    }
    contents.outputs_are_there()
}

impl Contents<'_> {
    fn step(&mut self, at: usize, step: &Step) -> Result<(), CheckError> {
        match step.action {
            Action::Compute(op) => {
                let node = self.plan.graph.node(op);
                self.counts(at, step, node.inputs.len(), node.outputs.len())?;
                for (index, &value) in node.inputs.iter().enumerate() {
                    self.read(at, step, index, value)?;
                }
                for (index, &value) in node.outputs.iter().enumerate() {
                    self.write(at, step, index, value)?;
                }
                Ok(())
            }
            Action::Evict { value, tier } => {
                self.counts(at, step, 1, 0)?;
                self.read(at, step, 0, value)?;
                self.evicted.insert((value, tier), at);
                Ok(())
            }
            Action::Fetch { value, tier, rows } if self.plan.graph.value(value).storage == Storage::Weight => {
                self.fetch_weight(at, step, value, tier, rows)
            }
            Action::Fetch { value, tier, rows } => {
                self.counts(at, step, 0, 1)?;
                if rows.is_some() {
                    return Err(CheckError::NotInTier { step: at as u32, value: self.name(value) });
                }
                let Some(&evict) = self.evicted.get(&(value, tier)) else {
                    return Err(CheckError::NotYetComputed { step: at as u32, value: self.name(value) });
                };
                self.ordered(evict, at, || self.name(value))?;
                self.write(at, step, 0, value)
            }
        }
    }

    /// A weight, or the rows of it that an input's ids name, comes from the tier that the plan says it lies in.
    fn fetch_weight(
        &mut self,
        at: usize,
        step: &Step,
        value: ValueId,
        tier: Tier,
        rows: Option<ValueId>,
    ) -> Result<(), CheckError> {
        let graph = &self.plan.graph;
        let are_ids = |ids: ValueId| {
            graph.value(ids).storage == Storage::Input
                && graph.ty(ids).dtype == DType::I32
                && graph.ty(value).shape.len() == 2
        };
        if tier != Tier::Spill || self.plan.tier(value) != tier || !rows.is_none_or(are_ids) {
            return Err(CheckError::NotInTier { step: at as u32, value: self.name(value) });
        }
        self.counts(at, step, usize::from(rows.is_some()), 1)?;
        if let Some(ids) = rows {
            self.read(at, step, 0, ids)?;
        }
        let Place::Arena(id) = step.writes[0] else { return Err(self.wrong_place(at, step, 0, value)) };
        if !self.holds(id, value) {
            return Err(self.wrong_place(at, step, 0, value));
        }
        let buffer = &self.plan.buffers[id.index()];
        let needed = self.plan.fetch_bytes(value, rows);
        if buffer.slot.bytes != needed {
            return Err(CheckError::WrongSize { value: self.name(value), needed, bytes: buffer.slot.bytes });
        }
        self.rows_of[id.index()] = rows;
        self.begins(at, id)
    }

    /// Whether a read of these rows is what a lookup by the same ids makes of them.
    fn looks_up(&self, step: &Step, index: usize, rows: Option<ValueId>) -> bool {
        let Some(ids) = rows else { return true };
        let Action::Compute(op) = step.action else { return false };
        let node = self.plan.graph.node(op);
        node.op.looks_up().is_some_and(|(table, by)| table == index && node.inputs[by] == ids)
    }

    /// A step begins the life of a buffer: the one that the buffer names, and no other before.
    fn begins(&mut self, at: usize, id: BufferId) -> Result<(), CheckError> {
        let buffer = &self.plan.buffers[id.index()];
        let first = buffer.first;
        if first.index() != at || self.writer[id.index()].is_some() {
            let value = self.name(buffer.value);
            return Err(CheckError::WrongWriter { buffer: id.0, value, step: at as u32, first: first.0 });
        }
        self.writer[id.index()] = Some(at);
        Ok(())
    }

    fn counts(&self, at: usize, step: &Step, reads: usize, writes: usize) -> Result<(), CheckError> {
        if step.reads.len() == reads && step.writes.len() == writes {
            return Ok(());
        }
        Err(CheckError::Graph(format!(
            "step {at} names {} operands and {} results",
            step.reads.len(),
            step.writes.len()
        )))
    }

    fn read(&mut self, at: usize, step: &Step, index: usize, value: ValueId) -> Result<(), CheckError> {
        let graph = &self.plan.graph;
        match (graph.value(value).storage, step.reads[index]) {
            (Storage::Input, Place::Input(id)) if id == value => Ok(()),
            (Storage::Weight, Place::Weight(weight))
                if weight.value == value
                    && weight.tier == Tier::Resident
                    && self.plan.tier(value) == Tier::Resident =>
            {
                Ok(())
            }
            (Storage::Weight, Place::Arena(id))
                if self.holds(id, value) && self.looks_up(step, index, self.rows_of[id.index()]) =>
            {
                self.read_buffer(at, id, value)
            }
            (Storage::State, Place::State(root)) if root == graph.storage_root(value) => {
                let holds = self.state_holds[root.index()];
                if holds != value {
                    let (value, holds) = (self.name(value), self.name(holds));
                    return Err(CheckError::StateOverwritten { step: at as u32, value, holds });
                }
                if let Some(writer) = self.state_writer[root.index()] {
                    self.ordered(writer, at, || self.name(value))?;
                }
                self.state_users[root.index()].push(at);
                Ok(())
            }
            (Storage::Arena, Place::Arena(id)) if self.holds(id, value) => self.read_buffer(at, id, value),
            _ => Err(self.wrong_place(at, step, index, value)),
        }
    }

    fn read_buffer(&self, at: usize, id: BufferId, value: ValueId) -> Result<(), CheckError> {
        let buffer = &self.plan.buffers[id.index()];
        let Some(writer) = self.writer[id.index()] else {
            return Err(CheckError::NotYetComputed { step: at as u32, value: self.name(value) });
        };
        self.ordered(writer, at, || self.name(value))?;
        if at > buffer.last.index() {
            let last = buffer.last.0;
            return Err(CheckError::UseAfterFree { step: at as u32, value: self.name(value), buffer: id.0, last });
        }
        Ok(())
    }

    fn write(&mut self, at: usize, step: &Step, index: usize, value: ValueId) -> Result<(), CheckError> {
        let graph = &self.plan.graph;
        match (graph.value(value).storage, step.writes[index]) {
            (Storage::State, Place::State(root)) if root == graph.storage_root(value) => {
                for user in std::mem::take(&mut self.state_users[root.index()]) {
                    if user != at {
                        self.ordered(user, at, || self.name(value))?;
                    }
                }
                self.state_holds[root.index()] = value;
                self.state_writer[root.index()] = Some(at);
                Ok(())
            }
            (Storage::Arena, Place::Arena(id)) if self.holds(id, value) => self.begins(at, id),
            _ => Err(self.wrong_place(at, step, index, value)),
        }
    }

    fn outputs_are_there(&self) -> Result<(), CheckError> {
        let end = self.plan.steps.len().saturating_sub(1);
        for &output in &self.plan.graph.outputs {
            if self.plan.graph.value(output).storage != Storage::Arena {
                continue;
            }
            let last = self.plan.final_buffer(output).map(|buffer| buffer.last.index());
            if last != Some(end) {
                return Err(CheckError::OutputFreed { value: self.name(output) });
            }
        }
        Ok(())
    }

    fn holds(&self, id: BufferId, value: ValueId) -> bool {
        self.plan.buffers.get(id.index()).is_some_and(|buffer| buffer.value == value)
    }

    fn ordered(&self, a: usize, b: usize, what: impl Fn() -> String) -> Result<(), CheckError> {
        if self.order.before(a, b) {
            return Ok(());
        }
        Err(CheckError::MissingWait { step: b as u32, on: a as u32, what: format!("\"{}\"", what()) })
    }

    fn name(&self, value: ValueId) -> String {
        self.plan.graph.value(value).name.clone()
    }

    fn wrong_place(&self, at: usize, step: &Step, index: usize, value: ValueId) -> CheckError {
        let node = match step.action {
            Action::Compute(op) => self.plan.graph.node(op).name.clone(),
            Action::Evict { .. } => "evict".to_string(),
            Action::Fetch { .. } => "fetch".to_string(),
        };
        CheckError::WrongPlace { step: at as u32, node, index, value: self.name(value) }
    }
}
