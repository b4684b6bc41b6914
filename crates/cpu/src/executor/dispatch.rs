//! Which kernel an op calls: one arm per op, exhaustive, so that an op without a kernel does not compile.
//!
//! Invariant: this file converts addresses to slices and attributes to kernel arguments, and nothing else. Operands
//! were laid out by a checked plan: distinct ones do not overlap, except where the op works in place.

use super::resolve::{CustomReads, CustomWrites, ResolvedStep};
use crate::ThreadPool;
use crate::element::Element;
use crate::kernels::adamw8bit::Moments;
use crate::kernels::gemm::{Epilogue, Start};
use crate::kernels::linear_cross_entropy::{Head, HeadSize};
use crate::kernels::linear_cross_entropy_grad::HeadGrad;
use crate::kernels::{self as kernels, dropout::Dropout, linear::LinearSize, linear::Weight};
use crate::shared::{Out, View};
use half::bf16;
use remat_ir::ops;
use remat_ir::{Node, Op, OpDef};
use remat_plan::{CustomCall, DeviceError, Plan};
use remat_tensor::{DType, QuantisedView};

/// Runs one resolved step, with the kernels of its activations' dtype.
pub(super) fn run(pool: &ThreadPool, plan: &Plan, step: &ResolvedStep) -> Result<(), DeviceError> {
    let node = plan.graph.node(step.op);
    let call = Call { pool, step, node };
    match step.reads.get(node.op.activations(step.reads.len()).start).map(|operand| operand.ty.dtype) {
        Some(DType::BF16) => compute::<bf16>(&call),
        _ => compute::<f32>(&call),
    }
}

/// A step with everything its kernel needs.
struct Call<'a> {
    pool: &'a ThreadPool,
    step: &'a ResolvedStep,
    node: &'a Node,
}

impl<'a> Call<'a> {
    /// Operand `index` as a slice.
    fn read<T: Element>(&self, index: usize) -> &'a [T] {
        let operand = &self.step.reads[index];
        debug_assert_eq!(operand.ty.dtype.element_bytes(), Some(size_of::<T>()));
        // SAFETY: the plan gave the operand this many bytes, aligned; nothing writes them during this step, except for
        // ops in place, which use `shared` instead.
        unsafe { std::slice::from_raw_parts(operand.start.cast(), operand.ty.shape.numel()) }
    }

    /// Operand `index`, a weight that is dense or quantised.
    fn weight<T: Element>(&self, index: usize) -> Weight<'a, T> {
        let operand = &self.step.reads[index];
        let Some(format) = operand.ty.dtype.quant_format() else { return Weight::Dense(self.read(index)) };
        // SAFETY: as in `read`.
        let bytes = unsafe { std::slice::from_raw_parts(operand.start, operand.ty.bytes()) };
        Weight::Quantised(QuantisedView::new(format, &operand.ty.shape, bytes))
    }

    /// Operand `index` of integers.
    fn ints(&self, index: usize) -> &'a [i32] {
        let operand = &self.step.reads[index];
        debug_assert_eq!(operand.ty.dtype, DType::I32);
        // SAFETY: as in `read`.
        unsafe { std::slice::from_raw_parts(operand.start.cast(), operand.ty.shape.numel()) }
    }

    /// Operand `index` that may share its memory with a result.
    fn shared<T: Element>(&self, index: usize) -> View<'a, T> {
        let operand = &self.step.reads[index];
        // SAFETY: as in `read`; if a result has the same address, it is the same slot, and the kernel is pointwise.
        unsafe { View::from_raw(operand.start.cast(), operand.ty.shape.numel()) }
    }

    /// Result `index` that may share its memory with an operand.
    fn out<T: Element>(&self, index: usize) -> Out<'a, T> {
        let result = &self.step.writes[index];
        // SAFETY: as in `write`.
        unsafe { Out::from_raw(result.start.cast(), result.ty.shape.numel()) }
    }

    /// Result `index` as a slice.
    #[allow(clippy::mut_from_ref)]
    fn write<T: Element>(&self, index: usize) -> &'a mut [T] {
        let result = &self.step.writes[index];
        debug_assert_eq!(result.ty.dtype.element_bytes(), Some(size_of::<T>()));
        // SAFETY: the plan gave the result this many bytes, aligned; no operand that the kernel reads through a slice
        // overlaps it (checked plan); each result is taken once per step.
        unsafe { std::slice::from_raw_parts_mut(result.start.cast(), result.ty.shape.numel()) }
    }

    /// Result `index` of bytes.
    #[allow(clippy::mut_from_ref)]
    fn write_bytes(&self, index: usize) -> &'a mut [u8] {
        let result = &self.step.writes[index];
        debug_assert_eq!(result.ty.dtype, DType::U8);
        // SAFETY: as in `write`.
        unsafe { std::slice::from_raw_parts_mut(result.start, result.ty.shape.numel()) }
    }

    /// The workspace, as f32.
    #[allow(clippy::mut_from_ref)]
    fn workspace(&self) -> &'a mut [f32] {
        let (start, bytes) = self.step.workspace;
        // SAFETY: the checked plan keeps these bytes free of anything else during this step.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), bytes / size_of::<f32>()) }
    }

    /// Sizes of operand `index`.
    fn shape(&self, index: usize) -> &'a [usize] {
        self.step.reads[index].ty.shape.dims()
    }

    /// Rows (all axes but the last) of operand `index`.
    fn rows(&self, index: usize) -> usize {
        self.step.reads[index].ty.shape.rows()
    }

    fn last(&self, index: usize) -> usize {
        self.step.reads[index].ty.shape.last()
    }

    fn rng(&self, index: usize) -> [u32; 4] {
        let operand = &self.step.reads[index];
        debug_assert_eq!(operand.ty.shape.numel(), 4);
        // SAFETY: as in `read`: four aligned words.
        unsafe { operand.start.cast::<[u32; 4]>().read() }
    }

    fn bad_input(&self, message: String) -> DeviceError {
        DeviceError::BadInput { op: self.node.op.name(), node: self.node.name.clone(), message }
    }

    /// Ids that index a table of `rows` rows.
    fn ids(&self, index: usize, rows: usize) -> Result<&'a [i32], DeviceError> {
        let ids = self.ints(index);
        match ids.iter().find(|&&id| !usize::try_from(id).is_ok_and(|id| id < rows)) {
            Some(id) => Err(self.bad_input(format!("id {id} lies outside the table's {rows} rows"))),
            None => Ok(ids),
        }
    }

    /// Positions in a cache of `capacity` tokens.
    fn positions(&self, index: usize, capacity: usize) -> Result<&'a [i32], DeviceError> {
        let positions = self.ints(index);
        match positions.iter().find(|&&position| !usize::try_from(position).is_ok_and(|p| p < capacity)) {
            Some(position) => Err(self.bad_input(format!("position {position} lies outside the cache of {capacity}"))),
            None => Ok(positions),
        }
    }

    fn dropout(&self, p: f32, stream: u64, rng: usize) -> Option<Dropout> {
        (p > 0.0).then(|| Dropout::new(p, self.rng(rng), stream))
    }
}

/// `T` is the type of activations and weights; statistics, losses and gradients of parameters are f32.
fn compute<T: Element>(call: &Call<'_>) -> Result<(), DeviceError> {
    let pool = call.pool;
    match &call.node.op {
        Op::Zeros(_) => zeros(call),
        Op::Embedding(_) => {
            let ids = call.ids(1, call.shape(0)[0])?;
            kernels::embedding::embedding(pool, call.last(0), ids, call.read::<T>(0), call.write::<T>(0));
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
        Op::Split(op) => {
            // A row's groups lie one behind the other, as rows do.
            let (stride, mut offset) = (call.last(0) / op.groups, 0);
            for (index, &width) in op.sizes.iter().enumerate() {
                kernels::split::split(pool, call.read::<T>(0), stride, offset, width, call.write::<T>(index));
                offset += width;
            }
        }
        Op::Concat(op) => {
            let (stride, mut offset) = (call.step.writes[0].ty.shape.last() / op.groups, 0);
            for index in 0..call.step.reads.len() {
                let width = call.last(index) / op.groups;
                kernels::concat::concat(pool, call.read::<T>(index), width, offset, stride, call.write::<T>(0));
                offset += width;
            }
        }
        Op::SliceRows(op) => {
            let (from, rows) = (op.first * call.last(0), call.write::<T>(0));
            kernels::slice_rows::slice_rows(pool, &call.read::<T>(0)[from..from + rows.len()], rows);
        }
        Op::WriteRows(op) => {
            let (x, rows) = (call.shared::<T>(0), call.read::<T>(1));
            kernels::write_rows::write_rows(pool, x, op.first * call.last(0), rows, call.out::<T>(0));
        }
        Op::LinearCrossEntropy(op) => {
            let head = the_head::<T>(call, op.softcap)?;
            kernels::linear_cross_entropy::linear_cross_entropy(pool, head, call.workspace(), call.write(0));
        }
        Op::LinearCrossEntropyGrad(op) => {
            let dh = op.dh.then(|| call.write::<T>(0));
            let dw = op.dw.then(|| call.write(usize::from(op.dh)));
            let (head, dloss) = (the_head::<T>(call, op.softcap)?, call.read(3));
            let grad = HeadGrad { dh, dw, accumulate: op.accumulate };
            kernels::linear_cross_entropy_grad::linear_cross_entropy_grad(pool, head, dloss, call.workspace(), grad);
        }
        Op::LinearCrossEntropyWithGrad(op) => {
            let dh = op.dh.then(|| call.write::<T>(1));
            let dw = op.dw.then(|| call.write(1 + usize::from(op.dh)));
            let (head, dloss, loss) = (the_head::<T>(call, op.softcap)?, call.read(3), call.write(0));
            let grad = HeadGrad { dh, dw, accumulate: op.accumulate };
            let run = kernels::linear_cross_entropy_with_grad::linear_cross_entropy_with_grad;
            run(pool, head, dloss, call.workspace(), loss, grad);
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
            kernels::adamw::adamw(call.pool, update, call.write(0), call.write(1), call.write(2), call.write(3));
        }
        Op::AdamW8bit(ops::AdamW8bit(op)) => run_adamw8bit(call, op)?,
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

fn run_attention<T: Element>(call: &Call<'_>, op: &ops::Attention) {
    let dropout = call.dropout(op.dropout, op.stream, 4);
    let shape = call.shape(0);
    let kernel = kernels::attention::Attention {
        batch: shape[0],
        tokens: shape[1],
        heads: op.heads,
        kv_heads: op.kv_heads,
        head_size: shape[2] / op.heads,
        scale: op.scale,
        window: op.window,
        softcap: op.softcap,
        dropout,
        segment_start: call.ints(3),
    };
    let (q, k, v) = (call.read::<T>(0), call.read::<T>(1), call.read::<T>(2));
    kernels::attention::attention(call.pool, kernel, q, k, v, call.write::<T>(0), call.write(1));
}

fn run_attention_grad<T: Element>(call: &Call<'_>, op: &ops::AttentionGrad) {
    let dropout = call.dropout(op.dropout, op.stream, 7);
    let shape = call.shape(1);
    let kernel = kernels::attention::Attention {
        batch: shape[0],
        tokens: shape[1],
        heads: op.heads,
        kv_heads: op.kv_heads,
        head_size: shape[2] / op.heads,
        scale: op.scale,
        window: op.window,
        softcap: op.softcap,
        dropout,
        segment_start: call.ints(6),
    };
    let grad = kernels::attention_grad::AttentionGrad {
        op: kernel,
        dy: call.read::<T>(0),
        q: call.read::<T>(1),
        k: call.read::<T>(2),
        v: call.read::<T>(3),
        o: call.read::<T>(4),
        lse: call.read(5),
    };
    kernels::attention_grad::attention_grad(
        call.pool,
        grad,
        call.workspace(),
        call.write::<T>(0),
        call.write::<T>(1),
        call.write::<T>(2),
    );
}

fn run_cached_attention<T: Element>(call: &Call<'_>, op: &ops::CachedAttention) -> Result<(), DeviceError> {
    let (shape, capacity) = (call.shape(0), call.shape(1)[1]);
    let kernel = kernels::cached_attention::CachedAttention {
        batch: shape[0],
        tokens: shape[1],
        capacity,
        heads: op.heads,
        kv_heads: op.kv_heads,
        head_size: shape[2] / op.heads,
        scale: op.scale,
        window: op.window,
        softcap: op.softcap,
        positions: call.positions(3, capacity)?,
    };
    let (q, k, v) = (call.read::<T>(0), call.read::<T>(1), call.read::<T>(2));
    kernels::cached_attention::cached_attention(call.pool, kernel, q, k, v, call.write::<T>(0));
    Ok(())
}

/// The language-model head's operands; a target outside the vocabulary is an error, not a crash.
fn the_head<'a, T: Element>(call: &Call<'a>, softcap: Option<f32>) -> Result<Head<'a, T, T>, DeviceError> {
    let (vocab, targets) = (call.shape(1)[0], call.ints(2));
    let known = |&target: &i32| target == ops::IGNORED || usize::try_from(target).is_ok_and(|t| t < vocab);
    if let Some(target) = targets.iter().find(|target| !known(target)) {
        return Err(call.bad_input(format!("target {target} lies outside the vocabulary of {vocab}")));
    }
    Ok(Head {
        size: HeadSize { tokens: call.rows(0), hidden: call.last(0), vocab },
        softcap,
        h: call.read::<T>(0),
        weight: call.read::<T>(1),
        targets,
    })
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

fn run_adamw8bit(call: &Call<'_>, op: &ops::AdamW) -> Result<(), DeviceError> {
    let update = adamw_scalars(call, op, 6)?;
    let m = Moments { codes: call.write_bytes(2), absmax: call.write(4) };
    let v = Moments { codes: call.write_bytes(3), absmax: call.write(5) };
    kernels::adamw8bit::adamw8bit(call.pool, update, call.write(0), call.write(1), m, v);
    Ok(())
}
