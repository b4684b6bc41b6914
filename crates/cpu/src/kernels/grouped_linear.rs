//! Linears of experts: `linear` for the rows of each group, with the group's weight. Work 2 M I O FLOP; the weights of groups without
//! rows are not read.

use remat_ir::ops::Layout;

use super::gemm::Epilogue;
use super::linear::{LinearSize, Weight, linear};
use crate::element::Element;
use crate::pool::ThreadPool;
use std::ops::Range;

/// The rows of each group; `ends` never fall.
pub(super) fn rows_of_groups(ends: &[i32]) -> impl Iterator<Item = Range<usize>> + '_ {
    let starts = std::iter::once(&0).chain(ends);
    starts.zip(ends).map(|(&start, &end)| start as usize..end as usize)
}

/// `y[rows, O] = alpha * x[rows, I] W` for the rows and the weight of each group. `size` is of all rows.
pub fn grouped_linear<'w, T: Element>(
    pool: &ThreadPool,
    size: LinearSize,
    layout: Layout,
    ends: &[i32],
    x: &[T],
    weight: impl Fn(usize) -> Weight<'w, T>,
    alpha: f32,
    y: &mut [T],
) {
    let LinearSize { tokens, input, output } = size;
    assert_eq!([x.len(), y.len()], [tokens * input, tokens * output], "grouped_linear: x or y has another size");
    for (group, rows) in rows_of_groups(ends).enumerate().filter(|(_, rows)| !rows.is_empty()) {
        let size = LinearSize { tokens: rows.len(), input, output };
        let (x, y) = (&x[rows.start * input..rows.end * input], &mut y[rows.start * output..rows.end * output]);
        linear(pool, size, layout, x, weight(group), Epilogue { alpha, ..Epilogue::default() }, y);
    }
}
