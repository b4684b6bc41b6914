//! `take_along_axis_grad`: the gradient of `take_along_axis`: each element of dy is added onto the element of dx that it was
//! taken from, in the order of ids.
//!
//! Operands: dy, ids i32, of one shape. Result: dx of dy's dtype, whose axis `axis` has `size` elements. Sums are rounded once.

use super::gather::has_axis;
use super::{OpDef, TakeAlongAxis, float, integer, operands};
use crate::axes::around;
use crate::{Array, Cost, IrError, Op, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `take_along_axis_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeAlongAxisGrad {
    /// The axis of x that is numbered.
    pub axis: usize,
    /// How many elements x has along it.
    pub size: usize,
}

impl OpDef for TakeAlongAxisGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        let (dy, ids) = (inputs[0], inputs[1]);
        float("dy", dy)?;
        integer("ids", ids)?;
        has_axis("dy", dy, self.axis)?;
        if dy.shape != ids.shape {
            return Err(format!("dy {dy} must have the shape of ids {ids}"));
        }
        let mut shape = dy.shape.to_vec();
        shape[self.axis] = self.size;
        Ok(vec![Type::new(dy.dtype, shape)])
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("take_along_axis_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(inputs[0].shape.numel() as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (dy, ids) = (inputs[0], inputs[1]);
        let [_, taken, inner] = around(&ids.shape, self.axis);
        let mut dx = Array::zeros(results[0].shape.clone());
        for (at, (dy, &id)) in dy.data.iter().zip(&ids.data).enumerate() {
            if id >= 0.0 && id < self.size as f64 {
                dx.data[(at / (taken * inner) * self.size + id as usize) * inner + at % inner] += dy;
            }
        }
        vec![dx]
    }

    fn samples() -> Vec<Sample> {
        let of = |forward: Sample| {
            let Op::TakeAlongAxis(TakeAlongAxis { axis }) = forward.op else { return None };
            let (x, ids) = (&forward.types[0], &forward.types[1]);
            let grad = TakeAlongAxisGrad { axis, size: x.shape[axis] };
            x.dtype.is_float().then(|| Sample::new(grad).normal(ids.shape.clone()).operand(&forward, 1))
        };
        TakeAlongAxis::samples().into_iter().filter_map(of).collect()
    }
}
