//! Linear layers on top of `gemm`: forward, input gradient, weight gradient and bias gradient.
//!
//! The input gradient needs no function of its own: `dx = dy W^T` is `linear` with sizes exchanged and the layout
//! flipped. Work 2 N I O FLOP each.

use super::column_sums::{Term, column_sums};
use super::gemm::{Epilogue, Matrix, gemm};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::simd::Simd;

/// How a weight `[O, I]` or `[I, O]` lies in memory, row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightLayout {
    /// `[out, in]`, PyTorch's `nn.Linear`.
    OutIn,
    /// `[in, out]`, GPT-2's `Conv1D`.
    InOut,
}

impl WeightLayout {
    /// The layout under which the same memory is the transposed weight.
    pub fn flipped(self) -> Self {
        match self {
            WeightLayout::OutIn => WeightLayout::InOut,
            WeightLayout::InOut => WeightLayout::OutIn,
        }
    }

    /// The weight as a matrix `[I, O]`.
    pub(crate) fn in_out<T>(self, weight: &[T], input: usize, output: usize) -> Matrix<'_, T> {
        match self {
            WeightLayout::OutIn => Matrix::transposed(weight, input),
            WeightLayout::InOut => Matrix::rows(weight, output),
        }
    }
}

/// Sizes of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearSize {
    /// N: rows of x and y.
    pub tokens: usize,
    /// I: columns of x.
    pub input: usize,
    /// O: columns of y.
    pub output: usize,
}

/// `y[N, O] = alpha * x[N, I] W + bias + residual`, or added onto `y` with `accumulate`.
pub fn linear<X: Element, W: Element, Y: Element>(
    pool: &ThreadPool,
    size: LinearSize,
    layout: WeightLayout,
    x: &[X],
    weight: &[W],
    epilogue: Epilogue<'_, Y>,
    y: &mut [Y],
) {
    let LinearSize { tokens, input, output } = size;
    gemm(pool, [tokens, output, input], Matrix::rows(x, input), layout.in_out(weight, input, output), epilogue, y);
}

/// `dW = alpha * sum over tokens of x^T dy`, in the weight's own layout, onto what `dw` holds if `accumulate`.
pub fn linear_dw<X: Element, Y: Element>(
    pool: &ThreadPool,
    size: LinearSize,
    layout: WeightLayout,
    x: &[X],
    dy: &[Y],
    alpha: f32,
    accumulate: bool,
    dw: &mut [f32],
) {
    let LinearSize { tokens, input, output } = size;
    let epilogue = Epilogue { alpha, accumulate, ..Epilogue::default() };
    match layout {
        WeightLayout::OutIn => {
            let (dy, x) = (Matrix::transposed(dy, output), Matrix::rows(x, input));
            gemm(pool, [output, input, tokens], dy, x, epilogue, dw);
        }
        WeightLayout::InOut => {
            let (x, dy) = (Matrix::transposed(x, input), Matrix::rows(dy, output));
            gemm(pool, [input, output, tokens], x, dy, epilogue, dw);
        }
    }
}

struct Rows<'a, T> {
    data: &'a [T],
    cols: usize,
}

impl<T: Element> Term for Rows<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, n: usize, d: usize, lanes: usize) -> S::V {
        unsafe { T::load::<S>(self.data.as_ptr().add(n * self.cols + d), lanes) }
    }
}

/// `db[O] = sum over rows of dy[N, O]`, onto what `db` holds if `accumulate`. Bound by reading dy once.
pub fn bias_grad<Y: Element>(pool: &ThreadPool, dy: &[Y], accumulate: bool, db: &mut [f32]) {
    let cols = db.len();
    assert!(cols > 0 && dy.len().is_multiple_of(cols), "bias_grad: dy ({}) is not rows of [{cols}]", dy.len());
    column_sums(pool, dy.len() / cols, &Rows { data: dy, cols }, accumulate, db);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, every_level, normals};

    #[test]
    fn both_layouts_forward_and_backward_match_f64() {
        let size = LinearSize { tokens: 37, input: 19, output: 23 };
        let LinearSize { tokens, input, output } = size;
        let (x, w, dy) = (normals(tokens * input, 1), normals(input * output, 2), normals(tokens * output, 3));
        for layout in [WeightLayout::OutIn, WeightLayout::InOut] {
            let at = |i: usize, o: usize| if layout == WeightLayout::OutIn { o * input + i } else { i * output + o };
            let dot = |n: usize, pairs: &dyn Fn(usize) -> (f32, f32)| -> f64 {
                (0..n).map(|p| f64::from(pairs(p).0) * f64::from(pairs(p).1)).sum()
            };
            let mut want = [vec![0.0; tokens * output], vec![0.0; tokens * input], vec![0.0; input * output]];
            for n in 0..tokens {
                for o in 0..output {
                    want[0][n * output + o] = dot(input, &|i| (x[n * input + i], w[at(i, o)]));
                }
                for i in 0..input {
                    want[1][n * input + i] = dot(output, &|o| (dy[n * output + o], w[at(i, o)]));
                }
            }
            for (i, o) in (0..input).flat_map(|i| (0..output).map(move |o| (i, o))) {
                want[2][at(i, o)] = dot(tokens, &|n| (x[n * input + i], dy[n * output + o]));
            }
            every_level(
                |pool| {
                    let mut out = [vec![0.0; tokens * output], vec![0.0; tokens * input], vec![0.0; input * output]];
                    linear(pool, size, layout, &x, &w, Epilogue::default(), &mut out[0]);
                    let back = LinearSize { tokens, input: output, output: input };
                    linear(pool, back, layout.flipped(), &dy, &w, Epilogue::default(), &mut out[1]);
                    linear_dw(pool, size, layout, &x, &dy, 1.0, false, &mut out[2]);
                    out.to_vec()
                },
                |level, got| {
                    for (what, (got, want)) in ["y", "dx", "dw"].iter().zip(got.iter().zip(&want)) {
                        assert_near(&format!("{level} {what}"), got, want, &vec![20.0; want.len()], 1e-6);
                    }
                },
            );
        }
    }

    #[test]
    fn bias_grad_sums_rows_and_continues_at_blocks_without_changing_bits() {
        let (rows, cols) = (700, 70);
        let dy = normals(rows * cols, 1);
        let want: Vec<f64> = (0..cols).map(|d| (0..rows).map(|n| f64::from(dy[n * cols + d])).sum()).collect();
        every_level(
            |pool| {
                let mut whole = vec![f32::NAN; cols];
                bias_grad(pool, &dy, false, &mut whole);
                let (head, tail) = dy.split_at(super::super::TOKEN_BLOCK * cols);
                let mut parts = vec![f32::NAN; cols];
                bias_grad(pool, head, false, &mut parts);
                bias_grad(pool, tail, true, &mut parts);
                assert_eq!(whole, parts);
                vec![whole]
            },
            |level, got| assert_near(level, &got[0], &want, &vec![rows as f64; cols], 1e-6),
        );
    }
}
