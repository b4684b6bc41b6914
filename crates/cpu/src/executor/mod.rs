//! The CPU executor: walks a plan's steps in order and calls one kernel each. It decides nothing.
//!
//! Invariant: everything is allocated in `load`; a run allocates nothing. The arena is exactly as large as the largest
//! plan says, and every operand's address is resolved once. Look next at `dispatch` for which kernel an op calls.

mod copy_queue;
mod dispatch;
mod memory;
mod poison;
mod resolve;
mod support;

pub use copy_queue::measure_spill;
pub use poison::POISON;
pub(crate) use resolve::Operand;

use crate::{CustomKernels, Level, ThreadPool};
use copy_queue::CopyQueue;
use memory::Region;
use remat_ir::{Graph, Storage};
use remat_plan::{DeviceProfile, ExecError, Executor, Plan, Prices, ProgramId, RunObserver, SourceBytes, StepId};
use remat_plan::{TensorView, TensorViewMut};
use resolve::{Program, Sources};
use std::path::PathBuf;

/// Alignment of slots and sources: one cache line, one AVX-512 register.
const ALIGNMENT_BYTES: usize = 64;

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
            slot_alignment_bytes: ALIGNMENT_BYTES,
            threads: self.threads,
            executor_bytes: self.threads * crate::SCRATCH_BYTES_PER_THREAD,
            token_block: crate::kernels::TOKEN_BLOCK,
            prices: Prices::nominal(self.threads),
        }
    }
}

/// Runs plans on the CPU.
pub struct CpuExecutor {
    /// There if a plan offloads. First, so that its thread ends before the arena goes.
    copy_queue: Option<CopyQueue>,
    pool: ThreadPool,
    arena: Region,
    sources: Sources,
    programs: Vec<Program>,
    custom: CustomKernels,
    poison: bool,
    spill_folder: Option<PathBuf>,
}

impl CpuExecutor {
    /// An executor without plans.
    pub fn new(options: CpuOptions) -> Self {
        CpuExecutor {
            pool: ThreadPool::with_level(options.threads, options.level),
            arena: Region::empty(),
            sources: Sources::empty(),
            programs: Vec::new(),
            custom: CustomKernels::default(),
            poison: false,
            spill_folder: None,
            copy_queue: None,
        }
    }

    /// Kernels for custom ops; to be given before plans are loaded.
    pub fn set_custom_kernels(&mut self, kernels: CustomKernels) {
        self.custom = kernels;
    }

    /// Whether free arena bytes are filled with NaN patterns, so that a use after free shows. It costs time, not memory.
    pub fn set_poison(&mut self, poison: bool) {
        self.poison = poison;
    }

    /// Bytes that the executor holds of a loaded plan beside the plan itself and the memory that it names.
    pub fn bytes_beside(plan: &Plan) -> usize {
        Program::bytes_beside(plan)
    }

    /// A loaded plan.
    pub fn plan(&self, program: ProgramId) -> &Plan {
        &self.programs[program.0 as usize].plan
    }

    /// The folder that offloaded values go to; to be given before plans are loaded that have such.
    pub fn set_spill_folder(&mut self, folder: Option<PathBuf>) {
        self.spill_folder = folder;
    }

    /// The graph of a loaded plan.
    pub fn graph(&self, program: ProgramId) -> &Graph {
        &self.plan(program).graph
    }

    fn walk(&mut self, program: ProgramId, mut observer: Option<&mut dyn RunObserver>) -> Result<(), ExecError> {
        let program = &self.programs[program.0 as usize];
        if self.poison {
            self.arena.bytes_mut().fill(poison::POISON);
        }
        let copies = self.copy_queue.as_ref().filter(|_| !program.copies.transfers.is_empty());
        if let Some(queue) = copies {
            queue.begin(&program.copies);
        }
        // Whoever looks at the arena, or writes poison into it, must not meet a copy that is under way.
        let watched = self.poison || observer.is_some();
        let (mut kernels, mut begun) = (0, 0);
        for (index, step) in program.steps.iter().enumerate() {
            let awaited = program.copies.awaited[index];
            let ready = match copies {
                Some(queue) if step.is_none() && watched => {
                    queue.allow(kernels, begun + 1);
                    queue.wait_for(begun + 1)
                }
                Some(queue) if awaited > 0 => queue.wait_for(awaited),
                _ => Ok(()),
            };
            let ran = ready.and_then(|()| match step {
                Some(step) => dispatch::run(&self.pool, &program.plan, step),
                None => Ok(()),
            });
            if let Err(error) = ran {
                copies.inspect(|queue| queue.abandon());
                return Err(error);
            }
            kernels += u32::from(step.is_some());
            begun += u32::from(step.is_none());
            if let Some(observer) = &mut observer {
                observer.after_step(
                    &program.plan,
                    StepId(index as u32),
                    &program.plan.steps[index],
                    self.arena.bytes(),
                );
            }
            if self.poison {
                let arena = self.arena.bytes_mut();
                program.freed[index].iter().for_each(|slot| arena[slot.offset..slot.end()].fill(poison::POISON));
            }
            if let Some(queue) = copies.filter(|_| !watched) {
                queue.allow(kernels, u32::MAX);
            }
        }
        copies.map_or(Ok(()), |queue| queue.wait_for(begun).inspect_err(|_| queue.abandon()))
    }
}

impl Executor for CpuExecutor {
    fn load(&mut self, plans: Vec<Plan>) -> Result<Vec<ProgramId>, ExecError> {
        assert!(self.programs.is_empty(), "load is called once");
        if let Some(error) = self.pool.refusal() {
            let started = self.pool.threads();
            return Err(ExecError::Threads { started, problem: error.to_string() });
        }
        let arena_bytes = plans.iter().map(|plan| plan.arena_bytes).max().unwrap_or(0);
        self.sources = Sources::of(&plans)?;
        self.arena = Region::new(arena_bytes, "the arena")?;
        for plan in plans {
            self.programs.push(Program::resolve(plan, &mut self.arena, &mut self.sources, &self.custom)?);
        }
        let file_bytes = self.programs.iter().map(|program| program.copies.file_bytes).max().unwrap_or(0);
        if file_bytes > 0 {
            let none = || ExecError::BadSpillFolder {
                folder: String::new(),
                problem: "the plan offloads, and no folder was named".to_string(),
            };
            let folder = self.spill_folder.as_ref().ok_or_else(none)?;
            self.copy_queue = Some(CopyQueue::start(folder, file_bytes)?);
        }
        Ok((0..self.programs.len() as u32).map(ProgramId).collect())
    }

    fn weight_mut(&mut self, name: &str) -> Result<TensorViewMut<'_>, ExecError> {
        self.sources.view_mut(Storage::Weight, name)
    }

    fn state(&self, name: &str) -> Result<TensorView<'_>, ExecError> {
        self.sources.view(Storage::State, name)
    }

    fn state_mut(&mut self, name: &str) -> Result<TensorViewMut<'_>, ExecError> {
        self.sources.view_mut(Storage::State, name)
    }

    fn input_mut(&mut self, name: &str) -> Result<TensorViewMut<'_>, ExecError> {
        self.sources.view_mut(Storage::Input, name)
    }

    fn run(&mut self, program: ProgramId) -> Result<(), ExecError> {
        self.walk(program, None)
    }

    fn run_observed(&mut self, program: ProgramId, observer: &mut dyn RunObserver) -> Result<(), ExecError> {
        self.walk(program, Some(observer))
    }

    fn output(&self, program: ProgramId, name: &str) -> Result<TensorView<'_>, ExecError> {
        let plan = &self.programs[program.0 as usize].plan;
        let found = plan.graph.outputs.iter().find(|&&id| plan.graph.value(id).name == name);
        let buffer = found.and_then(|&id| plan.final_buffer(id));
        let Some(buffer) = buffer else {
            return Err(ExecError::UnknownSource { kind: "output", name: name.to_string() });
        };
        let bytes = &self.arena.bytes()[buffer.slot.offset..buffer.slot.end()];
        Ok(TensorView { ty: plan.graph.ty(buffer.value), bytes })
    }

    fn arena_bytes(&self) -> usize {
        self.arena.bytes().len()
    }

    fn source_bytes(&self) -> SourceBytes {
        self.sources.sizes()
    }
}
