//! How ops walk tensors by strides: broadcasting, transposing, slicing, padding, joining.
//!
//! A [`Walk`] is a shape with the strides of several operands in it; axes that all operands walk as one are one, so that the
//! innermost run is as long as it can be. Invariants: what a walk visits and in which order follows from shapes alone; nothing is
//! allocated. Look next at `binary.rs` and `transpose.rs`.

use super::pointwise::CHUNK;
use crate::pool::{Scratch, ThreadPool};
use crate::simd::{Kernel, Simd, launch};
use remat_ir::axes::MOST_AXES;

/// A number for each axis.
pub(crate) type Axes = [usize; MOST_AXES];

/// Strides of a row-major tensor of this shape.
pub(crate) fn strides_of(shape: &[usize]) -> Axes {
    let (mut strides, mut stride) = ([0; MOST_AXES], 1);
    for (axis, &size) in shape.iter().enumerate().rev() {
        strides[axis] = stride;
        stride *= size;
    }
    strides
}

/// Strides of an operand along the axes of a shape that it broadcasts to.
pub(crate) fn strides_within(operand: &[usize], shape: &[usize]) -> Axes {
    let (own, missing, mut strides) = (strides_of(operand), shape.len() - operand.len(), [0; MOST_AXES]);
    for (axis, &size) in operand.iter().enumerate().filter(|(_, size)| **size != 1) {
        assert_eq!(size, shape[missing + axis], "an operand {operand:?} does not broadcast to {shape:?}");
        strides[missing + axis] = own[axis];
    }
    strides
}

/// A shape, and for each of its axes the strides of `N` operands.
#[derive(Clone, Copy)]
pub(crate) struct Walk<const N: usize> {
    axes: usize,
    sizes: Axes,
    strides: [[usize; N]; MOST_AXES],
}

/// Where a walk is: the index of all axes but the last, and where that puts each operand.
pub(crate) struct At<const N: usize> {
    index: Axes,
    pub start: [usize; N],
}

impl<const N: usize> Walk<N> {
    pub(crate) fn new(shape: &[usize], strides: [Axes; N]) -> Self {
        let mut walk = Walk { axes: 0, sizes: [1; MOST_AXES], strides: [[0; N]; MOST_AXES] };
        for (axis, &size) in shape.iter().enumerate().filter(|(_, size)| **size != 1) {
            let steps = strides.map(|of| of[axis]);
            let before = walk.axes.checked_sub(1);
            // The axis before and this one are one where a step of that is a whole of this.
            match before.filter(|&last| (0..N).all(|n| walk.strides[last][n] == steps[n] * size)) {
                Some(last) => {
                    walk.sizes[last] *= size;
                    walk.strides[last] = steps;
                }
                None => {
                    walk.sizes[walk.axes] = size;
                    walk.strides[walk.axes] = steps;
                    walk.axes += 1;
                }
            }
        }
        if walk.axes == 0 {
            (walk.axes, walk.strides[0]) = (1, [1; N]);
        }
        walk
    }

    /// Elements of the innermost axis.
    pub(crate) fn inner(&self) -> usize {
        self.sizes[self.axes - 1]
    }

    /// How far each operand goes from one of them to the next.
    pub(crate) fn step(&self) -> [usize; N] {
        self.strides[self.axes - 1]
    }

    /// Runs of the innermost axis.
    pub(crate) fn runs(&self) -> usize {
        self.sizes[..self.axes - 1].iter().product()
    }

    /// Where run `number` begins.
    #[inline(always)]
    pub(crate) fn at(&self, number: usize) -> At<N> {
        let (mut at, mut rest) = (At { index: [0; MOST_AXES], start: [0; N] }, number);
        for axis in (0..self.axes - 1).rev() {
            at.index[axis] = rest % self.sizes[axis];
            rest /= self.sizes[axis];
            for (start, stride) in at.start.iter_mut().zip(self.strides[axis]) {
                *start += at.index[axis] * stride;
            }
        }
        at
    }

    /// Goes on to the next run.
    #[inline(always)]
    pub(crate) fn advance(&self, at: &mut At<N>) {
        for axis in (0..self.axes - 1).rev() {
            at.index[axis] += 1;
            for (start, stride) in at.start.iter_mut().zip(self.strides[axis]) {
                *start += stride;
            }
            if at.index[axis] < self.sizes[axis] {
                return;
            }
            at.index[axis] = 0;
            for (start, stride) in at.start.iter_mut().zip(self.strides[axis]) {
                *start -= self.sizes[axis] * stride;
            }
        }
    }
}

/// An op on runs of elements.
pub(crate) trait Run<const N: usize>: Sync {
    /// Computes `len` elements: of each operand from `start` on, `step` apart.
    ///
    /// # Safety
    /// The machine runs level `S`; the elements exist; nobody else writes them.
    unsafe fn run<S: Simd>(&self, len: usize, start: [usize; N], step: [usize; N]);
}

struct Runs<'a, const N: usize, R> {
    walk: &'a Walk<N>,
    run: &'a R,
    /// Runs per task; one where a run is cut into pieces.
    each: usize,
    pieces: usize,
}

impl<const N: usize, R: Run<N>> Kernel for Runs<'_, N, R> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let (first, from) = (task / self.pieces * self.each, task % self.pieces * CHUNK);
        let (len, step) = ((self.walk.inner() - from).min(CHUNK), self.walk.step());
        let mut at = self.walk.at(first);
        for _ in first..(first + self.each).min(self.walk.runs()) {
            let start = std::array::from_fn(|n| at.start[n] + from * step[n]);
            unsafe { self.run.run::<S>(len, start, step) };
            self.walk.advance(&mut at);
        }
    }
}

/// Runs an op on all elements of a walk.
pub(crate) fn for_each_run<const N: usize, R: Run<N>>(pool: &ThreadPool, walk: &Walk<N>, run: &R) {
    let each = (CHUNK / walk.inner()).max(1);
    let pieces = walk.inner().div_ceil(CHUNK);
    let tasks = walk.runs().div_ceil(each) * pieces;
    launch(pool, tasks, &Runs { walk, run, each, pieces });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_that_are_walked_as_one_are_one() {
        let shape = [2, 1, 3, 4];
        let walk = Walk::new(&shape, [strides_of(&shape), strides_within(&[4], &shape)]);
        assert_eq!((walk.axes, walk.inner(), walk.step(), walk.runs()), (2, 4, [1, 1], 6));
        let whole = Walk::new(&shape, [strides_of(&shape), strides_of(&shape)]);
        assert_eq!((whole.inner(), whole.runs()), (24, 1));
        assert_eq!(Walk::new(&[1, 1], [strides_of(&[1, 1])]).inner(), 1);
    }

    #[test]
    fn a_walk_can_begin_anywhere_and_goes_on() {
        let (shape, turned) = ([3, 2, 5, 2], [1, 30, 6, 3]);
        let mut strides = [0; MOST_AXES];
        strides[..4].copy_from_slice(&turned);
        let walk = Walk::new(&shape, [strides_of(&shape), strides]);
        let mut at = walk.at(0);
        for number in 0..walk.runs() {
            assert_eq!(walk.at(number).start, at.start, "run {number}");
            walk.advance(&mut at);
        }
    }
}
