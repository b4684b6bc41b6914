//! `linear`: y = residual + alpha · x·W + bias, over the last axis of x.
//!
//! Operands: x [.., in], w ([out, in] or [in, out] by `layout`), then bias [out] if `bias`, then residual [.., out] if
//! `residual`. Result: y [.., out]. With a flipped layout it is also its own dX. Cost: 2·N·in·out FLOPs.

use super::{Layout, LinearDw, BiasGrad, OpDef, finite, float, operands};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `linear`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// How w is stored.
    pub layout: Layout,
    /// Factor of the product; α/r for an adapter's second matrix, else 1.
    pub alpha: f32,
    /// Whether a bias operand follows.
    pub bias: bool,
    /// Whether a residual operand follows, added to the result.
    pub residual: bool,
}

impl Linear {
    /// x·W with nothing added.
    pub fn plain(layout: Layout) -> Self {
        Linear { layout, alpha: 1.0, bias: false, residual: false }
    }

    /// Index of the residual operand, if there is one.
    pub fn residual_operand(&self) -> Option<usize> {
        self.residual.then_some(2 + usize::from(self.bias))
    }
}

impl OpDef for Linear {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2 + usize::from(self.bias) + usize::from(self.residual))?;
        finite("alpha", self.alpha)?;
        let (x, w) = (inputs[0], inputs[1]);
        float("x", x)?;
        float("w", w)?;
        if w.shape.len() != 2 {
            return Err(format!("w {w} must have two axes"));
        }
        let (fan_in, fan_out) = self.layout.in_out(&w.shape);
        if x.shape.is_empty() || x.shape.last() != fan_in {
            return Err(format!("the last axis of x {x} does not match w {w}, whose input size is {fan_in}"));
        }
        let y = Type::new(x.dtype, x.shape.with_last(fan_out));
        if self.bias && inputs[2].shape.dims() != [fan_out] {
            return Err(format!("bias {} must have shape [{fan_out}]", inputs[2]));
        }
        if let Some(index) = self.residual_operand()
            && *inputs[index] != y
        {
            return Err(format!("residual {} must be {y}", inputs[index]));
        }
        Ok(vec![y])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        self.residual_operand().map(|index| (index, 0)).into_iter().collect()
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("linear")?;
        let (x, w) = (cx.inputs[0], cx.inputs[1]);
        let mut cotangents = vec![None; cx.inputs.len()];
        if cx.needs[1] {
            let dw = LinearDw { layout: self.layout, alpha: self.alpha, accumulate: false };
            cotangents[1] = Some(cx.emit1("dw", dw, &[x, dy])?);
        }
        if self.bias && cx.needs[2] {
            cotangents[2] = Some(cx.emit1("db", BiasGrad { accumulate: false }, &[dy])?);
        }
        if cx.needs[0] {
            let dx = Linear { alpha: self.alpha, ..Linear::plain(self.layout.flipped()) };
            cotangents[0] = Some(cx.emit1("dx", dx, &[dy, w])?);
        }
        if let Some(index) = self.residual_operand()
            && cx.needs[index]
        {
            cotangents[index] = Some(dy);
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let work = 2.0 * inputs[0].shape.numel() as f64 * outputs[0].shape.last() as f64;
        Cost::new(work, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (x, w) = (inputs[0], inputs[1]);
        let (fan_in, fan_out) = self.layout.in_out(&w.shape);
        let mut y = Array::zeros(results[0].shape.clone());
        for n in 0..x.rows() {
            for o in 0..fan_out {
                let product: f64 =
                    (0..fan_in).map(|i| x.row(n)[i] * w.data[self.layout.index(i, o, fan_in, fan_out)]).sum();
                let bias = if self.bias { inputs[2].data[o] } else { 0.0 };
                let residual = self.residual_operand().map_or(0.0, |index| inputs[index].row(n)[o]);
                y.row_mut(n)[o] = residual + f64::from(self.alpha) * product + bias;
            }
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for (rows, fan_in, fan_out) in [(6, 5, 7), (17, 33, 19), (3, 1, 1), (40, 70, 4), (9, 4, 65)] {
            for layout in [Layout::OutIn, Layout::InOut] {
                let w = match layout {
                    Layout::OutIn => [fan_out, fan_in],
                    Layout::InOut => [fan_in, fan_out],
                };
                let plain = Sample::new(Linear::plain(layout)).normal([1, rows, fan_in]).normal(w);
                let full = Linear { layout, alpha: 0.5, bias: true, residual: true };
                let full = Sample::new(full)
                    .normal([1, rows, fan_in])
                    .normal(w)
                    .normal([fan_out])
                    .normal([1, rows, fan_out]);
                samples.extend([plain, full]);
            }
        }
        samples
    }
}
