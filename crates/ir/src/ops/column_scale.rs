//! `column_scale`: y = x ⊙ (w / norm), one factor for each column.
//!
//! Operands: x [.., O], w f32 [O], norm f32 [O]. Result: y like x. Saves x, w and norm: dx = dy ⊙ (w / norm), and dw is
//! `column_scale_dw`. The norm is a constant: it has no derivative whatever it was made of (see `adapted_norm`).

use super::{ColumnScaleDw, OpDef, float, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// `column_scale` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnScale;

impl OpDef for ColumnScale {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3)?;
        let x = inputs[0];
        float("x", x)?;
        typed("w", inputs[1], DType::F32, &[x.shape.last()])?;
        typed("norm", inputs[2], DType::F32, &[x.shape.last()])?;
        Ok(vec![x.clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Add
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("column_scale")?;
        let (x, w, norm) = (cx.inputs[0], cx.inputs[1], cx.inputs[2]);
        let dx = if cx.needs[0] { Some(cx.emit1("dx", ColumnScale, &[dy, w, norm])?) } else { None };
        let dw = ColumnScaleDw { accumulate: false };
        let dw = if cx.needs[1] { Some(cx.emit1("dw", dw, &[dy, x, norm])?) } else { None };
        Ok(vec![dx, dw, None])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(1.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (w, norm) = (&inputs[1].data, &inputs[2].data);
        let mut y = inputs[0].clone();
        for n in 0..y.rows() {
            y.row_mut(n).iter_mut().enumerate().for_each(|(o, y)| *y *= w[o] / norm[o]);
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let of = |rows, width| {
            let norms = (0..width).map(|o| 1.5 + (o as f64).sin()).collect();
            Sample::new(ColumnScale).normal([1, rows, width]).normal([width]).f32([width], norms)
        };
        vec![of(1, 1), of(6, 7), of(35, 19), of(3, 130)]
    }
}
