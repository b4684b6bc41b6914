//! `pool2d`: the maximum or the mean of each window of each channel of an image.
//!
//! Operand: x [B, C, H, W], or [B, C, W] of one row. Result: y [B, C, H′, W′] like x, with sizes as of `conv2d`. Of equal elements the first, by rows,
//! is the maximum; padding never is. A mean is over all elements of its window, padding counting as zeros, or over those
//! inside the image alone. As torch.nn.functional.max_pool2d and avg_pool2d.

use super::conv2d::{Window, four, four_of, in_axes};
use super::{OpDef, Pool2dGrad, float, operands};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// What is taken of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolKind {
    /// The largest element.
    Max,
    /// The mean of all, padding included.
    Mean,
    /// The mean of those inside the image.
    MeanInside,
}

impl PoolKind {
    const ALL: [PoolKind; 3] = [PoolKind::Max, PoolKind::Mean, PoolKind::MeanInside];
}

/// Attributes of `pool2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool2d {
    /// What is taken of a window.
    pub kind: PoolKind,
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Where windows lie.
    pub window: Window,
}

impl Pool2d {
    /// Rows and columns of the result.
    pub(super) fn output(&self, image: [usize; 2]) -> Result<[usize; 2], String> {
        let ([rows, columns], window) = (self.kernel, &self.window);
        if rows == 0 || columns == 0 {
            return Err(format!("attribute kernel = [{rows}, {columns}] must be at least 1"));
        }
        let output = window.output(image, self.kernel)?;
        for axis in 0..2 {
            let (padding, reach) = (window.padding[axis], (self.kernel[axis] - 1) * window.dilation[axis] + 1);
            if 2 * padding > reach {
                return Err(format!("a padding of {padding} is more than half of a window, which reaches over {reach}"));
            }
        }
        if self.kind != PoolKind::Max && window.dilation != [1, 1] {
            return Err("a window of means has no dilation".to_string());
        }
        Ok(output)
    }

    /// Elements of one window inside an image, by rows.
    pub(super) fn inside(&self, [i, j]: [usize; 2], [height, width]: [usize; 2]) -> impl Iterator<Item = usize> {
        let (window, [rows, columns]) = (self.window, self.kernel);
        (0..rows * columns).filter_map(move |tap| {
            let (row, column) = (window.input(0, i, tap / columns, height)?, window.input(1, j, tap % columns, width)?);
            Some(row * width + column)
        })
    }

    /// The elements of a window that its result depends on, and the factor of each.
    pub(super) fn weights(&self, plane: Option<&[f64]>, at: [usize; 2], image: [usize; 2]) -> Vec<(usize, f64)> {
        let inside: Vec<usize> = self.inside(at, image).collect();
        let factor = match (self.kind, plane) {
            (PoolKind::Max, Some(plane)) => {
                let first = |best: Option<usize>, next: usize| match best {
                    Some(best) if plane[next] <= plane[best] => Some(best),
                    _ => Some(next),
                };
                return inside.into_iter().fold(None, first).map(|winner| (winner, 1.0)).into_iter().collect();
            }
            (PoolKind::Max | PoolKind::MeanInside, _) => 1.0 / inside.len() as f64,
            (PoolKind::Mean, _) => 1.0 / (self.kernel[0] * self.kernel[1]) as f64,
        };
        inside.into_iter().map(|element| (element, factor)).collect()
    }
}

impl OpDef for Pool2d {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        float("x", inputs[0])?;
        let [batch, channels, height, width] = four("x", inputs[0])?;
        let [rows, columns] = self.output([height, width])?;
        let shape = in_axes(inputs[0].shape.len(), [batch, channels, rows, columns]);
        Ok(vec![Type::new(inputs[0].dtype, shape)])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("pool2d")?;
        let shape = four_of(&cx.builder.ty(cx.inputs[0]).shape);
        let grad = Pool2dGrad { pool: *self, size: [shape[2], shape[3]] };
        let mut inputs = vec![dy];
        // Which element is the largest is found again: x is kept as a rule, by what made it or reads it besides.
        inputs.extend((self.kind == PoolKind::Max).then_some(cx.inputs[0]));
        let dx = if cx.needs[0] { Some(cx.emit1("dx", grad, &inputs)?) } else { None };
        Ok(vec![dx])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise((self.kernel[0] * self.kernel[1]) as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (x, mut y) = (inputs[0], Array::zeros(results[0].shape.clone()));
        let ([_, _, height, width], [_, _, rows, columns]) = (four_of(&x.shape), four_of(&y.shape));
        let (image, places) = ([height, width], rows * columns);
        let planes = x.data.chunks_exact(image[0] * image[1]);
        for (plane, y) in planes.zip(y.data.chunks_exact_mut(places)) {
            for (at, y) in y.iter_mut().enumerate() {
                let weights = self.weights(Some(plane), [at / columns, at % columns], image);
                *y = weights.into_iter().map(|(element, factor)| factor * plane[element]).sum();
            }
        }
        vec![y]
    }

    /// Each kind on windows that lie apart, that overlap and are padded, unlike along their axes; dilated maxima; the whole
    /// image.
    fn samples() -> Vec<Sample> {
        let apart = Window { stride: [2, 2], ..Window::default() };
        let padded = Window { stride: [2, 1], padding: [1, 1], ..Window::default() };
        let mut samples = Vec::new();
        for kind in PoolKind::ALL {
            let of = |kernel, window, x: &[usize]| Sample::new(Pool2d { kind, kernel, window }).normal(x);
            samples.push(of([2, 2], apart, &[2, 3, 6, 7]));
            samples.push(of([3, 2], padded, &[1, 2, 7, 5]));
            samples.push(of([5, 4], Window::default(), &[2, 2, 5, 4]));
            samples.push(of([1, 3], Window { padding: [0, 1], ..apart }, &[1, 3, 40]));
        }
        let dilated = Window { stride: [1, 2], padding: [1, 2], dilation: [2, 3] };
        samples.push(Sample::new(Pool2d { kind: PoolKind::Max, kernel: [2, 2], window: dilated }).normal([2, 2, 9, 8]));
        samples
    }
}
