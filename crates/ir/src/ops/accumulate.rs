//! `accumulate`: state := state + x, in place.
//!
//! Operands: state f32, x of the same shape and any float dtype. Result: the state's new value. Simplification folds it
//! into the op that makes x where it can.

use super::{OpDef, float, operands, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// `accumulate` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accumulate;

impl OpDef for Accumulate {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        float("x", inputs[1])?;
        typed("state", inputs[0], DType::F32, &inputs[1].shape)?;
        Ok(vec![inputs[0].clone()])
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        1..2
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("accumulate", "an update in place has no derivative"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(1.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].zip(inputs[1], |state, x| state + x)]
    }

    fn samples() -> Vec<Sample> {
        let of = |shape: &[usize]| Sample::new(Accumulate).normal(shape).normal(shape);
        vec![of(&[1]), of(&[5, 7]), of(&[33, 19])]
    }
}
