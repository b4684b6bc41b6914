//! `concat`: joins values along the last axis.
//!
//! Operands: one or more, of one dtype and the same axes but the last. Result: [.., Σ sizes]. The derivative is `split`.

use super::{OpDef, Split, float};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// `concat` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Concat;

impl OpDef for Concat {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let Some(first) = inputs.first() else {
            return Err("expects at least 1 operand, got 0".to_string());
        };
        float("operand 0", first)?;
        let outer = |ty: &Type| ty.shape.with_last(1);
        let mut size = 0usize;
        for (index, ty) in inputs.iter().enumerate() {
            if ty.dtype != first.dtype || outer(ty) != outer(first) {
                return Err(format!("operand {index} {ty} and operand 0 {first} may differ in the last axis only"));
            }
            size = size.checked_add(ty.shape.last()).ok_or("the joined axis is too large")?;
        }
        Ok(vec![Type::new(first.dtype, first.shape.with_last(size))])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Copy
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("concat")?;
        let sizes = cx.inputs.iter().map(|&id| cx.builder.ty(id).shape.last()).collect();
        let pieces = cx.emit("dx", Split { sizes }, &[dy])?;
        Ok(cx.needs.iter().zip(pieces).map(|(&need, piece)| need.then_some(piece)).collect())
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let mut y = Array::zeros(results[0].shape.clone());
        for n in 0..y.rows() {
            let joined: Vec<f64> = inputs.iter().flat_map(|piece| piece.row(n)).copied().collect();
            y.row_mut(n).copy_from_slice(&joined);
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let of = |sizes: &[usize]| sizes.iter().fold(Sample::new(Concat), |sample, &size| sample.normal([2, 7, size]));
        vec![of(&[5]), of(&[4, 4, 4]), of(&[1, 17, 3])]
    }
}
