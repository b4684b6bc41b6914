//! Jinja2 templates as Python renders them, within a budget.
//!
//! ```text
//! source ──lexer──▶ tokens ──parser, expressions──▶ ast ──statements, loops, eval, calls──▶ text
//!                                                          interp: budget, scopes, what was written
//!                                                          ops · methods · filters · checks · format · json
//! ```
//!
//! What a template may name (`builtins`) and what it works with (`value`) lie below both halves.
//!
//! Chat templates come with models from anywhere, and mean what Jinja2 in transformers' sandbox makes of them. So this is
//! an interpreter of its own, for two things that a general engine does not give:
//!
//! - *A budget that holds whatever a template calls.* Steps, bytes and nesting are counted where they are spent
//!   (`meter`), in operators and filters, too. They are counted and not measured, so a template is accepted or refused
//!   alike on every machine, without a process of its own or a clock. Nothing recurses deeper than a stated bound.
//! - *Python's meaning*, from `none is iterable` to the quotes of a printed list, and what a rendering says of itself:
//!   which parts a loop wrote for which message, and which came from a message's words ([`Rendering`]). Turns are found by
//!   that, and not by guessing from rendered prefixes.
//!
//! Invariants: a template reaches no file, no clock and no environment; data never changes; what is not supported is an
//! error with its name, never another text.

mod args;
mod ast;
mod attributes;
mod builtins;
mod calls;
mod checks;
mod comparing;
mod error;
mod eval;
mod expressions;
mod filters;
mod format;
mod indexing;
mod interp;
mod json;
mod lexer;
mod loops;
mod meter;
mod methods;
mod number;
mod ops;
mod parser;
mod read;
mod show;
mod sorting;
mod statements;
mod text;
mod value;

pub use error::{Error, Kind, Result};
pub use interp::{Host, Rendering};
pub use meter::Budget;
pub use value::{Dict, Missing, Object, Said, Seq, SeqKind, Str, Value};

/// The longest template that is read; published ones are below 32 KiB.
const MAX_TEMPLATE_BYTES: usize = 1 << 20;

/// A template that was read.
#[derive(Debug)]
pub struct Template {
    statements: Vec<ast::Statement>,
}

impl Template {
    /// Reads a template, with `trim_blocks`, `lstrip_blocks` and the tags that transformers adds.
    ///
    /// # Errors
    /// What is no Jinja, with its line.
    pub fn new(source: &str) -> Result<Self> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(Error::syntax(1, format!("it has {} bytes, more than {MAX_TEMPLATE_BYTES}", source.len())));
        }
        Ok(Template { statements: parser::parse(source)? })
    }

    /// Renders it with these variables.
    ///
    /// # Errors
    /// The template's own (`raise_exception`), an operation that Python refuses, or a budget that is used up.
    pub fn render(&self, variables: &[(&str, Value)], host: &Host<'_>) -> Result<Rendering> {
        statements::render(&self.statements, variables, host)
    }
}
