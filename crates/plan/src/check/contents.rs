//! Rule 3: every operand is in the place the step reads it from, when it reads it.
//!
//! Method: walk the steps once, remembering who wrote each buffer, which value each state now holds and who touched it,
//! and what was evicted; a weight that is not
//! resident is read from a buffer that it was fetched into, from the tier that the plan declares; each use must be ordered after its definition by the happens-before relation.
//! A state that lies in a tier has a home there as another has in memory: what a buffer holds of it is what the home held when
//! it was fetched, until a step updates it there; in the end every home holds what the graph makes of its state.

use super::CheckError;
use super::order::Order;
use crate::{Action, BufferId, Place, Plan, Step, Tier, can_stream};
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
    /// Of a buffer that holds a state: what it holds of it, and who touched it since that was made.
    buffer_holds: Vec<ValueId>,
    buffer_users: Vec<Vec<usize>>,
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
        buffer_holds: plan.buffers.iter().map(|buffer| buffer.value).collect(),
        buffer_users: vec![Vec::new(); plan.buffers.len()],
    };
    for (at, step) in plan.steps.iter().enumerate() {
        contents.step(at, step)?;
    }
    contents.states_are_home()?;
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
            Action::Evict { value, tier } if self.plan.graph.value(value).storage == Storage::State => {
                self.evict_state(at, step, value, tier)
            }
            Action::Evict { value, tier } => {
                self.counts(at, step, 1, 0)?;
                self.read(at, step, 0, value)?;
                self.evicted.insert((value, tier), at);
                Ok(())
            }
            Action::Fetch { value, tier, rows } if self.plan.graph.value(value).storage != Storage::Arena => {
                self.fetch_source(at, step, value, tier, rows)
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

    /// A weight or a state, or the rows of it that an input's ids name, comes from the tier that the plan says it lies in.
    fn fetch_source(
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
        if graph.value(value).storage == Storage::State {
            self.read_home(at, value)?;
            self.buffer_holds[id.index()] = self.state_holds[value.index()];
        }
        self.begins(at, id)
    }

    /// What a buffer holds of a state goes to where that lies.
    fn evict_state(&mut self, at: usize, step: &Step, root: ValueId, tier: Tier) -> Result<(), CheckError> {
        self.counts(at, step, 1, 0)?;
        if tier != Tier::Spill || self.plan.tier(root) != tier {
            return Err(CheckError::NotInTier { step: at as u32, value: self.name(root) });
        }
        match step.reads[0] {
            Place::Arena(id) if self.holds(id, root) && self.rows_of[id.index()].is_none() => {
                self.read_buffer(at, id, root)?;
                self.buffer_users[id.index()].push(at);
                self.write_home(at, root, self.buffer_holds[id.index()])
            }
            _ => Err(self.wrong_place(at, step, 0, root)),
        }
    }

    /// A step reads a state where it lies, after whoever wrote it there.
    fn read_home(&mut self, at: usize, root: ValueId) -> Result<(), CheckError> {
        if let Some(writer) = self.state_writer[root.index()] {
            self.ordered(writer, at, || self.name(root))?;
        }
        self.state_users[root.index()].push(at);
        Ok(())
    }

    /// A step writes a state where it lies, after all who read or wrote it there.
    fn write_home(&mut self, at: usize, root: ValueId, value: ValueId) -> Result<(), CheckError> {
        let users = std::mem::take(&mut self.state_users[root.index()]);
        let before = users.into_iter().chain(self.state_writer[root.index()]).filter(|&user| user != at);
        for user in before {
            self.ordered(user, at, || self.name(value))?;
        }
        self.state_holds[root.index()] = value;
        self.state_writer[root.index()] = Some(at);
        Ok(())
    }

    fn overwritten(&self, at: usize, value: ValueId, holds: ValueId) -> Result<(), CheckError> {
        if holds == value {
            return Ok(());
        }
        let (value, holds) = (self.name(value), self.name(holds));
        Err(CheckError::StateOverwritten { step: at as u32, value, holds })
    }

    /// Whether a place is where a state lies, in the one way in which this operand can be read or replaced there.
    fn is_home(&self, step: &Step, place: Place, operand: usize, root: ValueId) -> bool {
        let streams = || matches!(step.action, Action::Compute(op) if can_stream(self.plan.graph.node(op), operand));
        match (place, self.plan.tier(root)) {
            (Place::State(of), Tier::Resident) => of == root,
            (Place::Spilled(of), Tier::Spill) => of == root && streams(),
            _ => false,
        }
    }

    /// A step updates a state in the buffer that holds what it read of it.
    fn update_in_buffer(&mut self, at: usize, step: &Step, id: BufferId, value: ValueId) -> Result<(), CheckError> {
        let (graph, held) = (&self.plan.graph, self.buffer_holds[id.index()]);
        let Action::Compute(op) = step.action else { return Err(self.wrong_place(at, step, 0, value)) };
        let donor = graph.value(value).donated_from;
        let read = |(place, input): (&Place, &ValueId)| *place == Place::Arena(id) && Some(*input) == donor;
        let replaces = donor == Some(held) && step.reads.iter().zip(&graph.node(op).inputs).any(read);
        if !replaces || self.rows_of[id.index()].is_some() {
            return Err(self.wrong_place(at, step, 0, value));
        }
        for user in std::mem::take(&mut self.buffer_users[id.index()]).into_iter().filter(|&user| user != at) {
            self.ordered(user, at, || self.name(value))?;
        }
        self.buffer_holds[id.index()] = value;
        self.writer[id.index()] = Some(at);
        Ok(())
    }

    /// Every state that lies in a tier is there as the graph leaves it.
    fn states_are_home(&self) -> Result<(), CheckError> {
        let graph = &self.plan.graph;
        let replaced = graph.values.iter().filter_map(|value| value.donated_from);
        let mut is_replaced = vec![false; graph.values.len()];
        replaced.for_each(|value| is_replaced[value.index()] = true);
        let last =
            graph.value_ids().filter(|id| graph.value(*id).storage == Storage::State && !is_replaced[id.index()]);
        for value in last {
            let root = graph.storage_root(value);
            if self.plan.tier(root) == Tier::Spill && self.state_holds[root.index()] != value {
                return Err(CheckError::NotWrittenBack { value: self.name(root) });
            }
        }
        Ok(())
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
            (Storage::State, place) if self.is_home(step, place, index, graph.storage_root(value)) => {
                let root = graph.storage_root(value);
                self.overwritten(at, value, self.state_holds[root.index()])?;
                self.read_home(at, root)
            }
            (Storage::State, Place::Arena(id))
                if self.holds(id, graph.storage_root(value))
                    && self.looks_up(step, index, self.rows_of[id.index()]) =>
            {
                self.read_buffer(at, id, value)?;
                self.buffer_users[id.index()].push(at);
                self.overwritten(at, value, self.buffer_holds[id.index()])
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
            (Storage::State, place)
                if self.is_home(step, place, self.replaced_operand(step, value), graph.storage_root(value)) =>
            {
                self.write_home(at, graph.storage_root(value), value)
            }
            (Storage::State, Place::Arena(id)) if self.holds(id, graph.storage_root(value)) => {
                self.read_buffer(at, id, value)?;
                self.update_in_buffer(at, step, id, value)
            }
            (Storage::Arena, Place::Arena(id)) if self.holds(id, value) => self.begins(at, id),
            _ => Err(self.wrong_place(at, step, index, value)),
        }
    }

    /// Which operand of a step a result takes the place of; none is as good as any.
    fn replaced_operand(&self, step: &Step, value: ValueId) -> usize {
        let (graph, donor) = (&self.plan.graph, self.plan.graph.value(value).donated_from);
        let Action::Compute(op) = step.action else { return 0 };
        graph.node(op).inputs.iter().position(|&input| Some(input) == donor).unwrap_or(0)
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
