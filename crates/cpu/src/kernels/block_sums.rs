//! Sums of all elements of a tensor in f64, in blocks whose size follows from the length of the whole tensor alone.
//!
//! Invariant: a block has eight partial sums, folded in order; the blocks are added in order. No thread changes a bit.

use std::marker::PhantomData;

use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, launch};
use remat_ir::ops::{MOST_SQUARE_BLOCKS, square_block};

/// Blocks at most, whose partial sums are kept on the caller's stack: 64 KiB.
const MAX_BLOCKS: usize = MOST_SQUARE_BLOCKS;
const LANES: usize = 8;

/// What is summed of an element.
pub(crate) trait Summand: Sync {
    /// The term of one element.
    fn of(x: f64) -> f64;
}

/// The element itself.
pub(crate) struct Itself;
/// Its square.
pub(crate) struct Square;

impl Summand for Itself {
    #[inline(always)]
    fn of(x: f64) -> f64 {
        x
    }
}

impl Summand for Square {
    #[inline(always)]
    fn of(x: f64) -> f64 {
        x * x
    }
}

/// Some blocks, each with its partial sums so far.
struct Blocks<'a, T> {
    x: &'a [f32],
    /// Elements before `x`, and of a block.
    done: usize,
    block: usize,
    sums: Out<'a, [f64; LANES]>,
    summand: PhantomData<T>,
}

impl<T: Summand> Kernel for Blocks<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let index = self.done / self.block + task;
        let from = (index * self.block).max(self.done) - self.done;
        let to = ((index + 1) * self.block - self.done).min(self.x.len());
        // SAFETY: each task has a block of its own.
        let mut lanes = unsafe { *self.sums.at(index) };
        let (whole, tail) = self.x[from..to].as_chunks::<LANES>();
        for chunk in whole {
            for (sum, &x) in lanes.iter_mut().zip(chunk) {
                *sum += T::of(f64::from(x));
            }
        }
        for (sum, &x) in lanes.iter_mut().zip(tail) {
            *sum += T::of(f64::from(x));
        }
        // SAFETY: as above.
        unsafe { *self.sums.at(index) = lanes };
    }
}

/// A sum over the elements of a tensor that come one piece after the other.
pub(crate) struct BlockSum<T> {
    len: usize,
    done: usize,
    block: usize,
    sums: [[f64; LANES]; MAX_BLOCKS],
    summand: PhantomData<T>,
}

impl<T: Summand> BlockSum<T> {
    /// Of so many elements.
    pub(crate) fn new(len: usize) -> Self {
        BlockSum { len, done: 0, block: square_block(len), sums: [[0.0; LANES]; MAX_BLOCKS], summand: PhantomData }
    }

    /// Adds the next elements: of every piece but the last, a multiple of eight.
    pub(crate) fn add(&mut self, pool: &ThreadPool, x: &[f32]) {
        let end = self.done + x.len();
        assert!(
            self.done.is_multiple_of(LANES) && end <= self.len,
            "{} of {} elements come to {end}",
            x.len(),
            self.len
        );
        let blocks = end.div_ceil(self.block) - self.done / self.block;
        let (done, block) = (self.done, self.block);
        if !x.is_empty() {
            launch(pool, blocks, &Blocks { x, done, block, sums: Out::new(&mut self.sums), summand: PhantomData::<T> });
        }
        self.done = end;
    }

    /// The sum, when all have come.
    pub(crate) fn total(&self) -> f64 {
        self.of_blocks().sum()
    }

    /// The sums of the blocks, when all have come.
    fn of_blocks(&self) -> impl Iterator<Item = f64> {
        assert_eq!(self.done, self.len, "elements are missing");
        self.sums[..self.len.div_ceil(self.block)].iter().map(|lanes| lanes.iter().sum::<f64>())
    }
}

/// The sum of the summand `T` over all elements.
pub(crate) fn block_sum<T: Summand>(pool: &ThreadPool, x: &[f32]) -> f64 {
    let mut sum = BlockSum::<T>::new(x.len());
    sum.add(pool, x);
    sum.total()
}

/// The sums of blocks of so many elements each, in `sums`.
pub(crate) fn sums_of_blocks<'a, T: Summand>(
    pool: &ThreadPool,
    x: &[f32],
    block: usize,
    sums: &'a mut [f64; MAX_BLOCKS],
) -> &'a [f64] {
    let blocks = x.len().div_ceil(block);
    assert!(blocks <= MAX_BLOCKS, "{blocks} blocks of a tensor");
    let mut in_blocks = BlockSum::<T> { block, ..BlockSum::new(x.len()) };
    in_blocks.add(pool, x);
    sums.iter_mut().zip(in_blocks.of_blocks()).for_each(|(sum, of_block)| *sum = of_block);
    &sums[..blocks]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::normals;

    #[test]
    fn a_sum_in_pieces_has_the_bits_of_the_whole() {
        let pool = ThreadPool::new(2);
        for len in [1, 7, 4096, 5000, 70_003, 5_000_001] {
            let x = normals(len, 3);
            let whole = block_sum::<Square>(&pool, &x);
            for piece in [8, 4096, 12_344, 1 << 18].into_iter().filter(|piece| len / piece < 5000) {
                let mut sum = BlockSum::<Square>::new(len);
                x.chunks(piece).for_each(|x| sum.add(&pool, x));
                assert_eq!(sum.total().to_bits(), whole.to_bits(), "{len} in pieces of {piece}");
            }
        }
    }
}
