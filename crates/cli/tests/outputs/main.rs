//! What the verbs write, from outside: never over an input, never over what remat did not write, and the old goes only once
//! the new is whole.
//!
//! Invariant: every test works on copies in a folder of its own. One module per question.

mod force;
mod inputs;
mod named;
mod tree;
