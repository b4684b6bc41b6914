//! Linear layers on top of `gemm`: forward and input gradient.
//!
//! The input gradient needs no function of its own: `dx = dy W^T` is `linear` with sizes exchanged and the layout
//! flipped. Work 2 N I O FLOP.

use remat_ir::ops::Layout;

use super::gemm::{Epilogue, LowRank, Matrix, QuantisedMatrix, Right, gemm_low_rank};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::Out;
use remat_tensor::QuantisedView;

/// A layer's weight as it lies in memory.
#[derive(Clone, Copy)]
pub enum Weight<'a, T> {
    /// Element by element.
    Dense(&'a [T]),
    /// Quantised, read as `T`.
    Quantised(QuantisedView<'a>),
}

impl<'a, T> From<&'a [T]> for Weight<'a, T> {
    fn from(weight: &'a [T]) -> Self {
        Weight::Dense(weight)
    }
}

impl<'a, T> From<&'a Vec<T>> for Weight<'a, T> {
    fn from(weight: &'a Vec<T>) -> Self {
        Weight::Dense(weight)
    }
}

impl<'a, T: Element> Weight<'a, T> {
    /// As a matrix `[I, O]`.
    fn in_out(self, layout: Layout, input: usize, output: usize) -> Right<'a, T> {
        match (self, layout) {
            (Weight::Dense(weight), Layout::OutIn) => Matrix::transposed(weight, input).into(),
            (Weight::Dense(weight), Layout::InOut) => Matrix::rows(weight, output).into(),
            (Weight::Quantised(weight), Layout::OutIn) => QuantisedMatrix::transposed(weight, input).into(),
            (Weight::Quantised(weight), Layout::InOut) => QuantisedMatrix::rows(weight, output).into(),
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

/// An adapter's second product, `beta * u[N, r] b`.
#[derive(Clone, Copy)]
pub struct Adapter<'a, T> {
    /// r: columns of u.
    pub rank: usize,
    /// Factor of the product.
    pub beta: f32,
    /// How b is stored.
    pub layout: Layout,
    /// `[N, r]`.
    pub u: &'a [T],
    /// `[O, r]` or `[r, O]`.
    pub b: &'a [T],
}

/// `y[N, O] = start + alpha * x[N, I] W + bias`; a residual to start from may be `y`, in place.
pub fn linear<'w, 'y, X: Element, W: Element, Y: Element>(
    pool: &ThreadPool,
    size: LinearSize,
    layout: Layout,
    x: &[X],
    weight: impl Into<Weight<'w, W>>,
    epilogue: Epilogue<'y, Y>,
    y: impl Into<Out<'y, Y>>,
) {
    let LinearSize { tokens, input, output } = size;
    let weight = weight.into().in_out(layout, input, output);
    gemm_low_rank(pool, [tokens, output, input], Matrix::rows(x, input), weight, None, epilogue, y);
}

/// The same with an adapter's product added.
#[allow(clippy::too_many_arguments)]
pub fn adapted_linear<'w, 'y, T: Element>(
    pool: &ThreadPool,
    size: LinearSize,
    layout: Layout,
    x: &[T],
    weight: impl Into<Weight<'w, T>>,
    adapter: Adapter<'_, T>,
    epilogue: Epilogue<'y, T>,
    y: impl Into<Out<'y, T>>,
) {
    let LinearSize { tokens, input, output } = size;
    let weight = weight.into().in_out(layout, input, output);
    let Adapter { rank, beta, layout, u, b } = adapter;
    let b = match layout {
        Layout::OutIn => Matrix::transposed(b, rank),
        Layout::InOut => Matrix::rows(b, output),
    };
    let low_rank = LowRank { rank, u: Matrix::rows(u, rank), b, beta };
    gemm_low_rank(pool, [tokens, output, input], Matrix::rows(x, input), weight, Some(low_rank), epilogue, y);
}

#[cfg(test)]
mod tests {
    use super::super::linear_dw::linear_dw;
    use super::*;
    use crate::testing::{assert_near, every_level, normals};

    #[test]
    fn both_layouts_forward_and_backward_match_f64() {
        let size = LinearSize { tokens: 37, input: 19, output: 23 };
        let LinearSize { tokens, input, output } = size;
        let (x, w, dy) = (normals(tokens * input, 1), normals(input * output, 2), normals(tokens * output, 3));
        for layout in [Layout::OutIn, Layout::InOut] {
            let at = |i: usize, o: usize| if layout == Layout::OutIn { o * input + i } else { i * output + o };
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
}
