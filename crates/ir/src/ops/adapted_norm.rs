//! `adapted_norm`: the Euclidean norm of each row of W + scale · B·A, a linear's weight with a low-rank adapter in it.
//!
//! Operands: a [r, in], b [out, r], w ([out, in] or [in, out] by `layout`), which may be quantised: then it stands for its decoded
//! numbers, not rounded to the dtype of a as `linear` rounds them. Result: norm f32 [out].
//! Cost: 2·in·out·r FLOPs. It has no derivative: DoRA takes it for a constant (Liu et al., *DoRA*, 2024, section 4.3), and
//! so does PEFT. Look next at `column_scale`, which divides by it.

use super::{Layout, OpDef, finite, float, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};

/// Attributes of `adapted_norm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptedNorm {
    /// How w is stored.
    pub layout: Layout,
    /// Factor of B·A.
    pub scale: f32,
}

impl OpDef for AdaptedNorm {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3)?;
        finite("scale", self.scale)?;
        let (a, b, w) = (inputs[0], inputs[1], inputs[2]);
        float("a", a)?;
        if w.dtype.quant_format().is_none() {
            typed("w", w, a.dtype, &w.shape)?;
        }
        if w.shape.len() != 2 || a.shape.len() != 2 {
            return Err(format!("a {a} and w {w} must have two axes"));
        }
        let (fan_in, fan_out) = self.layout.in_out(&w.shape);
        if a.shape[1] != fan_in {
            return Err(format!("the last axis of a {a} does not match w {w}, whose input size is {fan_in}"));
        }
        typed("b", b, a.dtype, &[fan_out, a.shape[0]])?;
        Ok(vec![Type::new(DType::F32, [fan_out])])
    }

    fn is_contraction(&self) -> bool {
        true
    }

    /// The products of B and A are most of the work.
    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::ThinIn
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("adapted_norm", "it is a constant to what is divided by it"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let elements = inputs[2].shape.numel() as f64;
        let cost = Cost::new(2.0 * elements * inputs[0].shape[0] as f64, inputs, outputs);
        if inputs[2].dtype.quant_format().is_some() { cost.with_inner(elements) } else { cost }
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (a, b, w) = (inputs[0], inputs[1], inputs[2]);
        let (fan_in, fan_out) = (a.shape[1], results[0].shape[0]);
        let squares = |o: usize| -> f64 {
            (0..fan_in)
                .map(|i| {
                    let low_rank: f64 = b.row(o).iter().enumerate().map(|(r, b)| b * a.row(r)[i]).sum();
                    let element = w.data[self.layout.index(i, o, fan_in, fan_out)];
                    (element + f64::from(self.scale) * low_rank).powi(2)
                })
                .sum()
        };
        vec![Array::new([fan_out], (0..fan_out).map(|o| squares(o).sqrt()).collect())]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for (fan_in, fan_out, rank) in [(1, 1, 1), (33, 19, 3), (70, 5, 4), (1100, 18, 2), (64, 128, 5)] {
            for layout in [Layout::OutIn, Layout::InOut] {
                let w = if layout == Layout::OutIn { [fan_out, fan_in] } else { [fan_in, fan_out] };
                let op = AdaptedNorm { layout, scale: 0.75 };
                let sample = Sample::new(op).normal([rank, fan_in]).normal([fan_out, rank]);
                samples.push(sample.clone().normal(w));
                samples.push(sample.clone().normal(w).in_dtype(2, DType::Nf4Single));
                // Exact when quantised again: every row has 1 as its largest magnitude.
                let ones = |i: usize| if i.is_multiple_of(w[1]) { 1.0 } else { (i as f64 * 0.7).sin() };
                samples.push(sample.f32(w, (0..fan_in * fan_out).map(ones).collect()).in_dtype(2, DType::Int8));
            }
        }
        samples
    }
}
