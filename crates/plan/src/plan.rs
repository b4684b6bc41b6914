//! The plan: steps, buffers and their slots in the arena.
//!
//! Invariants (proved by `check`): each node of `graph` is computed by exactly one step; every operand names the bytes
//! that hold its value at that moment; two buffers alive at once share no byte, except where an op works in place.

use crate::{KernelRules, Policy};
use remat_ir::{Graph, OpDef, OpId, Storage, ValueId};
use std::fmt;
use std::sync::Arc;

/// Index of a step in [`Plan::steps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub u32);

/// Index of a buffer in [`Plan::buffers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

impl StepId {
    /// As a vector index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl BufferId {
    /// As a vector index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A range of bytes of the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// First byte.
    pub offset: usize,
    /// Number of bytes.
    pub bytes: usize,
}

impl Slot {
    /// One past the last byte.
    pub fn end(self) -> usize {
        self.offset + self.bytes
    }

    /// Whether the two share a byte.
    pub fn overlaps(self, other: Slot) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }
}

/// One residence of a value in the arena: where its bytes are, and from which step to which. An offloaded value has a second
/// buffer after it was fetched; a weight that lies in a tier has one for each time it is fetched, and so has a state that does,
/// by the value at its root: steps update it there, and what they made of it is written back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// The value held.
    pub value: ValueId,
    /// Where.
    pub slot: Slot,
    /// The step that writes it.
    pub first: StepId,
    /// The last step that reads it (the plan's last step for an output of the graph).
    pub last: StepId,
}

/// Which memory a weight or an offloaded value is held in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Memory the executor's kernels read directly.
    Resident,
    /// Another memory or a file, reached by the copy queue.
    Spill,
}

/// How a weight's elements are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightLayout {
    /// As the value's type says, row-major.
    RowMajor,
}

/// A weight as an operand: never a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WeightOperand {
    /// The weight.
    pub value: ValueId,
    /// Where it is when the step runs.
    pub tier: Tier,
    /// How it is arranged.
    pub layout: WeightLayout,
}

/// Where a step finds an operand or puts a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// A buffer of the arena.
    Arena(BufferId),
    /// A weight.
    Weight(WeightOperand),
    /// The storage of a state, named by the value at the root of its donations.
    State(ValueId),
    /// The same of a state that lies in [`Tier::Spill`], streamed through the step's workspace.
    Spilled(ValueId),
    /// A value written by the caller before the run.
    Input(ValueId),
}

/// An independent stream of execution. Steps of one queue run in order; queues are ordered by waits only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Kernels.
    Compute,
    /// Transfers between tiers.
    Copy,
    /// What ranks do together: nodes whose op is a collective.
    Comm,
}

impl Queue {
    /// All queues.
    pub const ALL: [Queue; 3] = [Queue::Compute, Queue::Copy, Queue::Comm];

    /// As a vector index.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Queue::Compute => "compute",
            Queue::Copy => "copy",
            Queue::Comm => "comm",
        })
    }
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Runs one node of the graph.
    Compute(OpId),
    /// Copies a value out of the arena (`reads[0]`) to a tier; of a state that lies in one, named by its root, what the buffer
    /// holds of it by now.
    Evict {
        /// The value.
        value: ValueId,
        /// Where it goes.
        tier: Tier,
    },
    /// Copies an evicted value, or a weight or state that lies in a tier, into the arena (`writes[0]`).
    Fetch {
        /// The value.
        value: ValueId,
        /// Where it comes from.
        tier: Tier,
        /// Of a weight or state, the rows that these ids (`reads[0]`, an input) name, in their order; all of it if `None`.
        rows: Option<ValueId>,
    },
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub action: Action,
    /// On which queue.
    pub queue: Queue,
    /// Where the operands are, in the op's order.
    pub reads: Vec<Place>,
    /// Where the results go, in the op's order.
    pub writes: Vec<Place>,
    /// Arena bytes that the kernel may use while it runs.
    pub workspace: Option<Slot>,
    /// Steps of other queues that must have finished before.
    pub waits: Vec<StepId>,
    /// Whether another queue waits for this step.
    pub signals: bool,
}

/// A compiled step.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What is computed, recomputed nodes included, in execution order; plans that compute the same may share it.
    pub graph: Arc<Graph>,
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// Every residence of an arena value.
    pub buffers: Vec<Buffer>,
    /// Size of the arena in bytes: the highest end of any slot.
    pub arena_bytes: usize,
    /// The policy that shaped it.
    pub policy: Policy,
    /// The rules of the kernels that it is made for.
    pub rules: KernelRules,
    /// Weights and states (by their roots) that lie in [`Tier::Spill`], in ascending order; all others are resident.
    pub spilled: Vec<ValueId>,
}

impl Plan {
    /// The buffer that holds a value at the end of the plan, if it is an arena value.
    pub fn final_buffer(&self, value: ValueId) -> Option<&Buffer> {
        self.buffers.iter().rfind(|buffer| buffer.value == value)
    }

    /// Where a weight or a state lies.
    pub fn tier(&self, weight: ValueId) -> Tier {
        if self.spilled.binary_search(&weight).is_ok() { Tier::Spill } else { Tier::Resident }
    }

    /// Bytes of all weights that lie in a tier.
    pub fn spilled_weight_bytes(&self) -> usize {
        self.spilled_bytes(Storage::Weight)
    }

    /// Bytes of all states that lie in a tier.
    pub fn spilled_state_bytes(&self) -> usize {
        self.spilled_bytes(Storage::State)
    }

    fn spilled_bytes(&self, storage: Storage) -> usize {
        let spilled = self.spilled.iter().map(|&id| self.graph.value(id)).filter(|value| value.storage == storage);
        spilled.map(|value| value.ty.bytes()).sum()
    }

    /// Bytes of all weights that are resident, each rounded up to where the next may begin.
    pub fn resident_weight_bytes(&self) -> usize {
        let resident =
            |id: &ValueId| self.graph.value(*id).storage == Storage::Weight && self.tier(*id) == Tier::Resident;
        let bytes = |id: ValueId| self.graph.ty(id).bytes().next_multiple_of(self.rules.slot_alignment_bytes);
        self.graph.value_ids().filter(resident).map(bytes).sum()
    }

    /// Bytes of weights that one run fetches.
    pub fn fetched_weight_bytes(&self) -> usize {
        let of_weight = |value: ValueId| self.graph.value(value).storage == Storage::Weight;
        let bytes = |step: &Step| match (step.action, step.writes.first()) {
            (Action::Fetch { value, .. }, Some(Place::Arena(id))) if of_weight(value) => {
                self.buffers[id.index()].slot.bytes
            }
            _ => 0,
        };
        self.steps.iter().map(bytes).sum()
    }

    /// Bytes of a fetch: of the whole value, or of as many rows as there are ids.
    pub fn fetch_bytes(&self, value: ValueId, rows: Option<ValueId>) -> usize {
        let ty = self.graph.ty(value);
        match rows {
            None => ty.bytes(),
            Some(ids) => self.graph.ty(ids).shape.numel() * (ty.bytes() / ty.shape.rows().max(1)),
        }
    }

    /// What ranks do together, in order, as every one of them has to have it.
    pub fn agreed(&self) -> Vec<String> {
        let collective = |step: &Step| match step.action {
            Action::Compute(op) => {
                let node = self.graph.node(op);
                node.op.collective().map(|collective| format!("{}: {}", node.name, collective.agreed()))
            }
            _ => None,
        };
        self.steps.iter().filter_map(collective).collect()
    }

    /// Steps that repeat a forward node.
    pub fn recomputed_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| match step.action {
            Action::Compute(op) => self.graph.node(op).recompute_of.is_some(),
            _ => false,
        })
    }
}
