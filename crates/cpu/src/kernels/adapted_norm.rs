//! Norms of the rows of W + scale · B·A: `norm[O]`, for W [O, I] or [I, O], A [r, I], B [O, r].
//!
//! A task owns `ROWS` outputs. It walks their elements in chunks: W decoded or widened to f32, B·A added over the rank in
//! order, the squares summed in f64, where eight partial sums are folded in order. So threads change no bit, no more than a chunk
//! of W + scale · B·A ever exists, and with B = 0 the norm is that of W to the last bit of f64. 2·I·O·r FLOP, bound by them
//! from ranks of about 4 on.

use remat_ir::ops::Layout;

use super::gemm::QuantisedMatrix;
use super::linear::Weight;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

/// Outputs of a task.
const ROWS: usize = 16;
/// Outputs whose elements are in registers together.
const GROUP: usize = 4;
/// Elements of a row at a time; a multiple of every vector width and of NF4's blocks.
const CHUNK: usize = 1024;
/// Ranks at a time.
const RANKS: usize = 1024;
/// Partial sums of a row's squares.
const LANES: usize = 8;

/// Sizes of a linear that has an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptedSize {
    /// I: columns of A.
    pub input: usize,
    /// O: rows of B.
    pub output: usize,
    /// r.
    pub rank: usize,
}

struct Norms<'a, T> {
    size: AdaptedSize,
    layout: Layout,
    scale: f32,
    a: &'a [T],
    b: &'a [T],
    w: Weight<'a, T>,
    norms: Out<'a, f32>,
}

impl<T: Element> Norms<'_, T> {
    /// Elements `from..from + width` of rows `first..first + count` of W, as f32 in `rows`, `CHUNK` apart.
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, rows: *mut f32, first: [usize; 2], [count, width]: [usize; 2]) {
        let AdaptedSize { input, output, .. } = self.size;
        let [first, from] = first;
        let widen = |x: *const T, row: *mut f32| unsafe {
            for_lanes!(S, width, |d, lanes| { S::store_partial(row.add(d), T::load::<S>(x.add(d), lanes), lanes) });
        };
        for row in 0..count {
            let to = unsafe { rows.add(row * CHUNK) };
            unsafe {
                match (self.w, self.layout) {
                    (Weight::Dense(w), Layout::OutIn) => widen(w.as_ptr().add((first + row) * input + from), to),
                    (Weight::Quantised(w), Layout::OutIn) => {
                        QuantisedMatrix::<f32>::rows(w, input).run::<S>(first + row, from, width, to);
                    }
                    (Weight::Dense(w), Layout::InOut) => {
                        for i in 0..width {
                            *to.add(i) = w.get_unchecked((from + i) * output + first + row).to_f32();
                        }
                    }
                    (Weight::Quantised(w), Layout::InOut) => {
                        for i in 0..width {
                            QuantisedMatrix::<f32>::rows(w, output).run::<S>(from + i, first + row, 1, to.add(i));
                        }
                    }
                }
            }
        }
    }

    /// Adds the products with ranks `ranks` to `GROUP` rows; `coefficients` are [rank][ROWS] from the group's first row on.
    #[inline(always)]
    unsafe fn add<S: Simd>(
        &self,
        rows: *mut f32,
        coefficients: *const f32,
        [from, width]: [usize; 2],
        ranks: std::ops::Range<usize>,
    ) {
        let input = self.size.input;
        unsafe {
            for_lanes!(S, width, |d, lanes| {
                let mut sums = [S::splat(0.0); GROUP];
                for (row, sum) in sums.iter_mut().enumerate() {
                    *sum = S::load(rows.add(row * CHUNK + d));
                }
                for (at, r) in ranks.clone().enumerate() {
                    let a = T::load::<S>(self.a.as_ptr().add(r * input + from + d), lanes);
                    for (row, sum) in sums.iter_mut().enumerate() {
                        *sum = S::fma(S::splat(*coefficients.add(at * ROWS + row)), a, *sum);
                    }
                }
                for (row, sum) in sums.iter().enumerate() {
                    S::store(rows.add(row * CHUNK + d), *sum);
                }
            });
        }
    }
}

impl<T: Element> Kernel for Norms<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let AdaptedSize { input, output, rank } = self.size;
        let first = task * ROWS;
        let count = ROWS.min(output - first);
        let (rows, rest) = scratch.f32s().split_at_mut(ROWS * CHUNK);
        let coefficients = &mut rest[..RANKS * ROWS];
        let mut squares = [[0.0f64; LANES]; ROWS];
        for from in (0..input).step_by(CHUNK) {
            let width = CHUNK.min(input - from);
            unsafe { self.load::<S>(rows.as_mut_ptr(), [first, from], [count, width]) };
            for begin in (0..rank).step_by(RANKS) {
                let ranks = begin..(begin + RANKS).min(rank);
                for (at, r) in ranks.clone().enumerate() {
                    for row in 0..ROWS {
                        // Rows behind the last are computed along and not read.
                        let o = (first + row).min(output - 1);
                        coefficients[at * ROWS + row] = self.scale * self.b[o * rank + r].to_f32();
                    }
                }
                for group in (0..count).step_by(GROUP) {
                    let (rows, coefficients) = (&mut rows[group * CHUNK..], &coefficients[group..]);
                    unsafe { self.add::<S>(rows.as_mut_ptr(), coefficients.as_ptr(), [from, width], ranks.clone()) };
                }
            }
            for (row, lanes) in squares.iter_mut().enumerate().take(count) {
                let (whole, tail) = rows[row * CHUNK..row * CHUNK + width].as_chunks::<LANES>();
                for chunk in whole {
                    lanes.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
                }
                lanes.iter_mut().zip(tail).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
            }
        }
        for (row, lanes) in squares.iter().enumerate().take(count) {
            unsafe { *self.norms.at(first + row) = lanes.iter().sum::<f64>().sqrt() as f32 };
        }
    }
}

/// `norm[o] = ‖W[o] + scale · B[o] A‖`.
#[allow(clippy::too_many_arguments)]
pub fn adapted_norm<'w, T: Element>(
    pool: &ThreadPool,
    size: AdaptedSize,
    layout: Layout,
    scale: f32,
    a: &'w [T],
    b: &'w [T],
    w: impl Into<Weight<'w, T>>,
    norms: &'w mut [f32],
) {
    let AdaptedSize { input, output, rank } = size;
    let w = w.into();
    let elements = match &w {
        Weight::Dense(w) => w.len(),
        Weight::Quantised(w) => w.elements(),
    };
    let given = [a.len(), b.len(), elements, norms.len()];
    assert_eq!(given, [rank * input, output * rank, input * output, output], "adapted_norm: operands are not {size:?}");
    let kernel = Norms { size, layout, scale, a, b, w, norms: Out::new(norms) };
    launch(pool, output.div_ceil(ROWS), &kernel);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, every_level, normals};

    #[test]
    fn norms_match_f64_on_ragged_sizes_and_many_chunks() {
        for (input, output, rank) in [(1, 1, 1), (2500, 21, 3), (70, 18, 9), (40, 33, 1030)] {
            let size = AdaptedSize { input, output, rank };
            let (a, b, w) = (normals(rank * input, 1), normals(output * rank, 2), normals(input * output, 3));
            for layout in [Layout::OutIn, Layout::InOut] {
                let element = |i: usize, o: usize| {
                    let terms = (0..rank).map(|r| f64::from(b[o * rank + r]) * f64::from(a[r * input + i]));
                    f64::from(w[layout.index(i, o, input, output)]) + 0.5 * terms.sum::<f64>()
                };
                let square = |o: usize| (0..input).map(|i| element(i, o).powi(2)).sum::<f64>();
                let want: Vec<f64> = (0..output).map(|o| square(o).sqrt()).collect();
                every_level(
                    |pool| {
                        let mut norms = vec![f32::NAN; output];
                        adapted_norm(pool, size, layout, 0.5, &a, &b, &w, &mut norms);
                        vec![norms]
                    },
                    |level, got| assert_near(level, &got[0], &want, &want, 2e-6),
                );
            }
        }
    }

    #[test]
    fn without_an_adapter_the_norm_is_that_of_the_weight_rounded_once() {
        let (input, output) = (3000, 40);
        let (a, b, w) = (normals(2 * input, 1), vec![0.0; output * 2], normals(input * output, 3));
        let norm = |row: &[f32]| row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32;
        let want: Vec<f32> = w.chunks(input).map(norm).collect();
        every_level(
            |pool| {
                let mut norms = vec![f32::NAN; output];
                let size = AdaptedSize { input, output, rank: 2 };
                adapted_norm(pool, size, Layout::OutIn, 0.5, &a, &b, &w, &mut norms);
                vec![norms]
            },
            |level, got| assert_eq!(got[0], want, "{level}"),
        );
    }
}
