//! Which kernel an op calls: one arm per op, exhaustive, so that an op without a kernel does not compile.
//!
//! Invariant: this file converts attributes to kernel arguments, and nothing else. Look next at `call.rs` for operands as slices
//! and at `arrays.rs` for the ops that walk tensors by axes.

use super::arrays;
use super::attention_calls::{
    run_attention, run_attention_grad, run_cached_attention, run_masked_attention, run_masked_attention_grad,
};
use super::call::Call;
use super::expert_calls::{run_grouped_linear, run_grouped_linear_dw, run_route};
use super::image_calls::{channel_size, conv_size, pooling, result_shape, run_batch_norm, run_batch_norm_grad};
use super::rank_calls::{self, present};
use super::resolved_step::{CustomReads, CustomWrites, ResolvedStep};
use crate::ThreadPool;
use crate::element::Element;
use crate::kernels::adamw8bit::Moments;
use crate::kernels::adapted_norm::AdaptedSize;
use crate::kernels::cross_entropy::Targets;
use crate::kernels::gemm::{Epilogue, Start};
use crate::kernels::linear_cross_entropy::{Head, HeadSize};
use crate::kernels::linear_cross_entropy_grad::HeadGrad;
use crate::kernels::{self as kernels, dropout::Dropout, linear::LinearSize};
use half::bf16;
use remat_ir::ops;
use remat_ir::{Node, Op, OpDef};
use remat_plan::{CustomCall, DeviceError, Plan};
use remat_tensor::DType;

/// Runs one resolved step, with the kernels of its activations' dtype.
pub(super) fn run(pool: &ThreadPool, plan: &Plan, step: &ResolvedStep) -> Result<(), DeviceError> {
    run_node(pool, plan.graph.node(step.op), step)
}

/// The same of a node wherever its plan is.
pub(super) fn run_node(pool: &ThreadPool, node: &Node, step: &ResolvedStep) -> Result<(), DeviceError> {
    let call = Call { pool, step, node };
    match step.reads.get(node.op.activations(step.reads.len()).start).map(|operand| operand.ty.dtype) {
        Some(DType::BF16) => compute::<bf16>(&call),
        _ => compute::<f32>(&call),
    }
}

/// `T` is the type of activations and weights; statistics, losses and gradients of parameters are f32.
fn compute<T: Element>(call: &Call<'_>) -> Result<(), DeviceError> {
    let pool = call.pool;
    match &call.node.op {
        Op::Zeros(_) => zeros(call),
        Op::Selection(op) => selection(call, op),
        Op::Embedding(_) => {
            let ids = call.ids(1, call.step.table_rows.unwrap_or(call.shape(0)[0]))?;
            match call.step.table_rows {
                Some(_) => call.write::<T>(0).copy_from_slice(call.read::<T>(0)),
                None => kernels::embedding::embedding(pool, call.last(0), ids, call.read::<T>(0), call.write::<T>(0)),
            }
        }
        Op::EmbeddingGrad(op) => {
            let ids = call.ids(1, op.rows)?;
            kernels::embedding_grad::embedding_grad(
                pool,
                call.last(0),
                ids,
                call.read::<T>(0),
                op.accumulate,
                call.write(0),
            );
        }
        Op::Linear(op) => run_linear::<T>(call, op),
        Op::LinearDw(op) => {
            let size = LinearSize { tokens: call.rows(0), input: call.last(0), output: call.last(1) };
            let (x, dy) = (call.read::<T>(0), call.read::<T>(1));
            kernels::linear_dw::linear_dw(pool, size, op.layout, x, dy, op.alpha, op.accumulate, call.write(0));
        }
        Op::GroupedLinear(op) => run_grouped_linear::<T>(call, op)?,
        Op::GroupedLinearDw(op) => run_grouped_linear_dw::<T>(call, op)?,
        Op::Route(op) => run_route(call, op),
        Op::BiasGrad(op) => kernels::bias_grad::bias_grad(pool, call.read::<T>(0), op.accumulate, call.write(0)),
        Op::RmsNorm(op) => {
            let (x, w) = (call.read::<T>(0), call.read::<T>(1));
            kernels::rms_norm::rms_norm(pool, x, w, op.unit_offset, op.eps, call.write::<T>(0), call.write(1));
        }
        Op::RmsNormGrad(op) => {
            let (dy, x, w) = (call.read::<T>(0), call.read::<T>(1), call.read::<T>(2));
            kernels::rms_norm_grad::rms_norm_grad(pool, dy, x, w, op.unit_offset, call.read(3), call.write::<T>(0));
        }
        Op::RmsNormDw(op) => {
            let (dy, x) = (call.read::<T>(0), call.read::<T>(1));
            kernels::rms_norm_dw::rms_norm_dw(pool, dy, x, call.read(2), op.accumulate, call.write(0));
        }
        Op::LayerNorm(op) => {
            let (x, w, b) = (call.read::<T>(0), call.read::<T>(1), call.read::<T>(2));
            kernels::layer_norm::layer_norm(pool, x, w, b, op.eps, call.write::<T>(0), call.write(1), call.write(2));
        }
        Op::LayerNormGrad(_) => {
            let (dy, x, w) = (call.read::<T>(0), call.read::<T>(1), call.read::<T>(2));
            kernels::layer_norm_grad::layer_norm_grad(pool, dy, x, w, call.read(3), call.read(4), call.write::<T>(0));
        }
        Op::LayerNormDw(op) => {
            let (dy, x, mean, rstd) = (call.read::<T>(0), call.read::<T>(1), call.read(2), call.read(3));
            kernels::layer_norm_dw::layer_norm_dw(pool, dy, x, mean, rstd, op.accumulate, call.write(0), call.write(1));
        }
        Op::Rope(op) => {
            let (x, positions, inv_freq) = (call.read::<T>(0), call.ints(1), call.read(2));
            let heads = [call.last(0) / op.head_size, op.head_size];
            kernels::rope::rope(pool, heads, x, positions, inv_freq, op.scale, op.inverse, call.write::<T>(0));
        }
        Op::Attention(op) => run_attention::<T>(call, op),
        Op::AttentionGrad(op) => run_attention_grad::<T>(call, op),
        Op::MaskedAttention(op) => run_masked_attention::<T>(call, op),
        Op::MaskedAttentionGrad(op) => run_masked_attention_grad::<T>(call, op),
        Op::CacheWrite(_) => {
            let positions = call.positions(2, call.shape(0)[1])?;
            let (batch, width) = (call.shape(0)[0], call.last(0));
            kernels::cache_write::cache_write(pool, batch, width, call.read::<T>(1), positions, call.write::<T>(0));
        }
        Op::CachedAttention(op) => run_cached_attention::<T>(call, op)?,
        Op::Swiglu(_) => kernels::swiglu::swiglu(pool, call.shared::<T>(0), call.shared::<T>(1), call.out::<T>(0)),
        Op::SwigluGrad(_) => {
            let (dy, gate, up) = (call.shared::<T>(0), call.shared::<T>(1), call.shared::<T>(2));
            kernels::swiglu_grad::swiglu_grad(pool, dy, gate, up, call.out::<T>(0), call.out::<T>(1));
        }
        Op::Gelu(op) => kernels::gelu::gelu(pool, op.form, call.shared::<T>(0), call.out::<T>(0)),
        Op::GeluGrad(op) => {
            kernels::gelu_grad::gelu_grad(pool, op.form, call.shared::<T>(0), call.shared::<T>(1), call.out::<T>(0))
        }
        Op::Geglu(op) => {
            let (gate, up) = (call.shared::<T>(0), call.shared::<T>(1));
            kernels::geglu::geglu(pool, op.form, gate, up, call.out::<T>(0));
        }
        Op::GegluGrad(op) => {
            let (dy, gate, up) = (call.shared::<T>(0), call.shared::<T>(1), call.shared::<T>(2));
            kernels::geglu_grad::geglu_grad(pool, op.form, [dy, gate, up], [call.out::<T>(0), call.out::<T>(1)]);
        }
        Op::Softcap(op) => kernels::softcap::softcap(pool, op.cap, call.shared::<T>(0), call.out::<T>(0)),
        Op::SoftcapGrad(op) => {
            let (dy, y) = (call.shared::<T>(0), call.shared::<T>(1));
            kernels::softcap_grad::softcap_grad(pool, op.cap, dy, y, call.out::<T>(0));
        }
        Op::Add(_) => kernels::add::add(pool, call.shared::<T>(0), call.shared::<T>(1), call.out::<T>(0)),
        Op::Scale(op) => kernels::scale::scale(pool, call.shared::<T>(0), op.factor, call.out::<T>(0)),
        Op::Cast(op) => match op.to {
            DType::BF16 => kernels::cast::cast(pool, call.read::<T>(0), call.write::<bf16>(0)),
            _ => kernels::cast::cast(pool, call.read::<T>(0), call.write::<f32>(0)),
        },
        Op::Dropout(op) => {
            let dropout = Dropout::new(op.p, call.rng(1), op.stream);
            kernels::dropout::dropout(pool, dropout, op.first, call.shared::<T>(0), call.out::<T>(0));
        }
        Op::EmbeddingNoise(op) => {
            let (key, line) = ((op.alpha, call.rng(2), op.stream), call.shape(0)[1]);
            let (starts, x) = (call.ints(1), call.shared::<T>(0));
            kernels::embedding_noise::embedding_noise(pool, key, line, starts, x, call.out::<T>(0));
        }
        Op::Split(op) => arrays::split::<T>(call, op),
        Op::Concat(op) => arrays::concat::<T>(call, op),
        Op::SliceRows(op) => {
            let (from, rows) = (op.first * call.last(0), call.write::<T>(0));
            kernels::slice_rows::slice_rows(pool, &call.read::<T>(0)[from..from + rows.len()], rows);
        }
        Op::WriteRows(op) => {
            let (x, rows) = (call.shared::<T>(0), call.read::<T>(1));
            kernels::write_rows::write_rows(pool, x, op.first * call.last(0), rows, call.out::<T>(0));
        }
        Op::LinearCrossEntropy(op) => {
            let head = the_head::<T>(call, op)?;
            kernels::linear_cross_entropy::linear_cross_entropy(pool, head, call.workspace(), call.write(0));
        }
        Op::LinearCrossEntropyGrad(op) => {
            let (head, dloss, grad) =
                (the_head::<T>(call, &op.forward())?, call.read(op.dloss_operand()), head_grad(call, op, 0));
            kernels::linear_cross_entropy_grad::linear_cross_entropy_grad(pool, head, dloss, call.workspace(), grad);
        }
        Op::LinearCrossEntropyWithGrad(op) => {
            let (head, dloss, grad) =
                (the_head::<T>(call, &op.0.forward())?, call.read(op.0.dloss_operand()), head_grad(call, &op.0, 1));
            let loss = call.write(0);
            let run = kernels::linear_cross_entropy_with_grad::linear_cross_entropy_with_grad;
            run(pool, head, dloss, call.workspace(), loss, grad);
        }
        Op::Conv2d(op) => {
            let size = conv_size(call.shape(0), call.shape(1), result_shape(call), op.groups, op.window);
            let (x, w, bias) = (call.read::<T>(0), call.read::<T>(1), op.bias.then(|| call.read::<T>(2)));
            kernels::conv2d::conv2d(pool, size, x, w, bias, call.write::<T>(0));
        }
        Op::Conv2dDx(op) => {
            let size = conv_size(result_shape(call), call.shape(1), call.shape(0), op.groups, op.window);
            kernels::conv2d_dx::conv2d_dx(pool, size, call.read::<T>(0), call.read::<T>(1), call.write::<T>(0));
        }
        Op::Conv2dDw(op) => {
            let size = conv_size(call.shape(1), result_shape(call), call.shape(0), op.groups, op.window);
            let (dy, x, db) = (call.read::<T>(0), call.read::<T>(1), op.bias.then(|| call.write(1)));
            kernels::conv2d_dw::conv2d_dw(pool, size, dy, x, op.accumulate, call.write(0), db);
        }
        Op::Pool2d(op) => {
            let of = pooling(*op, call.shape(0), result_shape(call));
            kernels::pool2d::pool2d(pool, of, call.read::<T>(0), call.write::<T>(0));
        }
        Op::Pool2dGrad(op) => {
            let of = pooling(op.pool, result_shape(call), call.shape(0));
            let x = (call.step.reads.len() > 1).then(|| call.read::<T>(1));
            kernels::pool2d_grad::pool2d_grad(pool, of, call.read::<T>(0), x, call.write::<T>(0));
        }
        Op::GroupNorm(op) => {
            let (operands, statistics) = ([0, 1, 2].map(|i| call.read::<T>(i)), [1, 2].map(|i| call.write(i)));
            let size = channel_size(call.shape(0));
            kernels::group_norm::group_norm(pool, size, op.groups, operands, op.eps, call.write::<T>(0), statistics);
        }
        Op::GroupNormGrad(op) => {
            let (operands, statistics) = ([0, 1, 2].map(|i| call.read::<T>(i)), [3, 4].map(|i| call.read(i)));
            let run = kernels::group_norm_grad::group_norm_grad;
            run(pool, channel_size(call.shape(0)), op.groups, operands, statistics, call.write::<T>(0));
        }
        Op::GroupNormDw(op) => {
            let (operands, statistics) = ([0, 1].map(|i| call.read::<T>(i)), [2, 3].map(|i| call.read(i)));
            let (size, gradients) = (channel_size(call.shape(0)), [0, 1].map(|i| call.write(i)));
            let run = kernels::group_norm_dw::group_norm_dw;
            run(pool, size, op.groups, operands, statistics, op.accumulate, gradients);
        }
        Op::BatchNorm(op) => run_batch_norm::<T>(call, op),
        Op::BatchNormGrad(op) => run_batch_norm_grad::<T>(call, op),
        Op::BatchNormDw(op) => {
            let (operands, statistics) = ([0, 1].map(|i| call.read::<T>(i)), [2, 3].map(|i| call.read(i)));
            let (size, gradients) = (channel_size(call.shape(0)), [0, 1].map(|i| call.write(i)));
            let run = kernels::batch_norm_dw::batch_norm_dw;
            run(pool, size, operands, statistics, op.eps, op.accumulate, gradients);
        }
        Op::BatchNormUpdate(op) => {
            let (running, new) = ([0, 1].map(|i| call.write(i)), [2, 3].map(|i| call.read(i)));
            kernels::batch_norm_update::batch_norm_update(op, running, new);
        }
        Op::CrossEntropy(op) => {
            let targets = targets(call, op, 1, 2)?;
            let logits = call.read::<T>(0);
            kernels::cross_entropy::cross_entropy(pool, logits, targets, call.write(0), call.write(1));
        }
        Op::CrossEntropyGrad(op) => {
            let targets = targets(call, &op.forward(), 1, 4)?;
            let (logits, lse, dloss) = (call.shared::<T>(0), call.read(2), call.read(3));
            kernels::cross_entropy_grad::cross_entropy_grad(pool, logits, targets, lse, dloss, call.out::<T>(0));
        }
        Op::TargetWeight(op) => {
            let weights = ops::CrossEntropy { ignored: op.ignored, weighted: op.weighted, smoothing: 0.0 };
            kernels::target_weight::target_weight(pool, targets(call, &weights, 0, 1)?, call.write(0));
        }
        Op::PairLoss(op) => {
            let (x, y, pos_weight) = (call.read::<T>(0), call.read::<T>(1), op.pos_weight.then(|| call.read(2)));
            kernels::pair_loss::pair_loss(pool, op.function, pos_weight, x, y, call.write(0));
        }
        Op::PairLossGrad(op) => {
            let (pairs, dloss) = ([call.shared::<T>(0), call.shared::<T>(1)], call.read(2));
            let pos_weight = op.pos_weight.then(|| call.read(3));
            kernels::pair_loss_grad::pair_loss_grad(pool, op, pos_weight, pairs, dloss, call.out::<T>(0));
        }
        Op::Sum(_) => call.write::<f32>(0)[0] = kernels::sum::sum(pool, call.read(0)) as f32,
        Op::Broadcast(_) => kernels::broadcast::broadcast(pool, call.read::<f32>(0)[0], call.write::<f32>(0)),
        Op::Accumulate(_) => kernels::accumulate::accumulate(pool, call.read::<T>(1), call.write::<f32>(0)),
        Op::GradNorm(_) => {
            let gradients = (0..call.step.reads.len()).map(|index| call.read(index));
            call.write::<f32>(0)[0] = kernels::grad_norm::grad_norm(pool, gradients);
        }
        Op::ClipScale(op) => {
            call.write::<f32>(0)[0] = kernels::clip_scale::clip_scale(call.read::<f32>(0)[0], op.max_norm)
        }
        Op::AdamW(op) => {
            let update = adamw_scalars(call, op, 4)?;
            let (p, g) = updated(call, op);
            kernels::adamw::adamw(call.pool, update, p, g, call.write(2), call.write(3));
        }
        Op::AdamW8bit(ops::AdamW8bit(op)) => run_adamw8bit(call, op)?,
        Op::Unary(op) => kernels::unary::unary(pool, op.function, call.shared::<T>(0), call.out::<T>(0)),
        Op::UnaryGrad(op) => {
            let (dy, at) = (call.shared::<T>(0), call.shared::<T>(1));
            kernels::unary_grad::unary_grad(pool, op.function, dy, at, call.out::<T>(0));
        }
        Op::Binary(op) => arrays::binary::<T>(call, op),
        Op::BinaryGrad(op) => arrays::binary_grad::<T>(call, op),
        Op::Compare(op) => arrays::compare::<T>(call, op),
        Op::Reduce(op) => {
            let (x, y) = (call.read::<T>(0), call.write::<T>(0));
            kernels::reduce::reduce(pool, op.reduction, x, call.shape(0), &op.axes, y);
        }
        Op::ReduceGrad(op) => {
            let (dy, x, y) = (call.read::<T>(0), call.read::<T>(1), call.read::<T>(2));
            kernels::reduce_grad::reduce_grad(pool, dy, x, y, call.shape(1), &op.axes, call.write::<T>(0));
        }
        Op::Expand(op) => {
            kernels::expand::expand(pool, call.read::<T>(0), call.shape(0), call.write::<T>(0), &op.shape)
        }
        Op::Reshape(_) => kernels::reshape::reshape(pool, call.shared::<T>(0), call.out::<T>(0)),
        Op::Transpose(op) => {
            let (x, y) = (call.read::<T>(0), call.write::<T>(0));
            kernels::transpose::transpose(pool, x, call.shape(0), &op.permutation, y);
        }
        Op::Slice(op) => {
            let (x, y, cut) = (call.read::<T>(0), call.write::<T>(0), (&op.starts[..], &op.steps[..]));
            kernels::slice::slice(pool, x, call.shape(0), cut, y, call.result_shape(0));
        }
        Op::Pad(op) => {
            let (x, y, by) = (call.read::<T>(0), call.write::<T>(0), (&op.low[..], &op.between[..]));
            kernels::pad::pad(pool, x, call.shape(0), T::from_f32(op.value), by, y, call.result_shape(0));
        }
        Op::Softmax(op) => {
            kernels::softmax::softmax(pool, call.last(0), op.log, call.shared::<T>(0), call.out::<T>(0));
        }
        Op::SoftmaxGrad(op) => {
            let (dy, y) = (call.shared::<T>(0), call.shared::<T>(1));
            kernels::softmax_grad::softmax_grad(pool, call.last(1), op.log, dy, y, call.out::<T>(0));
        }
        Op::Matmul(op) => arrays::matmul::<T>(call, *op),
        Op::Gather(op) => arrays::gather::<T>(call, op)?,
        Op::GatherGrad(op) => arrays::gather_grad::<T>(call, op)?,
        Op::TakeAlongAxis(op) => arrays::take_along_axis::<T>(call, op)?,
        Op::TakeAlongAxisGrad(op) => arrays::take_along_axis_grad::<T>(call, op)?,
        Op::Select(_) => arrays::select::<T>(call)?,
        Op::MaskedFill(op) => arrays::masked_fill::<T>(call, op)?,
        Op::AddGradient(_) => kernels::add_gradient::add_gradient(call.pool, call.write(0), call.write(1)),
        Op::AddParts(op) => {
            let (own, present) = (call.last(1), present(call, 2, call.shape(1)[0])?);
            kernels::add_parts::add_parts(pool, &call.read(1)[..present * own], own, op.first, call.write(0));
        }
        Op::SquareSums(op) => {
            let gradients = op.blocks.iter().enumerate().map(|(index, &block)| (call.read(index), block));
            kernels::square_sums::square_sums(pool, gradients, op.first, call.write_ints(0));
        }
        Op::NormOfSquares(op) => {
            call.write::<f32>(0)[0] = kernels::norm_of_squares::norm_of_squares(op, call.ints(0));
        }
        Op::ExchangeShards(op) => rank_calls::run_exchange_shards(call, op)?,
        Op::GatherShards(op) => rank_calls::run_gather_shards(call, op)?,
        Op::Sgd(op) => run_sgd(call, op),
        Op::Lion(op) => run_lion(call, op),
        Op::ClipValue(op) => {
            kernels::clip_value::clip_value(pool, op.max_value, call.read::<f32>(1)[0], call.write::<f32>(0))
        }
        Op::AdaptedNorm(op) => {
            let size = AdaptedSize { input: call.last(0), output: call.shape(1)[0], rank: call.last(1) };
            let (a, b, w) = (call.read::<T>(0), call.read::<T>(1), call.weight::<T>(2));
            kernels::adapted_norm::adapted_norm(pool, size, op.layout, op.scale, a, b, w, call.write(0));
        }
        Op::ColumnScale(_) => {
            let (x, w, norm) = (call.shared::<T>(0), call.read::<f32>(1), call.read::<f32>(2));
            kernels::column_scale::column_scale(pool, x, w, norm, call.out::<T>(0));
        }
        Op::ColumnScaleDw(op) => {
            let (dy, x, norm) = (call.read::<T>(0), call.read::<T>(1), call.read::<f32>(2));
            kernels::column_scale_dw::column_scale_dw(pool, dy, x, norm, op.accumulate, call.write(0));
        }
        Op::Custom(op) => {
            let kernel = call.step.custom.as_ref().expect("`resolve` found the kernel of every custom op");
            let (inputs, mut outputs) = (CustomReads(&call.step.reads), CustomWrites(&call.step.writes));
            let custom = CustomCall::new(op, &inputs, &mut outputs);
            kernel.run(custom).map_err(|message| call.bad_input(message))?;
        }
    }
    Ok(())
}

/// Zero is zero bytes in every dtype, so only the size of one element matters.
fn zeros(call: &Call<'_>) {
    match call.step.writes[0].ty.dtype {
        DType::BF16 => kernels::zeros::zeros(call.pool, call.write::<bf16>(0)),
        _ => kernels::zeros::zeros(call.pool, call.write::<f32>(0)),
    }
}

/// Without operands, the result says in which dtype.
fn selection(call: &Call<'_>, op: &ops::Selection) {
    match op.dtype {
        DType::BF16 => kernels::selection::selection(call.pool, &op.chosen, call.write::<bf16>(0)),
        _ => kernels::selection::selection(call.pool, &op.chosen, call.write::<f32>(0)),
    }
}

fn run_linear<T: Element>(call: &Call<'_>, op: &ops::Linear) {
    let output = call.step.writes[0].ty.shape.last();
    let size = LinearSize { tokens: call.rows(0), input: call.last(0), output };
    let start = op.residual_operand().map_or(Start::Zero, |index| Start::Residual(call.shared::<T>(index)));
    let epilogue = Epilogue { alpha: op.alpha, start, bias: op.bias.then(|| call.read::<T>(2)) };
    let (x, w, y) = (call.read::<T>(0), call.weight::<T>(1), call.out::<T>(0));
    let (Some(low_rank), Some(index)) = (&op.low_rank, op.low_rank_operand()) else {
        return kernels::linear::linear(call.pool, size, op.layout, x, w, epilogue, y);
    };
    let adapter = kernels::linear::Adapter {
        rank: call.last(index),
        beta: low_rank.beta,
        layout: low_rank.layout,
        u: call.read::<T>(index),
        b: call.read::<T>(index + 1),
    };
    kernels::linear::adapted_linear(call.pool, size, op.layout, x, w, adapter, epilogue, y);
}

/// The language-model head's operands; a target outside the vocabulary is an error, not a crash.
fn the_head<'a, T: Element>(call: &Call<'a>, op: &ops::LinearCrossEntropy) -> Result<Head<'a, T, T>, DeviceError> {
    let bias = op.bias.then(|| call.read::<T>(2));
    let (vocab, targets) = (call.shape(1)[0], call.ints(op.targets_operand()));
    let known = |&target: &i32| target == ops::IGNORED || usize::try_from(target).is_ok_and(|t| t < vocab);
    if let Some(target) = targets.iter().find(|target| !known(target)) {
        return Err(call.bad_input(format!("target {target} lies outside the vocabulary of {vocab}")));
    }
    Ok(Head {
        size: HeadSize { tokens: call.rows(0), hidden: call.last(0), vocab },
        softcap: op.softcap,
        h: call.read::<T>(0),
        weight: call.read::<T>(1),
        bias,
        low_rank: op.u_operand().map(|at| (call.last(at), call.read::<T>(at), call.read::<T>(at + 1))),
        targets,
    })
}

/// What the gradient writes, behind `first` other results.
fn head_grad<'a, T: Element>(call: &Call<'a>, op: &ops::LinearCrossEntropyGrad, first: usize) -> HeadGrad<'a, T> {
    let at = |name: &str| op.result(name).map(|result| first + result);
    HeadGrad {
        dh: at("dh").map(|result| call.write(result)),
        du: at("du").map(|result| call.write(result)),
        dw: at("dw").map(|result| call.write(result)),
        db: at("db").map(|result| call.write(result)),
        dup: at("dup").map(|result| call.write(result)),
        accumulate: op.accumulate,
    }
}

/// Operand `index` as classes, with weights at operand `weights` if there are any; a target without a class is an error, not
/// a crash.
fn targets<'a>(
    call: &Call<'a>,
    op: &ops::CrossEntropy,
    index: usize,
    weights: usize,
) -> Result<Targets<'a>, DeviceError> {
    let (targets, weights) = (call.ints(index), op.weighted.then(|| call.read(weights)));
    // The classes are the logits' last axis, or, where there are no logits, those with weights.
    let classes = if index > 0 { call.last(0) } else { weights.map_or(usize::MAX, <[f32]>::len) };
    let known = |&target: &i32| target == op.ignored || usize::try_from(target).is_ok_and(|t| t < classes);
    match targets.iter().find(|target| !known(target)) {
        Some(target) => {
            let ignored = op.ignored;
            let classes = if classes == usize::MAX { "0 on".to_string() } else { format!("0 to {}", classes - 1) };
            Err(call.bad_input(format!(
                "target {target} is neither a class, from {classes}, nor {ignored}, which is ignored"
            )))
        }
        None => Ok(Targets { classes: targets, ignored: op.ignored, smoothing: op.smoothing, weights }),
    }
}

/// The scalars of one update: learning rate, step and factor of the gradient are the three operands from `first` on.
fn adamw_scalars(call: &Call<'_>, op: &ops::AdamW, first: usize) -> Result<kernels::adamw::AdamW, DeviceError> {
    let step = call.ints(first + 1)[0];
    let Some(step) = u64::try_from(step).ok().filter(|&step| step > 0) else {
        return Err(call.bad_input(format!("step {step} must be at least 1")));
    };
    Ok(kernels::adamw::AdamW {
        lr: f64::from(call.read::<f32>(first)[0]),
        betas: [f64::from(op.beta1), f64::from(op.beta2)],
        eps: f64::from(op.eps),
        weight_decay: f64::from(op.weight_decay),
        step,
        grad_scale: call.read::<f32>(first + 2)[0],
    })
}

/// Learning rate and factor of the gradient are the operands behind the states.
fn run_sgd(call: &Call<'_>, op: &ops::Sgd) {
    let states = 2 + usize::from(op.has_momentum());
    let update = kernels::sgd::Sgd {
        lr: call.read::<f32>(states)[0],
        momentum: op.momentum,
        nesterov: op.nesterov,
        weight_decay: op.weight_decay,
        grad_scale: call.read::<f32>(states + 1)[0],
    };
    let momentum = op.has_momentum().then(|| call.write(2));
    kernels::sgd::sgd(call.pool, update, call.write(0), call.write(1), momentum);
}

fn run_lion(call: &Call<'_>, op: &ops::Lion) {
    let update = kernels::lion::Lion {
        lr: f64::from(call.read::<f32>(3)[0]),
        betas: [f64::from(op.beta1), f64::from(op.beta2)],
        weight_decay: f64::from(op.weight_decay),
        grad_scale: call.read::<f32>(4)[0],
    };
    kernels::lion::lion(call.pool, update, call.write(0), call.write(1), call.write(2));
}

fn run_adamw8bit(call: &Call<'_>, op: &ops::AdamW) -> Result<(), DeviceError> {
    let update = adamw_scalars(call, op, 6)?;
    let m = Moments { codes: call.write_bytes(2), absmax: call.write(4) };
    let v = Moments { codes: call.write_bytes(3), absmax: call.write(5) };
    let (p, g) = updated(call, op);
    kernels::adamw8bit::adamw8bit(call.pool, update, p, g, m, v);
    Ok(())
}

/// The elements of a parameter that a gradient is of, and the gradient.
fn updated<'a>(call: &Call<'a>, op: &ops::AdamW) -> (&'a mut [f32], &'a mut [f32]) {
    let (p, g) = (call.write::<f32>(0), call.write::<f32>(1));
    (&mut p[op.first..op.first + g.len()], g)
}
