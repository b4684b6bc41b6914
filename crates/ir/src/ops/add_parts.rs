//! `add_parts`: the parts of a gradient that several ranks computed are added to its sum, one after the other, in the order of
//! ranks, which is that of micro-batches.
//!
//! Operands: sum (f32 state of n elements), parts f32 [ranks, own], of which n columns from `first` on are this sum's, present
//! i32 [1]: how many ranks, the first ones, have a part. Result: the new sum. Each element is one addition per part, rounded
//! once, as `add_gradient` makes it in a single process.

use super::{OpDef, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `add_parts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddParts {
    /// The column of this sum's first element.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub first: usize,
}

impl OpDef for AddParts {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3)?;
        let (sum, parts) = (inputs[0], inputs[1]);
        typed("sum", sum, DType::F32, &sum.shape)?;
        super::rank("parts", parts, 2)?;
        typed("parts", parts, DType::F32, &parts.shape)?;
        typed("present", inputs[2], DType::I32, &[1])?;
        if self.first.checked_add(sum.shape.numel()).is_none_or(|end| end > parts.shape.last()) {
            return Err(format!("parts {parts} have no {} columns from {} on", sum.shape.numel(), self.first));
        }
        Ok(vec![sum.clone()])
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Optimizer
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("add_parts", "it belongs to the accumulation, which is not differentiated"))
    }

    /// Of its columns of the parts alone.
    fn cost(&self, inputs: &[&Type], _outputs: &[&Type]) -> Cost {
        let (elements, ranks) = (inputs[0].shape.numel() as f64, inputs[1].shape[0] as f64);
        Cost { flops: ranks * elements, bytes: 4.0 * elements * (3.0 * ranks), inner: 0.0 }
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (mut sum, parts, present) = (inputs[0].clone(), inputs[1], inputs[2].data[0] as usize);
        for rank in 0..present.min(parts.rows()) {
            let part = &parts.row(rank)[self.first..];
            sum.data.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        vec![sum]
    }

    fn samples() -> Vec<Sample> {
        let of = |shape: &[usize], parts: [usize; 2], first, present| {
            Sample::new(AddParts { first }).normal(shape).normal(parts).i32([1], vec![present])
        };
        vec![of(&[1], [1, 1], 0, 1), of(&[5, 7], [3, 40], 4, 3), of(&[35], [4, 35], 0, 2), of(&[700], [2, 800], 100, 2)]
    }
}
