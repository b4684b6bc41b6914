//! One file per op, named as the op in the IR. A kernel is a plain function over slices, sizes and a pool: it decides
//! nothing, allocates nothing, and its result does not depend on the number of threads.
//!
//! Shapes are row-major; N = B * T tokens. Sizes that do not fit are a defect of the caller and assert.
//!
//! # Safety
//! What makes the unsafe blocks of kernels sound, once for all of them:
//!
//! 1. *Level*: a kernel's vector code is entered through `launch` and `Simd::outline` alone, at the pool's level, which was
//!    found on this machine.
//! 2. *Bounds*: every function asserts the sizes of its operands before it starts tasks, and a task touches the elements of
//!    its own range alone: whole vectors inside it, its last ones by partial loads and stores. `View::at` and `Out::at` assert
//!    it again in debug builds.
//! 3. *No two writers*: tasks of one kernel write disjoint elements, and what a task reads no other writes. Where an op works
//!    in place, an element is read by the task that writes it, before it does.
//! 4. *Initialised*: operands are by the plan, which was checked; of scratch and workspace a task reads what it has written.

#![allow(clippy::undocumented_unsafe_blocks)]

pub mod accumulate;
pub mod adamw;
pub mod adamw8bit;
pub mod adapted_norm;
pub mod add;
pub mod add_gradient;
pub mod add_parts;
pub mod attention;
pub mod attention_grad;
pub mod batch_norm;
pub mod batch_norm_dw;
pub mod batch_norm_grad;
pub mod batch_norm_update;
pub mod bias_grad;
pub mod binary;
pub mod binary_grad;
mod block_sums;
pub mod broadcast;
pub mod cache_write;
pub mod cached_attention;
pub mod cast;
mod channel_norm;
pub mod channel_sums;
pub mod clip_scale;
pub mod clip_value;
pub mod column_scale;
pub mod column_scale_dw;
mod column_sums;
pub mod compare;
pub mod concat;
pub mod conv2d;
pub mod conv2d_dw;
pub mod conv2d_dx;
pub mod cross_entropy;
pub mod cross_entropy_grad;
mod curves;
pub mod dropout;
pub mod embedding;
pub mod embedding_grad;
pub mod embedding_noise;
pub mod exchange_shards;
pub mod expand;
pub mod gather;
pub mod gather_grad;
pub mod gather_shards;
mod gathered_product;
pub mod geglu;
pub mod geglu_grad;
pub mod gelu;
pub mod gelu_grad;
pub mod gemm;
pub mod grad_norm;
pub mod group_norm;
pub mod group_norm_dw;
pub mod group_norm_grad;
pub mod grouped_linear;
pub mod grouped_linear_dw;
pub mod layer_norm;
pub mod layer_norm_dw;
pub mod layer_norm_grad;
pub mod linear;
pub mod linear_cross_entropy;
pub mod linear_cross_entropy_grad;
pub mod linear_cross_entropy_with_grad;
pub mod linear_dw;
pub mod lion;
pub mod masked_attention;
pub mod masked_attention_grad;
pub mod masked_fill;
pub mod matmul;
mod moves;
pub mod norm_of_squares;
pub mod pad;
mod padded;
pub mod pair_loss;
pub mod pair_loss_grad;
mod pairs;
mod pointwise;
pub mod pool2d;
pub mod pool2d_grad;
pub mod reduce;
pub mod reduce_grad;
pub mod reshape;
pub mod rms_norm;
pub mod rms_norm_dw;
pub mod rms_norm_grad;
pub mod rope;
pub mod route;
pub mod scale;
mod scatter;
pub mod select;
pub mod selection;
pub mod sgd;
pub mod slice;
pub mod slice_rows;
pub mod softcap;
pub mod softcap_grad;
pub mod softmax;
pub mod softmax_grad;
pub mod split;
pub mod square_sums;
mod strided;
pub mod sum;
pub mod swiglu;
pub mod swiglu_grad;
pub mod take_along_axis;
pub mod take_along_axis_grad;
pub mod target_weight;
pub mod transpose;
pub mod unary;
pub mod unary_grad;
pub mod windows;
pub mod write_rows;
pub mod zeros;

#[cfg(test)]
mod bf16_tests;

/// Sums over tokens (weight gradients, norm gradients) may be cut into calls at multiples of this many tokens without
/// changing a bit: every kernel's own reduction block divides it.
pub const TOKEN_BLOCK: usize = 512;
