//! `rope`: rotary position embedding. Within the first R elements of each head of size E, elements i and i + R/2 are a pair
//! that is turned by the angle position · inv_freq[i]: y₁ = (x₁ cos − x₂ sin)·scale, y₂ = (x₂ cos + x₁ sin)·scale. The other
//! E − R elements stay as they are.
//!
//! Operands: x [B, T, H·E], positions i32 [B, T], inv_freq f32 [R/2] with R ≤ E. Result: y like x. Saves nothing: the derivative is
//! the inverse rotation. Su et al., *RoFormer*, 2021, in the `rotate_half` order of transformers.

use super::{OpDef, finite, float, operands, rank, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `rope`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rope {
    /// Size E of a head, even.
    pub head_size: usize,
    /// Whether to turn by the negative angle, as the derivative does.
    pub inverse: bool,
    /// Factor of the result: the attention factor of some long-context scalings, else 1.
    pub scale: f32,
}

impl OpDef for Rope {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3)?;
        finite("scale", self.scale)?;
        let x = inputs[0];
        float("x", x)?;
        rank("x", x, 3)?;
        if self.head_size == 0 || !self.head_size.is_multiple_of(2) {
            return Err(format!("attribute head_size = {} must be even and positive", self.head_size));
        }
        if !x.shape.last().is_multiple_of(self.head_size) {
            return Err(format!("the last axis of x {x} is not a multiple of head_size = {}", self.head_size));
        }
        typed("positions", inputs[1], DType::I32, &x.shape[..2])?;
        let inv_freq = inputs[2];
        if inv_freq.dtype != DType::F32 || inv_freq.shape.len() != 1 || inv_freq.shape.last() > self.head_size / 2 {
            let most = self.head_size / 2;
            return Err(format!("inv_freq {inv_freq} must be f32 of one axis, at most {most} for head_size = {}", self.head_size));
        }
        Ok(vec![x.clone()])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Rope
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("rope")?;
        if cx.needs[2] {
            return Err(cx.refuse("rope", "frequencies cannot be trained"));
        }
        let mut cotangents = vec![None; 3];
        if cx.needs[0] {
            let inverse = Rope { inverse: !self.inverse, ..self.clone() };
            cotangents[0] = Some(cx.emit1("dx", inverse, &[dy, cx.inputs[1], cx.inputs[2]])?);
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(4.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (x, positions, inv_freq) = (inputs[0], inputs[1], inputs[2]);
        let (half, scale) = (inv_freq.data.len(), f64::from(self.scale));
        let sign = if self.inverse { -1.0 } else { 1.0 };
        let mut y = x.clone();
        for (n, &position) in positions.data.iter().enumerate() {
            for head in 0..x.shape.last() / self.head_size {
                for i in 0..half {
                    let (sin, cos) = (sign * position * inv_freq.data[i]).sin_cos();
                    let first = head * self.head_size + i;
                    let (x1, x2) = (x.row(n)[first], x.row(n)[first + half]);
                    y.row_mut(n)[first] = (x1 * cos - x2 * sin) * scale;
                    y.row_mut(n)[first + half] = (x2 * cos + x1 * sin) * scale;
                }
            }
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let of = |batch: usize, tokens: usize, heads: usize, [head_size, rotated]: [usize; 2], inverse: bool, scale: f32| {
            let inv_freq = (0..rotated / 2).map(|i| 10_000f64.powf(-2.0 * i as f64 / rotated as f64)).collect();
            // The second row starts again at 0 in its middle, as packed rows do.
            let position = |n: usize| if n >= tokens && n % tokens >= tokens / 2 { n % tokens - tokens / 2 } else { n % tokens };
            Sample::new(Rope { head_size, inverse, scale })
                .normal([batch, tokens, heads * head_size])
                .i32([batch, tokens], (0..batch * tokens).map(|n| position(n) as i32).collect())
                .f32([rotated / 2], inv_freq)
        };
        vec![
            of(1, 5, 1, [2, 2], false, 1.0),
            of(2, 9, 3, [6, 6], false, 1.0),
            of(2, 9, 3, [6, 6], true, 1.25),
            of(1, 70, 2, [32, 32], false, 1.0),
            of(2, 9, 3, [10, 4], false, 1.25),
            of(1, 70, 2, [80, 38], true, 1.0),
        ]
    }
}
