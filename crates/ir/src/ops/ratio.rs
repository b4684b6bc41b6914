//! `ratio`: one number divided by another, such as a sum of losses by a sum of weights.
//!
//! Operands: n and d, f32 [1]. Result: n/d, f32 [1]; by 0 as IEEE 754 has it. Only n has a derivative.

use super::{OpDef, operands, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};

/// `ratio` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio;

impl OpDef for Ratio {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        typed("n", inputs[0], DType::F32, &[1])?;
        typed("d", inputs[1], DType::F32, &[1])?;
        Ok(vec![inputs[0].clone()])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("ratio")?;
        if cx.needs[1] {
            return Err(cx.refuse("ratio", "what it divides by has none; it has to be of what is not trained"));
        }
        let dn = if cx.needs[0] { Some(cx.emit1("dx", Ratio, &[dy, cx.inputs[1]])?) } else { None };
        Ok(vec![dn, None])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(1.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].zip(inputs[1], |n, d| n / d)]
    }

    fn samples() -> Vec<Sample> {
        vec![Sample::new(Ratio).normal([1]).normal_around([1], 3.0, 0.5)]
    }
}
