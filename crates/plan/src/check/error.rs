//! What can be wrong with a plan: one variant per rule. Invariant: each names the step or buffer and the value.

/// A violated rule of a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum CheckError {
    #[error("the plan is malformed: {0}")]
    Named(String),
    #[error("the plan's graph is malformed: {0}")]
    Graph(String),
    #[error("the plan does not compute the source graph: {0}")]
    NotEquivalent(String),
    #[error("node \"{node}\" is computed by no step")]
    MissingStep { node: String },
    #[error("node \"{node}\" is computed by steps {first} and {second}")]
    RepeatedStep { node: String, first: u32, second: u32 },
    #[error("step {step} is on the {queue} queue: what ranks do together, and nothing else, is on the comm queue")]
    WrongQueue { step: u32, queue: String },
    #[error("step {step} is \"{node}\", which ranks do together, where all others come to \"{expected}\"")]
    CollectiveOutOfOrder { step: u32, node: String, expected: String },
    #[error("step {step} waits for step {on}, which does not come before it")]
    WaitsForLater { step: u32, on: u32 },
    #[error("step {step} waits for step {on}, which does not signal")]
    NotSignalled { step: u32, on: u32 },
    #[error("step {step} and step {on} both use {what} on different queues, and no wait orders them")]
    MissingWait { step: u32, on: u32, what: String },
    #[error("step {step} ({node}): operand or result {index} is not in the place of \"{value}\"")]
    WrongPlace { step: u32, node: String, index: usize, value: String },
    #[error("step {step} reads \"{value}\" before it is computed")]
    NotYetComputed { step: u32, value: String },
    #[error("step {step} fetches \"{value}\" from a tier that it does not lie in, or rows that cannot be fetched")]
    NotInTier { step: u32, value: String },
    #[error("step {step} reads \"{value}\" from buffer {buffer}, which was freed after step {last}")]
    UseAfterFree { step: u32, value: String, buffer: u32, last: u32 },
    #[error("step {step} reads \"{value}\" from a state that now holds \"{holds}\"")]
    StateOverwritten { step: u32, value: String, holds: String },
    #[error("what the plan makes of \"{value}\" is not written back to where it lies")]
    NotWrittenBack { value: String },
    #[error("buffer {buffer} of \"{value}\" is written by step {step}, not by its first step {first}")]
    WrongWriter { buffer: u32, value: String, step: u32, first: u32 },
    #[error("output \"{value}\" is not in the arena when the plan ends")]
    OutputFreed { value: String },
    #[error("\"{a}\" and \"{b}\" share bytes {from}..{to} of the arena while both are alive")]
    Overlap { a: String, b: String, from: usize, to: usize },
    #[error("\"{value}\" needs {needed} bytes and has a slot of {bytes}")]
    WrongSize { value: String, needed: usize, bytes: usize },
    #[error("\"{value}\" ends at byte {end} of an arena of {arena_bytes}")]
    OutsideArena { value: String, end: usize, arena_bytes: usize },
    #[error("\"{value}\" starts at byte {offset}, which is not a multiple of {alignment}")]
    Misaligned { value: String, offset: usize, alignment: usize },
    #[error("the arena is {arena_bytes} bytes, its highest slot ends at {end}")]
    ArenaSize { arena_bytes: usize, end: usize },
}
