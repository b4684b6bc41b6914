//! The CPU executor: walks a plan's steps in order and calls one kernel each. It decides nothing.
//!
//! Invariant: everything is allocated in `load`; a run allocates nothing. The arena is exactly as large as the largest
//! plan says, and every operand's address is resolved once. Look next at `dispatch` for which kernel an op calls.

mod arrays;
mod attention_calls;
mod call;
mod comm_queue;
mod copy_queue;
mod dispatch;
mod expert_calls;
mod image_calls;
mod memory;
mod operand;
mod rank_calls;
mod reserved_file;
mod resolve;
mod resolved_step;
mod states_file;
mod stream;
mod support;
mod uncached_file;
mod weights_file;

pub use copy_queue::{measure_reads, measure_spill};

use crate::rules::RULES;
use crate::{Level, ThreadPool};
use comm_queue::{Collectives, CommQueue, CommRun};
use copy_queue::CopyQueue;
use memory::Region;
use remat_comm::Engine;
use remat_ir::{Storage, Type};
use remat_plan::{CustomKernels, Device, DeviceError, DeviceMemory, DeviceProfile, Observer, POISON, Place, Plan};
use remat_plan::{Prices, ProgramId, Queue, SourceId, StepId, StepMemory, StepTime, WeightPart};
use resolve::{Beside, Program, Sources};
use resolved_step::ResolvedStep;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// How an executor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuOptions {
    /// Threads, the caller's included.
    pub threads: usize,
    /// Instruction level of all kernels.
    pub level: Level,
}

impl CpuOptions {
    /// The given number of threads at the strongest level of this machine.
    pub fn new(threads: usize) -> Self {
        CpuOptions { threads, level: Level::detect() }
    }

    /// What the compiler needs to know of an executor with these options.
    pub fn profile(&self) -> DeviceProfile {
        DeviceProfile {
            name: format!("cpu {}", self.level),
            threads: self.threads,
            own_memory_bytes: None,
            executor_bytes: self.threads * crate::SCRATCH_BYTES_PER_THREAD,
            program: Program::SIZES,
            rules: RULES,
            prices: Prices::nominal(self.threads),
        }
    }
}

/// Runs plans on the CPU.
pub struct CpuExecutor {
    options: CpuOptions,
    /// There if a plan offloads. First, so that its thread ends before the arena goes.
    copy_queue: Option<CopyQueue>,
    /// There if ranks do something together.
    comm_queue: Option<CommQueue>,
    pool: ThreadPool,
    arena: Region,
    sources: Sources,
    programs: Vec<Program>,
    /// What the ranks of each program do together.
    collectives: Vec<Collectives>,
    custom: CustomKernels,
    poison: bool,
    spill_folder: Option<PathBuf>,
    weights_in_files: HashMap<String, Vec<WeightPart>>,
    ranks: Option<Arc<dyn Engine>>,
}

impl CpuExecutor {
    /// Bytes of the file that offloaded values go to: programs run one after the other and share it.
    fn spill_file_bytes(&self) -> usize {
        self.programs.iter().map(|program| program.copies.file_bytes as usize).max().unwrap_or(0)
    }

    /// An executor without plans.
    pub fn new(options: CpuOptions) -> Self {
        CpuExecutor {
            options,
            pool: ThreadPool::with_level(options.threads, options.level),
            arena: Region::empty(),
            sources: Sources::empty(),
            programs: Vec::new(),
            collectives: Vec::new(),
            custom: CustomKernels::default(),
            poison: false,
            spill_folder: None,
            weights_in_files: HashMap::new(),
            ranks: None,
            copy_queue: None,
            comm_queue: None,
        }
    }

    /// Runs one step of the compute queue.
    fn step(&self, program: &Program, index: usize, step: &ResolvedStep) -> Result<(), DeviceError> {
        match program.streams.get(&index).zip(self.sources.files()) {
            Some((stream, files)) => stream.run(&self.pool, &program.plan, step, files),
            None => dispatch::run(&self.pool, &program.plan, step),
        }
    }

    /// Runs the steps in order. `watch` is told of each when it has ended; whether it looks at memory says `looks`.
    fn walk(
        &mut self,
        program: ProgramId,
        looks: bool,
        mut watch: impl FnMut(&Memory<'_>, StepId),
    ) -> Result<(), DeviceError> {
        let index = program.0 as usize;
        let (program, collectives) = (&self.programs[index], &self.collectives[index]);
        if self.poison {
            self.arena.bytes_mut().fill(POISON);
        }
        let copies = self.copy_queue.as_ref().filter(|_| !program.copies.transfers.is_empty());
        if let Some(queue) = copies {
            queue.begin(&program.copies);
        }
        // Whoever looks at the arena, or writes poison into it, must not meet a copy that is under way.
        let watched = self.poison || looks;
        let mut comm = self.comm_queue.as_ref().map(|queue| queue.run(collectives, watched));
        let (mut kernels, mut begun) = (0, 0);
        for (index, step) in program.steps.iter().enumerate() {
            let queue = program.plan.steps[index].queue;
            let (is_copy, is_collective) = (queue == Queue::Copy, queue == Queue::Comm);
            let awaited = program.copies.awaited[index];
            let ready = match copies {
                Some(queue) if is_copy && watched => {
                    queue.allow(kernels, begun + 1);
                    queue.wait_for(begun + 1)
                }
                Some(queue) if awaited > 0 => queue.wait_for(awaited),
                _ => Ok(()),
            };
            let ready = ready.and_then(|()| comm.as_mut().map_or(Ok(()), |comm| comm.before(index, is_collective)));
            let ran = ready.and_then(|()| match step {
                Some(step) => self.step(program, index, step),
                None => Ok(()),
            });
            kernels += u32::from(step.is_some());
            comm.iter_mut().for_each(|comm| comm.allow(kernels));
            if let Err(error) = ran {
                copies.inspect(|queue| queue.abandon());
                return Err(error);
            }
            begun += u32::from(is_copy);
            let memory = Memory { plan: &program.plan, arena: &self.arena, sources: &self.sources };
            watch(&memory, StepId(index as u32));
            if self.poison {
                let arena = self.arena.bytes_mut();
                program.freed[index].iter().for_each(|slot| arena[slot.offset..slot.end()].fill(POISON));
            }
            if let Some(queue) = copies.filter(|_| !watched) {
                queue.allow(kernels, u32::MAX);
            }
        }
        comm.as_mut().map_or(Ok(()), CommRun::wait)?;
        copies.map_or(Ok(()), |queue| queue.wait_for(begun).inspect_err(|_| queue.abandon()))
    }
}

/// What an observer sees between two steps.
struct Memory<'a> {
    plan: &'a Plan,
    arena: &'a Region,
    sources: &'a Sources,
}

impl StepMemory for Memory<'_> {
    fn read(&self, place: &Place, offset: usize, into: &mut [u8]) {
        let (storage, value) = match *place {
            Place::Arena(id) => return self.read_arena(self.plan.buffers[id.index()].slot.offset + offset, into),
            Place::Weight(weight) => (Storage::Weight, weight.value),
            Place::State(root) | Place::Spilled(root) => (Storage::State, root),
            Place::Input(id) => (Storage::Input, id),
        };
        let source = self.sources.find(storage, &self.plan.graph.value(value).name).expect("`load` has every source");
        self.sources.read(source, offset, into).expect("what a step reads in place is resident");
    }

    fn read_arena(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.arena.bytes()[offset..offset + into.len()]);
    }
}

impl Device for CpuExecutor {
    fn profile(&self) -> DeviceProfile {
        self.options.profile()
    }

    fn set_spill_folder(&mut self, folder: Option<&Path>) {
        self.spill_folder = folder.map(Path::to_path_buf);
    }

    fn set_weights_in_files(&mut self, weights: HashMap<String, Vec<WeightPart>>) {
        self.weights_in_files = weights;
    }

    fn set_ranks(&mut self, engine: Arc<dyn Engine>) {
        self.ranks = Some(engine);
    }

    fn is_in_file(&self, source: SourceId) -> bool {
        self.sources.is_in_model(source)
    }

    fn set_custom_kernels(&mut self, kernels: CustomKernels) {
        self.custom = kernels;
    }

    fn set_poison(&mut self, poison: bool) {
        self.poison = poison;
    }

    fn load(&mut self, plans: Vec<Plan>) -> Result<Vec<ProgramId>, DeviceError> {
        assert!(self.programs.is_empty(), "load is called once");
        if let Some(error) = self.pool.refusal() {
            let started = self.pool.threads();
            return Err(DeviceError::Threads { started, problem: error.to_string() });
        }
        if plans.iter().any(|plan| plan.rules != RULES) {
            return Err(DeviceError::OtherRules { device: self.options.profile().name });
        }
        let arena_bytes = plans.iter().map(|plan| plan.arena_bytes).max().unwrap_or(0);
        self.sources = Sources::of(&plans, self.spill_folder.as_deref(), &self.weights_in_files)?;
        self.arena = Region::new(arena_bytes, "the arena")?;
        for plan in plans {
            let beside = Beside { custom: &self.custom, ranks: self.ranks.as_ref() };
            let mut program = Program::resolve(plan, &mut self.arena, &mut self.sources, beside)?;
            self.collectives.push(Collectives::taken_from(&mut program));
            self.programs.push(program);
        }
        let file_bytes = self.spill_file_bytes();
        let most = self.collectives.iter().map(|collectives| collectives.all.len()).max().unwrap_or(0);
        if most > 0 {
            self.comm_queue = Some(CommQueue::start(most, self.options.level)?);
        }
        let weights = self.sources.files().cloned();
        if file_bytes > 0 || weights.is_some() {
            self.copy_queue = Some(CopyQueue::start(self.spill_folder.as_deref(), file_bytes as u64, weights)?);
        }
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
        self.sources.write(source, offset, bytes)
    }

    fn read(&self, source: SourceId, offset: usize, into: &mut [u8]) -> Result<(), DeviceError> {
        self.sources.read(source, offset, into)
    }

    fn run(&mut self, program: ProgramId) -> Result<(), DeviceError> {
        self.walk(program, false, |_, _| {})
    }

    fn run_timed(&mut self, program: ProgramId, times: &mut [StepTime]) -> Result<(), DeviceError> {
        let started = Instant::now();
        let mut last = started;
        // A copy under way is waited for, as an observer's is, so that its time is its own.
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
        let buffer = found.and_then(|&id| plan.final_buffer(id));
        let Some(buffer) = buffer else {
            return Err(DeviceError::UnknownSource { kind: "output", name: name.to_string() });
        };
        into.copy_from_slice(&self.arena.bytes()[buffer.slot.offset..buffer.slot.end()][offset..offset + into.len()]);
        Ok(())
    }

    fn memory(&self) -> DeviceMemory {
        DeviceMemory { arena: self.arena.bytes().len(), spill_file: self.spill_file_bytes(), ..self.sources.sizes() }
    }
}
