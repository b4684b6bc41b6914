//! A quantised right operand: decoded into scratch a few columns at a time, in the dtype it stands for, and packed from
//! there like a dense one.
//!
//! Invariant: the packed panels, and so the product's bits, are those of the dense operand that decoding would give; no
//! more of it exists at once than `DECODED` elements per thread. An element is decoded once per task; a task of 512 rows
//! does 1024 FLOP with it. Look next at `nf4.rs` and `int8.rs`, which decode a run of each format.

use remat_tensor::QuantisedView;

use super::blocks::K_BLOCK;
use super::pack::Source;
use super::{int8, nf4};
use crate::element::Element;
use crate::simd::Simd;

/// Columns decoded at a time if the operand is stored by rows: whole blocks of NF4, where rows begin with one.
const ROWS_COLS: usize = 64;
/// Columns decoded at a time if it is stored by columns: so few that they stay in the first-level cache.
const COLUMNS_COLS: usize = 32;
/// Stored rows that are asked for before they are decoded. What a block reads of them lies a row apart, which nothing else brings
/// in time once the weights of a model are more than a cache holds.
const ROWS_AHEAD: usize = 12;
/// The same of a block that reads longer runs.
const COLUMNS_AHEAD: usize = 3;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Words of scratch for what is decoded: `2 * K_BLOCK` bf16 or `K_BLOCK` f32 per column.
pub(super) const DECODED: usize = ROWS_COLS * K_BLOCK;

/// A two-dimensional quantised weight as a matrix operand whose elements are read as `T`.
#[derive(Clone, Copy)]
pub struct QuantisedMatrix<'a, T> {
    tensor: QuantisedView<'a>,
    /// Elements of a stored row.
    width: usize,
    /// Whether the operand is the transpose of what is stored.
    transposed: bool,
    decoded: std::marker::PhantomData<T>,
}

impl<'a, T: Element> QuantisedMatrix<'a, T> {
    /// A row-major matrix with `cols` columns.
    pub fn rows(tensor: QuantisedView<'a>, cols: usize) -> Self {
        QuantisedMatrix { tensor, width: cols, transposed: false, decoded: std::marker::PhantomData }
    }

    /// The transpose of a row-major matrix that has `cols` columns.
    pub fn transposed(tensor: QuantisedView<'a>, cols: usize) -> Self {
        QuantisedMatrix { transposed: true, ..QuantisedMatrix::rows(tensor, cols) }
    }

    pub(super) fn check(&self, rows: usize, cols: usize) {
        let (stored, width) = if self.transposed { (cols, rows) } else { (rows, cols) };
        let elements = self.tensor.elements();
        let scaled = match &self.tensor {
            QuantisedView::Nf4(_) => true,
            QuantisedView::Int8(tensor) => tensor.width() == width,
        };
        assert!(
            width == self.width && stored * width == elements && scaled,
            "gemm: B is not [{rows}, {cols}] but has {elements}"
        );
    }

    /// Columns to decode at a time; a multiple of every level's panel width.
    pub(super) fn step(&self) -> usize {
        if self.transposed { COLUMNS_COLS } else { ROWS_COLS }
    }

    /// Decodes `k` x `cols` elements from row `i`, column `j` on, at most `step` columns, into `DECODED` words.
    #[inline(always)]
    pub(super) unsafe fn decode<S: Simd>(&self, i: usize, j: usize, k: usize, cols: usize, to: *mut T) -> Source<T> {
        unsafe {
            if self.transposed {
                for col in 0..cols {
                    self.fetch::<S>(j + col + COLUMNS_AHEAD, i, k);
                    self.run::<S>(j + col, i, k, to.add(col * k));
                }
                return Source { start: to, row_stride: 1, col_stride: k };
            }
            for row in 0..k {
                // Behind the last row of this block come the first of the one beside it.
                let (ahead, beside) = (row + ROWS_AHEAD, row + ROWS_AHEAD >= k);
                self.fetch::<S>(i + if beside { ahead - k } else { ahead }, j + if beside { cols } else { 0 }, cols);
                self.run::<S>(i + row, j, cols, to.add(row * cols));
            }
            Source { start: to, row_stride: cols, col_stride: 1 }
        }
    }

    /// Asks for elements of a stored row; one that does not exist is no fault.
    #[inline(always)]
    unsafe fn fetch<S: Simd>(&self, row: usize, from: usize, count: usize) {
        let first = row * self.width + from;
        let (start, bytes) = match &self.tensor {
            QuantisedView::Nf4(tensor) => (tensor.codes.as_ptr().wrapping_add(first / 2), count.div_ceil(2)),
            QuantisedView::Int8(tensor) => (tensor.codes.as_ptr().cast::<u8>().wrapping_add(first), count),
        };
        for line in (0..bytes).step_by(LINE) {
            unsafe { S::fetch(start.wrapping_add(line)) };
        }
    }

    /// Decodes `count` elements of a stored row.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd>(&self, row: usize, from: usize, count: usize, to: *mut T) {
        let first = row * self.width + from;
        unsafe {
            match &self.tensor {
                QuantisedView::Nf4(tensor) => nf4::decode::<S, T>(tensor, first, count, to),
                QuantisedView::Int8(tensor) => int8::decode::<S, T>(tensor, row, first, count, to),
            }
        }
    }
}
