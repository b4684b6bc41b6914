//! Masks in the gradient of attention, whose tiles have keys as rows. The kernel is that of `attention_grad.rs`.

use super::attention::ROWS;
use super::gemm::ROW_STRIDE;
use super::masked_attention::Mask;

/// Writes what a mask adds to the scores of a tile, made query by query, since a mask runs along the keys: of `count` queries from
/// `i` on, in columns, and `rows` keys from `j` on.
///
/// # Safety
/// The tile has as many rows and columns, in rows of `ROW_STRIDE`.
pub(super) unsafe fn mask_tile(
    mask: &Mask<'_>,
    (b, h): (usize, usize),
    [i, count]: [usize; 2],
    [j, rows]: [usize; 2],
    to: *mut f32,
) {
    let mut line = [0.0; ROWS];
    for column in 0..count {
        line.fill(0.0);
        mask.add_to((b, h, i + column), j, &mut line[..rows]);
        for (row, more) in line.iter().enumerate().take(rows) {
            unsafe { *to.add(row * ROW_STRIDE + column) = *more };
        }
    }
}
