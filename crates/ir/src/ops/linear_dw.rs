//! `linear_dw`: the gradient of a linear's weight, dW = alpha · Σ over rows of x ⊗ dy, stored in `layout`.
//!
//! Operands: x [.., in], dy [.., out], then, if `accumulate`, the gradient state that the sum is added onto in place.
//! Result: dW in f32, always: gradients are f32 whatever the activations are.

use super::{Layout, Op, OpDef, finite, float, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, THIN, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Columns of a kernel's panel.
const PANEL: usize = 32;

/// Attributes of `linear_dw`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearDw {
    /// How the weight, and so its gradient, is stored.
    pub layout: Layout,
    /// Factor of the forward product.
    pub alpha: f32,
    /// Whether the last operand is a gradient state to add onto.
    pub accumulate: bool,
}

impl OpDef for LinearDw {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2 + usize::from(self.accumulate))?;
        finite("alpha", self.alpha)?;
        let (x, dy) = (inputs[0], inputs[1]);
        float("x", x)?;
        float("dy", dy)?;
        if x.shape.is_empty() || dy.shape.is_empty() || x.shape.rows() != dy.shape.rows() {
            return Err(format!("x {x} and dy {dy} must have the same rows"));
        }
        let (fan_in, fan_out) = (x.shape.last(), dy.shape.last());
        let shape = match self.layout {
            Layout::OutIn => [fan_out, fan_in],
            Layout::InOut => [fan_in, fan_out],
        };
        if self.accumulate {
            typed("the gradient", inputs[2], DType::F32, &shape)?;
        }
        Ok(vec![Type::new(DType::F32, shape)])
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        if self.accumulate { vec![(2, 0)] } else { Vec::new() }
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        self.accumulate.then(|| vec![0, 1])
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        (!self.accumulate).then(|| (LinearDw { accumulate: true, ..self.clone() }.into(), 0))
    }

    fn class(&self, inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        let thin = inputs[0].shape.last().min(inputs[1].shape.last()) <= THIN;
        if thin { OpClass::ThinWeightGradient } else { OpClass::WeightGradient }
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..2
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("linear_dw", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let work = 2.0 * inputs[0].shape.numel() as f64 * inputs[1].shape.last() as f64;
        let dw = &outputs[0].shape;
        // Of rows that are thinner than a panel a kernel makes the transpose, and turns it.
        let turned = if dw.last() <= PANEL && dw.rows() > dw.last() { dw.numel() } else { 0 };
        Cost::new(work, inputs, outputs).with_inner(turned as f64)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (x, dy) = (inputs[0], inputs[1]);
        let (fan_in, fan_out) = (x.shape.last(), dy.shape.last());
        let mut dw = if self.accumulate { inputs[2].clone() } else { Array::zeros(results[0].shape.clone()) };
        for i in 0..fan_in {
            for o in 0..fan_out {
                let sum: f64 = (0..x.rows()).map(|n| x.row(n)[i] * dy.row(n)[o]).sum();
                dw.data[self.layout.index(i, o, fan_in, fan_out)] += f64::from(self.alpha) * sum;
            }
        }
        vec![dw]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for (rows, fan_in, fan_out) in [(6, 5, 7), (35, 33, 19), (300, 3, 18), (1, 1, 1)] {
            for layout in [Layout::OutIn, Layout::InOut] {
                let op = LinearDw { layout, alpha: 0.5, accumulate: false };
                samples.push(Sample::new(op.clone()).normal([1, rows, fan_in]).normal([1, rows, fan_out]));
                let shape = match layout {
                    Layout::OutIn => [fan_out, fan_in],
                    Layout::InOut => [fan_in, fan_out],
                };
                let op = LinearDw { accumulate: true, ..op };
                samples.push(Sample::new(op).normal([1, rows, fan_in]).normal([1, rows, fan_out]).normal(shape));
            }
        }
        samples
    }
}
