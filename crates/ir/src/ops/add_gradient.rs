//! `add_gradient`: the gradient of one micro-batch is added to the sum of those before it, in place, and zeroed for the next.
//!
//! Operands: sum, g (f32 states of one shape). Results: their new values: sum + g, and zeros. Each element is one addition,
//! rounded once, so that the sum over micro-batches does not depend on what computed them.

use super::{OpDef, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// `add_gradient` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddGradient;

impl OpDef for AddGradient {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        for (name, ty) in ["sum", "g"].into_iter().zip(inputs) {
            typed(name, ty, DType::F32, &inputs[0].shape)?;
        }
        Ok(vec![inputs[0].clone(); 2])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["sum", "g"][index]
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        vec![(0, 0), (1, 1)]
    }

    fn by_element(&self, _operands: usize) -> Option<Vec<usize>> {
        Some(vec![1, 1])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Optimizer
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("add_gradient", "it belongs to the accumulation, which is not differentiated"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(1.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].zip(inputs[1], |sum, g| sum + g), Array::zeros(inputs[1].shape.clone())]
    }

    fn samples() -> Vec<Sample> {
        let of = |shape: &[usize]| Sample::new(AddGradient).normal(shape).normal(shape);
        vec![of(&[1]), of(&[5, 7]), of(&[33, 19]), of(&[17])]
    }
}
