//! Turns a plan's places into addresses, once, at load.
//!
//! Invariant: a resolved operand points at as many bytes as its type says, inside the arena or a source's own memory.

use super::ALIGNMENT_BYTES;
use super::copy_queue::Copies;
use super::memory::Region;
use super::poison::freed;
use super::support::supports;
use crate::{CustomKernel, CustomKernels};
use remat_ir::{Node, Op, OpId, Storage, Type, ValueId};
use remat_plan::{Action, ExecError, Place, Plan, Queue, Slot, SourceBytes, Step, TensorView, TensorViewMut, Tier};
use std::collections::HashMap;
use std::sync::Arc;

/// An operand or result: where it is and what it is.
#[derive(Debug, Clone)]
pub(crate) struct Operand {
    pub(crate) start: *mut u8,
    pub(crate) ty: Type,
}

/// One step with its addresses.
pub(super) struct ResolvedStep {
    pub(super) op: OpId,
    pub(super) reads: Vec<Operand>,
    pub(super) writes: Vec<Operand>,
    pub(super) workspace: (*mut u8, usize),
    /// The kernel of a custom op.
    pub(super) custom: Option<Arc<dyn CustomKernel>>,
}

/// A plan with its addresses.
pub(super) struct Program {
    pub(super) plan: Plan,
    /// `None` for a copy, which the copy queue has.
    pub(super) steps: Vec<Option<ResolvedStep>>,
    /// What the copy queue does.
    pub(super) copies: Copies,
    /// What is free after each step.
    pub(super) freed: Vec<Vec<Slot>>,
}

// SAFETY: the pointers lead into regions that live as long as the executor and are used only through `&mut` of it.
unsafe impl Send for Program {}

impl Program {
    /// What a resolved plan takes in memory beside the plan itself: its steps, their operands with their shapes, the slots
    /// that are freed. The allocator adds a word or two to each.
    pub(super) fn bytes_beside(plan: &Plan) -> usize {
        const ALLOCATED: usize = 2 * size_of::<usize>();
        let operand =
            |value: &ValueId| size_of::<Operand>() + plan.graph.ty(*value).shape.len() * size_of::<usize>() + ALLOCATED;
        let of_node = |node: &Node| {
            let operands = node.inputs.iter().chain(&node.outputs).map(operand).sum::<usize>();
            size_of::<ResolvedStep>() + size_of::<Vec<Slot>>() + 3 * ALLOCATED + operands
        };
        // A buffer or workspace is freed once.
        let freed = (plan.buffers.len() + plan.steps.len()) * size_of::<Slot>();
        let copies =
            plan.copy_steps().count() * (size_of::<ResolvedStep>() + size_of::<Vec<Slot>>() + Copies::COPY_BYTES);
        let awaited = plan.steps.len() * size_of::<u32>();
        plan.graph.nodes.iter().map(of_node).sum::<usize>() + freed + copies + awaited
    }

    /// Resolves a checked plan.
    pub(super) fn resolve(
        plan: Plan,
        arena: &mut Region,
        sources: &mut Sources,
        custom: &CustomKernels,
    ) -> Result<Self, ExecError> {
        let mut steps = Vec::with_capacity(plan.steps.len());
        for (index, step) in plan.steps.iter().enumerate() {
            let Some(op) = computed(index, step)? else {
                steps.push(None);
                continue;
            };
            let node = plan.graph.node(op);
            let mut operand = |place: &Place, value: ValueId| -> Result<Operand, ExecError> {
                let ty = plan.graph.ty(value).clone();
                let start = match *place {
                    Place::Arena(id) => arena.at(plan.buffers[id.index()].slot.offset),
                    Place::Weight(weight) => sources.address(&plan, Storage::Weight, weight.value),
                    Place::State(root) => sources.address(&plan, Storage::State, root),
                    Place::Input(id) => sources.address(&plan, Storage::Input, id),
                };
                Ok(Operand { start, ty })
            };
            let mut operands = |places: &[Place], values: &[ValueId]| -> Result<Vec<Operand>, ExecError> {
                places.iter().zip(values).map(|(place, &value)| operand(place, value)).collect()
            };
            let (reads, writes) = (operands(&step.reads, &node.inputs)?, operands(&step.writes, &node.outputs)?);
            let workspace = match step.workspace {
                Some(slot) => (arena.at(slot.offset), slot.bytes),
                None => (arena.at(0), 0),
            };
            let unsupported = |why| ExecError::Unsupported { step: index, what: node.op.name().to_string(), why };
            supports(&node.op, &reads, &writes).map_err(unsupported)?;
            let custom = if let Op::Custom(op) = &node.op { Some(custom.of(op).map_err(unsupported)?) } else { None };
            steps.push(Some(ResolvedStep { op, reads, writes, workspace, custom }));
        }
        let freed = freed(&plan);
        let copies = Copies::of(&plan, |id| arena.at(plan.buffers[id.index()].slot.offset));
        Ok(Program { plan, steps, copies, freed })
    }
}

/// The node of a compute step, none for a copy of an arena value; anything else is beyond this executor.
fn computed(index: usize, step: &Step) -> Result<Option<OpId>, ExecError> {
    let unsupported = |what: &str| ExecError::Unsupported {
        step: index,
        what: what.to_string(),
        why: "this executor has a compute queue, a copy queue for arena values, and resident weights".to_string(),
    };
    let spilled = |place: &Place| matches!(place, Place::Weight(weight) if weight.tier != Tier::Resident);
    let in_arena = |place: &Place| matches!(place, Place::Arena(_));
    match step.action {
        Action::Compute(op) if step.queue == Queue::Compute && !step.reads.iter().any(spilled) => Ok(Some(op)),
        Action::Compute(_) => Err(unsupported("compute")),
        Action::Evict { .. } if step.queue == Queue::Copy && step.reads.iter().all(in_arena) => Ok(None),
        Action::Fetch { .. } if step.queue == Queue::Copy && step.writes.iter().all(in_arena) => Ok(None),
        Action::Evict { .. } => Err(unsupported("evict")),
        Action::Fetch { .. } => Err(unsupported("fetch")),
        Action::Collective { .. } => Err(unsupported("collective")),
    }
}

struct Source {
    storage: Storage,
    ty: Type,
    /// Where it begins in its kind's region.
    offset: usize,
}

impl Source {
    fn bytes(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.ty.bytes()
    }
}

/// The sources of one kind, one behind the other: adapters are thousands of small ones, and an allocation for each would
/// cost a page more than it holds.
struct Kind {
    region: Region,
    bytes: usize,
}

/// Weights, states and inputs, shared by all plans through their names.
pub(super) struct Sources {
    by_name: HashMap<String, Source>,
    /// By `kind_of`.
    kinds: [Kind; 3],
}

/// Index of a storage class in [`Sources::kinds`].
fn kind_of(storage: Storage) -> usize {
    match storage {
        Storage::Weight => 0,
        Storage::State => 1,
        Storage::Input | Storage::Arena => 2,
    }
}

impl Sources {
    /// Allocates every source of the plans, zeroed.
    pub(super) fn of(plans: &[Plan]) -> Result<Self, ExecError> {
        let mut sources = Sources::empty();
        for plan in plans {
            for value in plan.graph.values.iter().filter(|value| value.producer.is_none()) {
                if let Some(known) = sources.by_name.get(&value.name) {
                    if known.ty != value.ty || known.storage != value.storage {
                        let describe = |ty: &Type, storage: Storage| format!("{} {ty}", storage.name());
                        return Err(ExecError::SourceMismatch {
                            name: value.name.clone(),
                            first: describe(&known.ty, known.storage),
                            second: describe(&value.ty, value.storage),
                        });
                    }
                    continue;
                }
                let end = &mut sources.kinds[kind_of(value.storage)].bytes;
                let source = Source { storage: value.storage, ty: value.ty.clone(), offset: *end };
                *end += value.ty.bytes().next_multiple_of(ALIGNMENT_BYTES);
                sources.by_name.insert(value.name.clone(), source);
            }
        }
        let names = ["the weights", "parameters, gradients and moments", "the inputs"];
        for (kind, what) in sources.kinds.iter_mut().zip(names) {
            kind.region = Region::new(kind.bytes, what)?;
        }
        Ok(sources)
    }

    /// No sources at all.
    pub(super) fn empty() -> Self {
        let kinds = std::array::from_fn(|_| Kind { region: Region::empty(), bytes: 0 });
        Sources { by_name: HashMap::new(), kinds }
    }

    fn address(&mut self, plan: &Plan, storage: Storage, id: ValueId) -> *mut u8 {
        let source = self.by_name.get(&plan.graph.value(id).name).expect("`of` allocated every source");
        debug_assert_eq!(source.storage, storage);
        self.kinds[kind_of(storage)].region.at(source.offset)
    }

    pub(super) fn view(&self, storage: Storage, name: &str) -> Result<TensorView<'_>, ExecError> {
        let source = self.by_name.get(name).filter(|source| source.storage == storage);
        let source = source.ok_or_else(|| unknown(storage, name))?;
        Ok(TensorView { ty: &source.ty, bytes: &self.kinds[kind_of(storage)].region.bytes()[source.bytes()] })
    }

    pub(super) fn view_mut(&mut self, storage: Storage, name: &str) -> Result<TensorViewMut<'_>, ExecError> {
        let source = self.by_name.get(name).filter(|source| source.storage == storage);
        let source = source.ok_or_else(|| unknown(storage, name))?;
        let bytes = &mut self.kinds[kind_of(storage)].region.bytes_mut()[source.bytes()];
        Ok(TensorViewMut { ty: &source.ty, bytes })
    }

    /// Allocated bytes by kind.
    pub(super) fn sizes(&self) -> SourceBytes {
        let [weights, states, inputs] = std::array::from_fn(|kind| self.kinds[kind].bytes);
        SourceBytes { weights, states, inputs }
    }
}

fn unknown(storage: Storage, name: &str) -> ExecError {
    ExecError::UnknownSource { kind: storage.name(), name: name.to_string() }
}
