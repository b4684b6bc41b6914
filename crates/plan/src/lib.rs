//! The contract between compiler and executors: what runs, in which order, at which byte of one arena.
//!
//! Invariants: a plan is data; an executor walks `plan.steps` and decides nothing; the checker imports nothing from the
//! compiler and trusts nothing the plan says. Look next at [`check`] for the rules a plan obeys.

mod byte_size;
pub mod check;
mod custom;
mod device;
mod fit;
mod freed;
mod kernel_rules;
mod liveness;
mod memory_domain;
mod parse;
mod plan;
mod policy;
mod price;
mod print;
mod profile;
mod program_sizes;
mod residuals;
mod streams;
mod tiles;
mod timetable;
mod transfer;
mod validate;

pub use byte_size::ByteSize;
pub use check::{CheckError, check};
pub use custom::{CustomCall, CustomInputs, CustomKernel, CustomKernels, CustomOutputs, TensorView, TensorViewMut};
pub use device::{
    Device, DeviceError, DeviceMemory, FileRange, Observer, POISON, ProgramId, SourceId, StepMemory, StepTime,
    WeightPart,
};
pub use fit::Measured;
pub use freed::freed;
pub use kernel_rules::{AttentionShares, HeadChunk, KernelRules};
pub use liveness::lower_bound_bytes;
pub use memory_domain::MemoryDomain;
pub use parse::PlanTextError;
pub use plan::{Action, Buffer, BufferId, Place, Plan, Queue, Slot, Step, StepId, Tier, WeightLayout, WeightOperand};
pub use policy::Policy;
pub use price::{LinkPrices, Prices, Rate, SpillPrices};
pub use profile::DeviceProfile;
pub use program_sizes::ProgramSizes;
pub use remat_ir::OpClass;
pub use residuals::Residual;
pub use streams::{STREAM_ELEMENTS, Streamed, can_stream, streamed};
pub use tiles::{tile_name, whole_name};
pub use timetable::Span;
pub use transfer::SourceWriter;
pub use validate::{Validation, ValidationError, has_reference, validate};
