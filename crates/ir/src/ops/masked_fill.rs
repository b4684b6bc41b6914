//! `masked_fill`: y = a value where a mask is 1, x where it is 0; or the other way round, which is its derivative's form of `select`.
//!
//! Operands: x; mask i32 of 0 and 1, which broadcasts to x. Result: y like x. A mask of other numbers counts as 1 here and is
//! refused by devices.

use super::{OpDef, float, integer, operands};
use crate::axes::{broadcasts_to, few_axes, offsets, strides_within};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `masked_fill`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedFill {
    /// What is filled in; may be infinite.
    #[serde(with = "crate::number")]
    pub value: f32,
    /// Whether it stands where the mask is 1, and not where it is 0.
    pub filled: bool,
}

impl OpDef for MaskedFill {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        let (x, mask) = (inputs[0], inputs[1]);
        float("x", x)?;
        integer("the mask", mask)?;
        few_axes("x", &x.shape)?;
        if self.value.is_nan() {
            return Err("attribute value must be a number".to_string());
        }
        if !broadcasts_to(&mask.shape, &x.shape) {
            return Err(format!("the mask {mask} does not broadcast to x {x}: sizes must be equal or 1"));
        }
        Ok(vec![x.clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("masked_fill")?;
        let cut = MaskedFill { value: 0.0, filled: self.filled };
        let dx = if cx.needs[0] { Some(cx.emit1("dx", cut, &[dy, cx.inputs[1]])?) } else { None };
        Ok(vec![dx, None])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(1.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (x, mask) = (inputs[0], inputs[1]);
        let at = offsets(&x.shape, &strides_within(&mask.shape, &x.shape));
        let value = |(&x, at): (&f64, usize)| if (mask.data[at] != 0.0) == self.filled { f64::from(self.value) } else { x };
        vec![Array::new(x.shape.clone(), x.data.iter().zip(at).map(value).collect())]
    }

    fn samples() -> Vec<Sample> {
        let of = |value: f32, filled: bool, x: &[usize], mask: &[usize]| {
            Sample::new(MaskedFill { value, filled }).normal(x).ids(mask, 2)
        };
        vec![
            of(-1e9, true, &[2, 7, 33], &[7, 33]),
            of(0.0, false, &[2, 7, 33], &[2, 7, 1]),
            of(2.5, true, &[1, 3, 5], &[1, 3, 5]),
            of(0.0, true, &[1], &[1]),
        ]
    }
}
