//! Conversations and how a model reads them: the messages of a row, the model's chat template, the trained turns.
//!
//! ```text
//! row ──conversation──▶ Conversation ──template──▶ text ──turns──▶ the spans of the assistant's turns
//!                                                     segments: by what the template wrote for whom
//!                                                     changes: where that is not known, by rendering again
//! ```
//!
//! Look next at `encode`, where spans of text become labels of tokens.

mod changes;
mod clock;
mod conversation;
mod parts;
mod segments;
mod template;
mod turn;
mod turns;

pub use clock::Day;
pub use conversation::Conversation;
pub use template::{ChatTemplate, SpecialTokens};
pub use turns::TrainOn;

pub(crate) use template::template_variables;
pub(crate) use turn::{Turn, TurnEnd};
pub(crate) use turns::{renders_all, trained_turns, untrained_turns};
