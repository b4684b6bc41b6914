//! Models and data sets by their names on the Hugging Face Hub: the local cache as `huggingface_hub` lays it out, and what
//! is missing there fetched into it.
//!
//! Invariants: nothing is sent where the cache has what is asked for, nor under `HF_HUB_OFFLINE`; a token goes to the
//! endpoint alone, whatever it redirects to; no name, size or hash of a repository is trusted: a file is in the cache
//! under its hash, whole, or it is not there. Look next at [`Hub`] for the settings, `snapshot` for the order of things
//! and `transfer` for what is sent.

mod cache;
mod dataset_files;
mod environment;
mod error;
mod listing;
mod model_files;
mod repository;
mod snapshot;
mod transfer;

pub use environment::Hub;
pub use error::HubError;
pub use model_files::Wanted;
pub use repository::{Kind, Repository};
pub use snapshot::Progress;
