//! Matrix products whose operands are gathered while they are multiplied, as a convolution's: no matrix of windows is ever
//! in memory, only a block of it in a task's scratch.
//!
//! Numbers: as those of `gemm`. The terms of a sum are cut into blocks of `K_BLOCK`; each is one chain of multiply-adds in
//! order, and the chains are added onto the start one after the other, in f32; what is stored is rounded once. How a
//! product is cut into tasks changes no bit.

use std::ops::Range;

use super::gemm::form::Form;
use super::gemm::pack::Source;
use super::gemm::tile::Update;
use super::gemm::{K_BLOCK, ROW_STRIDE};
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::simd::{Kernel, Simd, launch};

/// Rows of a product per task, at most: their sums stay in the second-level cache.
const TASK_ROWS: usize = 448;
/// Columns of a product per task, at most.
pub(crate) const TASK_COLS: usize = 256;
/// Rows of the left operand that are packed at a time.
const PACKED_ROWS: usize = 112;

/// Where a block of an operand is gathered, if it does not lie in memory as it is.
pub(crate) type Room<T> = *mut T;

/// Some products of a left operand `[m, k]` and a right one `[k, n]`.
///
/// # Safety
/// Of all unsafe functions: the block lies inside the product's size; the room has as many elements as the block; results of
/// distinct columns or rows are distinct elements.
pub(crate) trait Product: Sync {
    /// What operands are made of.
    type Operand: Element;
    /// Columns per task, at most `TASK_COLS`.
    const COLS: usize = TASK_COLS;

    /// How many products there are.
    fn count(&self) -> usize;
    /// m, n and k of one.
    fn size(&self, product: usize) -> [usize; 3];
    /// m and n at most.
    fn most(&self) -> [usize; 2];
    /// A block of the left operand.
    unsafe fn left(
        &self,
        product: usize,
        rows: Range<usize>,
        depth: Range<usize>,
        room: Room<Self::Operand>,
    ) -> Source<Self::Operand>;
    /// A block of the right operand.
    unsafe fn right(
        &self,
        product: usize,
        depth: Range<usize>,
        cols: Range<usize>,
        room: Room<Self::Operand>,
    ) -> Source<Self::Operand>;
    /// Fills in what a row's sums begin with, if that is not zero.
    unsafe fn begin(&self, product: usize, row: usize, cols: Range<usize>, sums: &mut [f32]) -> bool {
        let _ = (product, row, cols, sums);
        false
    }
    /// Stores a row's sums.
    unsafe fn store(&self, product: usize, row: usize, cols: Range<usize>, sums: &[f32]);
}

struct Products<'a, P> {
    of: &'a P,
    form: Form,
    down: usize,
    across: usize,
}

/// Computes all products.
pub(crate) fn multiply<P: Product>(pool: &ThreadPool, of: &P) {
    assert!(P::COLS <= TASK_COLS, "gathered product: too many columns in a task");
    let [rows, cols] = of.most();
    let (down, across) = (rows.div_ceil(TASK_ROWS), cols.div_ceil(P::COLS));
    let form = Form::of::<P::Operand, P::Operand>(pool.level());
    launch(pool, of.count() * down * across, &Products { of, form, down, across });
}

/// A task's parts of scratch.
struct Parts<'a> {
    rows: &'a mut [f32],
    panels: &'a mut [f32],
    room: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Parts<'_> {
    fn of(scratch: &mut Scratch) -> Parts<'_> {
        let (rows, rest) = scratch.f32s().split_at_mut(PACKED_ROWS * ROW_STRIDE);
        let (panels, rest) = rest.split_at_mut(K_BLOCK * TASK_COLS);
        let (room, rest) = rest.split_at_mut(K_BLOCK * TASK_COLS);
        Parts { rows, panels, room, sums: &mut rest[..TASK_ROWS * TASK_COLS] }
    }
}

impl<P: Product> Kernel for Products<'_, P> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let (product, block) = (task / (self.down * self.across), task % (self.down * self.across));
        let [m, n, k] = self.of.size(product);
        let (i, j) = (block / self.across * TASK_ROWS, block % self.across * P::COLS);
        if i >= m || j >= n {
            return;
        }
        let (rows, cols) = (i..m.min(i + TASK_ROWS), j..n.min(j + P::COLS));
        let mut parts = Parts::of(scratch);
        for row in rows.clone() {
            let sums = &mut parts.sums[(row - i) * TASK_COLS..][..cols.len()];
            if !unsafe { self.of.begin(product, row, cols.clone(), sums) } {
                sums.fill(0.0);
            }
        }
        for from in (0..k).step_by(K_BLOCK) {
            let depth = from..k.min(from + K_BLOCK);
            unsafe { self.block::<S>(product, rows.clone(), cols.clone(), depth, &mut parts) }
        }
        for row in rows {
            let sums = &parts.sums[(row - i) * TASK_COLS..][..cols.len()];
            unsafe { self.of.store(product, row, cols.clone(), sums) }
        }
    }
}

impl<P: Product> Products<'_, P> {
    /// Adds one block of k onto the sums.
    #[inline(always)]
    unsafe fn block<S: Simd>(
        &self,
        product: usize,
        rows: Range<usize>,
        cols: Range<usize>,
        depth: Range<usize>,
        parts: &mut Parts<'_>,
    ) {
        let (of, form) = (self.of, self.form);
        let (k, n, room) = (depth.len(), cols.len(), parts.room.as_mut_ptr().cast());
        unsafe {
            let right = of.right(product, depth.clone(), cols, room);
            form.pack_panels::<S, P::Operand>(right, k, n, parts.panels.as_mut_ptr());
            let panels = form.panels(parts.panels.as_ptr(), k);
            for first in rows.clone().step_by(PACKED_ROWS) {
                let band = first..rows.end.min(first + PACKED_ROWS);
                let left = of.left(product, band.clone(), depth.clone(), room);
                form.pack_rows::<S, P::Operand>(left, band.len(), k, parts.rows.as_mut_ptr());
                let sums = parts.sums.as_mut_ptr().add((first - rows.start) * TASK_COLS);
                let update = Update::plain(sums, TASK_COLS, 1.0, true);
                form.multiply::<S>(parts.rows.as_ptr(), band.len(), panels, n, k, update);
            }
        }
    }
}
