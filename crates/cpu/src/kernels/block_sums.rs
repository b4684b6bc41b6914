//! Sums of all elements of a tensor in f64, in blocks whose size follows from the length of the whole tensor alone.
//!
//! Invariant: a block has eight partial sums, folded in order; the blocks are added in order. No thread changes a bit.

use std::marker::PhantomData;

use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, launch};
use remat_ir::ops::{MOST_SQUARE_BLOCKS, square_block};

/// Partial sums kept on the caller's stack.
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

struct Blocks<'a, T> {
    x: &'a [f32],
    block: usize,
    sums: Out<'a, f64>,
    summand: PhantomData<T>,
}

impl<T: Summand> Kernel for Blocks<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let block = &self.x[task * self.block..((task + 1) * self.block).min(self.x.len())];
        let mut lanes = [0.0f64; LANES];
        let (whole, tail) = block.as_chunks::<LANES>();
        for chunk in whole {
            for (sum, &x) in lanes.iter_mut().zip(chunk) {
                *sum += T::of(f64::from(x));
            }
        }
        for (sum, &x) in lanes.iter_mut().zip(tail) {
            *sum += T::of(f64::from(x));
        }
        unsafe { *self.sums.at(task) = lanes.iter().sum() };
    }
}

/// The sum of the summand `T` over all elements.
pub(crate) fn block_sum<T: Summand>(pool: &ThreadPool, x: &[f32]) -> f64 {
    let mut sums = [0.0; MAX_BLOCKS];
    sums_of_blocks::<T>(pool, x, square_block(x.len()), &mut sums).iter().sum()
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
    launch(pool, blocks, &Blocks { x, block, sums: Out::new(sums), summand: PhantomData::<T> });
    &sums[..blocks]
}
