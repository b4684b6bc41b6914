//! What can be wrong with a module, a launch or a run: each names the kernel or the line, and what to look at.

use thiserror::Error;

/// Why a PTX module was not read, or a kernel did not run to its end.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PtxError {
    /// The text is not PTX that this crate reads.
    #[error("PTX line {line}: {problem}")]
    Read {
        /// Line of the module, from 1.
        line: u32,
        /// What is wrong there.
        problem: String,
    },
    /// A launch does not fit its kernel.
    #[error("launch of {kernel}: {problem}")]
    Launch {
        /// Name of the entry.
        kernel: String,
        /// What is wrong with the launch.
        problem: String,
    },
    /// A thread did what is not allowed.
    #[error("{kernel}, PTX line {line}, block {block}, thread {thread}: {fault}")]
    Run {
        /// Name of the entry.
        kernel: String,
        /// Line of the module, from 1.
        line: u32,
        /// Linear index of the block in the grid.
        block: u32,
        /// Linear index of the thread in its block.
        thread: u32,
        /// What the thread did.
        fault: Fault,
    },
}

/// What a thread did that a kernel must not do, whether or not a card would notice.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// An address in none of the regions that the launch was given.
    #[error("{bytes} bytes at {address:#x} of {space} memory are outside what the launch was given")]
    OutOfBounds {
        /// State space of the access.
        space: &'static str,
        /// Address within that space.
        address: u64,
        /// Width of the access.
        bytes: u32,
    },
    /// A store to a region that was given for reading.
    #[error("a store to {address:#x}, which the launch was given for reading only")]
    ReadOnly {
        /// Global address.
        address: u64,
    },
    /// An address that is no multiple of the access's width.
    #[error("address {address:#x} of {space} memory is not aligned to {bytes} bytes")]
    Misaligned {
        /// State space of the access.
        space: &'static str,
        /// Address within that space.
        address: u64,
        /// Width of the access.
        bytes: u32,
    },
    /// A read of bytes that nobody wrote.
    #[error("byte {address:#x} of {space} memory is read and was never written")]
    Uninitialised {
        /// State space of the access.
        space: &'static str,
        /// Address within that space.
        address: u64,
    },
    /// Bytes under an asynchronous copy were touched before it was waited for.
    #[error("byte {address:#x} of shared memory is used while a cp.async to it has not been waited for")]
    CopyPending {
        /// Address in shared memory.
        address: u64,
    },
    /// A kernel ended, or a thread, with copies that nobody waited for.
    #[error("the thread ends with cp.async copies that it never waited for")]
    CopyAbandoned,
    /// Two threads touch a byte, one writes, nothing orders them.
    #[error(
        "race on byte {address:#x} of {space} memory with thread {other} of block {other_block}: no barrier between"
    )]
    Race {
        /// State space of the access.
        space: &'static str,
        /// Address within that space.
        address: u64,
        /// A thread of the other access: its linear index in its block.
        other: u32,
        /// Linear index of that thread's block.
        other_block: u32,
    },
    /// A barrier, or an operation of a whole warp, that not all of its threads reached together.
    #[error("{operation} by lanes {active:#010x} of a warp, where {expected:#010x} must take part")]
    Divergent {
        /// The operation.
        operation: &'static str,
        /// Lanes that are there.
        active: u32,
        /// Lanes that should be.
        expected: u32,
    },
    /// Some warps wait at a barrier and others have ended, or wait elsewhere.
    #[error("a barrier is not reached by all threads of the block")]
    BarrierNotReached,
    /// A lane reads from a lane that takes no part.
    #[error("a shuffle reads lane {lane}, which takes no part")]
    ShuffleFromAbsent {
        /// The lane that was to be read.
        lane: u32,
    },
    /// Lanes of one warp give different values where the instruction wants one.
    #[error("{what} differs between the lanes of a warp")]
    NotUniform {
        /// The operand.
        what: &'static str,
    },
    /// An integer is divided by zero.
    #[error("an integer is divided by zero")]
    DivisionByZero,
    /// The kernel trapped.
    #[error("the kernel stopped by trap")]
    Trap,
    /// More instructions than the launch allows.
    #[error("a block ran more than {limit} warp instructions: an endless loop?")]
    TooLong {
        /// The limit.
        limit: u64,
    },
}
