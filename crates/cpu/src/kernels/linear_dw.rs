//! Gradient of a linear layer's weight: a matrix product over tokens. Work 2 N I O FLOP.
//!
//! Invariant: tokens are reduced in blocks that divide `TOKEN_BLOCK`, so that a call may stop at any multiple of it and
//! be continued with `accumulate`. The result is f32 whatever the activations are.

use remat_ir::ops::Layout;

use super::gemm::{Epilogue, Matrix, gemm};
use super::linear::LinearSize;
use crate::element::Element;
use crate::pool::ThreadPool;

/// `dW = alpha * sum over tokens of x^T dy`, in the weight's own layout, onto what `dw` holds if `accumulate`.
pub fn linear_dw<X: Element, Y: Element>(
    pool: &ThreadPool,
    size: LinearSize,
    layout: Layout,
    x: &[X],
    dy: &[Y],
    alpha: f32,
    accumulate: bool,
    dw: &mut [f32],
) {
    let LinearSize { tokens, input, output } = size;
    let epilogue = Epilogue::scaled(alpha, accumulate);
    match layout {
        Layout::OutIn => {
            let (dy, x) = (Matrix::transposed(dy, output), Matrix::rows(x, input));
            gemm(pool, [output, input, tokens], dy, x, epilogue, dw);
        }
        Layout::InOut => {
            let (x, dy) = (Matrix::transposed(x, input), Matrix::rows(dy, output));
            gemm(pool, [input, output, tokens], x, dy, epilogue, dw);
        }
    }
}
