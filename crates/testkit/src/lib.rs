//! What integration tests share. Never a dependency of a shipped crate.
//!
//! [`random_model`] makes small differentiable graphs with regions; [`source_values`] fills their sources;
//! [`run_plan`] runs a plan on a device and hands back what it computed; [`Definition`] is what it should have.

mod definition;
mod distant;
mod emulated;
mod faulty;
pub mod op_samples;
mod random_model;
mod run;
mod source_values;

pub use definition::Definition;
pub use distant::DistantDevice;
pub use emulated::EmulatedCard;
pub use faulty::FaultyDevice;
pub use random_model::{TestModel, random_model, random_model_of, random_model_of_functions, two_layer_mlp};
pub use run::{RunResult, fill_sources, run_plan, with_backward};
pub use source_values::source_values;
