//! `reduce_grad`: dx of the largest or smallest element along some axes: dy where x is that, shared equally where there are
//! several, 0 elsewhere. As `torch.amax`, and unlike `torch.max` along an axis, which gives all to one of them.
//!
//! Operands: dy, x, y, of one float dtype; dy and y with x's reduced axes of size 1. Result: dx like x.

use super::reduce::{CUTS, reduced};
use super::{OpDef, Reduce, Reduction, float, operands, typed};
use crate::axes::{offsets, strides_within};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `reduce_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReduceGrad {
    /// The axes of the forward.
    pub axes: Vec<i64>,
}

impl OpDef for ReduceGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3)?;
        let x = inputs[1];
        float("x", x)?;
        let shape = reduced(x, &self.axes)?;
        typed("dy", inputs[0], x.dtype, &shape)?;
        typed("y", inputs[2], x.dtype, &shape)?;
        Ok(vec![x.clone()])
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        (self.axes == [-1]).then(|| vec![0, 1, 2])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("reduce_grad", "second derivatives are not supported"))
    }

    /// x is read twice.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(2.0 * inputs[1].shape.numel() as f64, &[inputs, &[inputs[1]]].concat(), outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (dy, x, y) = (inputs[0], inputs[1], inputs[2]);
        let at = offsets(&x.shape, &strides_within(&y.shape, &x.shape));
        let mut equal = vec![0.0; y.data.len()];
        for (x, &at) in x.data.iter().zip(&at) {
            equal[at] += f64::from(u8::from(*x == y.data[at]));
        }
        let share = |(x, &at): (&f64, &usize)| f64::from(u8::from(*x == y.data[at])) * dy.data[at] / equal[at];
        vec![Array::new(x.shape.clone(), x.data.iter().zip(&at).map(share).collect())]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for reduction in [Reduction::Max, Reduction::Min] {
            let cuts = if reduction == Reduction::Max { &CUTS[..9] } else { &CUTS[..3] };
            for &(shape, axes) in cuts {
                // Of few values, so that many are equal.
                let few: Vec<f64> = (0..shape.iter().product()).map(|i: usize| ((i * 7 % 11) as f64 - 5.0) / 4.0).collect();
                let forward = Sample::new(Reduce { reduction, axes: axes.to_vec() }).f32(shape, few);
                let y = forward.eval().remove(0);
                let new = Sample::new(ReduceGrad { axes: axes.to_vec() });
                samples.push(new.normal(y.shape.clone()).operand(&forward, 0).array(&y));
            }
        }
        samples
    }
}
