//! Whether this process is one of several ranks, and its end of what connects them.
//!
//! Invariant: a launcher's process in a build that cannot join the others refuses at once, since each would train alone and
//! write over the others' folder.

#[cfg(not(feature = "mpi"))]
use remat_comm::{CommError, launched};

#[cfg(feature = "mpi")]
pub use with_mpi::join;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// This process's rank; none where it is alone.
///
/// # Errors
/// A launcher that has started several processes.
#[cfg(not(feature = "mpi"))]
pub fn join() -> Result<Option<Alone>, CommError> {
    launched(&variable).map_or(Ok(None), |launched| Err(launched.without_engine()))
}

/// What connects the ranks of a build that knows none.
#[cfg(not(feature = "mpi"))]
pub type Alone = remat_comm::ThreadEngine;

#[cfg(feature = "mpi")]
mod with_mpi {
    use super::variable;
    use crate::terminal;
    use remat_comm::{CommError, MpiEngine, launched};
    use std::time::Duration;

    /// How long a rank waits for another. While rank 0 saves or evaluates, the others wait.
    const DEADLINE: Duration = Duration::from_secs(1800);

    /// This process's rank; none where it is alone.
    ///
    /// # Errors
    /// MPI that does not start, or that sees other processes than the launcher started.
    pub fn join() -> Result<Option<MpiEngine>, CommError> {
        MpiEngine::start(launched(&variable), DEADLINE, Box::new(|error| terminal::error(&error.to_string())))
    }
}
