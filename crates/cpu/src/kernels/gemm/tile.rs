//! The register tile: TILE_ROWS rows times two vectors of columns of C, kept in registers over one block of k.
//!
//! Invariant: an element of C is one chain of multiply-adds over the block's k in order, then `alpha` times that chain
//! is added onto C. Edge tiles run the same chain on fewer rows or vectors, so that an element's bits do not depend on
//! the tile it falls in. Roofline: 2 loads and TILE_ROWS broadcasts feed 2 * TILE_ROWS multiply-adds per k, so the
//! multipliers are the bound.

use super::ahead::{Ahead, STEPS};
use super::blocks::ROW_STRIDE;
use super::pack::Panels;
use crate::simd::{Outlined, Simd, unrolled};

/// What happens to the finished chains.
#[derive(Clone, Copy)]
pub(crate) struct Update {
    /// First element of the block of C.
    pub c: *mut f32,
    pub c_stride: usize,
    /// Factor of the product.
    pub alpha: f32,
    /// What the product is added onto: a matrix of C's size (C itself to accumulate), or null for nothing.
    pub onto: *const f32,
    pub onto_stride: usize,
    /// One value per column, added last; may be null.
    pub bias: *const f32,
    /// Where the result goes in place of `c`, if the tile itself is to round it.
    pub rounded: Rounded,
}

/// The bf16 matrix that finished sums are rounded into. Only the tile of the bf16 dot product does so.
#[derive(Clone, Copy)]
pub(crate) struct Rounded {
    /// First element, or null: nothing is rounded.
    pub c: *mut u16,
    pub stride: usize,
    /// A matrix laid out as C that is added; may be null.
    pub start: *const u16,
    /// One value per column, added last; may be null.
    pub bias: *const u16,
}

impl Rounded {
    /// Nothing is rounded.
    pub const NOTHING: Rounded =
        Rounded { c: std::ptr::null_mut(), stride: 0, start: std::ptr::null(), bias: std::ptr::null() };

    #[inline(always)]
    unsafe fn from(self, i: usize, j: usize) -> Self {
        if self.c.is_null() {
            return self;
        }
        unsafe {
            let at = i * self.stride + j;
            let start = if self.start.is_null() { self.start } else { self.start.add(at) };
            let bias = if self.bias.is_null() { self.bias } else { self.bias.add(j) };
            Rounded { c: self.c.add(at), start, bias, ..self }
        }
    }
}

impl Update {
    /// Plain `C = alpha * AB` or `C += alpha * AB`.
    pub(crate) fn plain(c: *mut f32, c_stride: usize, alpha: f32, accumulate: bool) -> Self {
        let onto = if accumulate { c.cast_const() } else { std::ptr::null() };
        let rounded = Rounded::NOTHING;
        Update { c, c_stride, alpha, onto, onto_stride: c_stride, bias: std::ptr::null(), rounded }
    }

    /// The update seen from row `i`, column `j` on.
    #[inline(always)]
    pub(super) unsafe fn from(self, i: usize, j: usize) -> Self {
        unsafe {
            let onto = if self.onto.is_null() { self.onto } else { self.onto.add(i * self.onto_stride + j) };
            let bias = if self.bias.is_null() { self.bias } else { self.bias.add(j) };
            Update { c: self.c.add(i * self.c_stride + j), onto, bias, rounded: self.rounded.from(i, j), ..self }
        }
    }
}

/// One register tile; `COLS` is the number of vectors of columns.
struct Tile<'a, const ROWS: usize, const COLS: usize> {
    k: usize,
    a: *const f32,
    b: *const f32,
    cols: usize,
    update: Update,
    ahead: &'a mut Ahead,
}

impl<const ROWS: usize, const COLS: usize> Outlined for Tile<'_, ROWS, COLS> {
    #[inline(always)]
    unsafe fn call<S: Simd>(self) {
        if ROWS > S::TILE_ROWS {
            return;
        }
        unsafe {
            let mut acc = [[S::splat(0.0); COLS]; ROWS];
            let (mut a, mut b) = (self.a, self.b);
            let mut ahead = Ahead { ..*self.ahead };
            let mut left = self.k;
            while left > 0 {
                ahead.step::<S>();
                let steps = left.min(STEPS);
                for _ in 0..steps {
                    let mut columns = [S::splat(0.0); COLS];
                    for (j, column) in columns.iter_mut().enumerate() {
                        *column = S::load(b.add(j * S::LANES));
                    }
                    unrolled!(ROWS, |I| {
                        let x = S::splat(*a.add(I * ROW_STRIDE));
                        for (chain, column) in acc[I].iter_mut().zip(columns) {
                            *chain = S::fma(x, column, *chain);
                        }
                    });
                    a = a.add(1);
                    b = b.add(2 * S::LANES);
                }
                left -= steps;
            }
            *self.ahead = ahead;
            store_tile::<S, ROWS, COLS>(&acc, self.cols, self.update);
        }
    }
}

/// Adds the chains of a tile onto C.
#[inline(always)]
pub(super) unsafe fn store_tile<S: Simd, const ROWS: usize, const COLS: usize>(
    acc: &[[S::V; COLS]; ROWS],
    cols: usize,
    update: Update,
) {
    unsafe {
        let alpha = S::splat(update.alpha);
        let whole = update.bias.is_null() && cols == COLS * S::LANES;
        if whole && !update.onto.is_null() {
            unrolled!(ROWS, |I| {
                for (j, chain) in acc[I].iter().enumerate() {
                    let onto = S::load(update.onto.add(I * update.onto_stride + j * S::LANES));
                    S::store(update.c.add(I * update.c_stride + j * S::LANES), S::fma(alpha, *chain, onto));
                }
            });
        } else if whole {
            unrolled!(ROWS, |I| {
                for (j, chain) in acc[I].iter().enumerate() {
                    S::store(update.c.add(I * update.c_stride + j * S::LANES), S::mul(alpha, *chain));
                }
            });
        } else {
            unrolled!(ROWS, |I| {
                for (j, chain) in acc[I].iter().enumerate() {
                    let lanes = cols.saturating_sub(j * S::LANES).min(S::LANES);
                    store_edge::<S>(*chain, alpha, lanes, update.from(I, j * S::LANES));
                }
            });
        }
    }
}

#[inline(always)]
unsafe fn store_edge<S: Simd>(chain: S::V, alpha: S::V, lanes: usize, update: Update) {
    unsafe {
        let mut value = if update.onto.is_null() {
            S::mul(alpha, chain)
        } else {
            S::fma(alpha, chain, S::load_partial(update.onto, lanes))
        };
        if !update.bias.is_null() {
            value = S::add(value, S::load_partial(update.bias, lanes));
        }
        S::store_partial(update.c, value, lanes);
    }
}

/// Calls `$tile::<rows, vectors>` for run-time sizes.
macro_rules! by_size {
    ($rows:expr, $vectors:expr, |$R:ident, $C:ident| $call:expr) => {
        by_size!(@rows $rows, $vectors, |$R, $C| $call, 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@rows $rows:expr, $vectors:expr, |$R:ident, $C:ident| $call:expr, $($n:literal)*) => {
        match ($rows, $vectors) {
            $(
                ($n, 1) => { const $R: usize = $n; const $C: usize = 1; $call }
                ($n, _) => { const $R: usize = $n; const $C: usize = 2; $call }
            )*
            _ => unreachable!("a tile has 1 to 14 rows"),
        }
    };
}

pub(super) use by_size;

/// Multiplies packed rows by packed panels over one block of k and updates `rows` x `cols` of C.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd>(
    a: *const f32,
    rows: usize,
    b: Panels,
    cols: usize,
    k: usize,
    update: Update,
    ahead: &mut Ahead,
) {
    let width = 2 * S::LANES;
    let mut i = 0;
    while i < rows {
        let height = (rows - i).min(S::TILE_ROWS);
        let mut j = 0;
        while j < cols {
            let across = (cols - j).min(width);
            unsafe {
                let (a, b) = (a.add(i * ROW_STRIDE), b.start.add(j * b.words));
                let update = update.from(i, j);
                by_size!(height, across.div_ceil(S::LANES), |R, C| {
                    S::outline(Tile::<R, C> { k, a, b, cols: across, update, ahead })
                });
            }
            j += width;
        }
        i += height;
    }
}
