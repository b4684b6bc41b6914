//! What can go wrong with a name of the Hub. Invariant: each message names the repository or file, and the remedy.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages are the documentation of the variants and their fields.
pub enum HubError {
    #[error("{key}={value}: {problem}")]
    Environment { key: &'static str, value: String, problem: &'static str },

    #[error("{name}: {problem}")]
    Name { name: String, problem: String },

    #[error(
        "{name}: no such folder, and not in the cache {}; HF_HUB_OFFLINE forbids to fetch it: unset that, or give a folder",
        cache.display()
    )]
    Offline { name: String, cache: PathBuf },

    #[error(
        "{name}: {} in the cache is not whole ({missing} is missing), and HF_HUB_OFFLINE forbids to fetch the rest",
        snapshot.display()
    )]
    Incomplete { name: String, snapshot: PathBuf, missing: String },

    #[error(
        "{name}: {endpoint} has no such repository or revision, or it is private or gated: check the name, and give HF_TOKEN \
         if it needs one (status {status})"
    )]
    NotFound { name: String, endpoint: String, status: u16 },

    #[error("{name}: {problem}")]
    Hostile { name: String, problem: String },

    #[error("{name}: {what} could not be fetched: {problem}; what was fetched is kept, so give the command again")]
    Network { name: String, what: String, problem: String },

    #[error("{name}: {file} is not what the Hub says it is ({problem}); it was removed, so give the command again")]
    Damaged { name: String, file: String, problem: String },

    #[error("{}: cannot {what}: {source}; make room there, or name another folder by HF_HUB_CACHE", path.display())]
    Io { path: PathBuf, what: &'static str, source: std::io::Error },
}

impl HubError {
    /// Whether what was asked for is at fault, and not the network or the disk.
    pub fn is_input(&self) -> bool {
        match self {
            HubError::Environment { .. }
            | HubError::Name { .. }
            | HubError::Offline { .. }
            | HubError::Incomplete { .. }
            | HubError::NotFound { .. }
            | HubError::Hostile { .. } => true,
            HubError::Network { .. } | HubError::Damaged { .. } | HubError::Io { .. } => false,
        }
    }
}
