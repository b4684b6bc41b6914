//! Products of matrices of activations, one for each place of the leading axes: `gemm` on all of them at once.
//!
//! Work 2 B M N K FLOP.

use super::gemm::{Matrix, gemm_batch};
use super::strided::{Walk, strides_of, strides_within};
use crate::element::Element;
use crate::pool::ThreadPool;
use remat_ir::ops::{Matmul, MatmulSize};

/// `y = a b` for each place of `batch`, to which the leading axes of a and b, of their shapes, broadcast.
pub fn matmul<T: Element>(
    pool: &ThreadPool,
    op: Matmul,
    size: MatmulSize,
    batch: &[usize],
    a: (&[T], &[usize]),
    b: (&[T], &[usize]),
    y: &mut [T],
) {
    let MatmulSize { rows, columns, terms } = size;
    let leading = |shape: &[usize]| strides_within(&shape[..shape.len() - 2], batch);
    let walk = Walk::new(batch, [strides_of(batch), leading(a.1), leading(b.1)]);
    let places = walk.runs() * walk.inner();
    assert_eq!(y.len(), places * rows * columns, "matmul: y is not {batch:?} times [{rows}, {columns}]");
    let operands = |place: usize| {
        let (at, index) = (walk.at(place / walk.inner()), place % walk.inner());
        let number = |n: usize| at.start[n] + index * walk.step()[n];
        let a = &a.0[number(1) * rows * terms..][..rows * terms];
        let b = &b.0[number(2) * terms * columns..][..terms * columns];
        let a = if op.transpose_a { Matrix::transposed(a, rows) } else { Matrix::rows(a, terms) };
        (a, if op.transpose_b { Matrix::transposed(b, terms) } else { Matrix::rows(b, columns) })
    };
    gemm_batch(pool, [rows, columns, terms], operands, y);
}
