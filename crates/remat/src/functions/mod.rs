//! Functions as methods of [`Graph`](crate::Graph), under the names of `torch.nn.functional`: a file for each kind.
//!
//! Invariant: a method adds no semantics to its ops. Shapes: B batch, T and S tokens, C channels, H and W rows and columns of
//! images; `..` stands for any axes.

mod attention;
mod convolution;
mod loss;
mod norm;
mod pooling;

pub use attention::AttentionOptions;
pub use convolution::ConvOptions;
pub use loss::{CrossEntropyOptions, Reduction};
pub use norm::BatchNormOptions;
pub use pooling::PoolOptions;
