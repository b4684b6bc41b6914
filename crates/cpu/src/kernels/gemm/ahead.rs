//! Fetches what a product reads next while it computes: one line every few steps of a tile, whose multiplications
//! leave the loads idle.
//!
//! Weights come from memory: without this, packing them waits for every line. Invariant: a fetch reads nothing and
//! cannot fault, so a region may be a guess.

use super::pack::Source;
use crate::simd::Simd;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Steps of a tile from one fetch to the next.
pub(crate) const STEPS: usize = 4;

/// A strided region that is still to be fetched.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    at: *const u8,
    stride: usize,
    /// Lines of a row, and which comes next.
    lines: usize,
    line: usize,
    rows: usize,
}

impl Region {
    /// Nothing to fetch.
    pub const NONE: Region = Region { at: std::ptr::null(), stride: 0, lines: 0, line: 0, rows: 0 };

    /// `rows` x `cols` of an operand.
    #[inline(always)]
    pub fn of<T>(from: Source<T>, rows: usize, cols: usize) -> Region {
        let (rows, cols, stride) =
            if from.col_stride == 1 { (rows, cols, from.row_stride) } else { (cols, rows, from.col_stride) };
        let lines = (cols * size_of::<T>()).div_ceil(LINE);
        Region { at: from.start.cast(), stride: stride * size_of::<T>(), lines, line: 0, rows }
    }

    /// Fetches the next line.
    #[inline(always)]
    unsafe fn fetch<S: Simd>(&mut self) {
        unsafe { S::fetch(self.at.wrapping_add(self.line * LINE)) };
        self.line += 1;
        if self.line == self.lines {
            (self.line, self.rows) = (0, self.rows - 1);
            self.at = self.at.wrapping_add(self.stride);
        }
    }
}

/// What is fetched during a product: the next rows of the left operand, then the next block of the right one.
pub(crate) struct Ahead {
    pub left: Region,
    pub right: Region,
}

impl Ahead {
    /// Nothing to fetch.
    pub const NOTHING: Ahead = Ahead { left: Region::NONE, right: Region::NONE };

    /// Fetches one line, if any is left.
    #[inline(always)]
    pub unsafe fn fetch<S: Simd>(&mut self) {
        unsafe {
            if self.left.rows > 0 {
                self.left.fetch::<S>();
            } else if self.right.rows > 0 {
                self.right.fetch::<S>();
            }
        }
    }
}
