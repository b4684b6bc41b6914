//! The ops that models are written with, as methods of [`crate::Graph`] under PyTorch's names, a file for each kind: each a line of
//! shapes, its errors and what stands for an argument that is left out there. Axes are counted from the first, 0, or from the
//! last, −1. In shapes, B is the batch, T and S tokens, C channels, H and W rows and columns of images; `..` stands for any axes.
//!
//! Invariant: a method adds no semantics to its ops. Look next at `layers` for those that decoders are made of, and at
//! [`crate::ops`] for the ops themselves.

mod attention;
mod axes;
mod convolution;
mod gather;
mod loss;
mod matmul;
mod movement;
mod norm;
mod pointwise;
mod pooling;
mod reduce;

pub use attention::AttentionOptions;
pub use convolution::ConvOptions;
pub use loss::{CrossEntropyOptions, Reduction};
pub use norm::BatchNormOptions;
pub use pooling::PoolOptions;
