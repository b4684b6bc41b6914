//! `cross_entropy_grad`: the gradient of `cross_entropy`'s logits. With p = exp(z − lse) and W = Σ over c of w[c]:
//! dz[c] = dloss · ((1 − ε)·w[y]·(p[c] − [c = y]) + ε/C · (W·p[c] − w[c])), 0 where the target is ignored.
//!
//! Operands: logits [.., C], targets i32 [..], lse f32 [..], dloss f32 [..], then the classes' weights w f32 [C] if
//! `weighted`. Result: dz like logits, which it may replace.

use super::cross_entropy::{CrossEntropy, weight_of};
use super::{OpDef, operands, typed};
use crate::{Array, Cost, IrError, Op, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `cross_entropy_grad`: those of its forward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropyGrad {
    /// How much of each target is spread over all classes.
    pub smoothing: f32,
    /// The target of a row that takes no part.
    pub ignored: i32,
    /// Whether the weights of the classes follow.
    pub weighted: bool,
}

impl CrossEntropyGrad {
    /// The gradient op of this forward op.
    pub fn of(forward: &CrossEntropy) -> Self {
        let CrossEntropy { smoothing, ignored, weighted } = *forward;
        CrossEntropyGrad { smoothing, ignored, weighted }
    }

    /// The forward op.
    pub fn forward(&self) -> CrossEntropy {
        let CrossEntropyGrad { smoothing, ignored, weighted } = *self;
        CrossEntropy { smoothing, ignored, weighted }
    }
}

impl OpDef for CrossEntropyGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 4 + usize::from(self.weighted))?;
        self.forward().fit(inputs[0], inputs[1], inputs.get(4))?;
        typed("lse", inputs[2], DType::F32, &inputs[1].shape)?;
        typed("dloss", inputs[3], DType::F32, &inputs[1].shape)?;
        Ok(vec![inputs[0].clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("cross_entropy_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(if self.smoothing > 0.0 { 15.0 } else { 13.0 }, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (logits, lse, dloss, weights) = (inputs[0], inputs[2], inputs[3], inputs.get(4));
        let (classes, smoothing) = (logits.shape.last(), f64::from(self.smoothing));
        let total: f64 = (0..classes).map(|class| weight_of(weights, class)).sum();
        let share = smoothing / classes as f64;
        let mut dz = Array::zeros(logits.shape.clone());
        for n in 0..logits.rows() {
            let Some(target) = self.forward().class_of(inputs[1], n, classes) else { continue };
            let own = target.map_or(f64::NAN, |target| (1.0 - smoothing) * weight_of(weights, target));
            for class in 0..classes {
                let p = (logits.row(n)[class] - lse.data[n]).exp();
                let hit = if target == Some(class) { 1.0 } else { 0.0 };
                let slope = own * (p - hit) + share * (total * p - weight_of(weights, class));
                dz.row_mut(n)[class] = dloss.data[n] * slope;
            }
        }
        vec![dz]
    }

    fn samples() -> Vec<Sample> {
        let with_cotangent = |forward: Sample| {
            let Op::CrossEntropy(op) = &forward.op else { unreachable!("these are samples of cross_entropy") };
            let sample = Sample::new(CrossEntropyGrad::of(op)).operand(&forward, 0).operand(&forward, 1);
            let sample = sample.array(&forward.eval()[1]).normal(forward.types[1].shape.clone());
            if op.weighted { sample.operand(&forward, 2) } else { sample }
        };
        CrossEntropy::samples().into_iter().map(with_cotangent).collect()
    }
}
