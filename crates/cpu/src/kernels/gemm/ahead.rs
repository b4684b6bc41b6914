//! Brings what a product reads next while it computes: every few steps of a tile one line of the next rows is copied and
//! one line further on is fetched, since the multiplications leave loads and stores idle.
//!
//! Operands come from far: without this, packing them waits for every line. Invariant: a fetch reads nothing and cannot
//! fault, so a region that is fetched may be a guess; one that is copied is inside its operand.

use super::blocks::ROW_STRIDE;
use super::pack::Source;
use crate::simd::Simd;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Steps of a tile from one line to the next.
pub(crate) const STEPS: usize = 4;

/// What is left of a strided region, line by line.
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
    /// Nothing.
    pub const NONE: Region = Region { at: std::ptr::null(), stride: 0, lines: 0, line: 0, rows: 0 };

    /// `rows` x `cols` of an operand.
    #[inline(always)]
    pub fn of<T>(from: Source<T>, rows: usize, cols: usize) -> Region {
        let (rows, cols, stride) =
            if from.col_stride == 1 { (rows, cols, from.row_stride) } else { (cols, rows, from.col_stride) };
        let lines = (cols * size_of::<T>()).div_ceil(LINE);
        let rows = if lines == 0 { 0 } else { rows };
        Region { at: from.start.cast(), stride: stride * size_of::<T>(), lines, line: 0, rows }
    }

    /// How many lines it has.
    pub fn len(&self) -> usize {
        self.rows * self.lines
    }

    /// The next line.
    #[inline(always)]
    fn next(&mut self) -> *const u8 {
        let line = self.at.wrapping_add(self.line * LINE);
        self.line += 1;
        if self.line == self.lines {
            (self.line, self.rows) = (0, self.rows - 1);
            self.at = self.at.wrapping_add(self.stride);
        }
        line
    }
}

/// Rows that are copied as they are to where packed rows lie.
#[derive(Clone, Copy)]
pub(crate) struct Copied {
    from: Region,
    /// Where the row at hand goes.
    to: *mut u8,
}

impl Copied {
    /// Nothing.
    pub const NONE: Copied = Copied { from: Region::NONE, to: std::ptr::null_mut() };

    /// Whole lines of an operand whose packed rows are its own.
    pub fn rows(from: Region, to: *mut f32) -> Copied {
        Copied { from, to: to.cast() }
    }

    #[inline(always)]
    unsafe fn next(&mut self) {
        let (line, to) = (self.from.line, self.to);
        let from = self.from.next();
        if self.from.line == 0 {
            self.to = self.to.wrapping_add(ROW_STRIDE * size_of::<f32>());
        }
        unsafe { from.copy_to_nonoverlapping(to.add(line * LINE), LINE) };
    }
}

/// What is brought during a product.
pub(crate) struct Ahead {
    /// The next rows of the left operand.
    pub copied: Copied,
    /// The rows behind them.
    pub left: Region,
    /// The next block of the right operand.
    pub right: Region,
}

impl Ahead {
    /// Nothing.
    pub const NOTHING: Ahead = Ahead { copied: Copied::NONE, left: Region::NONE, right: Region::NONE };

    /// Brings a line of each kind, if any is left.
    #[inline(always)]
    pub unsafe fn step<S: Simd>(&mut self) {
        unsafe {
            if self.copied.from.rows > 0 {
                self.copied.next();
            }
            if self.left.rows > 0 {
                S::fetch(self.left.next());
            }
            if self.right.rows > 0 {
                S::fetch(self.right.next());
            }
        }
    }

    /// Copies what is left.
    #[inline(always)]
    pub unsafe fn finish(&mut self) {
        while self.copied.from.rows > 0 {
            unsafe { self.copied.next() };
        }
    }
}
