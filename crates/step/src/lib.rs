//! One training step in one place: a loss graph becomes plans, the plans are loaded into a device, and they are driven.
//!
//! ```text
//! Training (a graph, its loss, what is trained) + optimizer
//!   └─ TrainingStep::new      forward and backward, the update, the sum over micro-batches
//!        └─ problem(profile)  plans within a limit
//!             └─ StepPlans::load(device) ─▶ LoadedStep { micro, update, evaluate, trace, validate }
//! ```
//!
//! Invariants: nowhere else is a graph differentiated or a step driven; the concrete device is named in [`device`] alone.
//! Look next at `training_step` for the graphs and at `loaded` for what a loaded step does.

mod accumulate;
pub mod device;
mod error;
mod exchange;
mod fill;
mod forward;
mod loaded;
mod optimizer;
mod plans;
mod schedule;
mod sharded_update;
mod shards;
mod trace;
mod training_step;
mod update;

pub use accumulate::accumulation_graph;
pub use device::DeviceOptions;
pub use error::StepError;
pub use exchange::{PRESENT, exchange_graph};
pub use fill::fill_with_small_numbers;
pub use forward::{Forwards, LoadedForward};
pub use loaded::{LoadedStep, Tokens};
pub use optimizer::{
    Accumulation, AdamWSettings, Clip, Group, LEAST_8BIT_ELEMENTS, LionSettings, MomentFormat, Optimizer, SgdSettings,
    UpdateRule, rate_input,
};
pub use plans::{MicroPlan, StepPlans};
pub use schedule::{Decay, Schedule};
pub use sharded_update::sharded_update_graph;
pub use shards::{Piece, Shards};
pub use trace::{Ran, StepTrace};
pub use training_step::{GradientOf, Trained, TrainingStep};
pub use update::update_graph;
