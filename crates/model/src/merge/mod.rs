//! A base with an adapter folded in: W + scale · B·A, computed in f32 and rounded once, to what is written.
//!
//! `merged` streams the parameters, `low_rank` is what an adapter adds to one, `folder` writes a model folder in the files that
//! `shards` cuts it into. `export` beside this module writes GGUF from the same stream.

mod folder;
mod low_rank;
mod merged;
mod shards;

pub use folder::{MergeOptions, MergeReport};
pub(crate) use low_rank::OpenAdapter;
pub(crate) use merged::Merged;
