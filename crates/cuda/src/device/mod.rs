//! The device: walks a plan's steps in order and puts their launches and copies on streams. It decides nothing.
//!
//! Invariant: compute and copies have a stream each, ordered by the waits of the plan alone; a run ends when both have. Look
//! next at `program.rs` for how a step gets its addresses, at `graph.rs` for how later runs are one launch.

mod error;
mod graph;
mod ids;
mod memory;
mod modules;
mod program;
mod sources;
mod streams;

use crate::driver::{Card, Driver, DriverError};
use crate::rules::RULES;
pub use error::device_error;
use graph::capture;
use memory::Region;
use modules::Modules;
use program::{Next, Program};
use remat_comm::Engine;
use remat_ir::{Storage, Type};
use remat_plan::{
    CustomKernels, Device, DeviceError, DeviceMemory, DeviceProfile, MemoryDomain, Observer, Place, Plan,
};
use remat_plan::{Prices, ProgramId, ProgramSizes, Queue, SourceId, StepId, StepMemory, StepTime};
use sources::Sources;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use streams::Streams;

/// What the compiler needs to know of a card, with nominal prices.
pub fn profile(card: &Card) -> DeviceProfile {
    let [major, minor] = card.capability;
    DeviceProfile {
        name: format!("cuda sm_{major}{minor}"),
        threads: 1,
        own_memory_bytes: Some(card.memory_bytes),
        executor_bytes: 0,
        program: ProgramSizes::default(),
        rules: RULES,
        prices: Prices::nominal(1),
    }
}

/// Runs plans on a card.
pub struct CudaDevice {
    driver: Rc<dyn Driver>,
    arena: Region,
    sources: Sources,
    programs: Vec<Program>,
    /// Made when plans are loaded.
    streams: Option<Streams>,
    poison: bool,
}

impl CudaDevice {
    /// A device without plans.
    pub fn new(driver: Rc<dyn Driver>) -> Self {
        let (arena, sources) = (Region::empty(), Sources::empty());
        CudaDevice { driver, arena, sources, programs: Vec::new(), streams: None, poison: false }
    }

    fn streams(&self) -> &Streams {
        self.streams.as_ref().expect("`load` makes them")
    }

    /// Runs a program: step by step the first time, for a driver may still load kernels then, which a capture does not allow; from the
    /// second time on as one graph.
    fn run_as_one(&mut self, program: ProgramId) -> Result<(), DeviceError> {
        let at = program.0 as usize;
        let next = self.programs[at].next;
        if next == Next::Capture {
            self.programs[at].next = match capture(self.driver.as_ref(), self.streams(), &self.programs[at]) {
                Ok(graph) => Next::Launch(graph),
                Err(error @ DriverError::Lost { .. }) => return Err(device_error(error)),
                // Steps give the same, a little later.
                Err(_) => Next::Steps,
            };
        }
        if let Next::Launch(graph) = self.programs[at].next {
            self.sources.check_ids(&self.programs[at].checks)?;
            let launched = self.driver.launch_graph(self.streams().of(Queue::Compute), graph);
            return launched.and_then(|()| self.driver.synchronize()).map_err(device_error);
        }
        self.walk(program, false, |_, _| {})?;
        if next == Next::First {
            self.programs[at].next = Next::Capture;
        }
        Ok(())
    }

    /// Runs the steps in order. If `looks`, each is waited for, and `watch` told of it.
    fn walk(
        &mut self,
        program: ProgramId,
        looks: bool,
        mut watch: impl FnMut(&Memory<'_>, StepId),
    ) -> Result<(), DeviceError> {
        let program = &self.programs[program.0 as usize];
        self.sources.check_ids(&program.checks)?;
        let (streams, compute) = (self.streams(), self.streams().of(Queue::Compute));
        let poison = |offset: usize, bytes: usize| self.driver.poison(compute, self.arena.at(offset), bytes);
        let memory = Memory { plan: &program.plan, device: self };
        let walked = (|| {
            if self.poison && program.plan.arena_bytes > 0 {
                poison(0, program.plan.arena_bytes)?;
            }
            for (index, step) in program.steps.iter().enumerate() {
                streams.begin(self.driver.as_ref(), step)?;
                if looks || self.poison {
                    self.driver.synchronize()?;
                    watch(&memory, StepId(index as u32));
                }
                if self.poison {
                    program.freed[index].iter().try_for_each(|slot| poison(slot.offset, slot.bytes))?;
                }
            }
            self.driver.synchronize()
        })();
        walked.map_err(device_error)
    }
}

/// What an observer sees between two steps.
struct Memory<'a> {
    plan: &'a Plan,
    device: &'a CudaDevice,
}

impl Memory<'_> {
    fn get(&self, address: u64, into: &mut [u8]) {
        // A card that is lost here is told of by the walk; what was not read is poison.
        if self.device.driver.read(address, into).is_err() {
            into.fill(remat_plan::POISON);
        }
    }
}

impl StepMemory for Memory<'_> {
    fn read(&self, place: &Place, offset: usize, into: &mut [u8]) {
        let address = self.device.sources.address_of(self.plan, place, &self.device.arena);
        self.get(address + offset as u64, into);
    }

    fn read_arena(&self, offset: usize, into: &mut [u8]) {
        self.get(self.device.arena.at(offset), into);
    }
}

impl Device for CudaDevice {
    fn profile(&self) -> DeviceProfile {
        profile(self.driver.card())
    }

    fn set_spill_folder(&mut self, _: Option<&Path>) {
        // What is offloaded goes to memory of the host.
    }

    fn set_custom_kernels(&mut self, _: CustomKernels) {
        // They run on the CPU alone: a plan with a custom op is refused at load.
    }

    fn set_ranks(&mut self, _: Arc<dyn Engine>) {
        // Several ranks train on CPUs alone: a plan of one is refused at load.
    }

    fn set_poison(&mut self, poison: bool) {
        self.poison = poison;
    }

    fn load(&mut self, plans: Vec<Plan>) -> Result<Vec<ProgramId>, DeviceError> {
        assert!(self.programs.is_empty(), "plans are loaded once");
        if plans.iter().any(|plan| plan.rules != RULES) {
            return Err(DeviceError::OtherRules { device: self.profile().name });
        }
        let driver = &self.driver;
        let arena_bytes = plans.iter().map(|plan| plan.arena_bytes).max().unwrap_or(0);
        self.streams = Some(Streams::new(driver.as_ref()).map_err(device_error)?);
        self.sources = Sources::of(driver, &plans)?;
        self.arena = Region::new(driver, arena_bytes, "the arena")?;
        let (mut modules, mut pinned) = (Modules::embedded()?, program::Pinned::default());
        for plan in plans {
            let on = program::On { driver: driver.as_ref(), arena: &self.arena, sources: &self.sources };
            self.programs.push(Program::resolve(plan, &on, &mut modules, &mut pinned)?);
        }
        pinned.allocate(driver.as_ref(), &mut self.programs)?;
        Ok((0..self.programs.len() as u32).map(ProgramId).collect())
    }

    fn plan(&self, program: ProgramId) -> &Plan {
        &self.programs[program.0 as usize].plan
    }

    fn source(&self, storage: Storage, name: &str) -> Option<SourceId> {
        self.sources.find(storage, name)
    }

    fn source_type(&self, source: SourceId) -> &Type {
        self.sources.ty(source)
    }

    fn write(&mut self, source: SourceId, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.sources.write(self.driver.as_ref(), source, offset, bytes)
    }

    fn read(&self, source: SourceId, offset: usize, into: &mut [u8]) -> Result<(), DeviceError> {
        self.driver.read(self.sources.address(source, offset, into.len()), into).map_err(device_error)
    }

    fn run(&mut self, program: ProgramId) -> Result<(), DeviceError> {
        // Between two steps nothing is poisoned in a graph.
        if self.poison { self.walk(program, false, |_, _| {}) } else { self.run_as_one(program) }
    }

    fn run_timed(&mut self, program: ProgramId, times: &mut [StepTime]) -> Result<(), DeviceError> {
        let started = Instant::now();
        let mut last = started;
        self.walk(program, true, |_, step| {
            let seconds = last.elapsed().as_secs_f64();
            times[step.index()] = StepTime { start: last.duration_since(started).as_secs_f64(), seconds };
            last = Instant::now();
        })
    }

    fn observe(&mut self, program: ProgramId, observer: &mut dyn Observer) -> Result<(), DeviceError> {
        self.walk(program, true, |memory, step| observer.after_step(memory.plan, step, memory))
    }

    fn read_output(&self, program: ProgramId, name: &str, offset: usize, into: &mut [u8]) -> Result<(), DeviceError> {
        let plan = &self.programs[program.0 as usize].plan;
        let found = plan.graph.outputs.iter().find(|&&id| plan.graph.value(id).name == name);
        let Some(buffer) = found.and_then(|&id| plan.final_buffer(id)) else {
            return Err(DeviceError::UnknownSource { kind: "output", name: name.to_string() });
        };
        assert!(offset + into.len() <= buffer.slot.bytes, "{name} has {} bytes", buffer.slot.bytes);
        self.driver.read(self.arena.at(buffer.slot.offset + offset), into).map_err(device_error)
    }

    fn memory(&self) -> DeviceMemory {
        DeviceMemory { domain: MemoryDomain::Device, arena: self.arena.bytes(), ..self.sources.sizes() }
    }
}
