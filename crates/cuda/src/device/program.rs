//! Turns a plan's steps into launches and copies with addresses, once, at load.
//!
//! Invariant: a launch is told what it may touch: its step's operands, results and workspace, as many bytes as their types say.

use super::error::device_error;
use super::ids::Check;
use super::memory::Region;
use super::modules::Modules;
use super::sources::Sources;
use crate::call::OpTypes;
use crate::driver::{Driver, EventId, GraphId, PinnedId, Touch, Work};
use crate::launch::{Argument, Launch};
use crate::recipes::launches;
use remat_ir::{OpId, Type, ValueId};
use remat_plan::{Action, DeviceError, Place, Plan, Queue, Slot, Step, freed};
use std::collections::HashMap;

/// What one step does.
pub(super) enum Task {
    Kernels(Vec<Work>),
    /// From the arena to the host.
    Out {
        from: u64,
        to: PinnedId,
        offset: usize,
        bytes: usize,
    },
    /// From the host to the arena.
    In {
        from: PinnedId,
        offset: usize,
        to: u64,
        bytes: usize,
    },
}

/// One step with its addresses.
pub(super) struct ResolvedStep {
    pub(super) queue: Queue,
    pub(super) waits: Vec<EventId>,
    pub(super) signal: Option<EventId>,
    pub(super) task: Task,
}

/// How a program's next run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Step by step, being the first.
    First,
    /// Captured, then launched.
    Capture,
    /// Launched as one.
    Launch(GraphId),
    /// Step by step: the driver does not capture it.
    Steps,
}

/// A plan with its addresses.
pub(super) struct Program {
    pub(super) plan: Plan,
    pub(super) steps: Vec<ResolvedStep>,
    /// What is free after each step.
    pub(super) freed: Vec<Vec<Slot>>,
    /// What inputs must be.
    pub(super) checks: Vec<Check>,
    pub(super) next: Next,
}

/// What a plan is resolved on.
pub(super) struct On<'a> {
    pub(super) driver: &'a dyn Driver,
    pub(super) arena: &'a Region,
    pub(super) sources: &'a Sources,
}

/// Stands for the host's memory until it is known how much there is.
const UNALLOCATED: PinnedId = PinnedId(u32::MAX);

/// Memory of the host that offloaded values go to: programs run one after the other and share it.
#[derive(Default)]
pub(super) struct Pinned {
    bytes: usize,
}

impl Pinned {
    /// Allocates it and tells all copies.
    pub(super) fn allocate(&self, driver: &dyn Driver, programs: &mut [Program]) -> Result<(), DeviceError> {
        if self.bytes == 0 {
            return Ok(());
        }
        let pinned = driver.pin(self.bytes).map_err(device_error)?;
        for step in programs.iter_mut().flat_map(|program| &mut program.steps) {
            match &mut step.task {
                Task::Out { to: of, .. } | Task::In { from: of, .. } => *of = pinned,
                Task::Kernels(_) => {}
            }
        }
        Ok(())
    }
}

impl Program {
    /// Resolves a checked plan.
    pub(super) fn resolve(
        plan: Plan,
        on: &On<'_>,
        modules: &mut Modules,
        pinned: &mut Pinned,
    ) -> Result<Self, DeviceError> {
        let (mut steps, mut checks, mut places) = (Vec::new(), Vec::new(), Evicted::default());
        let mut signals = Vec::new();
        if let Some(&weight) = plan.spilled.first() {
            let off = plan.graph.value(weight);
            let what = format!("{} \"{}\" off memory", off.storage.name(), off.name);
            return Err(DeviceError::Unsupported {
                step: 0,
                what,
                why: "weights and states lie in the card's memory".to_string(),
            });
        }
        for (index, step) in plan.steps.iter().enumerate() {
            let signal = match step.signals {
                true => Some(on.driver.event().map_err(device_error)?),
                false => None,
            };
            signals.push(signal);
            let task = match step.action {
                Action::Compute(op) => {
                    let at = At { index, step, plan: &plan, on };
                    checks.extend(at.checks(op));
                    Task::Kernels(at.kernels(op, modules)?)
                }
                Action::Evict { value, .. } => places.out(&plan, step, value, on.arena),
                Action::Fetch { value, .. } => places.back(&plan, step, value, on.arena),
            };
            let waits = step.waits.iter().map(|wait| signals[wait.index()].expect("what is waited for signals"));
            steps.push(ResolvedStep { queue: step.queue, waits: waits.collect(), signal, task });
        }
        pinned.bytes = pinned.bytes.max(places.end);
        let freed = freed(&plan);
        Ok(Program { plan, steps, freed, checks, next: Next::First })
    }
}

/// Where evicted values of one plan lie in the host's memory.
#[derive(Default)]
struct Evicted {
    offsets: HashMap<ValueId, usize>,
    end: usize,
}

impl Evicted {
    fn out(&mut self, plan: &Plan, step: &Step, value: ValueId, arena: &Region) -> Task {
        let slot = slot_of(plan, &step.reads[0]);
        let offset = self.end;
        self.offsets.insert(value, offset);
        self.end += slot.bytes.next_multiple_of(plan.rules.slot_alignment_bytes);
        Task::Out { from: arena.at(slot.offset), to: UNALLOCATED, offset, bytes: slot.bytes }
    }

    fn back(&self, plan: &Plan, step: &Step, value: ValueId, arena: &Region) -> Task {
        let slot = slot_of(plan, &step.writes[0]);
        let offset = *self.offsets.get(&value).expect("a checked plan fetches what it evicted");
        Task::In { from: UNALLOCATED, offset, to: arena.at(slot.offset), bytes: slot.bytes }
    }
}

fn slot_of(plan: &Plan, place: &Place) -> Slot {
    match place {
        Place::Arena(id) => plan.buffers[id.index()].slot,
        _ => panic!("a checked plan copies values of the arena"),
    }
}

/// A step that computes.
struct At<'a> {
    index: usize,
    step: &'a Step,
    plan: &'a Plan,
    on: &'a On<'a>,
}

impl At<'_> {
    fn types(&self, values: &[ValueId]) -> Vec<&Type> {
        values.iter().map(|&id| self.plan.graph.ty(id)).collect()
    }

    fn checks(&self, op: OpId) -> Vec<Check> {
        let node = self.plan.graph.node(op);
        let name = |id: ValueId| self.plan.graph.value(id).name.clone();
        Check::of(node, &self.step.reads, &self.types(&node.inputs), name)
    }

    fn kernels(&self, op: OpId, modules: &mut Modules) -> Result<Vec<Work>, DeviceError> {
        let node = self.plan.graph.node(op);
        let refuse = |why: String| {
            let what = node.op.own_name().to_string();
            DeviceError::Unsupported { step: self.index, what, why }
        };
        let (reads, writes) = (self.types(&node.inputs), self.types(&node.outputs));
        let made = launches(&node.op, &OpTypes { reads: &reads, writes: &writes }).map_err(refuse)?;
        let operands = Operands {
            reads: self.addresses(&self.step.reads, &reads),
            writes: self.addresses(&self.step.writes, &writes),
            workspace: self.step.workspace.map(|slot| (self.on.arena.at(slot.offset), slot.bytes)),
        };
        let works = made.iter().filter(|launch| !operands.in_one_place(launch)).map(|launch| {
            let function = modules.function(self.on.driver, launch)?;
            Ok(Work {
                function,
                grid: launch.grid,
                threads: launch.threads,
                shared_bytes: launch.shared_bytes,
                arguments: launch.arguments.iter().map(|argument| operands.bytes(argument)).collect(),
                touches: operands.touches(launch),
            })
        });
        works.collect()
    }

    fn addresses(&self, places: &[Place], types: &[&Type]) -> Vec<(u64, usize)> {
        let address = |place| self.on.sources.address_of(self.plan, place, self.on.arena);
        places.iter().zip(types).map(|(place, ty)| (address(place), ty.bytes())).collect()
    }
}

/// Addresses and sizes of what a step reads and writes.
struct Operands {
    reads: Vec<(u64, usize)>,
    writes: Vec<(u64, usize)>,
    workspace: Option<(u64, usize)>,
}

impl Operands {
    /// Whether a launch copies what is there already.
    fn in_one_place(&self, launch: &Launch) -> bool {
        launch.copies.is_some_and(|[read, write]| self.reads[read].0 == self.writes[write].0)
    }

    fn bytes(&self, argument: &Argument) -> Vec<u8> {
        let address = match *argument {
            Argument::Read { index, offset } => self.reads[index].0 + offset as u64,
            Argument::Write { index, offset } => self.writes[index].0 + offset as u64,
            Argument::Workspace => self.workspace.map_or(0, |(address, _)| address),
            Argument::Null => 0,
            Argument::Bytes(ref bytes) => return bytes.clone(),
            Argument::TooLarge => unreachable!("`launches` refuses it"),
        };
        address.to_le_bytes().to_vec()
    }

    fn touches(&self, launch: &Launch) -> Vec<Touch> {
        let mut touches = Vec::new();
        for argument in &launch.arguments {
            let (at, writable) = match *argument {
                Argument::Read { index, .. } => (Some(self.reads[index]), false),
                Argument::Write { index, .. } => (Some(self.writes[index]), true),
                Argument::Workspace => (self.workspace, true),
                Argument::Null | Argument::Bytes(_) | Argument::TooLarge => (None, false),
            };
            touches.extend(at.map(|(address, bytes)| Touch { address, bytes, writable }));
        }
        touches
    }
}
