//! Gradient checkpointing by plan, for any Rust model and for pretrained decoders.
//!
//! A model is a [`Graph`] of ops, and training it is a [`Step`] with a static plan: which value is kept for backward, which is
//! computed again, and at which byte of one arena each lives. Its peak memory is known before the first run; loss and gradients
//! are bit-identical under every policy and at every thread count.
//!
//! ```
//! use remat::{AdamWSettings, CheckpointPolicy, CrossEntropyOptions, DType, Error, Graph, Options, Tensor};
//!
//! /// The model: six blocks on rows of 16 numbers, and the mean loss of a choice of 4 classes.
//! fn model() -> Result<(Graph, Tensor), Error> {
//!     let mut g = Graph::new();
//!     let x = g.input("x", DType::F32, &[64, 16])?;
//!     let classes = g.input("classes", DType::I32, &[64])?;
//!     let mut h = g.dense("first", x, 32)?;
//!     for layer in 0..6 {
//!         // A region, as torch.utils.checkpoint around a block: what it computes can be computed again for backward.
//!         h = g.checkpoint(&format!("layers.{layer}"), |g| {
//!             let up = g.dense("up", h, 128)?;
//!             let up = g.gelu(up)?;
//!             let down = g.dense("down", up, 32)?;
//!             g.add(h, down)
//!         })?;
//!     }
//!     let logits = g.dense("head", h, 4)?;
//!     let loss = g.cross_entropy_of_logits(logits, classes, CrossEntropyOptions::default())?;
//!     Ok((g, loss))
//! }
//!
//! fn main() -> Result<(), Error> {
//!     // The budget: half of what a step keeps that computes nothing again.
//!     let (graph, loss) = model()?;
//!     let all = graph.clone().compile(loss, Options::new().policy(CheckpointPolicy::none()))?.memory().activation_bytes;
//!     let options = Options::new().policy(CheckpointPolicy::budget(all / 2)).adamw(AdamWSettings::default());
//!     let mut step = graph.compile(loss, options)?;
//!     assert!(step.memory().activation_bytes <= all / 2);
//!
//!     // Training: a run adds gradients up, an update applies them.
//!     step.set_input("x", &(0..64 * 16).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect::<Vec<_>>())?;
//!     step.set_input("classes", &(0..64).map(|row| row % 4).collect::<Vec<i32>>())?;
//!     let first = step.run()?;
//!     let mut last = first;
//!     for _ in 0..30 {
//!         step.update(1e-2)?;
//!         last = step.run()?;
//!     }
//!     assert!(last < 0.8 * first);
//!     Ok(())
//! }
//! ```
//!
//! From here: what a step holds and why, [`Step::saved_residuals`] and [`Step::memory`]; whether it is right, [`Step::validate`];
//! other policies, [`CheckpointPolicy`]; evaluation, groups, clipping and more, [`Options`]; saving and going on, [`Step::save`];
//! layers of torch.nn, [`modules`]; an op of your own, [`Graph::custom`]; pretrained decoders and adapters, [`Model`]. The guide's
//! `docs/own-model.md` has each in a program, and the defaults in one table.
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
//! Invariant: nothing a caller passes can panic.

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
pub use remat_model::{AdapterStart, BatchShape, LoraConfig, LoraVariant, Method, Precision, Quant, Targets};
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
