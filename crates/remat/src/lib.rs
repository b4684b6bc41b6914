//! Gradient checkpointing by plan, for any Rust model and for pretrained decoders.
//!
//! A model is a [`Graph`] of ops. Wrap groups of layers in [`Graph::checkpoint`], choose a [`CheckpointPolicy`], and compile:
//! the [`Step`] has a static plan that says which value is kept, which is computed again, and at which byte of one arena
//! each lives. Its peak memory is known before the first run; loss and gradients are bit-identical under every policy
//! and at every thread count.
//!
//! ```
//! use remat::{AdamWSettings, CheckpointPolicy, DType, Graph, Init, Options};
//!
//! # fn main() -> Result<(), remat::Error> {
//! let mut g = Graph::new();
//! let x = g.input("x", DType::F32, &[32, 8])?;
//! let classes = g.input("classes", DType::I32, &[32])?;
//! let mut h = x;
//! for layer in 0..4 {
//!     // As torch.utils.checkpoint around a block: what the block computes need not be kept for backward.
//!     h = g.checkpoint(&format!("layers.{layer}"), |g| {
//!         let h = g.dense("fc", h, 64)?;
//!         g.gelu(h)
//!     })?;
//! }
//! let head = g.parameter("head", &[3, 64], Init::Linear)?;
//! let loss = g.cross_entropy(h, head, classes)?;
//!
//! let options = Options::new().policy(CheckpointPolicy::full()).adamw(AdamWSettings::default());
//! let mut step = g.compile(loss, options)?;
//! step.set_input("x", &vec![0.5_f32; 32 * 8])?;
//! step.set_input("classes", &[1_i32; 32])?;
//! let first = step.run()?;
//! step.update(1e-2)?;
//! assert!(step.run()? < first);
//! for kept in step.saved_residuals() {
//!     println!("{} {} in {:?}: {} bytes, read by {}", kept.name, kept.ty, kept.region, kept.bytes, kept.read_by);
//! }
//! # Ok(()) }
//! ```
//!
//! Where users of other frameworks find what they know:
//!
//! | there | here |
//! |---|---|
//! | `torch.utils.checkpoint.checkpoint(f, x)` | [`Graph::checkpoint`] |
//! | `checkpoint_sequential(layers, segments, x)` | regions and [`CheckpointPolicy::every`] |
//! | `create_selective_checkpoint_contexts(policy_fn)` | [`CheckpointPolicy::predicate`], [`Rules`] |
//! | `jax.checkpoint(f, policy=…)` | the same names on [`CheckpointPolicy`]: `dots_saveable` and the others |
//! | `save_and_offload_only_these_names`, CPU offload of activations | [`Options::offload`], the same names |
//! | `jax.ad_checkpoint.checkpoint_name` | [`Graph::checkpoint_name`] |
//! | `jax.ad_checkpoint.print_saved_residuals` | [`Step::saved_residuals`] |
//! | `model.gradient_checkpointing_enable()` | [`Model::gradient_checkpointing_enable`] |
//! | `torch.optim`, `param_groups` | [`Optimizer`], [`ParameterGroup`], [`Options::optimizer`], [`Options::group`] |
//! | `clip_grad_norm_`, `clip_grad_value_` | [`Clip`], [`Options::clip`] |
//! | `lr_scheduler` | [`Schedule`] |
//! | `model.train()`, `model.eval()` | [`Graph::new`], [`Graph::evaluation`], [`Step::evaluate`] |
//! | `torch.save` and `load_state_dict` of model, optimizer and generator | [`Step::save`], [`Step::load_state`] |
//! | `torch.nn` layers | [`modules`] |
//!
//! Invariant: nothing a caller passes can panic. Look next at [`Graph`], [`Step`] and [`Model`].

mod compile;
mod decision;
mod error;
mod evaluation;
mod functions;
mod generation;
mod graph;
mod groups;
mod jax_policies;
mod layers;
mod memory;
mod model;
pub mod modules;
mod optimizer_state;
mod options;
mod policy;
mod recipe;
mod rules;
mod saved_state;
mod set_policy;
mod step;
mod validate;

pub use decision::{Candidate, Decision};
pub use error::Error;
pub use functions::{AttentionOptions, BatchNormOptions, ConvOptions, CrossEntropyOptions, PoolOptions, Reduction};
pub use graph::{Graph, Init, Tensor};
pub use groups::{GroupRate, ParameterGroup};
pub use memory::MemoryReport;
pub use model::Model;
pub use optimizer_state::Moment;
pub use options::Options;
pub use policy::CheckpointPolicy;
pub use rules::Rules;
pub use step::{Element, OpRuns, Step};

pub use remat_ir::{Array, Cost, Custom, CustomOp, CustomOps, IrError, Phase, Type, ValueId, Vjp, ops};
pub use remat_model::{BatchShape, LoraConfig, Method, Precision, Quant, Targets};
pub use remat_plan::{
    Action, CustomCall, CustomKernel, Device, Observer, OpClass, Plan, Prices, Rate, Residual, SpillPrices,
    Step as PlanStep, StepId, StepMemory, Validation,
};
pub use remat_step::{AdamWSettings, Clip, Decay, LionSettings, MomentFormat, Optimizer, Schedule, SgdSettings};
pub use remat_tensor::{DType, bf16, f16};

/// The guide's page on models of one's own, whose program is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/own-model.md")]
struct OwnModel;
