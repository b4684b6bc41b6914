//! How a step is compiled. Invariant: no option changes a bit of a result but the seed, the optimizer with its
//! clipping and groups, and what gradients are of.

use crate::graph::Tensor;
use crate::{CheckpointPolicy, Error, Graph, ParameterGroup};
use remat_plan::{CustomKernel, CustomKernels, Prices};
use remat_step::device::Opener;
use remat_step::{AdamWSettings, Clip, DeviceOptions, Optimizer};
use std::path::PathBuf;

/// How a step is compiled.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub(crate) policy: Option<CheckpointPolicy>,
    pub(crate) threads: Option<usize>,
    pub(crate) arena_cap_bytes: Option<usize>,
    pub(crate) optimizer: Option<Optimizer>,
    pub(crate) clip: Clip,
    pub(crate) groups: Vec<ParameterGroup>,
    pub(crate) evaluation: Option<Graph>,
    pub(crate) generation: Option<usize>,
    pub(crate) gradients_of: Option<Vec<Tensor>>,
    pub(crate) seed: u64,
    pub(crate) poison: bool,
    pub(crate) offload: Option<PathBuf>,
    pub(crate) prices: Option<Prices>,
    pub(crate) kernels: CustomKernels,
    pub(crate) device: Option<Opener>,
}

impl Options {
    /// Every thread of the machine, seed 0, no optimizer, gradients of all parameters; regions are recomputed.
    pub fn new() -> Self {
        Options::default()
    }

    /// Which values live from forward to backward.
    pub fn policy(self, policy: CheckpointPolicy) -> Self {
        Options { policy: Some(policy), ..self }
    }

    /// Worker threads; 0 counts as 1. They change no bit of any result.
    pub fn threads(self, threads: usize) -> Self {
        Options { threads: Some(threads.max(1)), ..self }
    }

    /// The largest arena allowed: a step that cannot do with it is refused.
    pub fn arena_cap_bytes(self, bytes: usize) -> Self {
        Options { arena_cap_bytes: Some(bytes), ..self }
    }

    /// Trains with this optimizer, by [`Step::update`](crate::Step::update). Weights decay by what its settings say, by default
    /// 0: those of two axes and more, unless a [`ParameterGroup`] says otherwise.
    pub fn optimizer(self, optimizer: Optimizer) -> Self {
        Options { optimizer: Some(optimizer), ..self }
    }

    /// Trains with AdamW: short for its [`optimizer`](Options::optimizer).
    pub fn adamw(self, settings: AdamWSettings) -> Self {
        self.optimizer(Optimizer::AdamW(settings))
    }

    /// What an update does to gradients first; without this call they are brought down to a norm of 1, all together.
    pub fn clip(self, clip: Clip) -> Self {
        Options { clip, ..self }
    }

    /// Gives some parameters settings of their own, or freezes them. Each call adds a group; a parameter is in one at most.
    pub fn group(mut self, group: ParameterGroup) -> Self {
        self.groups.push(group);
        self
    }

    /// A graph without loss that [`Step::evaluate`](crate::Step::evaluate) runs with the parameters as they are, in the same
    /// memory: usually the same model, made in a [`Graph::evaluation`]. Its parameters and buffers are those of the training
    /// graph, by name; inputs of one name and type are one input.
    pub fn evaluation(self, graph: Graph) -> Self {
        Options { evaluation: Some(graph), ..self }
    }

    /// Room for [`Step::generate`](crate::Step::generate) with a pretrained model in training: caches for this many tokens, those
    /// of a prompt and all that follow. Weights and the arena are the training step's.
    pub fn generation(self, capacity: usize) -> Self {
        Options { generation: Some(capacity), ..self }
    }

    /// Makes the gradients of these parameters and inputs only; the rest of backward is not computed. A parameter that is
    /// left out is not trained.
    pub fn gradients_of(self, tensors: impl IntoIterator<Item = Tensor>) -> Self {
        Options { gradients_of: Some(tensors.into_iter().collect()), ..self }
    }

    /// Seed of initial parameters and of random ops.
    pub fn seed(self, seed: u64) -> Self {
        Options { seed, ..self }
    }

    /// A folder on a fast disk, or in memory, that kept values may leave the arena for, and come back from while the step
    /// runs: where a budget or an arena cap asks for it and it is faster than recomputing or nothing else fits, or where a
    /// policy decides so. Its bandwidth is measured when a step is compiled, unless [`prices`](Options::prices) has it;
    /// nothing stays there.
    pub fn offload(self, folder: impl Into<PathBuf>) -> Self {
        Options { offload: Some(folder.into()), ..self }
    }

    /// What operations cost, and copies to the folder of [`offload`](Options::offload) where `prices.spill` says so: in
    /// place of prices by arithmetic and of a measured folder. They decide what is recomputed and what is copied, never a
    /// result; the same prices give the same plan on any machine.
    pub fn prices(self, prices: Prices) -> Self {
        Options { prices: Some(prices), ..self }
    }

    /// Fills arena bytes that no value owns with NaN patterns, so that a use after free shows in the loss. For debugging: it
    /// costs time.
    pub fn poison(self, poison: bool) -> Self {
        Options { poison, ..self }
    }

    /// The kernel of a custom op, by the op's name. A step with a custom op that has none is refused before it runs.
    pub fn kernel(mut self, name: &str, kernel: impl CustomKernel + 'static) -> Self {
        self.kernels.register(name, std::sync::Arc::new(kernel));
        self
    }

    /// What opens the device that steps run on, in place of the CPU.
    pub fn device(self, opener: Opener) -> Self {
        Options { device: Some(opener), ..self }
    }

    /// Only pretrained models have a plan with caches.
    pub(crate) fn refuse_generation(&self) -> Result<(), Error> {
        match self.generation {
            None => Ok(()),
            Some(_) => Err(Error::NotCompiledFor(
                "only a pretrained model generates: leave Options::generation out".to_string(),
            )),
        }
    }

    pub(crate) fn device_options(&self) -> DeviceOptions {
        let available = || std::thread::available_parallelism().map_or(1, |n| n.get());
        let options = DeviceOptions::cpu(self.threads.unwrap_or_else(available));
        self.device.map_or(options, |opener| options.opened_by(opener))
    }
}
