//! Layers that hold their parameters, under the names and with the first values of torch.nn.
//!
//! Invariant: a module makes its parameters once, when it is made; each `forward` uses them again, so that calling one twice
//! ties its weights. Parameters are named `<scope>.<module>.<parameter>` as in PyTorch's state_dict.

mod dropout;
mod embedding;
mod layer_norm;
mod linear;
mod multi_head_attention;
mod rms_norm;

pub use dropout::Dropout;
pub use embedding::Embedding;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use multi_head_attention::MultiHeadAttention;
pub use rms_norm::RmsNorm;
