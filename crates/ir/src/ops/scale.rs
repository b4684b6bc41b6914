//! `scale`: y = factor · x, element-wise.
//!
//! Operand: x. Result: y like x. Saves nothing: the derivative is the same op.

use super::{OpDef, finite, float, operands};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `scale`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The factor.
    pub factor: f32,
}

impl OpDef for Scale {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        finite("factor", self.factor)?;
        float("x", inputs[0])?;
        Ok(vec![inputs[0].clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("scale")?;
        let dx = if cx.needs[0] { Some(cx.emit1("dx", self.clone(), &[dy])?) } else { None };
        Ok(vec![dx])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(1.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].map(|x| f64::from(self.factor) * x)]
    }

    fn samples() -> Vec<Sample> {
        vec![Sample::new(Scale { factor: -0.7 }).normal([1, 3, 5]), Sample::new(Scale { factor: 22.6 }).normal([2, 7, 33])]
    }
}
