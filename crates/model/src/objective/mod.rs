//! What a model is trained for: the loss, what it reads, what divides it, and what is told of it.
//!
//! Invariant: an objective is one file and its line here; the decoder, the adapters and the optimizer know none.

mod definition;
mod next_token;

pub(crate) use definition::LossOperands;
pub use definition::{Metrics, Objective};
pub use next_token::NEXT_TOKEN;
