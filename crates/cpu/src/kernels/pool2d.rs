//! Maxima and means of windows over images. A task is some rows of results; bound by memory where windows are small.
//!
//! Shapes: x `[P, H, W]` and y `[P, H', W']`, with P planes: images times channels. A mean is summed in f32, by rows of its
//! window. Of equal elements the first is the maximum, and what is not a number is.

use super::pointwise::rows_per_task;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, launch};
use remat_ir::ops::{Pool2d, PoolKind};
use std::ops::Range;

/// Windows over the planes of a tensor.
#[derive(Debug, Clone, Copy)]
pub struct Pooling {
    /// What is taken of a window, and where they lie.
    pub op: Pool2d,
    /// B C.
    pub planes: usize,
    /// H, W.
    pub image: [usize; 2],
    /// H', W'.
    pub result: [usize; 2],
}

impl Pooling {
    /// The elements of a window along an axis that are inside: the first place and how many.
    #[inline(always)]
    fn inside(&self, axis: usize, at: usize) -> (usize, usize) {
        let (window, size, taps) = (&self.op.window, self.image[axis], self.op.kernel[axis]);
        let (start, step, padding) = (at * window.stride[axis], window.dilation[axis], window.padding[axis]);
        let outside = padding.saturating_sub(start).div_ceil(step).min(taps);
        let first = start + outside * step - padding.min(start + outside * step);
        let fit = size.saturating_sub(first).div_ceil(step);
        (first, fit.min(taps - outside))
    }

    /// Calls `each` with the index in a plane of every element of a window that is inside, by rows.
    #[inline(always)]
    pub(super) fn elements(&self, [i, j]: [usize; 2], mut each: impl FnMut(usize)) {
        let ([down, across], width) = (self.op.window.dilation, self.image[1]);
        let ((row, rows), (column, columns)) = (self.inside(0, i), self.inside(1, j));
        for r in 0..rows {
            let line = (row + r * down) * width + column;
            (0..columns).for_each(|s| each(line + s * across));
        }
    }

    /// The rows of an image that a row of windows touches.
    #[inline(always)]
    pub(super) fn rows_of(&self, i: usize) -> Range<usize> {
        let (first, count) = self.inside(0, i);
        first..first + (count.max(1) - 1) * self.op.window.dilation[0] + usize::from(count > 0)
    }

    /// How many elements a window's mean is over.
    #[inline(always)]
    pub(super) fn divisor(&self, [i, j]: [usize; 2]) -> f32 {
        let count = match self.op.kind {
            PoolKind::MeanInside => self.inside(0, i).1 * self.inside(1, j).1,
            PoolKind::Max | PoolKind::Mean => self.op.kernel[0] * self.op.kernel[1],
        };
        count as f32
    }

    /// Where the maximum of a window is, if it has any element.
    ///
    /// # Safety
    /// The plane has the elements of an image.
    #[inline(always)]
    pub(super) unsafe fn winner<T: Element>(&self, plane: *const T, at: [usize; 2]) -> Option<usize> {
        let mut best: Option<(usize, f32)> = None;
        self.elements(at, |element| {
            let x = unsafe { *plane.add(element) }.to_f32();
            if best.is_none_or(|(_, most)| x > most || x.is_nan()) {
                best = Some((element, x));
            }
        });
        best.map(|(element, _)| element)
    }

    pub(super) fn check(&self, name: &str, x: usize, y: usize) {
        let Pooling { planes, image: [height, width], result: [rows, columns], .. } = *self;
        assert_eq!(x, planes * height * width, "{name}: x is not [{planes}, {height}, {width}]");
        assert_eq!(y, planes * rows * columns, "{name}: y is not [{planes}, {rows}, {columns}]");
        let results = self.op.window.output(self.image, self.op.kernel);
        assert_eq!(results, Ok(self.result), "{name}: y is not [{planes}, {rows}, {columns}]");
    }
}

struct Forward<'a, T> {
    of: Pooling,
    x: &'a [T],
    y: Out<'a, T>,
}

impl<T: Element> Kernel for Forward<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let ([rows, columns], pixels) = (self.of.result, self.of.image[0] * self.of.image[1]);
        let step = rows_per_task(columns);
        for row in task * step..((task + 1) * step).min(self.of.planes * rows) {
            let (plane, i) = (unsafe { self.x.as_ptr().add(row / rows * pixels) }, row % rows);
            for j in 0..columns {
                let y = unsafe { self.value(plane, [i, j]) };
                unsafe { *self.y.at(row * columns + j) = T::from_f32(y) };
            }
        }
    }
}

impl<T: Element> Forward<'_, T> {
    #[inline(always)]
    unsafe fn value(&self, plane: *const T, at: [usize; 2]) -> f32 {
        unsafe {
            if self.of.op.kind == PoolKind::Max {
                return self.of.winner(plane, at).map_or(f32::NEG_INFINITY, |element| (*plane.add(element)).to_f32());
            }
            let mut sum = 0.0;
            self.of.elements(at, |element| sum += (*plane.add(element)).to_f32());
            sum / self.of.divisor(at)
        }
    }
}

/// The maximum or the mean of each window.
pub fn pool2d<T: Element>(pool: &ThreadPool, of: Pooling, x: &[T], y: &mut [T]) {
    of.check("pool2d", x.len(), y.len());
    let tasks = (of.planes * of.result[0]).div_ceil(rows_per_task(of.result[1]));
    launch(pool, tasks, &Forward { of, x, y: Out::new(y) });
}
