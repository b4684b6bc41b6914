//! Layers that hold their parameters and buffers, under the names and with the first values of torch.nn.
//!
//! Invariant: a module makes its parameters once, when it is made; each `forward` uses them again, so that calling one twice
//! ties its weights. Parameters and buffers are named `<scope>.<module>.<parameter>` as in PyTorch's state_dict. A module does
//! what its graph is for: in a [`crate::Graph::evaluation`] nothing is dropped and batch norm uses its running statistics.

mod batch_norm;
mod conv1d;
mod conv2d;
mod convolution;
mod dropout;
mod embedding;
mod group_norm;
mod layer_norm;
mod linear;
mod multi_head_attention;
mod rms_norm;

pub use batch_norm::{BatchNorm, BatchNorm1d, BatchNorm2d};
pub use conv1d::Conv1d;
pub use conv2d::Conv2d;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use group_norm::GroupNorm;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use multi_head_attention::{InProjection, MultiHeadAttention, MultiHeadAttentionOptions};
pub use rms_norm::RmsNorm;
