//! Turns a plan's places into addresses, once, at load.
//!
//! Invariant: a resolved operand points at as many bytes as its type says, inside the arena or a source's own memory.

use super::copy_queue::{Copies, Homes};
use super::memory::Region;
use super::operand::Operand;
use super::resolved_step::ResolvedStep;
use super::stream::Stream;
use super::support::supports;
use super::weights_file::{BOUNCE_BYTES, FilePlace, InModel, STATES, WRITTEN, WeightFiles, next_home};
use crate::rules::RULES;
use remat_comm::Engine;
use remat_ir::{FirstWrite, Op, OpDef, OpId, SourceRole, Storage, Type, Value, ValueId, World};
use remat_plan::{
    Action, CustomKernels, DeviceError, DeviceMemory, Place, Plan, ProgramSizes, Queue, Slot, SourceId, Step, Tier,
    WeightPart, freed,
};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A plan with its addresses.
pub(super) struct Program {
    pub(super) plan: Plan,
    /// `None` for what another queue has.
    pub(super) steps: Vec<Option<ResolvedStep>>,
    /// What a step streams whose states lie in a file, by its index.
    pub(super) streams: HashMap<usize, Stream>,
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
            copy_buffers: BOUNCE_BYTES,
            streamed: Stream::PART_BYTES,
        }
    };

    /// Resolves a checked plan.
    pub(super) fn resolve(
        plan: Plan,
        arena: &mut Region,
        sources: &mut Sources,
        beside: Beside<'_>,
    ) -> Result<Self, DeviceError> {
        let (mut steps, mut streams) = (Vec::with_capacity(plan.steps.len()), HashMap::new());
        for (index, step) in plan.steps.iter().enumerate() {
            let Some(op) = computed(index, step)? else {
                steps.push(None);
                continue;
            };
            let node = plan.graph.node(op);
            let mut operand = |place: &Place, value: ValueId| -> Result<Operand, DeviceError> {
                let ty = looked_up(&plan, place).unwrap_or_else(|| plan.graph.ty(value).clone());
                let start = match *place {
                    Place::Arena(id) => arena.at(plan.buffers[id.index()].slot.offset),
                    Place::Weight(weight) => {
                        sources.must_be_resident(&plan, index, weight.value)?;
                        sources.address(&plan, Storage::Weight, weight.value)
                    }
                    Place::State(root) => {
                        sources.must_be_resident(&plan, index, root)?;
                        sources.address(&plan, Storage::State, root)
                    }
                    // Where its pieces pass is found below.
                    Place::Spilled(_) => arena.at(0),
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
            let custom =
                if let Op::Custom(op) = &node.op { Some(beside.custom.of(op).map_err(unsupported)?) } else { None };
            let engine = beside.engine(&node.op).map_err(unsupported)?;
            let table_rows = step.reads.first().filter(|place| looked_up(&plan, place).is_some());
            let table_rows = table_rows.map(|_| plan.graph.ty(node.inputs[0]).shape.rows());
            let mut resolved = ResolvedStep { op, reads, writes, workspace, custom, engine, table_rows };
            if plan.is_streaming(step) {
                streams.insert(index, stream(&plan, step, sources, &mut resolved));
            }
            steps.push(Some(resolved));
        }
        let freed = freed(&plan);
        let copies = Copies::of(&plan, |id| arena.at(plan.buffers[id.index()].slot.offset), sources);
        Ok(Program { plan, steps, streams, copies, freed })
    }
}

/// What a plan's steps call that is not of this executor.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    pub(super) custom: &'a CustomKernels,
    pub(super) ranks: Option<&'a Arc<dyn Engine>>,
}

impl Beside<'_> {
    /// What moves the bytes of an op, if ranks do it together and this is one of several.
    fn engine(self, op: &Op) -> Result<Option<Arc<dyn Engine>>, String> {
        let Some(world) = op.collective().map(|collective| collective.world).filter(|world| !world.is_alone()) else {
            return Ok(None);
        };
        let World { rank, size } = world;
        match self.ranks {
            Some(engine) if (engine.rank(), engine.size()) == (rank, size) => Ok(Some(Arc::clone(engine))),
            Some(engine) => {
                let (this, of) = (engine.rank(), engine.size());
                Err(format!("the plan is of rank {rank} of {size}, and this is rank {this} of {of}"))
            }
            None => Err(format!("the plan is of rank {rank} of {size}, and nothing joins this device to the others")),
        }
    }
}

/// Lets a step stream what lies in the file of states, through its workspace.
fn stream(plan: &Plan, step: &Step, sources: &Sources, resolved: &mut ResolvedStep) -> Stream {
    let node = plan.graph.node(resolved.op);
    for part in plan.streamed(node).0 {
        // SAFETY: the checker has compared the workspace with the parts.
        resolved.reads[part.operand].start = unsafe { resolved.workspace.0.add(part.offset) };
    }
    let home = |operand: usize| match step.reads[operand] {
        Place::Spilled(root) => Some(sources.in_file(plan, root)),
        _ => None,
    };
    Stream::of(&node.op, resolved, home)
}

/// The type of the looked-up rows of a weight that a place holds, if it holds such.
fn looked_up(plan: &Plan, place: &Place) -> Option<Type> {
    let Place::Arena(id) = *place else { return None };
    let buffer = &plan.buffers[id.index()];
    match plan.steps[buffer.first.index()].action {
        Action::Fetch { value, rows: Some(ids), .. } => {
            let table = plan.graph.ty(value);
            Some(Type::new(table.dtype, [plan.graph.ty(ids).shape.numel(), table.shape.last()]))
        }
        _ => None,
    }
}

/// The node of a compute step, none for a copy of an arena value; anything else is beyond this executor.
fn computed(index: usize, step: &Step) -> Result<Option<OpId>, DeviceError> {
    let unsupported = |what: &str| {
        DeviceError::Unsupported {
        step: index,
        what: what.to_string(),
        why: "this executor has a compute queue, a comm queue, a copy queue for arena values and weights, and resident weights"
            .to_string(),
    }
    };
    let spilled = |place: &Place| matches!(place, Place::Weight(weight) if weight.tier != Tier::Resident);
    let in_arena = |place: &Place| matches!(place, Place::Arena(_));
    match step.action {
        Action::Compute(op) if step.queue != Queue::Copy && !step.reads.iter().any(spilled) => Ok(Some(op)),
        Action::Compute(_) => Err(unsupported("compute")),
        Action::Evict { .. } if step.queue == Queue::Copy && step.reads.iter().all(in_arena) => Ok(None),
        Action::Fetch { .. } if step.queue == Queue::Copy && step.writes.iter().all(in_arena) => Ok(None),
        Action::Evict { .. } => Err(unsupported("evict")),
        Action::Fetch { .. } => Err(unsupported("fetch")),
    }
}

struct Source {
    storage: Storage,
    ty: Type,
    home: Home,
    /// Where it begins there.
    offset: usize,
}

/// Where a source lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    /// In the region of this kind.
    Memory(usize),
    /// A weight in this one of the files of weights, or a state in the file of states.
    File(usize),
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
    /// Of weights that are not resident.
    files: Option<Arc<WeightFiles>>,
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
    /// Allocates every source of the plans, zeroed. States that are not resident lie in a file of their own; weights that are not lie in the model's files where `in_model`
    /// says so, all others in a file in the folder.
    pub(super) fn of(
        plans: &[Plan],
        folder: Option<&Path>,
        in_model: &HashMap<String, Vec<WeightPart>>,
    ) -> Result<Self, DeviceError> {
        let mut sources = Sources::empty();
        let spilled =
            |plan: &Plan| plan.spilled.iter().map(|&id| plan.graph.value(id).name.clone()).collect::<Vec<_>>();
        let spilled: HashSet<String> = plans.iter().flat_map(spilled).collect();
        let mut files = InModel::default();
        let (mut file_bytes, mut state_bytes) = (0, 0);
        for plan in plans {
            for value in plan.graph.values.iter().filter(|value| value.producer.is_none()) {
                if sources.is_known(value)? {
                    continue;
                }
                let bytes = value.ty.bytes();
                let is_off = spilled.contains(&value.name);
                let is_state = value.storage == Storage::State;
                let whole = |parts: &&Vec<WeightPart>| parts.iter().map(WeightPart::bytes).sum::<u64>() == bytes as u64;
                let in_model = in_model.get(&value.name).filter(|_| is_off && !is_state).filter(whole);
                let (home, offset) = match in_model.and_then(|parts| files.place_of(parts)) {
                    Some(place) => (Home::File(place.file), place.at as usize),
                    _ if is_off => {
                        let (file, end) =
                            if is_state { (STATES, &mut state_bytes) } else { (WRITTEN, &mut file_bytes) };
                        let offset = next_home(*end);
                        *end = offset + bytes as u64;
                        (Home::File(file), offset as usize)
                    }
                    _ => {
                        let kind = kind_of(value);
                        let end = &mut sources.kinds[kind].bytes;
                        let offset = *end;
                        *end += bytes.next_multiple_of(RULES.slot_alignment_bytes);
                        (Home::Memory(kind), offset)
                    }
                };
                sources.by_name.insert(value.name.clone(), SourceId(sources.all.len() as u32));
                sources.all.push(Source { storage: value.storage, ty: value.ty.clone(), home, offset });
            }
        }
        for (index, kind) in sources.kinds.iter_mut().enumerate() {
            kind.region = Region::new(kind.bytes, kind_name(index))?;
        }
        if !spilled.is_empty() {
            sources.files = Some(Arc::new(WeightFiles::open(folder, file_bytes, state_bytes, files)?));
        }
        Ok(sources)
    }

    /// Whether a plan before has this source.
    ///
    /// # Errors
    /// As something else.
    fn is_known(&self, value: &Value) -> Result<bool, DeviceError> {
        let Some(known) = self.by_name.get(&value.name).map(|known| &self.all[known.index()]) else { return Ok(false) };
        if known.ty == value.ty && known.storage == value.storage {
            return Ok(true);
        }
        let describe = |ty: &Type, storage: Storage| format!("{} {ty}", storage.name());
        Err(DeviceError::SourceMismatch {
            name: value.name.clone(),
            first: describe(&known.ty, known.storage),
            second: describe(&value.ty, value.storage),
        })
    }

    /// No sources at all.
    pub(super) fn empty() -> Self {
        let kinds = std::array::from_fn(|_| Kind { region: Region::empty(), bytes: 0 });
        Sources { by_name: HashMap::new(), all: Vec::new(), kinds, files: None }
    }

    fn address(&mut self, plan: &Plan, storage: Storage, id: ValueId) -> *mut u8 {
        let source = self.by_name.get(&plan.graph.value(id).name).expect("`of` allocated every source");
        let source = &self.all[source.index()];
        debug_assert_eq!(source.storage, storage);
        match source.home {
            Home::Memory(kind) => self.kinds[kind].region.at(source.offset),
            Home::File(_) => unreachable!("a weight in a file has no address, and `resolve` has asked"),
        }
    }

    /// # Errors
    /// A weight or a state that another plan keeps in the file.
    fn must_be_resident(&self, plan: &Plan, step: usize, source: ValueId) -> Result<(), DeviceError> {
        let name = &plan.graph.value(source).name;
        let resident = self.by_name.get(name).is_some_and(|id| matches!(self.all[id.index()].home, Home::Memory(_)));
        let why = "another plan that is loaded with it keeps this weight or state off memory: all must".to_string();
        if resident { Ok(()) } else { Err(DeviceError::Unsupported { step, what: name.clone(), why }) }
    }

    /// The files of weights that are not resident.
    pub(super) fn files(&self) -> Option<&Arc<WeightFiles>> {
        self.files.as_ref()
    }

    /// Whether a source lies in a file of the model, and so is never written.
    pub(super) fn is_in_model(&self, id: SourceId) -> bool {
        matches!(self.all[id.index()].home, Home::File(file) if ![WRITTEN, STATES].contains(&file))
    }

    fn opened(&self) -> &WeightFiles {
        self.files.as_ref().expect("`of` opened the files of what lies in them")
    }

    /// Copies bytes into a source.
    pub(super) fn write(&mut self, id: SourceId, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        let source = &self.all[id.index()];
        let range = source.bytes();
        assert!(offset + bytes.len() <= range.len(), "bytes behind the end of a source");
        let at = source.offset + offset;
        match source.home {
            Home::Memory(kind) => self.kinds[kind].region.bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes),
            Home::File(file) => {
                assert!(!self.is_in_model(id), "a weight in a file of the model is not written");
                let place = FilePlace { file, at: at as u64 };
                self.opened().write(place, bytes).map_err(|error| self.opened().failed(place, &error))?;
            }
        }
        Ok(())
    }

    /// Copies bytes out of a source.
    pub(super) fn read(&self, id: SourceId, offset: usize, into: &mut [u8]) -> Result<(), DeviceError> {
        let source = &self.all[id.index()];
        assert!(offset + into.len() <= source.bytes().len(), "bytes behind the end of a source");
        let at = source.offset + offset;
        match source.home {
            Home::Memory(kind) => into.copy_from_slice(&self.kinds[kind].region.bytes()[at..at + into.len()]),
            Home::File(file) => {
                let place = FilePlace { file, at: at as u64 };
                self.opened().read(place, into).map_err(|error| self.opened().failed(place, &error))?;
            }
        }
        Ok(())
    }

    pub(super) fn find(&self, storage: Storage, name: &str) -> Option<SourceId> {
        self.by_name.get(name).copied().filter(|id| self.all[id.index()].storage == storage)
    }

    pub(super) fn ty(&self, id: SourceId) -> &Type {
        &self.all[id.index()].ty
    }

    /// Allocated bytes by kind.
    pub(super) fn sizes(&self) -> DeviceMemory {
        let bytes = |kinds: std::ops::Range<usize>| self.kinds[kinds].iter().map(|kind| kind.bytes).sum();
        let (weights_file, states_file, copy_buffers) = match &self.files {
            Some(files) => (files.written_file_bytes(), files.states_file_bytes(), BOUNCE_BYTES),
            None => (0, 0, 0),
        };
        DeviceMemory {
            weights: bytes(0..1),
            inputs: bytes(1..2),
            states: bytes(2..KINDS),
            weights_file,
            states_file,
            copy_buffers,
            ..DeviceMemory::default()
        }
    }
}

impl Homes for Sources {
    fn in_file(&self, plan: &Plan, source: ValueId) -> FilePlace {
        let source = self.by_name.get(&plan.graph.value(source).name).expect("`of` has every source");
        let source = &self.all[source.index()];
        match source.home {
            Home::File(file) => FilePlace { file, at: source.offset as u64 },
            Home::Memory(_) => unreachable!("what a plan fetches is off memory in all plans"),
        }
    }

    fn ids(&mut self, plan: &Plan, input: ValueId) -> *const i32 {
        self.address(plan, Storage::Input, input).cast_const().cast()
    }
}
