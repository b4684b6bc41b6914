//! What can go wrong between ranks. Invariant: each message names the ranks and what to do.

use std::time::Duration;

/// An error of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommError {
    /// A rank that has ended while others wait for it.
    #[error("rank {rank} has ended: its own error says why; run the same command again to go on from the last save")]
    Gone {
        /// The rank.
        rank: usize,
    },
    /// A rank that neither sent nor took what it should have in time.
    #[error(
        "rank {rank} has not answered for {} s: see whether its process and its host are well, then run the same command \
         again to go on from the last save",
        waited.as_secs()
    )]
    TimedOut {
        /// The rank.
        rank: usize,
        /// How long this rank has waited.
        waited: Duration,
    },
    /// A message of another length than its receiver expects.
    #[error(
        "rank {from} sent {sent} bytes where {expected} were expected: all ranks must run the same remat and settings"
    )]
    Length {
        /// Who sent it.
        from: usize,
        /// How long it is.
        sent: usize,
        /// How long it should be.
        expected: usize,
    },
    /// A launcher's process in a build that cannot talk to it.
    #[error(
        "this process was started as one of {size} by {launcher}, and this build of remat trains alone: build it with \
         --features mpi, or start it without the launcher"
    )]
    WithoutEngine {
        /// What started it.
        launcher: &'static str,
        /// How many there are.
        size: usize,
    },
    /// An engine that sees other ranks than the launcher started.
    #[error(
        "{launcher} has started {launched} processes, and MPI sees {seen}: remat was built for another MPI than the \
         launcher's; build it against the one whose mpirun starts it"
    )]
    OtherEngine {
        /// What started them.
        launcher: &'static str,
        /// How many.
        launched: usize,
        /// How many the engine sees.
        seen: usize,
    },
    /// An engine that does not start.
    #[error("MPI does not start: {problem}")]
    NotStarted {
        /// What it says.
        problem: String,
    },
}
