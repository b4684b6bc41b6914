//! Sums, means and extremes along some axes. Bound by memory.
//!
//! Numbers: f64 throughout, rounded once. Where a result has many terms, these are cut into blocks whose size follows from the
//! shape alone; a block has eight partial results, or one for each result beside it, folded in order; blocks are folded in order.
//! No thread and no level changes a bit.

use super::pointwise::CHUNK;
use super::strided::{Axes, Walk, strides_of};
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, launch};
use remat_ir::axes::MOST_AXES;
use remat_ir::ops::Reduction;
use std::marker::PhantomData;

/// Partial results kept on the caller's stack.
const MOST_PARTS: usize = 1024;
/// Terms of a block, at least.
const LEAST_BLOCK: usize = 4096;
/// Neighbouring results that are made together.
pub(super) const STRIP: usize = 128;
const LANES: usize = 8;

/// How elements are folded.
trait Fold: Sync {
    const START: f64;
    fn join(so_far: f64, x: f64) -> f64;
}

struct Plus;
struct Largest;
struct Smallest;

impl Fold for Plus {
    const START: f64 = 0.0;
    #[inline(always)]
    fn join(so_far: f64, x: f64) -> f64 {
        so_far + x
    }
}

impl Fold for Largest {
    const START: f64 = f64::NEG_INFINITY;
    #[inline(always)]
    fn join(so_far: f64, x: f64) -> f64 {
        if x > so_far || x.is_nan() { x } else { so_far }
    }
}

impl Fold for Smallest {
    const START: f64 = f64::INFINITY;
    #[inline(always)]
    fn join(so_far: f64, x: f64) -> f64 {
        if x < so_far || x.is_nan() { x } else { so_far }
    }
}

/// The axes of x that stay and those that are reduced.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub kept: Walk<1>,
    pub reduced: Walk<1>,
    /// Whether neighbours in memory are terms of one result; else they are of neighbouring results.
    pub along: bool,
}

impl Cut {
    /// `axes` count from the last, which is -1.
    pub fn new(shape: &[usize], axes: &[i64]) -> Cut {
        let is_reduced = |axis: usize| axes.contains(&(axis as i64 - shape.len() as i64));
        let part = |of: bool| {
            let mut sizes: Axes = [1; MOST_AXES];
            for (axis, &size) in shape.iter().enumerate().filter(|&(axis, _)| is_reduced(axis) == of) {
                sizes[axis] = size;
            }
            Walk::new(&sizes[..shape.len()], [strides_of(shape)])
        };
        let last = shape.iter().rposition(|&size| size != 1);
        Cut { kept: part(false), reduced: part(true), along: last.is_none_or(is_reduced) }
    }

    pub fn results(&self) -> usize {
        self.kept.runs() * self.kept.inner()
    }

    pub fn terms(&self) -> usize {
        self.reduced.runs() * self.reduced.inner()
    }

    /// Results that are made together: neighbours in memory.
    pub fn strip(&self) -> usize {
        if self.along { 1 } else { self.kept.inner().min(STRIP) }
    }

    /// Strips of a run of neighbouring results.
    fn strips(&self) -> usize {
        self.kept.inner().div_ceil(self.strip())
    }

    /// All strips.
    pub fn all_strips(&self) -> usize {
        self.kept.runs() * self.strips()
    }

    /// Of a strip: its first result, how many there are, and where its first term is.
    pub fn strip_at(&self, number: usize) -> (usize, usize, usize) {
        let (run, from) = (number / self.strips(), number % self.strips() * self.strip());
        let start = self.kept.at(run).start[0] + from * self.kept.step()[0];
        (run * self.kept.inner() + from, self.strip().min(self.kept.inner() - from), start)
    }
}

struct Blocks<'a, T, F> {
    x: &'a [T],
    cut: Cut,
    /// Terms of a block, and blocks of a result.
    block: usize,
    blocks: usize,
    /// Strips per task.
    each: usize,
    finish: Finish,
    y: Out<'a, T>,
    /// Results of blocks, where there are several.
    parts: Out<'a, f64>,
    fold: PhantomData<fn() -> F>,
}

/// What is made of the fold of all terms.
#[derive(Clone, Copy)]
enum Finish {
    Itself,
    DividedBy(f64),
}

impl Finish {
    fn of(self, folded: f64) -> f32 {
        match self {
            Finish::Itself => folded as f32,
            Finish::DividedBy(terms) => (folded / terms) as f32,
        }
    }
}

impl<T: Element, F: Fold> Blocks<'_, T, F> {
    /// The fold of terms `from..end` of one result, whose runs lie in one piece.
    #[inline(always)]
    fn along(&self, start: usize, from: usize, end: usize) -> f64 {
        let (len, mut lanes, mut term) = (self.cut.reduced.inner(), [F::START; LANES], from);
        let mut at = self.cut.reduced.at(from / len);
        while term < end {
            let first = term % len;
            let count = (len - first).min(end - term);
            let run = &self.x[start + at.start[0] + first..][..count];
            let (whole, tail) = run.as_chunks::<LANES>();
            for chunk in whole {
                for (lane, x) in lanes.iter_mut().zip(chunk) {
                    *lane = F::join(*lane, f64::from(x.to_f32()));
                }
            }
            for (lane, x) in lanes.iter_mut().zip(tail) {
                *lane = F::join(*lane, f64::from(x.to_f32()));
            }
            term += count;
            self.cut.reduced.advance(&mut at);
        }
        lanes.into_iter().fold(F::START, F::join)
    }

    /// The folds of terms `from..end` of neighbouring results.
    #[inline(always)]
    fn beside(&self, start: usize, from: usize, end: usize, folds: &mut [f64]) {
        let (len, step, mut term) = (self.cut.reduced.inner(), self.cut.reduced.step()[0], from);
        let mut at = self.cut.reduced.at(from / len);
        folds.fill(F::START);
        while term < end {
            for inner in term % len..len.min(term % len + end - term) {
                let row = &self.x[start + at.start[0] + inner * step..][..folds.len()];
                for (fold, x) in folds.iter_mut().zip(row) {
                    *fold = F::join(*fold, f64::from(x.to_f32()));
                }
            }
            term += len - term % len;
            self.cut.reduced.advance(&mut at);
        }
    }
}

impl<T: Element, F: Fold> Kernel for Blocks<'_, T, F> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let (first, block) = (task / self.blocks * self.each, task % self.blocks);
        let (from, end) = (block * self.block, self.cut.terms().min((block + 1) * self.block));
        let mut folds = [0.0; STRIP];
        for strip in first..(first + self.each).min(self.cut.all_strips()) {
            let (result, count, start) = self.cut.strip_at(strip);
            let folds = &mut folds[..count];
            if self.cut.along {
                folds[0] = self.along(start, from, end);
            } else {
                self.beside(start, from, end, folds);
            }
            for (index, &fold) in folds.iter().enumerate() {
                unsafe {
                    match self.blocks {
                        1 => *self.y.at(result + index) = T::from_f32(self.finish.of(fold)),
                        blocks => *self.parts.at((result + index) * blocks + block) = fold,
                    }
                }
            }
        }
    }
}

fn run<T: Element, F: Fold>(pool: &ThreadPool, x: &[T], cut: Cut, finish: Finish, y: &mut [T]) {
    let most = (MOST_PARTS / cut.results()).max(1);
    let block = cut.terms().div_ceil((cut.terms() / LEAST_BLOCK).clamp(1, most));
    let blocks = cut.terms().div_ceil(block);
    let each = (CHUNK / (block * cut.strip())).max(1);
    let mut parts = [0.0; MOST_PARTS];
    let tasks = cut.all_strips().div_ceil(each) * blocks;
    let (out, kept) = (Out::new(y), Out::new(&mut parts));
    let fold = PhantomData::<fn() -> F>;
    launch(pool, tasks, &Blocks { x, cut, block, blocks, each, finish, y: out, parts: kept, fold });
    if blocks > 1 {
        for (y, parts) in y.iter_mut().zip(parts.chunks(blocks)) {
            *y = T::from_f32(finish.of(parts.iter().fold(F::START, |so_far, &part| F::join(so_far, part))));
        }
    }
}

/// `y` is x of this shape, reduced along axes that are counted from the last, -1.
pub fn reduce<T: Element>(
    pool: &ThreadPool,
    reduction: Reduction,
    x: &[T],
    shape: &[usize],
    axes: &[i64],
    y: &mut [T],
) {
    let cut = Cut::new(shape, axes);
    assert_eq!([x.len(), y.len()], [cut.results() * cut.terms(), cut.results()], "reduce: x or y is not of {shape:?}");
    match reduction {
        Reduction::Sum => run::<T, Plus>(pool, x, cut, Finish::Itself, y),
        Reduction::Mean => run::<T, Plus>(pool, x, cut, Finish::DividedBy(cut.terms() as f64), y),
        Reduction::Max => run::<T, Largest>(pool, x, cut, Finish::Itself, y),
        Reduction::Min => run::<T, Smallest>(pool, x, cut, Finish::Itself, y),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, every_level, normals};
    use remat_ir::ops::{OpDef, Reduce};
    use remat_ir::{Array, Type};
    use remat_tensor::DType;

    #[test]
    fn many_terms_are_summed_in_blocks_and_match_f64() {
        let cases: [(&[usize], &[i64]); 4] =
            [(&[70_001], &[-1]), (&[3, 20_003], &[-1]), (&[20_003, 3], &[-2]), (&[40, 130, 41], &[-3, -1])];
        for ((shape, axes), reduction) in cases.into_iter().flat_map(|case| Reduction::ALL.map(|of| (case, of))) {
            let x = normals(shape.iter().product(), 1);
            let op = Reduce { reduction, axes: axes.to_vec() };
            let results = op.infer(&[&Type::new(DType::F32, shape)]).expect("axes of the shape");
            let wide = Array::new(shape, x.iter().map(|&x| f64::from(x)).collect());
            let want = op.eval(&[&wide], &[&results[0]]).remove(0).data;
            every_level(
                |pool| {
                    let mut y = vec![f32::NAN; want.len()];
                    reduce(pool, reduction, &x, shape, axes, &mut y);
                    vec![y]
                },
                |level, got| assert_near(level, &got[0], &want, &vec![1.0 + want[0].abs() * 4.0; want.len()], 1e-6),
            );
        }
    }

    #[test]
    fn what_is_not_a_number_is_the_largest_wherever_it_stands() {
        let pool = ThreadPool::new(2);
        for place in [0, 7, 19] {
            let mut x = normals(20, 3);
            x[place] = f32::NAN;
            for reduction in Reduction::ALL {
                let (mut all, mut columns) = ([0.0], [0.0; 5]);
                reduce(&pool, reduction, &x, &[20], &[-1], &mut all);
                reduce(&pool, reduction, &x, &[4, 5], &[-2], &mut columns);
                assert!(all[0].is_nan() && columns[place % 5].is_nan(), "{reduction:?} at {place}");
                assert_eq!(columns.iter().filter(|y| y.is_nan()).count(), 1);
            }
        }
    }
}
