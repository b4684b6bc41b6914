//! The CUDA device: plans run on a card by kernels of our own, whose PTX is in the binary. A user needs NVIDIA's driver alone.
//!
//! Invariants: everything is allocated in `load`; a run allocates nothing. Kernels have no atomics, and no sum's order follows
//! a schedule, so all plans of a graph give the same bits on one card. Everything that is CUDA's own is behind [`driver::Driver`], so
//! that the same PTX runs without a card, in tests. Look next at `device` for how a plan runs, at `recipes` for which
//! kernels an op launches, at `kernels/*.cu` for these.

// Every unsafe block says why it is sound.
#![deny(clippy::undocumented_unsafe_blocks)]

pub mod archive;
mod call;
mod device;
pub mod driver;
mod launch;
mod published;
mod recipes;
mod rules;

pub use call::OpTypes;
pub use device::{CudaDevice, device_error, profile};
pub use launch::{Argument, Launch};
pub use published::{CARDS, PublishedCard, RESERVED_BYTES, published};
pub use recipes::{dynamic_shared_bytes, launches};
pub use rules::RULES;
