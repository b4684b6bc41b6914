//! Ranks: the processes that train together, and what moves bytes between them.
//!
//! Invariants: an engine moves bytes and computes nothing, so no sum depends on it, on its algorithms or on how many ranks
//! there are; while it waits it sleeps and looks again, and no wait is longer than its deadline. Look next at `engine` for
//! what an engine does, at `collectives` for what is made of that, and at `launcher` for how a process knows that it is a
//! rank.

#[cfg(test)]
mod collective_tests;
mod collectives;
#[cfg(any(feature = "mpi", all(test, target_os = "linux")))]
mod ends;
mod engine;
mod error;
mod launcher;
mod links;
#[cfg(any(feature = "mpi", test))]
mod liveness;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "mpi")]
mod mpi_watch;
#[cfg(any(feature = "mpi", test))]
mod neighbour;
mod threads;

pub use collectives::{all_to_all, barrier, broadcast, gather, gather_all};
pub use engine::{Engine, Incoming, OnFailure, Outgoing};
pub use error::CommError;
pub use launcher::{Launched, launched};
pub use links::{Link, LinkProbe, measure_links};
#[cfg(feature = "mpi")]
pub use mpi::{MpiEngine, Patience};
pub use threads::ThreadEngine;
