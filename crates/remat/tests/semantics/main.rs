//! What gradient checkpointing must do, line by line: each test's name says the behaviour it holds.
//!
//! The list was collected from what torch.utils.checkpoint, jax.checkpoint and their test suites verify, and translated to
//! a compiled step; its letters name the modules. Lines without meaning in a compiled graph:
//! - `preserve_rng_state = false`: keys of random ops are values of the graph, there is no generator state to preserve.
//! - Early stop has no switch: recomputed nodes are inserted on demand of a reader, so none is made that nothing reads.
//! - Hooks, re-entrance and exceptions thrown inside a recomputation: a recomputation is steps of a plan, no user code runs.
//! - Several ranks: one process, one machine so far.
//! - A profile of policies side by side, `plan --explain` and `--timeline` are verbs of the binary, tested there.

mod budget;
mod core;
mod custom;
mod dtypes;
mod functions;
mod index;
mod introspection;
mod models;
mod names;
mod nesting;
mod offload;
mod replay;
mod selective;
mod sharing;
mod transparency;
