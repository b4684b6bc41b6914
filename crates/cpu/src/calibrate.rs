//! Measures this machine's prices: one small plan per class of op, run through the executor itself.
//!
//! Method: each class is timed on operands of a 1B model's size, several copies one behind the other on bytes of their own,
//! so that operands come from where a real step's come from. The fastest of a few runs counts: noise only ever adds.
//! Arithmetic classes give FLOPs per second, all others bytes per second; thin products are bound by whichever is slower.
//! About two seconds and 100 MiB on one thread. Look next at `remat_plan::Prices` for what the numbers mean.

use crate::{CpuExecutor, CpuOptions};
use remat_ir::ops::{
    Attention, AttentionGrad, Dropout, Gelu, GeluGrad, LayerNorm, LayerNormGrad, Layout, Linear,
    LinearCrossEntropyWithGrad, LinearDw, RmsNorm, RmsNormGrad, Rope, Scale, Swiglu, SwigluGrad,
};
use remat_ir::{Builder, Graph, IrError, Op, OpDef, Storage, Type};
use remat_plan::{
    Action, Buffer, BufferId, DeviceProfile, ExecError, Executor, OpClass, Place, Plan, Policy, Prices, Queue, Rate,
    Slot, Step, StepId, Tier, WeightLayout, WeightOperand,
};
use remat_tensor::DType;
use std::time::Instant;

const TOKENS: usize = 512;
const WIDTH: usize = 2048;
const RANK: usize = 16;
const HEAD_SIZE: usize = 64;
const VOCAB: usize = 4096;

/// Runs of each plan after the first, which faults its pages in.
const REPEATS: usize = 4;

/// A rate that never binds.
const UNBOUNDED: f64 = 1e18;

impl CpuOptions {
    /// The profile with prices measured here and now, for activations of `dtype`.
    ///
    /// # Errors
    /// Memory that cannot be had; a dtype without kernels.
    pub fn calibrated_profile(&self, dtype: DType) -> Result<DeviceProfile, ExecError> {
        Ok(DeviceProfile { prices: calibrate(self, dtype)?, ..self.profile() })
    }
}

/// Measures all prices.
fn calibrate(options: &CpuOptions, dtype: DType) -> Result<Prices, ExecError> {
    let overhead = Probe::new(Scale { factor: 0.5 }, vec![Type::new(dtype, [1, 1])], 64);
    let step_overhead_seconds = overhead.seconds(options)?;
    let mut rates = Vec::with_capacity(OpClass::ALL.len());
    for &class in OpClass::ALL {
        let probe = probe(class, dtype);
        let seconds = (probe.seconds(options)? - step_overhead_seconds).max(1e-9);
        let (flops, bytes) = probe.work();
        let (flops_per_second, bytes_per_second) =
            if is_arithmetic(class) { (flops / seconds, UNBOUNDED) } else { (UNBOUNDED, bytes / seconds) };
        rates.push(Rate { flops_per_second, bytes_per_second });
    }
    // A thin product that is not thin enough is bound by arithmetic as the wide one is.
    for (thin, wide) in [
        (OpClass::ThinOut, OpClass::GemmOutIn),
        (OpClass::ThinIn, OpClass::GemmOutIn),
        (OpClass::ThinWeightGradient, OpClass::WeightGradient),
    ] {
        rates[thin as usize].flops_per_second = rates[wide as usize].flops_per_second;
    }
    Ok(Prices { rates, step_overhead_seconds, measured: true, spill: None })
}

fn is_arithmetic(class: OpClass) -> bool {
    use OpClass::{Attention, AttentionGrad, GemmInOut, GemmOutIn, Head, WeightGradient};
    matches!(class, GemmOutIn | GemmInOut | WeightGradient | Head | Attention | AttentionGrad)
}

/// An op on operands of given types, several times.
struct Probe {
    op: Op,
    operands: Vec<Type>,
    copies: usize,
}

/// The op that stands for a class.
fn probe(class: OpClass, dtype: DType) -> Probe {
    let x = |width: usize| Type::new(dtype, [1, TOKENS, width]);
    let w = |rows: usize, columns: usize| Type::new(dtype, [rows, columns]);
    let vector = || Type::new(dtype, [WIDTH]);
    let row = || Type::new(DType::F32, [1, TOKENS, 1]);
    let tokens = || Type::new(DType::I32, [1, TOKENS]);
    let dw = || LinearDw { layout: Layout::OutIn, alpha: 1.0, accumulate: false };
    let heads = WIDTH / HEAD_SIZE;
    let attention = || Attention { heads, kv_heads: heads, scale: 0.125, window: None, dropout: 0.0, stream: 0 };
    let statistic = || Type::new(DType::F32, [1, heads, TOKENS]);
    match class {
        OpClass::GemmOutIn => Probe::new(Linear::plain(Layout::OutIn), vec![x(WIDTH), w(WIDTH, WIDTH)], 2),
        OpClass::GemmInOut => Probe::new(Linear::plain(Layout::InOut), vec![x(WIDTH), w(WIDTH, WIDTH)], 2),
        OpClass::ThinOut => Probe::new(Linear::plain(Layout::OutIn), vec![x(WIDTH), w(RANK, WIDTH)], 4),
        OpClass::ThinIn => Probe::new(Linear::plain(Layout::OutIn), vec![x(RANK), w(WIDTH, RANK)], 4),
        OpClass::WeightGradient => Probe::new(dw(), vec![x(WIDTH), x(WIDTH)], 2),
        OpClass::ThinWeightGradient => Probe::new(dw(), vec![x(WIDTH), x(RANK)], 4),
        OpClass::Head => {
            let op = LinearCrossEntropyWithGrad { dh: true, dw: false, accumulate: false };
            let cotangent = Type::new(DType::F32, [1, TOKENS]);
            Probe::new(op, vec![x(WIDTH), w(VOCAB, WIDTH), tokens(), cotangent], 1)
        }
        OpClass::Attention => Probe::new(attention(), vec![x(WIDTH), x(WIDTH), x(WIDTH), tokens()], 2),
        OpClass::AttentionGrad => {
            let saved = vec![x(WIDTH), x(WIDTH), x(WIDTH), x(WIDTH), x(WIDTH), statistic(), tokens()];
            Probe::new(AttentionGrad::of(&attention()), saved, 1)
        }
        OpClass::RmsNorm => Probe::new(RmsNorm { eps: 1e-5 }, vec![x(WIDTH), vector()], 4),
        OpClass::RmsNormGrad => Probe::new(RmsNormGrad, vec![x(WIDTH), x(WIDTH), vector(), row()], 4),
        OpClass::LayerNorm => Probe::new(LayerNorm { eps: 1e-5 }, vec![x(WIDTH), vector(), vector()], 4),
        OpClass::LayerNormGrad => Probe::new(LayerNormGrad, vec![x(WIDTH), x(WIDTH), vector(), row(), row()], 4),
        OpClass::Swiglu => Probe::new(Swiglu, vec![x(WIDTH), x(WIDTH)], 4),
        OpClass::SwigluGrad => Probe::new(SwigluGrad, vec![x(WIDTH), x(WIDTH), x(WIDTH)], 3),
        OpClass::Gelu => Probe::new(Gelu, vec![x(WIDTH)], 4),
        OpClass::GeluGrad => Probe::new(GeluGrad, vec![x(WIDTH), x(WIDTH)], 4),
        OpClass::Rope => {
            let op = Rope { head_size: HEAD_SIZE, inverse: false, scale: 1.0 };
            Probe::new(op, vec![x(WIDTH), tokens(), Type::new(DType::F32, [HEAD_SIZE / 2])], 4)
        }
        OpClass::Dropout => Probe::new(Dropout { p: 0.1, stream: 1 }, vec![x(WIDTH), Type::new(DType::U32, [4])], 4),
        OpClass::Stream => Probe::new(remat_ir::ops::Add, vec![x(WIDTH), x(WIDTH)], 4),
    }
}

impl Probe {
    fn new(op: impl Into<Op>, operands: Vec<Type>, copies: usize) -> Probe {
        Probe { op: op.into(), operands, copies }
    }

    /// A graph of the op's copies, each on operands of its own.
    fn graph(&self) -> Result<Graph, IrError> {
        let mut builder = Builder::new();
        for copy in 0..self.copies {
            let source = |(index, ty): (usize, &Type)| builder.input(&format!("operand{index}.{copy}"), ty.clone());
            let operands: Vec<_> = self.operands.iter().enumerate().map(source).collect();
            for result in builder.op(&format!("op.{copy}"), self.op.clone(), &operands)? {
                builder.output(result);
            }
        }
        Ok(builder.finish())
    }

    /// FLOPs and bytes of one copy.
    fn work(&self) -> (f64, f64) {
        let inputs: Vec<&Type> = self.operands.iter().collect();
        let results = self.op.infer(&inputs).expect("probes are well typed");
        let cost = self.op.cost(&inputs, &results.iter().collect::<Vec<_>>());
        (cost.flops, cost.bytes)
    }

    /// Seconds of one copy.
    fn seconds(&self, options: &CpuOptions) -> Result<f64, ExecError> {
        let graph = self.graph().expect("probes are well typed");
        let names: Vec<(String, DType)> =
            graph.values.iter().filter(|v| v.producer.is_none()).map(|v| (v.name.clone(), v.ty.dtype)).collect();
        let mut executor = CpuExecutor::new(*options);
        let program = executor.load(vec![straight(graph, options.profile().slot_alignment_bytes)])?[0];
        for (name, dtype) in names {
            fill(executor.input_mut(&name)?.bytes, dtype);
        }
        executor.run(program)?;
        let mut best = f64::INFINITY;
        for _ in 0..REPEATS {
            let start = Instant::now();
            executor.run(program)?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        Ok(best / self.copies as f64)
    }
}

/// Small numbers of both signs in floats; integers stay zero.
fn fill(bytes: &mut [u8], dtype: DType) {
    let value = |index: usize| (index % 97) as f32 * 0.02 - 1.0;
    match dtype {
        DType::F32 => {
            bytes.chunks_exact_mut(4).enumerate().for_each(|(i, b)| b.copy_from_slice(&value(i).to_le_bytes()))
        }
        DType::BF16 => bytes.chunks_exact_mut(2).enumerate().for_each(|(i, b)| {
            b.copy_from_slice(&half::bf16::from_f32(value(i)).to_le_bytes());
        }),
        _ => {}
    }
}

/// The plan of a graph as it stands: every value and workspace in bytes of its own.
fn straight(graph: Graph, alignment: usize) -> Plan {
    let mut arena_bytes = 0;
    let mut slot = |bytes: usize| {
        let offset = usize::next_multiple_of(arena_bytes, alignment);
        arena_bytes = offset + bytes;
        Slot { offset, bytes }
    };
    let last = StepId(graph.nodes.len() as u32 - 1);
    let (mut buffers, mut steps) = (Vec::new(), Vec::new());
    for (id, node) in graph.nodes_with_ids() {
        let (inputs, outputs) = graph.node_types(node);
        let workspace_bytes = node.op.workspace_bytes(&inputs, &outputs);
        let source = |&value: &remat_ir::ValueId| match graph.value(value).storage {
            Storage::Weight => {
                Place::Weight(WeightOperand { value, tier: Tier::Resident, layout: WeightLayout::RowMajor })
            }
            Storage::State => Place::State(value),
            Storage::Input | Storage::Arena => Place::Input(value),
        };
        let result = |&value: &remat_ir::ValueId| {
            let bytes = graph.ty(value).bytes();
            buffers.push(Buffer { value, slot: slot(bytes), first: StepId(id.0), last });
            Place::Arena(BufferId(buffers.len() as u32 - 1))
        };
        steps.push(Step {
            action: Action::Compute(id),
            queue: Queue::Compute,
            reads: node.inputs.iter().map(source).collect(),
            writes: node.outputs.iter().map(result).collect(),
            workspace: (workspace_bytes > 0).then(|| slot(workspace_bytes)),
            waits: Vec::new(),
            signals: false,
        });
    }
    Plan { graph, steps, buffers, arena_bytes, policy: Policy::None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_is_of_its_class_and_its_plan_is_right() {
        for dtype in [DType::F32, DType::BF16] {
            for &class in OpClass::ALL {
                let graph = probe(class, dtype).graph().expect("well typed");
                assert_eq!(OpClass::of(&graph, &graph.nodes[0]), class, "{}", class.name());
                remat_plan::check(&straight(graph.clone(), 64), &graph).expect("the plan is right");
            }
        }
    }

    #[test]
    fn prices_are_plausible_numbers() {
        let options = CpuOptions::new(1);
        let prices = options.calibrated_profile(DType::F32).expect("memory for small operands").prices;
        assert!(prices.measured);
        for &class in OpClass::ALL {
            let rate = prices.rate(class);
            let bound = rate.flops_per_second.min(rate.bytes_per_second);
            assert!((1e6..1e14).contains(&bound), "{}: {rate:?}", class.name());
        }
        assert!((1e-9..1e-2).contains(&prices.step_overhead_seconds), "{}", prices.step_overhead_seconds);
    }
}
