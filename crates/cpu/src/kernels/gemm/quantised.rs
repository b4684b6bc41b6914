//! An NF4 right operand: decoded into scratch a few columns at a time, in the dtype it stands for, and packed from there
//! like a dense one.
//!
//! Invariant: the packed panels, and so the product's bits, are those of the dense operand that decoding would give; no
//! more of it exists at once than `DECODED` elements per thread. Work: 16 products and 64 look-ups per block of 64, done
//! once per task; a task of 512 rows does 1024 FLOP with each element.

use remat_tensor::nf4::{BLOCK, Nf4View};

use super::K_BLOCK;
use super::pack::Source;
use crate::element::Element;
use crate::simd::Simd;

/// Columns decoded at a time if the operand is stored by rows: whole blocks, where rows begin with one.
const ROWS_COLS: usize = BLOCK;
/// Columns decoded at a time if it is stored by columns: so few that they stay in the first-level cache.
const COLUMNS_COLS: usize = 32;
/// Words of scratch for what is decoded: `2 * K_BLOCK` bf16 or `K_BLOCK` f32 per column.
pub(super) const DECODED: usize = ROWS_COLS * K_BLOCK;

/// A two-dimensional NF4 weight as a matrix operand whose elements are read as `T`.
#[derive(Clone, Copy)]
pub struct Nf4Matrix<'a, T> {
    tensor: Nf4View<'a>,
    /// Elements of a stored row.
    width: usize,
    /// Whether the operand is the transpose of what is stored.
    transposed: bool,
    decoded: std::marker::PhantomData<T>,
}

impl<'a, T: Element> Nf4Matrix<'a, T> {
    /// A row-major matrix with `cols` columns.
    pub fn rows(tensor: Nf4View<'a>, cols: usize) -> Self {
        Nf4Matrix { tensor, width: cols, transposed: false, decoded: std::marker::PhantomData }
    }

    /// The transpose of a row-major matrix that has `cols` columns.
    pub fn transposed(tensor: Nf4View<'a>, cols: usize) -> Self {
        Nf4Matrix { transposed: true, ..Nf4Matrix::rows(tensor, cols) }
    }

    pub(super) fn check(&self, rows: usize, cols: usize) {
        let (stored, width) = if self.transposed { (cols, rows) } else { (rows, cols) };
        let elements = self.tensor.elements();
        assert!(
            width == self.width && stored * width == elements,
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
                    self.run::<S>((j + col) * self.width + i, k, to.add(col * k));
                }
                return Source { start: to, row_stride: 1, col_stride: k };
            }
            for row in 0..k {
                self.run::<S>((i + row) * self.width + j, cols, to.add(row * cols));
            }
            Source { start: to, row_stride: cols, col_stride: 1 }
        }
    }

    /// Decodes `count` elements in the order they are stored in.
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, first: usize, count: usize, to: *mut T) {
        let whole_blocks = self.tensor.elements() / BLOCK;
        let mut at = 0;
        while at < count {
            let element = first + at;
            let (block, within) = (element / BLOCK, element % BLOCK);
            let some = (BLOCK - within).min(count - at);
            unsafe {
                let table = self.table::<S>(block);
                let codes = self.tensor.codes.as_ptr().add(block * BLOCK / 2);
                if some == BLOCK {
                    T::look_up::<S>(&table, codes, to.add(at));
                } else if block < whole_blocks {
                    let mut decoded = [T::from_f32(0.0); BLOCK];
                    T::look_up::<S>(&table, codes, decoded.as_mut_ptr());
                    std::ptr::copy_nonoverlapping(decoded.as_ptr().add(within), to.add(at), some);
                } else {
                    for index in 0..some {
                        *to.add(at + index) = table[self.tensor.code(element + index)];
                    }
                }
            }
            at += some;
        }
    }

    /// What the 16 codes stand for in a block: products in f32, rounded to `T`.
    #[inline(always)]
    unsafe fn table<S: Simd>(&self, block: usize) -> [T; 16] {
        let mut table = [T::from_f32(0.0); 16];
        unsafe {
            let absmax = S::splat(self.tensor.absmax(block));
            for first in (0..16).step_by(S::LANES) {
                let numbers = S::mul(S::load(self.tensor.map.as_ptr().add(first)), absmax);
                T::store::<S>(table.as_mut_ptr().add(first), numbers, S::LANES);
            }
        }
        table
    }
}
