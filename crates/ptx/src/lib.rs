//! PTX read and run on the CPU, strictly: how CUDA kernels are tested on a machine without a card.
//!
//! A [`Module`] is read from PTX text and decoded once; [`Module::launch`] runs one of its kernels over a [`Memory`], warp by
//! warp. Lanes that a branch parts meet again at its immediate post-dominator. Results are those of a card where PTX defines
//! them; approximate functions and tensor-core sums are rounded once from f64.
//!
//! Invariants: what is not known (an opcode, a modifier, a directive) is an error that names its line; and so is what a card would
//! let pass: a race between threads, a read of bytes that nobody wrote or that a `cp.async` still brings, an access outside
//! the regions that a launch was given, a misaligned access, a barrier or a shuffle that not all its lanes reach, an integer divided
//! by zero. The order of blocks, of warps between barriers, and of the sides of a branch follows from a seed.
//!
//! Not supported, and refused: device functions, variables in global memory, barriers of part of a block, atomics on floats,
//! textures, clusters and everything of sm_90 alone. Look next at `block.rs`.

mod access;
mod atomic;
mod block;
mod collective;
mod control_flow;
mod convert;
mod copies;
mod decode;
mod decode_memory;
mod decode_warp;
mod error;
mod lane_error;
mod lanes;
mod launch;
mod lex;
mod memory;
mod names;
mod parse;
mod program;
mod round;
mod shuffle;
mod store;
mod syntax;
mod tensor_core;
mod types;
mod warp;

pub use error::{Fault, PtxError};
pub use launch::{Launch, Module, Ran};
pub use memory::{Memory, Region};
