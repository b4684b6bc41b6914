//! What is asked of a driver: memory, modules, launches, streams. Everything that is CUDA's own is behind this trait.
//!
//! Invariant: addresses are numbers that only the driver knows the meaning of; no slice of a card's memory leaves it. Work is put
//! on streams and runs in order within one; between streams only events order it. Look next at `real.rs`.

mod compiling;
pub mod library;
pub mod real;

use std::fmt;

/// What a card is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// As the driver names it.
    pub name: String,
    /// Compute capability, such as 8 and 9.
    pub capability: [u32; 2],
    /// Bytes of its memory.
    pub memory_bytes: usize,
    /// Bytes of shared memory that a block may have.
    pub shared_bytes: usize,
}

/// The oldest compute capability that kernels run on: bf16 in hardware, asynchronous copies.
pub const OLDEST: [u32; 2] = [8, 0];

/// Why a driver does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// No driver is installed.
    #[error("no CUDA driver was found ({problem}); install NVIDIA's driver, or use --device cpu")]
    Missing {
        /// What the system said.
        problem: String,
    },
    /// A driver from before the PTX that kernels are in.
    #[error("the CUDA driver is too old: it speaks CUDA {found}, and {least} is needed; update NVIDIA's driver")]
    TooOld {
        /// What it speaks.
        found: Version,
        /// What is needed.
        least: Version,
    },
    /// No card, or none of that number.
    #[error(
        "there is no CUDA card number {index}: the driver sees {count}; use --device cpu, or check CUDA_VISIBLE_DEVICES"
    )]
    NoCard {
        /// Which was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A card that kernels do not run on.
    #[error(
        "{name} has compute capability {}.{}, and remat's CUDA kernels need 8.0 (Ampere, 2020) or later; use --device cpu",
        capability[0], capability[1]
    )]
    OldCard {
        /// The card.
        name: String,
        /// What it has.
        capability: [u32; 2],
    },
    /// Memory of the card that cannot be had.
    #[error("the card has no {bytes} bytes of memory left")]
    OutOfMemory {
        /// How much was asked for.
        bytes: usize,
    },
    /// The card is gone, or its context is: nothing on it can be read any more.
    #[error("the card was lost ({problem}); resume from the last save")]
    Lost {
        /// What the driver said.
        problem: String,
    },
    /// Anything else.
    #[error("the CUDA driver failed in {call}: {problem}")]
    Failed {
        /// The call.
        call: &'static str,
        /// What the driver said.
        problem: String,
    },
}

/// A version of CUDA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Before the dot.
    pub major: u32,
    /// Behind it.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// PTX 7.0, which the archive is in, came with CUDA 11.0 (driver 450).
pub const LEAST_VERSION: Version = Version { major: 11, minor: 0 };

/// A function of a loaded module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FunctionId(pub u32);

/// A queue of work on the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(pub u32);

/// A mark in a stream that another can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(pub u32);

/// Memory of the host that the card can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PinnedId(pub u32);

/// Work of a whole run that was put on streams once, to be launched as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GraphId(pub u32);

/// Memory that a launch may touch; what a strict driver checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Its first byte.
    pub address: u64,
    /// How many.
    pub bytes: usize,
    /// Whether they may be written.
    pub writable: bool,
}

/// A launch with addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// What runs.
    pub function: FunctionId,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// Each argument's bytes.
    pub arguments: Vec<Vec<u8>>,
    /// What it may touch.
    pub touches: Vec<Touch>,
}

type Done = Result<(), DriverError>;

/// A card's driver, with one context on one card.
pub trait Driver {
    /// Which card.
    fn card(&self) -> &Card;

    /// Bytes of the card's memory that nobody holds.
    ///
    /// # Errors
    /// A lost card.
    fn free_bytes(&self) -> Result<usize, DriverError>;

    /// Allocates memory, aligned to 256 bytes, and gives its address.
    ///
    /// # Errors
    /// Memory that cannot be had.
    fn allocate(&self, bytes: usize) -> Result<u64, DriverError>;

    /// Gives memory back.
    fn free(&self, address: u64);

    /// Sets bytes, when all streams have ended.
    ///
    /// # Errors
    /// A lost card.
    fn fill(&self, address: u64, byte: u8, bytes: usize) -> Done;

    /// Sets bytes to what shows when it is read, in a stream's order.
    ///
    /// # Errors
    /// A lost card.
    fn poison(&self, stream: StreamId, address: u64, bytes: usize) -> Done;

    /// Copies in, when all streams have ended.
    ///
    /// # Errors
    /// A lost card.
    fn write(&self, address: u64, bytes: &[u8]) -> Done;

    /// Copies out, when all streams have ended.
    ///
    /// # Errors
    /// A lost card; a kernel that failed.
    fn read(&self, address: u64, into: &mut [u8]) -> Done;

    /// Loads a module of PTX and gives one of its functions, once for each name; `shared_bytes` of dynamic shared memory are the
    /// most that it is launched with.
    ///
    /// # Errors
    /// PTX that the driver does not take.
    fn function(&self, module: &str, ptx: &str, kernel: &str, shared_bytes: u32) -> Result<FunctionId, DriverError>;

    /// Makes a stream.
    ///
    /// # Errors
    /// A lost card.
    fn stream(&self) -> Result<StreamId, DriverError>;

    /// Makes an event.
    ///
    /// # Errors
    /// A lost card.
    fn event(&self) -> Result<EventId, DriverError>;

    /// Allocates memory of the host for copies.
    ///
    /// # Errors
    /// Memory that cannot be had.
    fn pin(&self, bytes: usize) -> Result<PinnedId, DriverError>;

    /// Puts a launch on a stream.
    ///
    /// # Errors
    /// A launch that the driver refuses.
    fn launch(&self, stream: StreamId, work: &Work) -> Done;

    /// Puts a copy to the host on a stream.
    ///
    /// # Errors
    /// A lost card.
    fn copy_out(&self, stream: StreamId, from: u64, to: PinnedId, offset: usize, bytes: usize) -> Done;

    /// Puts a copy from the host on a stream.
    ///
    /// # Errors
    /// A lost card.
    fn copy_in(&self, stream: StreamId, from: PinnedId, offset: usize, to: u64, bytes: usize) -> Done;

    /// Puts a mark on a stream.
    ///
    /// # Errors
    /// A lost card.
    fn record(&self, stream: StreamId, event: EventId) -> Done;

    /// What is put on a stream from here on runs behind an event's last mark.
    ///
    /// # Errors
    /// A lost card.
    fn wait(&self, stream: StreamId, event: EventId) -> Done;

    /// What is put on this stream from here on does not run but becomes a graph; and so does what is put on a stream that has waited
    /// for a mark of the graph. Nothing else may be asked for until it ends.
    ///
    /// # Errors
    /// A driver that refuses.
    fn begin_capture(&self, stream: StreamId) -> Done;

    /// Ends it: this stream must have waited for all that others have of the graph.
    ///
    /// # Errors
    /// Work that cannot be captured, or is not waited for.
    fn end_capture(&self, stream: StreamId) -> Result<GraphId, DriverError>;

    /// Puts a graph on a stream, as one piece of work.
    ///
    /// # Errors
    /// A lost card.
    fn launch_graph(&self, stream: StreamId, graph: GraphId) -> Done;

    /// Waits for all streams.
    ///
    /// # Errors
    /// A lost card; a kernel that failed.
    fn synchronize(&self) -> Done;
}
