//! The CPU executor: kernels on `std::arch` (matrix products, attention, the pointwise ops of a decoder), a thread pool,
//! and the walk over a plan.
//!
//! Invariants: a kernel at one level gives the same bits with any number of threads and any cut of its work; it
//! allocates nothing (scratch belongs to the pool, workspace to the caller); arithmetic and sums are f32, rounding to a
//! narrower type happens at outputs only. Look next at `executor`, `kernels`, `simd` and `pool`.

// Every unsafe block says why it is sound; kernels and vectors, whose blocks all lean on one contract, state it once.
#![deny(clippy::undocumented_unsafe_blocks)]
// A kernel names every operand of its op.
#![allow(clippy::too_many_arguments)]
// Loops index several arrays at once, by the letters of the op's formula.
#![allow(clippy::needless_range_loop)]
// Constants that are exact in f32 are written exactly.
#![allow(clippy::excessive_precision)]

mod allocator;
mod element;
mod executor;
pub mod kernels;
mod level;
mod peak;
mod pool;
mod rules;
mod shared;
mod simd;
#[cfg(test)]
mod testing;
mod vector_math;

pub use allocator::release_freed_memory;
pub use element::Element;
pub use executor::{CpuExecutor, CpuOptions, measure_reads, measure_spill};
pub use level::Level;
pub use peak::{SpeedProbe, multiplier_peak, speed_probe};
pub use pool::{SCRATCH_BYTES_PER_THREAD, Scratch, ThreadPool};
pub use shared::{Out, View};
