//! The formats that a row may have. Invariant: a kind prints as the keys that a row of it has, which is how messages name it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The formats of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowKind {
    /// `{"text"}`.
    Text,
    /// A file of text.
    Document,
    /// `{"messages"}`: a role and a content each.
    Messages,
    /// `{"conversations"}`: as ShareGPT has it, "from" and "value" each.
    Conversations,
    /// `{"prompt", "completion"}`.
    PromptCompletion,
    /// `{"instruction", "input"?, "output"}`, and the other names that a task and its answer go by.
    Instruction,
    /// `{"input_ids", "labels"?}`.
    Tokens,
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RowKind::Text => r#"{"text"}"#,
            RowKind::Document => "a text",
            RowKind::Messages => r#"{"messages"}"#,
            RowKind::Conversations => r#"{"conversations"}"#,
            RowKind::PromptCompletion => r#"{"prompt", "completion"}"#,
            RowKind::Instruction => r#"{"instruction", "output"}"#,
            RowKind::Tokens => r#"{"input_ids"}"#,
        })
    }
}
