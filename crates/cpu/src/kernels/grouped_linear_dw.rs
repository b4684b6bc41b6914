//! Gradients of the weights of experts: `linear_dw` over the rows of each group. A group without rows has none: its gradient is zero,
//! or stays what it was.

use remat_ir::ops::Layout;

use super::grouped_linear::rows_of_groups;
use super::linear::LinearSize;
use super::linear_dw::linear_dw;
use super::zeros::zeros;
use crate::element::Element;
use crate::pool::ThreadPool;

/// `dW = alpha * sum over the rows of each group of x^T dy`, onto what `dw(group)` holds if `accumulate`. `size` is of all rows.
pub fn grouped_linear_dw<'d, T: Element>(
    pool: &ThreadPool,
    size: LinearSize,
    layout: Layout,
    ends: &[i32],
    [x, dy]: [&[T]; 2],
    alpha: f32,
    accumulate: bool,
    dw: impl Fn(usize) -> &'d mut [f32],
) {
    let LinearSize { tokens, input, output } = size;
    assert_eq!([x.len(), dy.len()], [tokens * input, tokens * output], "grouped_linear_dw: x or dy has another size");
    for (group, rows) in rows_of_groups(ends).enumerate() {
        match (rows.is_empty(), accumulate) {
            (true, true) => {}
            (true, false) => zeros(pool, dw(group)),
            (false, _) => {
                let size = LinearSize { tokens: rows.len(), input, output };
                let (x, dy) = (&x[rows.start * input..rows.end * input], &dy[rows.start * output..rows.end * output]);
                linear_dw(pool, size, layout, x, dy, alpha, accumulate, dw(group));
            }
        }
    }
}
