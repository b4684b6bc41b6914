//! What an op costs in seconds: a class for every op, and prices per class as data.
//!
//! Model: `seconds = max(FLOPs / rate of the class, bytes / bandwidth) + overhead`, the roofline of Williams, Waterman and
//! Patterson, *Roofline*, 2009, with a rate measured per class in place of one peak. Invariant: a price depends on the op
//! and the types of its operands only, never on the plan, so that a recomputed node costs what its original costs.

use remat_ir::{Graph, Node, Op, OpDef};

/// Matrix products with a side of at most this are thin: an adapter's, bound by memory more than by arithmetic.
pub const THIN: usize = 128;

/// Ops whose time is predicted by one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OpClass {
    /// Matrix products of activations and weights with wide sides, forward or towards the input.
    Gemm,
    /// The same with one thin side.
    ThinGemm,
    /// Gradients of wide weights.
    WeightGradient,
    /// Gradients of weights with a thin side.
    ThinWeightGradient,
    /// The language-model head with its cross entropy and gradients.
    Head,
    /// Attention.
    Attention,
    /// The gradient of attention.
    AttentionGrad,
    /// Everything else: element-wise work, norms, gathers, sums.
    Pointwise,
}

impl OpClass {
    /// All classes.
    pub const ALL: [OpClass; 8] = [
        OpClass::Gemm,
        OpClass::ThinGemm,
        OpClass::WeightGradient,
        OpClass::ThinWeightGradient,
        OpClass::Head,
        OpClass::Attention,
        OpClass::AttentionGrad,
        OpClass::Pointwise,
    ];

    /// A word for reports.
    pub const fn name(self) -> &'static str {
        match self {
            OpClass::Gemm => "gemm",
            OpClass::ThinGemm => "thin gemm",
            OpClass::WeightGradient => "weight gradient",
            OpClass::ThinWeightGradient => "thin weight gradient",
            OpClass::Head => "head",
            OpClass::Attention => "attention",
            OpClass::AttentionGrad => "attention gradient",
            OpClass::Pointwise => "pointwise",
        }
    }

    /// The class of a node of `graph`.
    pub fn of(graph: &Graph, node: &Node) -> OpClass {
        let thin = |narrowest: Option<usize>| narrowest.is_some_and(|side| side <= THIN);
        let narrowest = |value: remat_ir::ValueId| graph.ty(value).shape.dims().iter().copied().min();
        match &node.op {
            Op::Linear(_) if thin(narrowest(node.inputs[1])) => OpClass::ThinGemm,
            Op::Linear(_) => OpClass::Gemm,
            Op::LinearDw(_) if thin(narrowest(node.outputs[0])) => OpClass::ThinWeightGradient,
            Op::LinearDw(_) => OpClass::WeightGradient,
            Op::LinearCrossEntropy(_) | Op::LinearCrossEntropyGrad(_) | Op::LinearCrossEntropyWithGrad(_) => {
                OpClass::Head
            }
            Op::Attention(_) | Op::CachedAttention(_) => OpClass::Attention,
            Op::AttentionGrad(_) => OpClass::AttentionGrad,
            Op::Zeros(_)
            | Op::Embedding(_)
            | Op::EmbeddingGrad(_)
            | Op::BiasGrad(_)
            | Op::RmsNorm(_)
            | Op::RmsNormGrad(_)
            | Op::RmsNormDw(_)
            | Op::LayerNorm(_)
            | Op::LayerNormGrad(_)
            | Op::LayerNormDw(_)
            | Op::Rope(_)
            | Op::Swiglu(_)
            | Op::SwigluGrad(_)
            | Op::Gelu(_)
            | Op::GeluGrad(_)
            | Op::Add(_)
            | Op::Scale(_)
            | Op::Cast(_)
            | Op::Dropout(_)
            | Op::Split(_)
            | Op::Concat(_)
            | Op::Sum(_)
            | Op::Broadcast(_)
            | Op::Accumulate(_)
            | Op::GradNorm(_)
            | Op::ClipScale(_)
            | Op::CacheWrite(_)
            | Op::AdamW(_) => OpClass::Pointwise,
        }
    }
}

/// Measured or assumed rates of one machine with a fixed number of threads.
#[derive(Debug, Clone, PartialEq)]
pub struct Prices {
    /// FLOPs per second of each class, in the order of [`OpClass::ALL`].
    pub flops_per_second: [f64; OpClass::ALL.len()],
    /// Bytes per second that a streaming kernel moves.
    pub bytes_per_second: f64,
    /// Seconds per step beside the kernel's work: dispatch and the barrier of the threads.
    pub step_overhead_seconds: f64,
    /// Whether they were measured on this machine.
    pub measured: bool,
}

impl Prices {
    /// Prices by arithmetic alone, for a machine nobody measured: 100 GFLOP/s per thread in matrix products, half of that
    /// in attention and thin products, 10 GB/s per thread up to 40 GB/s in all.
    pub fn nominal(threads: usize) -> Self {
        let threads = threads.max(1) as f64;
        let rate = |class: &OpClass| match class {
            OpClass::Gemm | OpClass::WeightGradient | OpClass::Head => 100e9,
            OpClass::ThinGemm | OpClass::ThinWeightGradient => 50e9,
            OpClass::Attention | OpClass::AttentionGrad => 50e9,
            OpClass::Pointwise => 20e9,
        };
        Prices {
            flops_per_second: OpClass::ALL.each_ref().map(|class| threads * rate(class)),
            bytes_per_second: (threads * 10e9).min(40e9),
            step_overhead_seconds: 2e-6,
            measured: false,
        }
    }

    /// The rate of a class.
    pub fn rate(&self, class: OpClass) -> f64 {
        self.flops_per_second[class as usize]
    }

    /// Predicted seconds of one node of `graph`.
    pub fn seconds(&self, graph: &Graph, node: &Node) -> f64 {
        let (inputs, outputs) = graph.node_types(node);
        let cost = node.op.cost(&inputs, &outputs);
        let arithmetic = cost.flops / self.rate(OpClass::of(graph, node));
        arithmetic.max(cost.bytes / self.bytes_per_second) + self.step_overhead_seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_index_their_rates() {
        let prices = Prices::nominal(1);
        for (index, class) in OpClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
            assert!(prices.rate(class) > 0.0, "{}", class.name());
        }
        assert_eq!(Prices::nominal(2).rate(OpClass::Gemm), 2.0 * prices.rate(OpClass::Gemm));
    }
}
