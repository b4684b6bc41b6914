//! Ranks: the processes that train together, and what moves bytes between them.
//!
//! Invariants: an engine moves bytes and computes nothing, so no sum depends on it, on its algorithms or on how many ranks
//! there are; while it waits it sleeps and looks again, and no wait is longer than its deadline. Look next at `engine` for
//! what an engine does, at `collectives` for what is made of that, and at `launcher` for how a process knows that it is a
//! rank.

#[cfg(test)]
mod collective_tests;
mod collectives;
mod engine;
mod error;
mod launcher;
#[cfg(feature = "mpi")]
mod mpi;
mod threads;

pub use collectives::{all_to_all, barrier, broadcast, gather, gather_all};
pub use engine::{Engine, Incoming, Outgoing};
pub use error::CommError;
pub use launcher::{Launched, launched};
#[cfg(feature = "mpi")]
pub use mpi::MpiEngine;
pub use threads::ThreadEngine;
