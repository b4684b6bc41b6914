//! `select`: y = a where a mask is 1, b where it is 0, element-wise, with NumPy's broadcasting of all three (`torch.where`).
//!
//! Operands: mask i32 of 0 and 1; a, b of one float dtype. Result: y of the shape that they have together. A mask of other numbers
//! counts as 1 here and is refused by devices. The derivatives are `masked_fill`, summed over what was broadcast.

use super::binary::summed_to;
use super::{MaskedFill, OpDef, float, integer, operands};
use crate::axes::{broadcast, offsets, strides_within};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// `select` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Select;

impl OpDef for Select {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3)?;
        let (mask, a, b) = (inputs[0], inputs[1], inputs[2]);
        integer("the mask", mask)?;
        float("a", a)?;
        if a.dtype != b.dtype {
            return Err(format!("a {a} and b {b} must have one dtype"));
        }
        let both = Type::new(a.dtype, broadcast(("a", a), ("b", b))?);
        Ok(vec![Type::new(a.dtype, broadcast(("the mask", mask), ("what it selects", &both))?)])
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        1..3
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let (dy, mut cotangents) = (cx.dy("select")?, vec![None; 3]);
        for index in (1..3).filter(|&index| cx.needs[index]) {
            let name = ["", "da", "db"][index];
            // What was not selected has no part in it.
            let cut = MaskedFill { value: 0.0, filled: index == 2 };
            let wide = cx.emit1(name, cut, &[dy, cx.inputs[0]])?;
            let shape = cx.builder.ty(cx.inputs[index]).shape.to_vec();
            cotangents[index] = Some(summed_to(cx, name, wide, &shape)?);
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(1.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let shape = &results[0].shape;
        let at = [0, 1, 2].map(|operand: usize| offsets(shape, &strides_within(&inputs[operand].shape, shape)));
        let chosen = |i: usize| match inputs[0].data[at[0][i]] {
            0.0 => inputs[2].data[at[2][i]],
            _ => inputs[1].data[at[1][i]],
        };
        vec![Array::new(shape.clone(), (0..at[0].len()).map(chosen).collect())]
    }

    fn samples() -> Vec<Sample> {
        let of = |mask: &[usize], a: &[usize], b: &[usize]| Sample::new(Select).ids(mask, 2).normal(a).normal(b);
        vec![
            of(&[2, 7, 33], &[2, 7, 33], &[2, 7, 33]),
            of(&[1, 3, 5], &[1], &[3, 5]),
            of(&[7, 1], &[2, 7, 20], &[20]),
            of(&[4], &[3, 4], &[3, 1]),
            of(&[1], &[1], &[1]),
        ]
    }
}
