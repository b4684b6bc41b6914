//! Turns a plan's places into addresses, once, at load.
//!
//! Invariant: a resolved operand points at as many bytes as its type says, inside the arena or a source's own memory.

use super::copy_queue::Copies;
use super::memory::Region;
use super::operand::Operand;
use super::support::supports;
use crate::rules::RULES;
use remat_ir::{FirstWrite, Op, OpId, SourceRole, Storage, Type, Value, ValueId};
use remat_plan::{
    Action, CustomInputs, CustomKernel, CustomKernels, CustomOutputs, DeviceError, DeviceMemory, Place, Plan,
    ProgramSizes, freed,
};
use remat_plan::{Queue, Slot, SourceId, Step, TensorView, TensorViewMut, Tier};
use std::collections::HashMap;
use std::sync::Arc;

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
    pub(super) const SIZES: ProgramSizes = {
        const ALLOCATED: usize = 2 * size_of::<usize>();
        ProgramSizes {
            step: size_of::<u32>(),
            node: size_of::<ResolvedStep>() + size_of::<Vec<Slot>>() + 3 * ALLOCATED,
            operand: size_of::<Operand>() + ALLOCATED,
            axis: size_of::<usize>(),
            slot: size_of::<Slot>(),
            copy: size_of::<ResolvedStep>() + size_of::<Vec<Slot>>() + Copies::COPY_BYTES,
        }
    };

    /// Resolves a checked plan.
    pub(super) fn resolve(
        plan: Plan,
        arena: &mut Region,
        sources: &mut Sources,
        custom: &CustomKernels,
    ) -> Result<Self, DeviceError> {
        let mut steps = Vec::with_capacity(plan.steps.len());
        for (index, step) in plan.steps.iter().enumerate() {
            let Some(op) = computed(index, step)? else {
                steps.push(None);
                continue;
            };
            let node = plan.graph.node(op);
            let mut operand = |place: &Place, value: ValueId| -> Result<Operand, DeviceError> {
                let ty = plan.graph.ty(value).clone();
                let start = match *place {
                    Place::Arena(id) => arena.at(plan.buffers[id.index()].slot.offset),
                    Place::Weight(weight) => sources.address(&plan, Storage::Weight, weight.value),
                    Place::State(root) => sources.address(&plan, Storage::State, root),
                    Place::Input(id) => sources.address(&plan, Storage::Input, id),
                };
                Ok(Operand { start, ty })
            };
            let mut operands = |places: &[Place], values: &[ValueId]| -> Result<Vec<Operand>, DeviceError> {
                places.iter().zip(values).map(|(place, &value)| operand(place, value)).collect()
            };
            let (reads, writes) = (operands(&step.reads, &node.inputs)?, operands(&step.writes, &node.outputs)?);
            let workspace = match step.workspace {
                Some(slot) => (arena.at(slot.offset), slot.bytes),
                None => (arena.at(0), 0),
            };
            let unsupported = |why| DeviceError::Unsupported { step: index, what: node.op.name().to_string(), why };
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
fn computed(index: usize, step: &Step) -> Result<Option<OpId>, DeviceError> {
    let unsupported = |what: &str| DeviceError::Unsupported {
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
    /// Index of its kind.
    kind: usize,
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

/// Weights, inputs, and states by what writes them first: a page, of two MiB perhaps, holds only what becomes resident at
/// the same time.
const KINDS: usize = 2 + FirstWrite::ALL.len();

/// Weights, states and inputs, shared by all plans through their names.
pub(super) struct Sources {
    by_name: HashMap<String, SourceId>,
    all: Vec<Source>,
    /// By `kind_of`.
    kinds: [Kind; KINDS],
}

/// Index of a source's kind in [`Sources::kinds`].
fn kind_of(value: &Value) -> usize {
    match value.storage {
        Storage::Weight => 0,
        Storage::Input | Storage::Arena => 1,
        Storage::State => 2 + value.role.map_or(FirstWrite::Load, SourceRole::first_write) as usize,
    }
}

/// What the regions are for, in a message.
fn kind_name(kind: usize) -> &'static str {
    match kind {
        0 => "the weights",
        1 => "the inputs",
        _ => "parameters, gradients and moments",
    }
}

impl Sources {
    /// Allocates every source of the plans, zeroed.
    pub(super) fn of(plans: &[Plan]) -> Result<Self, DeviceError> {
        let mut sources = Sources::empty();
        for plan in plans {
            for value in plan.graph.values.iter().filter(|value| value.producer.is_none()) {
                if let Some(known) = sources.by_name.get(&value.name) {
                    let known = &sources.all[known.index()];
                    if known.ty != value.ty || known.storage != value.storage {
                        let describe = |ty: &Type, storage: Storage| format!("{} {ty}", storage.name());
                        return Err(DeviceError::SourceMismatch {
                            name: value.name.clone(),
                            first: describe(&known.ty, known.storage),
                            second: describe(&value.ty, value.storage),
                        });
                    }
                    continue;
                }
                let kind = kind_of(value);
                let end = &mut sources.kinds[kind].bytes;
                let source = Source { storage: value.storage, ty: value.ty.clone(), kind, offset: *end };
                *end += value.ty.bytes().next_multiple_of(RULES.slot_alignment_bytes);
                sources.by_name.insert(value.name.clone(), SourceId(sources.all.len() as u32));
                sources.all.push(source);
            }
        }
        for (index, kind) in sources.kinds.iter_mut().enumerate() {
            kind.region = Region::new(kind.bytes, kind_name(index))?;
        }
        Ok(sources)
    }

    /// No sources at all.
    pub(super) fn empty() -> Self {
        let kinds = std::array::from_fn(|_| Kind { region: Region::empty(), bytes: 0 });
        Sources { by_name: HashMap::new(), all: Vec::new(), kinds }
    }

    fn address(&mut self, plan: &Plan, storage: Storage, id: ValueId) -> *mut u8 {
        let source = self.by_name.get(&plan.graph.value(id).name).expect("`of` allocated every source");
        let source = &self.all[source.index()];
        debug_assert_eq!(source.storage, storage);
        self.kinds[source.kind].region.at(source.offset)
    }

    pub(super) fn find(&self, storage: Storage, name: &str) -> Option<SourceId> {
        self.by_name.get(name).copied().filter(|id| self.all[id.index()].storage == storage)
    }

    pub(super) fn ty(&self, id: SourceId) -> &Type {
        &self.all[id.index()].ty
    }

    pub(super) fn bytes(&self, id: SourceId) -> &[u8] {
        let source = &self.all[id.index()];
        &self.kinds[source.kind].region.bytes()[source.bytes()]
    }

    pub(super) fn bytes_mut(&mut self, id: SourceId) -> &mut [u8] {
        let source = &self.all[id.index()];
        let bytes = source.bytes();
        &mut self.kinds[source.kind].region.bytes_mut()[bytes]
    }

    /// Allocated bytes by kind.
    pub(super) fn sizes(&self) -> DeviceMemory {
        let bytes = |kinds: std::ops::Range<usize>| self.kinds[kinds].iter().map(|kind| kind.bytes).sum();
        DeviceMemory { weights: bytes(0..1), inputs: bytes(1..2), states: bytes(2..KINDS), ..DeviceMemory::default() }
    }
}

/// Operands of a custom op.
pub(super) struct CustomReads<'a>(pub(super) &'a [Operand]);

/// Results of a custom op.
pub(super) struct CustomWrites<'a>(pub(super) &'a [Operand]);

impl<'a> CustomInputs<'a> for CustomReads<'a> {
    fn input(&self, index: usize) -> TensorView<'a> {
        let operand = &self.0[index];
        // SAFETY: the checked plan gave the operand this many bytes; no result overlaps it, since custom ops never work in
        // place, and nothing else writes it during this step.
        let bytes = unsafe { std::slice::from_raw_parts(operand.start, operand.ty.bytes()) };
        TensorView { ty: &operand.ty, bytes }
    }
}

impl CustomOutputs for CustomWrites<'_> {
    fn output(&mut self, index: usize) -> TensorViewMut<'_> {
        let result = &self.0[index];
        // SAFETY: as in `input`; results do not overlap, and the borrow of `self` lets only one be held at a time.
        let bytes = unsafe { std::slice::from_raw_parts_mut(result.start, result.ty.bytes()) };
        TensorViewMut { ty: &result.ty, bytes }
    }
}
