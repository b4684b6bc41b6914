//! Models and adapters as GGUF files, for llama.cpp.
//!
//! `model` writes a model, with an adapter folded in if one is given; `adapter` writes an adapter by itself; `rows` orders and
//! encodes rows on their way; `file` is what both share. What llama.cpp calls things is in
//! `remat_formats::GgufArchitecture`. Invariant: as for `merge`, no more is held than a weight's codes, its A and B, and pieces.

mod adapter;
mod file;
mod model;
mod rows;

pub use file::{GgufOptions, GgufReport};
