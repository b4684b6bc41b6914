//! What an executor offers to the training loop. `cpu` implements it; other devices will.
//!
//! Invariant: after `load`, running allocates nothing; the arena an executor holds is exactly the largest
//! `arena_bytes` of its plans. Sources are found by name, so that plans of one model share weights and states.

use crate::{Plan, Step, StepId};
use remat_ir::Type;

/// Index of a loaded plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId(pub u32);

/// Read access to a tensor held by an executor.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// Element type and shape.
    pub ty: &'a Type,
    /// Row-major little-endian elements, aligned for their dtype.
    pub bytes: &'a [u8],
}

/// Write access to a tensor held by an executor.
#[derive(Debug)]
pub struct TensorViewMut<'a> {
    /// Element type and shape.
    pub ty: &'a Type,
    /// Row-major little-endian elements, aligned for their dtype.
    pub bytes: &'a mut [u8],
}

/// Why an executor cannot load or run a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// A plan that this executor has no means to run.
    #[error("step {step} ({what}): {why}")]
    Unsupported {
        /// Index of the step.
        step: usize,
        /// The op or action.
        what: String,
        /// What is missing.
        why: String,
    },
    /// Two plans that disagree about a shared source.
    #[error("\"{name}\" is {first} in one plan and {second} in another")]
    SourceMismatch {
        /// The source's name.
        name: String,
        /// Its type in the plan loaded first.
        first: String,
        /// Its type in the later plan.
        second: String,
    },
    /// A name that no loaded plan knows.
    #[error("no loaded plan has a {kind} named \"{name}\"")]
    UnknownSource {
        /// Weight, state, input or output.
        kind: &'static str,
        /// The name asked for.
        name: String,
    },
    /// The operating system refused memory.
    #[error("cannot allocate {bytes} bytes for {what}: choose a smaller batch, sequence or checkpointing policy")]
    OutOfMemory {
        /// What the memory is for.
        what: &'static str,
        /// How much.
        bytes: usize,
    },
    /// The operating system refused a thread.
    #[error(
        "a thread beyond the first {started} could not be started: {problem}; choose fewer with --threads, or allow more: ulimit -u, \
         or the limit on processes of the container"
    )]
    Threads {
        /// How many there are, the caller's included.
        started: usize,
        /// What the system said.
        problem: String,
    },
    /// The operating system refused the thread that copies offloaded values.
    #[error(
        "the thread that copies values to --offload and back could not be started: {problem}; choose fewer --threads, or \
         allow more: ulimit -u, or the limit on processes of the container"
    )]
    CopyThread {
        /// What the system said.
        problem: String,
    },
    /// A folder for offloaded values that cannot hold them.
    #[error(
        "--offload {folder}: cannot hold {bytes} bytes of offloaded values: {problem}; choose a folder on a disk with more \
         room, or allow more --memory"
    )]
    NoSpillSpace {
        /// The folder.
        folder: String,
        /// How much was asked for.
        bytes: u64,
        /// What the system said.
        problem: String,
    },
    /// A folder for offloaded values that cannot be used.
    #[error("--offload {folder}: {problem}; name a folder that is there and may be written to")]
    BadSpillFolder {
        /// The folder.
        folder: String,
        /// What the system said.
        problem: String,
    },
    /// A copy to or from the spill file that failed in a run.
    #[error("--offload {folder}: a copy failed: {problem}; check the disk, then go on with --resume")]
    Spill {
        /// The folder.
        folder: String,
        /// What the system said.
        problem: String,
    },
    /// An input that a kernel refused, such as a token id outside the vocabulary.
    #[error("{op} \"{node}\": {message}")]
    BadInput {
        /// The op.
        op: &'static str,
        /// The node.
        node: String,
        /// What is wrong.
        message: String,
    },
}

/// Told of every step as it runs: traces, counters and validation hang here.
pub trait RunObserver {
    /// A step has finished. `arena` is the whole arena at that moment.
    fn after_step(&mut self, plan: &Plan, id: StepId, step: &Step, arena: &[u8]);
}

/// Runs plans.
pub trait Executor {
    /// Takes plans to run, in the order of the returned ids, and allocates everything they need. Called once.
    fn load(&mut self, plans: Vec<Plan>) -> Result<Vec<ProgramId>, ExecError>;

    /// Write access to a weight, for loading it.
    fn weight_mut(&mut self, name: &str) -> Result<TensorViewMut<'_>, ExecError>;

    /// A state's present value.
    fn state(&self, name: &str) -> Result<TensorView<'_>, ExecError>;

    /// Write access to a state. States are zero after `load`.
    fn state_mut(&mut self, name: &str) -> Result<TensorViewMut<'_>, ExecError>;

    /// Write access to an input, to be filled before a run.
    fn input_mut(&mut self, name: &str) -> Result<TensorViewMut<'_>, ExecError>;

    /// Runs one plan.
    fn run(&mut self, program: ProgramId) -> Result<(), ExecError>;

    /// Runs one plan and tells `observer` of every step.
    fn run_observed(&mut self, program: ProgramId, observer: &mut dyn RunObserver) -> Result<(), ExecError>;

    /// An output of the plan that ran last; valid until the next run.
    fn output(&self, program: ProgramId, name: &str) -> Result<TensorView<'_>, ExecError>;

    /// Bytes of the arena that is allocated.
    fn arena_bytes(&self) -> usize;

    /// Bytes of weights and of states that are allocated.
    fn source_bytes(&self) -> SourceBytes;
}

/// What an executor holds beside its arena, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceBytes {
    /// Weights.
    pub weights: usize,
    /// States.
    pub states: usize,
    /// Inputs.
    pub inputs: usize,
}
