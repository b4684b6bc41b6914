//! `pool2d_grad`: the gradient of `pool2d`'s input: each window's cotangent goes to its largest element, or a part of it to each
//! element of the mean; what an element gets of several windows is summed, by rows of windows.
//!
//! Operands: dy [B, C, H′, W′], then, of maxima, x [B, C, H, W], in which they are found again. Result: dx [B, C, H, W] like
//! dy, with H and W from `size`.

use super::conv2d::{four, four_of, in_axes};
use super::pool2d::{Pool2d, PoolKind};
use super::{OpDef, float, operands, typed};
use crate::{Array, Cost, IrError, Op, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `pool2d_grad`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool2dGrad {
    /// The forward op.
    pub pool: Pool2d,
    /// H and W.
    pub size: [usize; 2],
}

impl OpDef for Pool2dGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1 + usize::from(self.pool.kind == PoolKind::Max))?;
        let dy = inputs[0];
        float("dy", dy)?;
        let ([batch, channels, rows, columns], [height, width]) = (four("dy", dy)?, self.size);
        if self.pool.output(self.size)? != [rows, columns] {
            return Err(format!("dy {dy} does not have the windows of an image of [{height}, {width}]"));
        }
        let shape = in_axes(dy.shape.len(), [batch, channels, height, width]);
        if let Some(x) = inputs.get(1) {
            typed("x", x, dy.dtype, &shape)?;
        }
        Ok(vec![Type::new(dy.dtype, shape)])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("pool2d_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let window = (self.pool.kernel[0] * self.pool.kernel[1]) as f64;
        Cost::new(window * inputs[0].shape.numel() as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (dy, mut dx) = (inputs[0], Array::zeros(results[0].shape.clone()));
        let [_, _, rows, columns] = four_of(&dy.shape);
        let places = rows * columns;
        let pixels = self.size[0] * self.size[1];
        for (plane, dx) in dx.data.chunks_exact_mut(pixels).enumerate() {
            let x = inputs.get(1).map(|x| &x.data[plane * pixels..][..pixels]);
            for (at, dy) in dy.data[plane * places..][..places].iter().enumerate() {
                for (element, factor) in self.pool.weights(x, [at / columns, at % columns], self.size) {
                    dx[element] += factor * dy;
                }
            }
        }
        vec![dx]
    }

    fn samples() -> Vec<Sample> {
        let with_cotangent = |forward: Sample| {
            let Op::Pool2d(pool) = forward.op else { unreachable!("these are samples of pool2d") };
            let x = four_of(&forward.types[0].shape);
            let sample = Sample::new(Pool2dGrad { pool, size: [x[2], x[3]] }).normal(forward.eval()[0].shape.clone());
            if pool.kind == PoolKind::Max { sample.operand(&forward, 0) } else { sample }
        };
        Pool2d::samples().into_iter().map(with_cotangent).collect()
    }
}
