//! The ops that models are written with, as methods of [`crate::Graph`] under PyTorch's names: each a line of shapes, its errors and
//! what stands for an argument that is left out there. Axes are counted from the first, 0, or from the last, −1.
//!
//! Invariant: a method adds no semantics to its ops. Look next at `layers` for those that decoders are made of, and at
//! [`crate::ops`] for the ops themselves.

mod axes;
mod gather;
mod matmul;
mod movement;
mod pointwise;
mod reduce;
