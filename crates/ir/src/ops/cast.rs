//! `cast`: y = x in another dtype, rounded once to nearest, ties to even.
//!
//! Operands: x, then, if `into`, a state of dtype `to` and the shape of x, whose old value is lost: the result replaces it
//! in place. Result: y, of dtype `to`. With `into` it keeps the bf16 working copy of an f32 master parameter up to date:
//! once per update, so that the micro-steps between two updates read the copy and cast nothing.

use super::zeros::dtype_name;
use super::{OpDef, float, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `cast`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cast {
    /// The result's dtype.
    #[serde(with = "dtype_name")]
    pub to: DType,
    /// Whether the last operand is a state that the result replaces.
    pub into: bool,
}

impl OpDef for Cast {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1 + usize::from(self.into))?;
        float("x", inputs[0])?;
        if !self.to.is_float() {
            return Err(format!("attribute to = {} must be a dtype of real numbers", self.to));
        }
        if self.into {
            typed("the state", inputs[1], self.to, &inputs[0].shape)?;
        }
        Ok(vec![Type::new(self.to, inputs[0].shape.clone())])
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        if self.into { vec![(1, 0)] } else { Vec::new() }
    }

    /// Rounding counts as the identity. A replaced state has no cotangent: its old value is not read.
    fn row_operands(&self) -> Option<Vec<usize>> {
        (!self.into).then(|| vec![0])
    }

    fn by_element(&self, _operands: usize) -> Option<Vec<usize>> {
        self.into.then(|| vec![1, 1])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Cast
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("cast")?;
        let back = Cast { to: cx.builder.ty(cx.inputs[0]).dtype, into: false };
        let mut cotangents = vec![None; cx.inputs.len()];
        if cx.needs[0] {
            cotangents[0] = Some(cx.emit1("dx", back, &[dy])?);
        }
        Ok(cotangents)
    }

    /// The old value of a replaced state is not read.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, &inputs[..1], outputs)
    }

    /// Rounding to the result's dtype is the interpreter's, as for every op.
    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].clone()]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for shape in [&[1][..], &[5, 7], &[33, 19]] {
            for to in [DType::BF16, DType::F32] {
                samples.push(Sample::new(Cast { to, into: false }).normal(shape));
                samples.push(Sample::new(Cast { to, into: true }).normal(shape).normal(shape).in_dtype(1, to));
            }
        }
        samples
    }
}
