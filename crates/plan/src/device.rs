//! The door to a device: everything that a training run may ask of whatever holds its tensors and runs its plans.
//!
//! Invariants: no slice of a device's memory leaves it; bytes are copied in by [`Device::write`] and out by
//! [`Device::read`], in pieces as small as the caller likes, so that no tensor is ever staged whole. After `load`, running
//! allocates nothing; the arena is exactly the largest `arena_bytes` of the loaded plans. Sources are shared by name, so
//! that plans of one model share weights and states. Look next at `transfer` for reading and writing elements.

use crate::{CustomKernels, DeviceProfile, MemoryDomain, Place, Plan, StepId};
use remat_comm::{CommError, Engine};
use remat_ir::{Storage, Type};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Index of a loaded plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId(pub u32);

/// Index of a weight, state or input of the loaded plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

impl SourceId {
    /// As a vector index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why a device cannot load or run a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A plan that this device has no means to run.
    #[error("step {step} ({what}): {why}")]
    Unsupported {
        /// Index of the step.
        step: usize,
        /// The op or action.
        what: String,
        /// What is missing.
        why: String,
    },
    /// A plan that was made for kernels of other rules.
    #[error("the plan was made for a device of other rules than {device}'s: compile it with this device's profile")]
    OtherRules {
        /// The device.
        device: String,
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
        "a thread beyond the first {started} could not be started: {problem}; choose fewer threads, or allow more: ulimit -u, \
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
        "the thread that copies offloaded values could not be started: {problem}; choose fewer threads, or \
         allow more: ulimit -u, or the limit on processes of the container"
    )]
    CopyThread {
        /// What the system said.
        problem: String,
    },
    /// A folder for offloaded values that cannot hold them.
    #[error(
        "{folder}: cannot hold {bytes} bytes of offloaded values: {problem}; choose a folder on a disk with more \
         room, or allow more memory"
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
    #[error("{folder}: no place for offloaded values: {problem}; name a folder that is there and may be written to")]
    BadSpillFolder {
        /// The folder.
        folder: String,
        /// What the system said.
        problem: String,
    },
    /// A copy to or from the spill file that failed in a run.
    #[error("{folder}: a copy of offloaded values failed: {problem}; check the disk, then resume from the last save")]
    Spill {
        /// The folder.
        folder: String,
        /// What the system said.
        problem: String,
    },
    /// A device that is not there, or that kernels do not run on.
    #[error("{problem}")]
    Absent {
        /// What is missing, and the remedy.
        problem: String,
    },
    /// A device that failed.
    #[error("{problem}")]
    Failed {
        /// What its driver said, and the remedy.
        problem: String,
    },
    /// Other ranks, without which a step cannot go on.
    #[error(transparent)]
    Ranks(#[from] CommError),
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

/// Seconds of one step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepTime {
    /// From the beginning of the run to the beginning of the step.
    pub start: f64,
    /// From then to its end.
    pub seconds: f64,
}

/// Told of every step as it runs: counters and validation hang here.
pub trait Observer {
    /// A step has finished. `memory` is the device's at that moment.
    fn after_step(&mut self, plan: &Plan, id: StepId, memory: &dyn StepMemory);
}

/// What an observer may read between two steps.
pub trait StepMemory {
    /// Copies bytes of what a step's operand or result holds, from `offset` on.
    fn read(&self, place: &Place, offset: usize, into: &mut [u8]);

    /// Copies bytes of the arena, from `offset` on.
    fn read_arena(&self, offset: usize, into: &mut [u8]);
}

/// What a device has allocated, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceMemory {
    /// Where all but the files lies.
    pub domain: MemoryDomain,
    /// The arena.
    pub arena: usize,
    /// Weights.
    pub weights: usize,
    /// States.
    pub states: usize,
    /// Inputs.
    pub inputs: usize,
    /// The file that offloaded values go to.
    pub spill_file: usize,
    /// The file of weights that are not resident.
    pub weights_file: usize,
    /// The file of states that are not resident.
    pub states_file: usize,
    /// What both are read through.
    pub copy_buffers: usize,
}

impl DeviceMemory {
    /// What of it lies in a domain.
    pub fn in_domain(&self, domain: MemoryDomain) -> usize {
        let DeviceMemory { domain: of, arena, weights, states, inputs, spill_file, weights_file, .. } = *self;
        let (states_file, copy_buffers) = (self.states_file, self.copy_buffers);
        let held = if domain == of { arena + weights + states + inputs + copy_buffers } else { 0 };
        held + if domain == MemoryDomain::Disk { spill_file + weights_file + states_file } else { 0 }
    }
}

/// Bytes of an open file.
#[derive(Debug, Clone)]
pub struct FileRange {
    /// The file, held open: whatever its path leads to by now.
    pub file: Arc<File>,
    /// The path that it was opened by.
    pub path: PathBuf,
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

/// Some bytes of a weight that lies in files as kernels read it.
#[derive(Debug, Clone)]
pub enum WeightPart {
    /// In a file.
    InFile(FileRange),
    /// A few that no file has as they are.
    Known(Vec<u8>),
}

impl WeightPart {
    /// How many.
    pub fn bytes(&self) -> u64 {
        match self {
            WeightPart::InFile(range) => range.bytes,
            WeightPart::Known(bytes) => bytes.len() as u64,
        }
    }
}

/// Holds tensors and runs plans.
pub trait Device {
    /// What the compiler needs to know of it, with nominal prices.
    fn profile(&self) -> DeviceProfile;

    /// The folder that offloaded values go to; to be given before plans are loaded that have such.
    fn set_spill_folder(&mut self, folder: Option<&Path>);

    /// Weights by name that lie in files as kernels read them, each in parts that follow each other: those of them that plans keep off memory are read from there;
    /// to be given before plans are loaded. A device may do without.
    fn set_weights_in_files(&mut self, _weights: HashMap<String, Vec<WeightPart>>) {}

    /// Whether a source is read from such a file, and so must not be written.
    fn is_in_file(&self, _source: SourceId) -> bool {
        false
    }

    /// Kernels for custom ops; to be given before plans are loaded.
    fn set_custom_kernels(&mut self, kernels: CustomKernels);

    /// What joins this device to the other ranks; to be given before plans are loaded that do something with them.
    fn set_ranks(&mut self, engine: Arc<dyn Engine>);

    /// Whether free arena bytes are filled with [`POISON`], so that a use after free shows. It costs time, not memory.
    fn set_poison(&mut self, poison: bool);

    /// Takes plans to run, in the order of the returned ids, and allocates everything they need, zeroed. Called once.
    ///
    /// # Errors
    /// A plan that it cannot run, plans that disagree about a source, memory or disk that cannot be had.
    fn load(&mut self, plans: Vec<Plan>) -> Result<Vec<ProgramId>, DeviceError>;

    /// A loaded plan.
    fn plan(&self, program: ProgramId) -> &Plan;

    /// The source of this name and storage, if a loaded plan has it.
    fn source(&self, storage: Storage, name: &str) -> Option<SourceId>;

    /// Element type and shape of a source.
    fn source_type(&self, source: SourceId) -> &Type;

    /// Copies bytes into a source, from its byte `offset` on. Panics if they do not fit it, or it lies in a file.
    ///
    /// # Errors
    /// A device that was lost.
    fn write(&mut self, source: SourceId, offset: usize, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Copies bytes out of a source, from its byte `offset` on. Panics if it has fewer.
    ///
    /// # Errors
    /// A device that was lost.
    fn read(&self, source: SourceId, offset: usize, into: &mut [u8]) -> Result<(), DeviceError>;

    /// Runs one plan.
    ///
    /// # Errors
    /// An input that a kernel refuses; a copy that fails.
    fn run(&mut self, program: ProgramId) -> Result<(), DeviceError>;

    /// Runs one plan and writes down when each of its steps ran; `times` has one entry per step.
    ///
    /// # Errors
    /// As [`Device::run`].
    fn run_timed(&mut self, program: ProgramId, times: &mut [StepTime]) -> Result<(), DeviceError>;

    /// Runs one plan and tells `observer` of every step.
    ///
    /// # Errors
    /// As [`Device::run`].
    fn observe(&mut self, program: ProgramId, observer: &mut dyn Observer) -> Result<(), DeviceError>;

    /// Copies bytes of an output of the plan that ran last, from its byte `offset` on.
    ///
    /// # Errors
    /// A name that is no output of the plan.
    fn read_output(&self, program: ProgramId, name: &str, offset: usize, into: &mut [u8]) -> Result<(), DeviceError>;

    /// What is allocated.
    fn memory(&self) -> DeviceMemory;
}

/// What a poisoned byte of the arena holds: ones, which are NaN in every float type.
pub const POISON: u8 = 0xff;
