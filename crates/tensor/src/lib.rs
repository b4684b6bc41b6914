//! The ground floor: element types, shapes, host tensors, quantised weights (NF4 and int8), the dynamic 8-bit maps and the counter-based generator.
//!
//! Invariant: nothing here knows of graphs, files or devices. Look next at `ir` for what is computed with these.

pub mod decades;
mod dtype;
mod dynamic_map;
mod finite;
mod host;
pub mod int8;
mod little_endian;
pub mod nf4;
mod philox;
mod quantised;
mod shape;

pub use dtype::DType;
pub use dynamic_map::DynamicMap;
pub use finite::first_not_finite;
pub use half::{bf16, f16};
pub use host::{HostTensor, TensorData};
pub use philox::{Philox, stream_of_name};
pub use quantised::{NotFinite, QuantFormat, QuantisedData, QuantisedTensor, QuantisedView, Quantiser, into_bytes};
pub use shape::Shape;
