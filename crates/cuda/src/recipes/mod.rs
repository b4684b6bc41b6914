//! Which kernels an op launches: one arm for each op, exhaustive, so that an op without a kernel is refused by name.
//!
//! Invariant: a recipe converts attributes and sizes to launches, and nothing else: it sees no address and no driver. Look next
//! at `kernels/*.cu` for what is launched.

mod array;
mod attention;
mod grouped;
mod head;
mod linear;
mod loss;
mod norm;
mod optimizer;
mod pointwise;
mod random;
mod rows;
mod tile;
mod walk;
mod weight;

use crate::call::OpTypes;
use crate::launch::{Launch, fits};
use remat_ir::{Op, OpDef};

/// The launches of an op, in order.
///
/// # Errors
/// An op that has no kernel, or none for these types or sizes.
pub fn launches(op: &Op, call: &OpTypes<'_>) -> Result<Vec<Launch>, String> {
    one_dtype(op, call)?;
    let launches = recipe(op, call)?;
    launches.iter().try_for_each(fits)?;
    Ok(launches)
}

/// Bytes of dynamic shared memory that a kernel is launched with, by its name; of kernels that take heads of any size, for heads
/// of 128 elements.
pub fn dynamic_shared_bytes(kernel: &str) -> usize {
    attention::shared_bytes(kernel).or_else(|| tile::shared_bytes(kernel)).unwrap_or(0)
}

/// Refuses activations of different dtypes, which no kernel takes.
fn one_dtype(op: &Op, call: &OpTypes<'_>) -> Result<(), String> {
    let mut activations = call.reads[op.activations(call.reads.len())].iter();
    let Some(first) = activations.next() else { return Ok(()) };
    // A quantised weight is read in the dtype of the others.
    match activations.find(|ty| ty.dtype.quant_format().is_none() && ty.dtype != first.dtype) {
        Some(other) => Err(format!("there is no CUDA kernel for {first} with {other}; cast one of them")),
        None => Ok(()),
    }
}

#[rustfmt::skip]
fn recipe(op: &Op, call: &OpTypes<'_>) -> Result<Vec<Launch>, String> {
    match op {
        Op::Zeros(_) => pointwise::zeros(call),
        Op::Selection(op) => pointwise::selection(op, call),
        Op::Embedding(_) => head::embedding(call),
        Op::EmbeddingGrad(op) => head::embedding_grad(op, call),
        Op::Linear(op) => linear::linear(op, call),
        Op::LinearDw(op) => linear::linear_dw(op, call),
        Op::BiasGrad(op) => norm::bias_grad(op, call),
        Op::RmsNorm(op) => norm::rms_norm(op, call),
        Op::RmsNormGrad(op) => norm::rms_norm_grad(op, call),
        Op::RmsNormDw(op) => norm::rms_norm_dw(op, call),
        Op::LayerNorm(op) => norm::layer_norm(op, call),
        Op::LayerNormGrad(_) => norm::layer_norm_grad(call),
        Op::LayerNormDw(op) => norm::layer_norm_dw(op, call),
        Op::Rope(op) => norm::rope(op, call),
        Op::Attention(op) => attention::attention(op, call),
        Op::AttentionGrad(op) => attention::attention_grad(op, call),
        Op::CacheWrite(_) => attention::cache_write(call),
        Op::CachedAttention(op) => attention::cached_attention(op, call),
        Op::Swiglu(_) => pointwise::plain("swiglu", call),
        Op::SwigluGrad(_) => pointwise::plain("swiglu_grad", call),
        Op::Gelu(op) => pointwise::gelu("gelu", op.form, call),
        Op::GeluGrad(op) => pointwise::gelu("gelu_grad", op.form, call),
        Op::Geglu(op) => pointwise::gelu("geglu", op.form, call),
        Op::GegluGrad(op) => pointwise::gelu("geglu_grad", op.form, call),
        Op::Softcap(op) => pointwise::softcap("softcap", op.cap, call),
        Op::SoftcapGrad(op) => pointwise::softcap("softcap_grad", op.cap, call),
        Op::Add(_) => pointwise::plain("add", call),
        Op::Scale(op) => pointwise::scale(op, call),
        Op::Cast(_) => pointwise::cast(call),
        Op::Dropout(op) => random::dropout(op, call),
        Op::EmbeddingNoise(op) => random::embedding_noise(op, call),
        Op::Split(op) => rows::split(op, call),
        Op::Concat(op) => rows::concat(op, call),
        Op::SliceRows(op) => rows::slice_rows(op, call),
        Op::WriteRows(op) => rows::write_rows(op, call),
        Op::LinearCrossEntropy(op) => head::linear_cross_entropy(op, call),
        Op::LinearCrossEntropyGrad(op) => head::linear_cross_entropy_grad(op, call, 0),
        Op::LinearCrossEntropyWithGrad(op) => head::linear_cross_entropy_grad(&op.0, call, 1),
        Op::CrossEntropy(op) => loss::cross_entropy(op, call),
        Op::CrossEntropyGrad(op) => loss::cross_entropy_grad(op, call),
        Op::TargetWeight(op) => loss::target_weight(op, call),
        Op::Sum(_) => loss::sum(call),
        Op::Broadcast(_) => pointwise::broadcast(call),
        Op::Accumulate(_) => pointwise::accumulate(call),
        Op::GradNorm(_) => loss::grad_norm(call),
        Op::ClipScale(op) => loss::clip_scale(op),
        Op::AdamW(op) => optimizer::adamw(op, call),
        Op::ClipValue(op) => pointwise::clip_value(op, call),
        Op::AdaptedNorm(op) => linear::adapted_norm(op, call),
        Op::ColumnScale(_) => pointwise::column_scale(call),
        Op::ColumnScaleDw(op) => norm::column_scale_dw(op, call),
        Op::GroupedLinear(op) => grouped::grouped_linear(op, call),
        Op::GroupedLinearDw(op) => grouped::grouped_linear_dw(op, call),
        Op::Route(op) => grouped::route(op, call),
        Op::AdamW8bit(op) => optimizer::adamw8bit(&op.0, call),
        Op::AddGradient(_) => pointwise::add_gradient(call),
        Op::Sgd(op) => optimizer::sgd(op, call),
        Op::Lion(op) => optimizer::lion(op, call),
        Op::Reshape(_) => rows::reshape(call),
        Op::Unary(op) => array::unary(op, call),
        Op::UnaryGrad(op) => array::unary_grad(op, call),
        Op::Binary(op) => array::binary(op, call),
        Op::BinaryGrad(op) => array::binary_grad(op, call),
        Op::Compare(op) => array::compare(op, call),
        Op::Reduce(op) => array::reduce(op, call),
        Op::ReduceGrad(_) => array::reduce_grad(call),
        Op::Expand(_) => array::expand(call),
        Op::Transpose(op) => array::transpose(op, call),
        Op::Slice(op) => array::slice(op, call),
        Op::Pad(op) => array::pad(op, call),
        Op::Softmax(op) => array::softmax(op, call),
        Op::SoftmaxGrad(op) => array::softmax_grad(op, call),
        Op::Matmul(op) => array::matmul(op, call),
        Op::Gather(op) => array::gather(op, call),
        Op::GatherGrad(op) => array::gather_grad(op, call),
        Op::TakeAlongAxis(op) => array::take_along_axis(op, call),
        Op::TakeAlongAxisGrad(op) => array::take_along_axis_grad(op, call),
        Op::Select(_) => array::select(call),
        Op::MaskedFill(op) => array::masked_fill(op, call),
        Op::MaskedAttention(_) | Op::MaskedAttentionGrad(_) | Op::Conv2d(_) | Op::Conv2dDx(_) | Op::Conv2dDw(_)
        | Op::Pool2d(_) | Op::Pool2dGrad(_) | Op::GroupNorm(_) | Op::GroupNormGrad(_) | Op::GroupNormDw(_)
        | Op::BatchNorm(_) | Op::BatchNormGrad(_) | Op::BatchNormDw(_) | Op::BatchNormUpdate(_) | Op::PairLoss(_)
        | Op::PairLossGrad(_) => Err("it has no CUDA kernel; train on the CPU, or without it".to_string()),
        Op::ExchangeShards(_) | Op::AddParts(_) | Op::SquareSums(_) | Op::NormOfSquares(_) | Op::GatherShards(_) => {
            Err("several ranks train on CPUs alone; start one process for a card".to_string())
        }
        Op::Custom(_) => Err("kernels of custom ops run on the CPU alone".to_string()),
    }
}
