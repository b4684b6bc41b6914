//! `linear`: y = residual + alpha · x·W + bias, over the last axis of x.
//!
//! Operands: x [.., in], w ([out, in] or [in, out] by `layout`), then bias [out] if `bias`, then residual [.., out] if
//! `residual`. Result: y [.., out]. With a flipped layout it is also its own dX. Cost: 2·N·in·out FLOPs.
//! w may be NF4: it stands for its decoded numbers, rounded to the dtype of x as a dense w is when it is loaded. It is
//! frozen: there is no dW.

use super::{Layout, LinearDw, BiasGrad, OpDef, finite, float, operands};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::{DType, bf16};
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
        if w.dtype.scale_kind().is_none() {
            float("w", w)?;
        }
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
            if cx.builder.ty(w).dtype.scale_kind().is_some() {
                return Err(cx.refuse("linear", "its weight is quantised and cannot be trained; train an adapter"));
            }
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
        // A quantised weight is read in the dtype of x; a dense one has it already.
        let rounded = (results[0].dtype == DType::BF16).then(|| w.map(|x| bf16::from_f32(x as f32).to_f64()));
        let w = rounded.as_ref().unwrap_or(w);
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
        samples.extend(quantised_samples());
        samples
    }
}

/// With w in NF4. Samples are kept as numbers and quantised again by whoever runs them, so they are such that this
/// changes nothing: single scales, or double quantisation of scales that are all 1.
fn quantised_samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (rows, fan_in, fan_out) in [(17, 33, 19), (40, 128, 70), (3, 300, 65)] {
        for layout in [Layout::OutIn, Layout::InOut] {
            let w = match layout {
                Layout::OutIn => [fan_out, fan_in],
                Layout::InOut => [fan_in, fan_out],
            };
            let full = Linear { layout, alpha: 0.5, bias: true, residual: true };
            let full = Sample::new(full).normal([1, rows, fan_in]).normal(w).normal([fan_out]).normal([1, rows, fan_out]);
            let ones = (0..fan_in * fan_out).map(|i| if i % 64 == 0 { 1.0 } else { (i as f64 * 0.7).sin() });
            let plain = Sample::new(Linear::plain(layout)).normal([1, rows, fan_in]).f32(w, ones.collect());
            samples.extend([full.in_dtype(1, DType::Nf4Single), plain.in_dtype(1, DType::Nf4)]);
        }
    }
    samples
}
