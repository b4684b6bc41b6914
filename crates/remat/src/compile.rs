//! From a graph to a [`Step`]: backward, policy, plans, executor.
//!
//! Invariant: switching the policy changes the plans and nothing else; names, values and counters stay.

use crate::graph::{DLOSS, Graph, Source, Tensor};
use crate::policy::Chosen;
use crate::step::Step;
use crate::{CheckpointPolicy, Error};
use remat_compiler::{compile_keeping, compile_within};
use remat_ir::{Parameter, ParameterKind, StateRole, Storage, Training};
use remat_plan::{CustomKernel, CustomKernels, DeviceProfile, Plan, Prices};
use remat_step::device::{Opener, measure_spill};
use remat_step::{AdamWSettings, DeviceOptions, StepPlans, Trained, TrainingStep};
use remat_tensor::DType;
use std::collections::HashMap;
use std::path::PathBuf;

/// How a step is compiled.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub(crate) policy: Option<CheckpointPolicy>,
    pub(crate) threads: Option<usize>,
    pub(crate) arena_cap_bytes: Option<usize>,
    pub(crate) adamw: Option<AdamWSettings>,
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

    /// Trains with AdamW, by [`Step::update`].
    pub fn adamw(self, settings: AdamWSettings) -> Self {
        Options { adamw: Some(settings), ..self }
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

    pub(crate) fn device_options(&self) -> DeviceOptions {
        let available = || std::thread::available_parallelism().map_or(1, |n| n.get());
        let options = DeviceOptions::cpu(self.threads.unwrap_or_else(available));
        self.device.map_or(options, |opener| options.opened_by(opener))
    }
}

/// What a step is compiled from, and compiled anew under another policy.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// Forward, and backward if there are gradients.
    pub graph: remat_ir::Graph,
    /// Names given for policies.
    pub checkpoint_names: HashMap<String, String>,
    /// The output that is the loss, if there is one.
    pub loss: Option<String>,
    /// What it trains, and its update if there is an optimizer.
    pub trained: Trained,
    pub options: Options,
}

impl Recipe {
    /// Compiles under a policy.
    pub(crate) fn plans(&self, policy: &CheckpointPolicy) -> Result<StepPlans, Error> {
        let profile = self.profile()?;
        let micro = self.micro(policy, &profile)?;
        let update = self.trained.update.is_some().then(|| self.trained.plan_update(&profile)).transpose()?;
        Ok(StepPlans::of(micro, update))
    }

    /// The machine as options and, where they leave a folder's bandwidth open, its disk say.
    fn profile(&self) -> Result<DeviceProfile, Error> {
        let Options { prices: given, offload, .. } = &self.options;
        let profile = self.options.device_options().profile();
        let prices = given.clone().unwrap_or(profile.prices);
        if !prices.are_plausible() {
            return Err(Error::BadPrices);
        }
        let spill = match (offload, prices.spill) {
            (None, _) => None,
            (Some(_), Some(given)) => Some(given),
            (Some(folder), None) => Some(measure_spill(folder)?),
        };
        Ok(DeviceProfile { prices: Prices { spill, ..prices }, ..profile })
    }

    fn micro(&self, policy: &CheckpointPolicy, profile: &DeviceProfile) -> Result<Plan, Error> {
        let (graph, cap) = (self.graph.clone(), self.options.arena_cap_bytes);
        match (policy.as_named(), cap) {
            (Some(named), cap) => Ok(compile_within(graph, named, profile, cap)?),
            (None, Some(_)) => {
                let message = format!("{policy} decides every value, so an arena cap cannot: use auto or a budget");
                Err(Error::Policy(message))
            }
            (None, None) => self.chosen(policy, profile),
        }
    }

    /// Compiles what a predicate or rules decide.
    fn chosen(&self, policy: &CheckpointPolicy, profile: &DeviceProfile) -> Result<Plan, Error> {
        let mut required = Vec::new();
        let plan = compile_keeping(self.graph.clone(), profile, |graph| {
            let Chosen { mut choice, must_offload } = policy.choice(graph, &self.checkpoint_names)?;
            if self.options.offload.is_none() {
                choice.offload.clear();
            }
            required = must_offload;
            Ok::<_, Error>(choice)
        })?;
        if let (Some(name), None) = (required.first(), &self.options.offload) {
            let message = format!("must_offload names \"{name}\", and there is no folder: give Options::offload(DIR)");
            return Err(Error::Policy(message));
        }
        let residuals = plan.saved_residuals();
        let left = |name: &&String| residuals.iter().any(|residual| residual.offloaded && residual.name == **name);
        match required.iter().find(|name| !left(name)) {
            None => Ok(plan),
            Some(name) => Err(Error::Policy(format!(
                "must_offload names \"{name}\", which cannot leave: backward does not read it, it is an output, or it is \
                 made last; keep it"
            ))),
        }
    }
}

impl Graph {
    /// Compiles a training step: `loss` has shape [1]. Parameters get their first values.
    ///
    /// # Errors
    /// A loss that no parameter reaches, or a parameter that does not reach it; a policy that cannot be met.
    pub fn compile(mut self, loss: Tensor, options: Options) -> Result<Step, Error> {
        let loss = self.id(loss, "compile")?;
        if self.b.graph().value(loss).producer.is_none() {
            let name = self.b.graph().value(loss).name.clone();
            return Err(Error::NotCompiledFor(format!(
                "the loss \"{name}\" is not computed: it is an input or weight"
            )));
        }
        self.b.output(loss);
        let wanted: Vec<_> = match &options.gradients_of {
            Some(tensors) => tensors.iter().map(|&x| self.id(x, "gradients_of")).collect::<Result<_, _>>()?,
            None => self.sources.iter().filter(|source| source.trained).map(|source| source.id).collect(),
        };
        let (mut parameters, mut others): (Vec<Parameter>, Vec<_>) = (Vec::new(), Vec::new());
        for &value in &wanted {
            if others.contains(&value) || parameters.iter().any(|parameter| parameter.value == value) {
                continue;
            }
            match self.sources.iter().find(|source| source.id == value && source.trained) {
                Some(source) => {
                    let (name, ty) = (&source.name, source.ty.clone());
                    let gradient = self.b.state_of(name, ParameterKind::Base, StateRole::Gradient, ty);
                    parameters.push(parameter(source, gradient));
                }
                None => others.push(value),
            }
        }
        let dloss = self.b.scalar(DLOSS, DType::F32);
        let checkpoint_names = self.checkpoint_names;
        let (sources, random) = (self.sources, self.rng.is_some());
        let training = Training { graph: self.b.finish(), loss, dloss, parameters, wanted: others, random };
        let TrainingStep { graph, trained } = TrainingStep::new(training, options.adamw.as_ref())?;
        let loss = Some(trained.loss.clone());
        Graph::started(Recipe { graph, checkpoint_names, loss, trained, options }, &sources)
    }

    /// Compiles the forward alone, to what [`Graph::output`] named: nothing is kept for a backward that does not exist,
    /// and regions cost nothing.
    ///
    /// # Errors
    /// No outputs.
    pub fn compile_forward(self, options: Options) -> Result<Step, Error> {
        if self.b.graph().outputs.is_empty() {
            return Err(Error::NotCompiledFor("nothing is wanted: name a value with Graph::output".to_string()));
        }
        let trained = Trained { random: self.rng.is_some(), ..Trained::default() };
        let (graph, checkpoint_names) = (self.b.finish(), self.checkpoint_names);
        Graph::started(Recipe { graph, checkpoint_names, loss: None, trained, options }, &self.sources)
    }

    /// Loads a step and fills in parameters and weights.
    fn started(recipe: Recipe, sources: &[Source]) -> Result<Step, Error> {
        let (seed, policy) = (recipe.options.seed, recipe.options.policy.clone().unwrap_or_default());
        let mut step = Step::load(recipe, policy)?;
        for source in sources {
            let storage = if source.trained { Storage::State } else { Storage::Weight };
            step.fill_source(storage, &source.name, &|first, target| {
                source.init.fill(&source.name, &source.ty, seed, first, target);
            })?;
        }
        Ok(step)
    }
}

fn parameter(source: &Source, gradient: remat_ir::ValueId) -> Parameter {
    Parameter {
        name: source.name.clone(),
        kind: ParameterKind::Base,
        gated_by: None,
        ty: source.ty.clone(),
        value: source.id,
        has_working_copy: false,
        gradient,
        decay: source.ty.shape.len() > 1,
    }
}
