//! Generation from a model of files, or from the one in training. Look next at `decoding` for how, at `batch` for many
//! texts side by side, and at `sampling` for the choice of a token.

pub(crate) mod batch;
mod cached_model;
pub(crate) mod decoding;
pub(crate) mod forward;
pub(crate) mod generator;
pub(crate) mod sample_texts;
pub(crate) mod sampling;
pub(crate) mod text_stream;
