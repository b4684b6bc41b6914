//! Matrix product `C = start + alpha * A B + bias` for any strides of A and B; the start is zero, C or a residual.
//!
//! Numbers: k is cut into blocks of `K_BLOCK`; each block is one chain of multiply-adds in order, from zero; then
//! `alpha * chain` is added onto the start, block after block, in f32; the bias comes last; a bf16 C is rounded once,
//! at the end. How C is cut into tiles and tasks changes no bit, and neither does calling again with `accumulate` for the next
//! multiple of `TOKEN_BLOCK` of k. Look next at `gemm/tile.rs` (the registers), `gemm/pack.rs` (the layouts),
//! `gemm/form.rs` (which of two forms packed operands have), `gemm/dot.rs` (two bf16 operands, with blocks twice as
//! long), `gemm/ahead.rs` (what is fetched meanwhile) and `gemm/quantised.rs` (B in few bits).

mod ahead;
mod blocks;
#[cfg(target_arch = "x86_64")]
mod dot;
pub(crate) mod form;
mod int8;
mod nf4;
pub(crate) mod pack;
mod quantised;
pub(crate) mod tile;

use crate::element::{Element, Lanes};
use crate::pool::{Scratch, ThreadPool};
use crate::shared::{Out, View};
use crate::simd::{Kernel, Simd, for_lanes, launch};
use ahead::{Ahead, Copied, Region, STEPS};
pub(crate) use blocks::{K_BLOCK, ROW_STRIDE};
use form::Form;
use pack::Source;
pub use quantised::QuantisedMatrix;
use tile::{Rounded, Update};

/// Rows of C per task, at most; their sums stay in the second-level cache.
const TASK_ROWS: usize = 546;
/// Columns of C per task, at most: one packed block of the right operand.
const TASK_COLS: usize = 256;
/// Rows of the left operand packed at a time, at most.
const PACKED_ROWS: usize = 112;

/// A matrix operand in memory: element (i, j) at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    /// The elements.
    pub data: &'a [T],
    /// Elements between neighbouring rows.
    pub row_stride: usize,
    /// Elements between neighbouring columns.
    pub col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix with `cols` columns.
    pub fn rows(data: &'a [T], cols: usize) -> Self {
        Matrix { data, row_stride: cols, col_stride: 1 }
    }

    /// The transpose of a row-major matrix that has `cols` columns.
    pub fn transposed(data: &'a [T], cols: usize) -> Self {
        Matrix { data, row_stride: 1, col_stride: cols }
    }

    fn check(&self, name: &str, rows: usize, cols: usize) {
        if rows > 0 && cols > 0 {
            let last = (rows - 1) * self.row_stride + (cols - 1) * self.col_stride;
            assert!(last < self.data.len(), "gemm: {name} [{rows}, {cols}] exceeds its {} elements", self.data.len());
        }
    }

    /// The same with rows and columns exchanged.
    fn turned(self) -> Self {
        Matrix { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    fn source(&self) -> Source<T> {
        Source { start: self.data.as_ptr(), row_stride: self.row_stride, col_stride: self.col_stride }
    }
}

/// The right operand: dense, or decoded while it is packed.
#[derive(Clone, Copy)]
pub enum Right<'a, T> {
    /// In memory as it is multiplied.
    Dense(Matrix<'a, T>),
    /// In few bits.
    Quantised(QuantisedMatrix<'a, T>),
}

impl<'a, T> From<Matrix<'a, T>> for Right<'a, T> {
    fn from(matrix: Matrix<'a, T>) -> Self {
        Right::Dense(matrix)
    }
}

impl<'a, T> From<QuantisedMatrix<'a, T>> for Right<'a, T> {
    fn from(matrix: QuantisedMatrix<'a, T>) -> Self {
        Right::Quantised(matrix)
    }
}

/// What the product is added onto.
#[derive(Clone, Copy)]
pub enum Start<'a, T> {
    /// Nothing: C is overwritten.
    Zero,
    /// What C holds.
    Output,
    /// A row-major matrix of C's size; may be C itself, in place.
    Residual(View<'a, T>),
}

/// What is done to the product on its way into C.
#[derive(Clone, Copy)]
pub struct Epilogue<'a, T> {
    /// Factor of the product.
    pub alpha: f32,
    /// What it is added onto.
    pub start: Start<'a, T>,
    /// `[n]`, added to each row.
    pub bias: Option<&'a [T]>,
}

impl<T> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Epilogue { alpha: 1.0, start: Start::Zero, bias: None }
    }
}

impl<T> Epilogue<'_, T> {
    /// `C = alpha * A B`, or `C += alpha * A B`.
    pub fn scaled(alpha: f32, accumulate: bool) -> Self {
        Epilogue { alpha, start: if accumulate { Start::Output } else { Start::Zero }, bias: None }
    }
}

/// Terms of a sum, at most, that take less time than writing it.
const FEW_TERMS: usize = 64;
/// Bytes of a left operand that stay in the last-level cache from one task to the next.
const CACHED: usize = 16 << 20;

/// Rows and columns of C that a task should have, at least, and a multiple of both levels' tiles.
const LEAST_ROWS: usize = 14;
const LEAST_COLS: usize = 32;

/// A second product over few terms, added in the same pass.
#[derive(Clone, Copy)]
pub struct LowRank<'a, A, B> {
    /// r: terms of each sum.
    pub rank: usize,
    /// U `[m, r]`.
    pub u: Matrix<'a, A>,
    /// B `[r, n]`.
    pub b: Matrix<'a, B>,
    /// Factor of the product.
    pub beta: f32,
}

struct Gemm<'a, A, B, C> {
    size: [usize; 3],
    grid: Grid,
    a: Matrix<'a, A>,
    b: Right<'a, B>,
    c: Out<'a, C>,
    epilogue: Epilogue<'a, C>,
    low_rank: Option<LowRank<'a, A, B>>,
    form: Form,
    /// Whether what is multiplied is B^T A^T: C is then written transposed.
    transposed: bool,
}

/// Multiplies A `[m, k]` by B `[k, n]` into C `[m, n]`, row-major. `size` is `[m, n, k]`.
///
/// Work 2mnk FLOP; bound by the multipliers once m, n and k exceed about 64.
pub fn gemm<'b, 'c, A: Element, B: Element, C: Element>(
    pool: &ThreadPool,
    size: [usize; 3],
    a: Matrix<'_, A>,
    b: impl Into<Right<'b, B>>,
    epilogue: Epilogue<'c, C>,
    c: impl Into<Out<'c, C>>,
) {
    gemm_low_rank(pool, size, a, b, None, epilogue, c);
}

/// The same, with `beta * U B` added if given: block by block of r, behind the blocks of k and before the bias.
pub fn gemm_low_rank<'b, 'c, A: Element, B: Element, C: Element>(
    pool: &ThreadPool,
    size: [usize; 3],
    a: Matrix<'_, A>,
    b: impl Into<Right<'b, B>>,
    low_rank: Option<LowRank<'_, A, B>>,
    epilogue: Epilogue<'c, C>,
    c: impl Into<Out<'c, C>>,
) {
    let (b, c) = (b.into(), c.into());
    let [m, n, k] = size;
    if let Some(LowRank { rank, u, b, .. }) = &low_rank {
        u.check("U", m, *rank);
        b.check("low-rank B", *rank, n);
    }
    a.check("A", m, k);
    match &b {
        Right::Dense(b) => b.check("B", k, n),
        Right::Quantised(b) => b.check(k, n),
    }
    assert_eq!(c.len(), m * n, "gemm: C is not [{m}, {n}]");
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == n), "gemm: bias is not [{n}]");
    if let Start::Residual(residual) = epilogue.start {
        assert_eq!(residual.len(), m * n, "gemm: residual is not [{m}, {n}]");
    }
    if m == 0 || n == 0 {
        return;
    }
    let form = Form::of::<A, B>(pool.level());
    let alone = low_rank.is_none() && epilogue.bias.is_none() && !matches!(epilogue.start, Start::Residual(_));
    match b {
        // A thin C whose A would have to be transposed, such as an adapter's gradient: its transpose reads A by rows.
        Right::Dense(thin) if n <= LEAST_COLS && m > n && a.col_stride != 1 && alone && C::IS_F32 => {
            let (a, b) = (thin.turned(), Right::Dense(a.turned()));
            let size = [n, m, k];
            let grid = Grid::choose::<B>(size, LEAST_COLS, pool.threads());
            launch(pool, grid.tasks(), &Gemm { size, grid, a, b, c, epilogue, low_rank: None, form, transposed: true });
        }
        _ => {
            let least_cols = match &b {
                Right::Dense(_) => LEAST_COLS,
                // Where columns are decoded by so many at a time, a task that began between would decode more of them.
                Right::Quantised(b) => b.step(),
            };
            let grid = Grid::choose::<A>(size, least_cols, pool.threads());
            launch(pool, grid.tasks(), &Gemm { size, grid, a, b, c, epilogue, low_rank, form, transposed: false });
        }
    }
}

/// Many products of one size.
struct Batch<'a, C, F> {
    size: [usize; 3],
    grid: Grid,
    operands: F,
    c: Out<'a, C>,
    form: Form,
}

impl<'a, A: Element, B: Element, C: Element, F> Kernel for Batch<'_, C, F>
where
    F: Fn(usize) -> (Matrix<'a, A>, Matrix<'a, B>) + Sync,
{
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let (size, grid, form) = (self.size, self.grid, self.form);
        let [m, n, k] = size;
        let place = task / grid.tasks();
        let (a, b) = (self.operands)(place);
        a.check("A", m, k);
        b.check("B", k, n);
        let c = unsafe { Out::from_raw(self.c.at(place * m * n), m * n) };
        let (b, epilogue) = (Right::Dense(b), Epilogue::default());
        let product = Gemm { size, grid, a, b, c, epilogue, low_rank: None, form, transposed: false };
        unsafe { product.task::<S>(task % grid.tasks(), scratch) }
    }
}

/// `C = A B` for each of many places, `[m, n]` each, one behind the other; `operands` gives those of a place. `size` is `[m, n, k]`.
/// The bits are those of `gemm` place by place.
pub fn gemm_batch<'a, A: Element, B: Element, C: Element>(
    pool: &ThreadPool,
    size: [usize; 3],
    operands: impl Fn(usize) -> (Matrix<'a, A>, Matrix<'a, B>) + Sync,
    c: &mut [C],
) {
    let [m, n, _] = size;
    let places = c.len() / (m * n);
    assert_eq!(c.len(), places * m * n, "gemm_batch: C is not a number of [{m}, {n}]");
    let form = Form::of::<A, B>(pool.level());
    // Where there is a place for every thread, none need be cut.
    let grid = Grid::choose::<A>(size, LEAST_COLS, if places >= pool.threads() { 1 } else { pool.threads() });
    launch(pool, places * grid.tasks(), &Batch { size, grid, operands, c: c.into(), form });
}

/// A band of the left operand: `rows` x `depth`.
#[derive(Clone, Copy)]
struct Left<A> {
    from: Source<A>,
    rows: usize,
    depth: usize,
}

/// How C is cut into tasks. It follows the number of threads, since no bit depends on it.
#[derive(Clone, Copy)]
struct Grid {
    rows: usize,
    cols: usize,
    down: usize,
    across: usize,
    /// Whether tasks are numbered row by row; else column by column, so that they share columns of B.
    by_rows: bool,
}

impl Grid {
    /// For sums of few terms, which are bound by writing C: whole rows for each thread, since two that write to the same
    /// pages slow each other down. Else the cut that should be done first: a task takes as long as its part of C, and as some
    /// more rows for packing its columns of B and some more columns for copying its rows of A. Threads that find no task at
    /// the end idle, and are never equally fast: small tasks even that out. Tasks have a multiple of `least_cols` columns.
    fn choose<A>([m, n, k]: [usize; 3], least_cols: usize, threads: usize) -> Grid {
        const ROWS_FOR_PACKING: usize = 16;
        let by_rows = k <= FEW_TERMS;
        let cols_for_copying = if k * m * size_of::<A>() > CACHED { 32 } else { 8 };
        let seconds = |grid: &Grid| {
            let task = (grid.rows + ROWS_FOR_PACKING) * (grid.cols + cols_for_copying);
            let all = (m + grid.down * ROWS_FOR_PACKING) * (n + grid.across * cols_for_copying);
            let idle = (threads - grid.tasks() % threads) % threads;
            // In quarters of a task, summed over the threads.
            4 * all + task * (4 * idle + threads - 1)
        };
        let share = m.div_ceil(threads).next_multiple_of(LEAST_ROWS).min(TASK_ROWS);
        // No more than C has: small products are many, and should not pay for cuts that they cannot have.
        let all_rows = m.next_multiple_of(LEAST_ROWS).min(TASK_ROWS);
        let most_cols = n.next_multiple_of(least_cols).min(TASK_COLS);
        let (least_rows, most_rows) = if by_rows { (share, share) } else { (LEAST_ROWS, all_rows) };
        let rows = (least_rows..=most_rows).step_by(LEAST_ROWS);
        let grids = rows.flat_map(|rows| (least_cols..=most_cols).step_by(least_cols).map(move |cols| (rows, cols)));
        let grid = |(rows, cols)| Grid { rows, cols, down: m.div_ceil(rows), across: n.div_ceil(cols), by_rows };
        grids.map(grid).min_by_key(seconds).expect("a task has some size")
    }

    fn tasks(self) -> usize {
        self.down * self.across
    }

    /// First row and column of a task.
    fn start(self, task: usize) -> (usize, usize) {
        let (row, col) =
            if self.by_rows { (task / self.across, task % self.across) } else { (task % self.down, task / self.down) };
        (row * self.rows, col * self.cols)
    }
}

impl<A: Element, B: Element, C: Element> Kernel for Gemm<'_, A, B, C> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let [m, n, k] = self.size;
        let low_rank = self.low_rank.filter(|low_rank| low_rank.rank > 0);
        let (i, j) = self.grid.start(task);
        let (rows, cols) = (self.grid.rows.min(m - i), self.grid.cols.min(n - j));
        let (packed_a, rest) = scratch.f32s().split_at_mut(PACKED_ROWS * ROW_STRIDE);
        let (packed_b, rest) = rest.split_at_mut(K_BLOCK * TASK_COLS);
        let (decoded, rest) = rest.split_at_mut(quantised::DECODED);
        let sums = &mut rest[..if self.in_place() { 0 } else { TASK_ROWS * TASK_COLS }];
        let block = if self.form.dot { 2 * K_BLOCK } else { K_BLOCK };
        if self.transposed && matches!(self.epilogue.start, Start::Output) {
            unsafe { self.turn::<S>(i, j, rows, cols, sums, false) }
        }
        let mut from = 0;
        loop {
            let depth = (k - from).min(block);
            let last = from + depth == k;
            unsafe {
                let update = self.update((i, j), from == 0, last && low_rank.is_none(), sums);
                self.pack_right::<S>(from, j, depth, cols, packed_b.as_mut_ptr(), decoded);
                let next = if last { (0, self.grid.start(task + 1).1) } else { (from + depth, j) };
                let right = self.next_right(next, block);
                let left = Left { from: self.a.source().from(i, from), rows, depth };
                self.multiply_rows::<S>(left, packed_a, packed_b, cols, update, right);
            }
            from += depth;
            if last {
                break;
            }
        }
        if let Some(LowRank { rank, u, b, beta }) = low_rank {
            for from in (0..rank).step_by(block) {
                let depth = (rank - from).min(block);
                unsafe {
                    let update = Update { alpha: beta, ..self.update((i, j), false, from + depth == rank, sums) };
                    self.form.pack_panels::<S, B>(b.source().from(from, j), depth, cols, packed_b.as_mut_ptr());
                    let left = Left { from: u.source().from(i, from), rows, depth };
                    self.multiply_rows::<S>(left, packed_a, packed_b, cols, update, Region::NONE);
                }
            }
        }
        unsafe {
            if self.transposed {
                self.turn::<S>(i, j, rows, cols, sums, true);
            } else if !C::IS_F32 && !self.rounds_in_tiles() {
                self.round_sums::<S>(i, j, rows, cols, sums);
            }
        }
    }
}

impl<A: Element, B: Element, C: Element> Gemm<'_, A, B, C> {
    /// Multiplies a band of rows by one packed block. Rows are copied so few at a time that they stay in the first-level
    /// cache, while the rows before them are multiplied if they are copied as they are; or, where copying means
    /// transposing, as many as whole vectors fill.
    #[inline(always)]
    unsafe fn multiply_rows<S: Simd>(
        &self,
        Left { from, rows, depth }: Left<A>,
        packed_a: &mut [f32],
        packed_b: &[f32],
        cols: usize,
        update: Update,
        right: Region,
    ) {
        let step = if from.col_stride == 1 { S::TILE_ROWS } else { S::TILE_ROWS * S::LANES / 2 };
        let panels = self.form.panels(packed_b.as_ptr(), depth);
        let (mut a, mut next_a) = (packed_a.as_mut_ptr(), packed_a.as_mut_ptr().wrapping_add(step * ROW_STRIDE));
        let as_is = from.col_stride == 1 && self.form.rows_as_they_are::<A>(depth);
        let mut ahead = Ahead::NOTHING;
        // The next block is fetched as late as it can be, so that it is still in the cache when it is packed.
        let lines = cols.div_ceil(2 * S::LANES) * (self.form.words(depth) / STEPS).max(1);
        let mut right = Some((right, (right.len().div_ceil(lines) + 2) * step));
        for first in (0..rows).step_by(step) {
            let count = step.min(rows - first);
            unsafe {
                if first == 0 || !as_is {
                    self.form.pack_rows::<S, A>(from.from(first, 0), count, depth, a);
                }
                let after = |steps: usize| {
                    let first = rows.min(first + steps * step);
                    Region::of(from.from(first, 0), step.min(rows - first), depth)
                };
                if as_is {
                    (ahead.copied, ahead.left) = (Copied::rows(after(1), next_a), after(2));
                } else {
                    ahead.left = after(1);
                }
                if let Some((right, _)) = right.take_if(|(_, groups)| rows - first <= *groups) {
                    ahead.right = right;
                }
                self.form.multiply_ahead::<S>(a, count, panels, cols, depth, update.from(first, 0), &mut ahead);
                ahead.finish();
            }
            if as_is {
                std::mem::swap(&mut a, &mut next_a);
            }
        }
    }

    /// The block of the right operand from row `from`, column `j` on, to be fetched.
    #[inline(always)]
    unsafe fn next_right(&self, (from, j): (usize, usize), block: usize) -> Region {
        let [_, n, k] = self.size;
        let Right::Dense(b) = &self.b else { return Region::NONE };
        if from >= k || j >= n {
            return Region::NONE;
        }
        unsafe { Region::of(b.source().from(from, j), block.min(k - from), self.grid.cols.min(n - j)) }
    }

    /// Packs `depth` x `cols` of the right operand, decoding it first if need be.
    #[inline(always)]
    unsafe fn pack_right<S: Simd>(
        &self,
        from: usize,
        j: usize,
        depth: usize,
        cols: usize,
        to: *mut f32,
        decoded: &mut [f32],
    ) {
        unsafe {
            let b = match &self.b {
                Right::Dense(b) => return self.form.pack_panels::<S, B>(b.source().from(from, j), depth, cols, to),
                Right::Quantised(b) => b,
            };
            let words = self.form.words(depth);
            for first in (0..cols).step_by(b.step()) {
                let width = (cols - first).min(b.step());
                let source = b.decode::<S>(from, j + first, depth, width, decoded.as_mut_ptr().cast());
                self.form.pack_panels::<S, B>(source, depth, width, to.add(first * words));
            }
        }
    }

    /// An f32 C is its own running sum, from the start given; another C sums in scratch.
    unsafe fn update(&self, (i, j): (usize, usize), first: bool, last: bool, sums: &mut [f32]) -> Update {
        let (n, alpha) = (self.size[1], self.epilogue.alpha);
        if !self.in_place() {
            let onto_output = self.transposed && matches!(self.epilogue.start, Start::Output);
            let rounded = if last && self.rounds_in_tiles() { self.rounded(i, j) } else { Rounded::NOTHING };
            return Update { rounded, ..Update::plain(sums.as_mut_ptr(), TASK_COLS, alpha, !first || onto_output) };
        }
        let mut update = Update::plain(self.c.at(i * n + j).cast(), n, alpha, !first);
        match self.epilogue.start {
            Start::Output if first => update.onto = update.c,
            Start::Residual(residual) if first => update.onto = residual.at(i * n + j).cast(),
            _ => {}
        }
        if let (true, Some(bias)) = (last, self.epilogue.bias) {
            update.bias = bias[j..].as_ptr().cast();
        }
        update
    }

    /// Whether the last tile over an element of C also rounds it.
    fn rounds_in_tiles(&self) -> bool {
        self.form.dot && !C::IS_F32 && !self.transposed
    }

    /// C from row `i`, column `j` on, as bf16, with what is added onto the product there.
    fn rounded(&self, i: usize, j: usize) -> Rounded {
        let at = i * self.size[1] + j;
        let c: *mut u16 = self.c.at(at).cast();
        let start = match self.epilogue.start {
            Start::Zero => std::ptr::null(),
            Start::Output => c.cast_const(),
            Start::Residual(residual) => residual.at(at).cast(),
        };
        let bias = self.epilogue.bias.map_or(std::ptr::null(), |bias| bias[j..].as_ptr().cast());
        Rounded { c, stride: self.size[1], start, bias }
    }

    /// Whether C is its own running sum.
    fn in_place(&self) -> bool {
        C::IS_F32 && !self.transposed
    }

    /// Copies a task's sums into C, whose rows are their columns, or what C holds into the sums.
    #[inline(always)]
    unsafe fn turn<S: Simd>(&self, i: usize, j: usize, rows: usize, cols: usize, sums: &mut [f32], into_c: bool) {
        let m = self.size[0];
        for (row, col) in
            (0..rows).step_by(S::LANES).flat_map(|row| (0..cols).step_by(S::LANES).map(move |col| (row, col)))
        {
            let (height, width) = (S::LANES.min(rows - row), S::LANES.min(cols - col));
            unsafe {
                let of_sums = |row: usize| sums.as_ptr().cast_mut().add(row * TASK_COLS + col);
                let of_c = |col: usize| self.c.at((j + col) * m + i + row).cast::<f32>();
                let mut block = [S::splat(0.0); 16];
                let lines = if into_c { height } else { width };
                for (line, values) in block.iter_mut().enumerate().take(lines) {
                    *values =
                        if into_c { S::load(of_sums(row + line)) } else { S::load_partial(of_c(col + line), height) };
                }
                S::transpose(&mut block);
                for (line, values) in block.iter().enumerate().take(height + width - lines) {
                    if into_c {
                        S::store_partial(of_c(col + line), *values, height);
                    } else {
                        S::store(of_sums(row + line), *values);
                    }
                }
            }
        }
    }

    /// Rounds a task's f32 sums into C, with what they are added onto and the bias.
    #[inline(always)]
    unsafe fn round_sums<S: Simd>(&self, i: usize, j: usize, rows: usize, cols: usize, sums: &[f32]) {
        let n = self.size[1];
        for row in 0..rows {
            let at = (i + row) * n + j;
            for_lanes!(S, cols, |col, lanes| {
                unsafe {
                    let mut value = f32::load::<S>(sums.as_ptr().add(row * TASK_COLS + col), lanes);
                    match self.epilogue.start {
                        Start::Zero => {}
                        Start::Output => value = S::add(C::load::<S>(self.c.at(at + col), lanes), value),
                        Start::Residual(from) => value = S::add(C::load::<S>(from.at(at + col), lanes), value),
                    }
                    if let Some(bias) = self.epilogue.bias {
                        value = S::add(value, C::load::<S>(bias.as_ptr().add(j + col), lanes));
                    }
                    C::store::<S>(self.c.at(at + col), value, lanes);
                }
            });
        }
    }
}

#[cfg(test)]
#[path = "gemm/tests.rs"]
mod tests;

#[cfg(test)]
#[path = "gemm/quantised_tests.rs"]
mod quantised_tests;
