//! The intermediate representation: a training step as a graph of coarse ops in static single assignment form.
//!
//! Invariants: backward is ordinary IR; there is no "saved" flag and no hidden state; every op is defined by its
//! naive f64 `eval`; a graph that `verify` accepts can be interpreted, differentiated and planned.
//! Look next at [`ops`] for what can be computed and at `compiler` for what is done with a graph.

mod array;
pub mod axes;
mod build;
mod collective;
mod cost;
mod custom;
mod error;
mod graph;
mod ids;
mod interpret;
mod names;
mod number;
mod op_class;
pub mod ops;
mod parse;
mod print;
mod role;
mod sample;
mod storage;
mod text;
mod training;
mod value_type;
mod verify;

pub use array::Array;
pub use build::{Builder, Vjp};
pub use collective::{Collective, Movement, World, pieces, shard};
pub use cost::Cost;
pub use custom::{Custom, CustomOp, CustomOps};
pub use error::IrError;
pub use graph::{Graph, Node, Phase, Region, Users, Value};
pub use ids::{OpId, RegionId, ValueId};
pub use interpret::{Interpreter, Rounding};
pub use names::{NameHasher, NameMap, NameSet};
pub use op_class::{OpClass, THIN, Workspace};
pub use ops::{Op, OpDef};
pub use parse::{parse, parse_with};
pub use role::{FirstWrite, ParameterKind, RANDOM_KEY, SourceRole, StateRole, TRAINED_TOKENS};
pub use sample::Sample;
pub use storage::Storage;
pub use text::Text;
pub use training::{Parameter, Training};
pub use value_type::Type;
pub use verify::verify;
