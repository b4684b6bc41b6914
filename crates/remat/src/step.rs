//! A compiled step on its executor: inputs in, loss and gradients out, and updates of the parameters.
//!
//! Invariants: a run allocates nothing; an error leaves the step usable, with gradients as they were when it happened.
//! Gradients add up over runs until an update or [`Step::zero_gradients`]. Look next at `compile` for how a step is made.

use crate::compile::Recipe;
use crate::graph::RNG;
use crate::{CheckpointPolicy, Error, MemoryReport};
use remat_cpu::CpuExecutor;
use remat_ir::{Storage, Type};
use remat_model::refresh_working_copies;
use remat_plan::{Action, Executor, Plan, ProgramId, Residual, RunObserver};
use remat_tensor::DType;
use std::collections::BTreeMap;

/// Rust's types for the elements of inputs.
pub trait Element: bytemuck::Pod {
    /// The dtype they are elements of.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
impl Element for i32 {
    const DTYPE: DType = DType::I32;
}
impl Element for u32 {
    const DTYPE: DType = DType::U32;
}

/// Where the gradient of a parameter or input is found.
#[derive(Debug, Clone)]
pub(crate) struct Gradient {
    pub of: String,
    /// The state that sums it over runs, for a parameter.
    pub state: Option<String>,
    /// The output of the last run, for an input.
    pub output: String,
}

/// How often an op runs in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpRuns {
    /// Forward, backward or update.
    pub first: usize,
    /// Again, for backward.
    pub recomputed: usize,
}

/// A compiled step.
pub struct Step {
    recipe: Recipe,
    policy: CheckpointPolicy,
    executor: CpuExecutor,
    micro: ProgramId,
    update: Option<ProgramId>,
    plan: Plan,
    updates_made: u32,
    runs_since_update: u32,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Step(policy {}, {} steps, arena {} bytes)",
            self.policy,
            self.plan.steps.len(),
            self.plan.arena_bytes
        )
    }
}

impl Step {
    /// Compiles and loads; all sources are zero.
    pub(crate) fn load(recipe: Recipe, policy: CheckpointPolicy) -> Result<Step, Error> {
        let plans = recipe.plans(&policy)?;
        let mut executor = CpuExecutor::new(recipe.options.executor());
        executor.set_custom_kernels(recipe.options.kernels.clone());
        executor.set_poison(recipe.options.poison);
        executor.set_spill_folder(recipe.options.offload.clone());
        let plan = plans.micro.clone();
        let programs = executor.load(std::iter::once(plans.micro).chain(plans.update).collect())?;
        let (micro, update) = (programs[0], programs.get(1).copied());
        Ok(Step { recipe, policy, executor, micro, update, plan, updates_made: 0, runs_since_update: 0 })
    }

    /// Runs forward and backward, adds gradients onto what is there, and returns the loss.
    ///
    /// # Errors
    /// An input that a kernel refuses, such as an id outside its table; a step that was compiled without a loss.
    pub fn run(&mut self) -> Result<f32, Error> {
        self.run_scaled(1.0)
    }

    /// As [`Step::run`], with gradients of `factor` · loss: with 1/k they sum to the mean over k runs.
    ///
    /// # Errors
    /// As [`Step::run`].
    pub fn run_scaled(&mut self, factor: f32) -> Result<f32, Error> {
        let loss = self.recipe.loss.clone();
        let loss = loss.ok_or_else(|| Error::NotCompiledFor("no loss here: use Step::run_forward".to_string()))?;
        self.prepare(Some(factor))?;
        self.executor.run(self.micro)?;
        self.runs_since_update += 1;
        self.number(&loss)
    }

    /// As [`Step::run`], and tells `observer` of every step of the plan.
    ///
    /// # Errors
    /// As [`Step::run`].
    pub fn run_observed(&mut self, observer: &mut dyn RunObserver) -> Result<f32, Error> {
        let loss = self.recipe.loss.clone();
        let loss = loss.ok_or_else(|| Error::NotCompiledFor("no loss here: use Step::run_forward".to_string()))?;
        self.prepare(Some(1.0))?;
        self.executor.run_observed(self.micro, observer)?;
        self.runs_since_update += 1;
        self.number(&loss)
    }

    pub(crate) fn prepare_for_validation(&mut self) -> Result<(), Error> {
        self.prepare(self.recipe.loss.is_some().then_some(1.0))
    }

    /// The bytes of all gradient states.
    pub(crate) fn gradient_states(&self) -> Result<Vec<Vec<u8>>, Error> {
        let states = self.recipe.gradients.iter().filter_map(|gradient| gradient.state.as_ref());
        states.map(|state| Ok(self.executor.state(state)?.bytes.to_vec())).collect()
    }

    /// Puts back what [`Step::gradient_states`] returned.
    pub(crate) fn restore_gradients(&mut self, saved: &[Vec<u8>]) -> Result<(), Error> {
        let states = self.recipe.gradients.iter().filter_map(|gradient| gradient.state.as_ref());
        for (state, bytes) in states.zip(saved) {
            self.executor.state_mut(state)?.bytes.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Runs a step that was compiled by [`crate::Graph::compile_forward`].
    ///
    /// # Errors
    /// An input that a kernel refuses; a step with a loss.
    pub fn run_forward(&mut self) -> Result<(), Error> {
        if self.recipe.loss.is_some() {
            return Err(Error::NotCompiledFor("this step has a backward: use Step::run".to_string()));
        }
        self.prepare(None)?;
        Ok(self.executor.run(self.micro)?)
    }

    fn prepare(&mut self, factor: Option<f32>) -> Result<(), Error> {
        if let Some(factor) = factor.filter(|_| !self.recipe.gradients.is_empty()) {
            let target = self.executor.input_mut(&self.recipe.seed)?;
            target.bytes.copy_from_slice(bytemuck::bytes_of(&factor));
        }
        if self.recipe.random {
            let seed = self.recipe.options.seed;
            let key = [seed as u32, (seed >> 32) as u32, self.updates_made, self.runs_since_update];
            self.executor.input_mut(RNG)?.bytes.copy_from_slice(bytemuck::cast_slice(&key));
        }
        Ok(())
    }

    fn number(&self, name: &str) -> Result<f32, Error> {
        let view = self.executor.output(self.micro, name)?;
        Ok(bytemuck::pod_read_unaligned(&view.bytes[..size_of::<f32>()]))
    }

    /// Writes an input.
    ///
    /// # Errors
    /// A name the step does not have, another dtype or number of elements.
    pub fn set_input<T: Element>(&mut self, name: &str, elements: &[T]) -> Result<(), Error> {
        let available = || self.names(Storage::Input);
        let ty = self.source_type(Storage::Input, name);
        let ty =
            ty.ok_or_else(|| Error::UnknownName { kind: "input", name: name.to_string(), available: available() })?;
        check("input", name, &ty, T::DTYPE, elements.len())?;
        self.executor.input_mut(name)?.bytes.copy_from_slice(bytemuck::cast_slice(elements));
        Ok(())
    }

    /// The elements of a value that was made readable by [`crate::Graph::output`], as of the last run.
    ///
    /// # Errors
    /// A name that is not an output, elements that are not f32.
    pub fn output(&self, name: &str) -> Result<Vec<f32>, Error> {
        let graph = &self.plan.graph;
        if !graph.outputs.iter().any(|&id| graph.value(id).name == name) {
            let names: Vec<&str> = graph.outputs.iter().map(|&id| graph.value(id).name.as_str()).collect();
            let available = listed(&names);
            return Err(Error::UnknownName { kind: "output", name: name.to_string(), available });
        }
        let view = self.executor.output(self.micro, name)?;
        if view.ty.dtype != DType::F32 {
            return Err(Error::NotCompiledFor(format!("output \"{name}\" is {}: cast it to f32", view.ty)));
        }
        Ok(bytemuck::pod_collect_to_vec(view.bytes))
    }

    /// The gradient of a parameter (summed over the runs since the last update) or of an input (of the last run).
    ///
    /// # Errors
    /// A name whose gradient was not asked for.
    pub fn gradient(&self, name: &str) -> Result<Vec<f32>, Error> {
        let gradient = self.recipe.gradients.iter().find(|gradient| gradient.of == name);
        let Some(gradient) = gradient else {
            let names: Vec<&str> = self.recipe.gradients.iter().map(|gradient| gradient.of.as_str()).collect();
            let available = listed(&names);
            return Err(Error::UnknownName { kind: "gradient", name: name.to_string(), available });
        };
        let view = match &gradient.state {
            Some(state) => self.executor.state(state)?,
            None => self.executor.output(self.micro, &gradient.output)?,
        };
        Ok(bytemuck::pod_collect_to_vec(view.bytes))
    }

    /// Names of the trained parameters, in the order they were made.
    pub fn parameter_names(&self) -> Vec<&str> {
        self.recipe.parameters.iter().map(|parameter| parameter.name.as_str()).collect()
    }

    /// The elements of a trained parameter.
    ///
    /// # Errors
    /// A name that is not one.
    pub fn parameter(&self, name: &str) -> Result<Vec<f32>, Error> {
        self.known_parameter(name)?;
        Ok(bytemuck::pod_collect_to_vec(self.executor.state(name)?.bytes))
    }

    /// Writes a trained parameter.
    ///
    /// # Errors
    /// A name that is not one, another number of elements.
    pub fn set_parameter(&mut self, name: &str, elements: &[f32]) -> Result<(), Error> {
        self.known_parameter(name)?;
        let target = self.executor.state_mut(name)?;
        check("parameter", name, target.ty, DType::F32, elements.len())?;
        target.bytes.copy_from_slice(bytemuck::cast_slice(elements));
        Ok(refresh_working_copies(&self.recipe.parameters, &mut self.executor)?)
    }

    /// Writes a frozen weight.
    ///
    /// # Errors
    /// A name that is not one, another number of elements, a weight that is not f32.
    pub fn set_weight(&mut self, name: &str, elements: &[f32]) -> Result<(), Error> {
        let Some(ty) = self.source_type(Storage::Weight, name) else {
            let available = self.names(Storage::Weight);
            return Err(Error::UnknownName { kind: "frozen weight", name: name.to_string(), available });
        };
        check("weight", name, &ty, DType::F32, elements.len())?;
        self.executor.weight_mut(name)?.bytes.copy_from_slice(bytemuck::cast_slice(elements));
        Ok(())
    }

    fn known_parameter(&self, name: &str) -> Result<(), Error> {
        if self.recipe.parameters.iter().any(|parameter| parameter.name == name) {
            return Ok(());
        }
        let available = listed(&self.parameter_names());
        Err(Error::UnknownName { kind: "trained parameter", name: name.to_string(), available })
    }

    /// Updates all parameters with AdamW by the gradients summed so far, zeroes those, and returns their norm before
    /// clipping.
    ///
    /// # Errors
    /// A step compiled without [`crate::Options::adamw`], or without parameters.
    pub fn update(&mut self, learning_rate: f32) -> Result<f32, Error> {
        let missing = || Error::NotCompiledFor("no optimizer here: compile with Options::adamw".to_string());
        let update = self.update.ok_or_else(missing)?;
        let made = self.updates_made.saturating_add(1);
        self.executor.input_mut("lr")?.bytes.copy_from_slice(bytemuck::bytes_of(&learning_rate));
        self.executor.input_mut("step")?.bytes.copy_from_slice(bytemuck::bytes_of(&made));
        self.executor.run(update)?;
        (self.updates_made, self.runs_since_update) = (made, 0);
        let norm = self.executor.output(update, "grad_norm")?;
        Ok(bytemuck::pod_read_unaligned(&norm.bytes[..size_of::<f32>()]))
    }

    /// Updates all parameters with an optimizer of your own, then zeroes the gradients. `apply` is called with the name of
    /// each parameter, its elements, and its gradient.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn update_with(&mut self, mut apply: impl FnMut(&str, &mut [f32], &[f32])) -> Result<(), Error> {
        for parameter in &self.recipe.parameters {
            let gradient = self.executor.state(&format!("{}.grad", parameter.name))?;
            let gradient: Vec<f32> = bytemuck::pod_collect_to_vec(gradient.bytes);
            let target = self.executor.state_mut(&parameter.name)?;
            apply(&parameter.name, bytemuck::cast_slice_mut(target.bytes), &gradient);
        }
        refresh_working_copies(&self.recipe.parameters, &mut self.executor)?;
        (self.updates_made, self.runs_since_update) = (self.updates_made.saturating_add(1), 0);
        self.zero_gradients()
    }

    /// Forgets the gradients summed so far.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn zero_gradients(&mut self) -> Result<(), Error> {
        for gradient in &self.recipe.gradients {
            if let Some(state) = &gradient.state {
                self.executor.state_mut(state)?.bytes.fill(0);
            }
        }
        Ok(())
    }

    /// Compiles anew under another policy. Parameters, gradients, moments, inputs and counters stay as they are; both
    /// arenas exist for a moment.
    ///
    /// # Errors
    /// A policy that cannot be met: the step stays as it was.
    pub fn set_policy(&mut self, policy: CheckpointPolicy) -> Result<(), Error> {
        let mut next = Step::load(self.recipe.clone(), policy)?;
        let graphs = [Some(&self.plan.graph), self.update.map(|update| self.executor.graph(update))];
        let sources = graphs.into_iter().flatten().flat_map(|graph| &graph.values);
        let sources: Vec<(Storage, String)> =
            sources.filter(|value| value.producer.is_none()).map(|value| (value.storage, value.name.clone())).collect();
        for (storage, name) in sources {
            copy_source(&mut self.executor, &mut next.executor, storage, &name)?;
        }
        (next.updates_made, next.runs_since_update) = (self.updates_made, self.runs_since_update);
        *self = next;
        Ok(())
    }

    /// The policy it was compiled under.
    pub fn policy(&self) -> &CheckpointPolicy {
        &self.policy
    }

    /// The plan of forward and backward.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Every value that lives from forward to backward, with its type, bytes, layer, and the op that needs it.
    pub fn saved_residuals(&self) -> Vec<Residual> {
        self.plan.saved_residuals()
    }

    /// How often each op runs in one step, by the op's name.
    pub fn op_runs(&self) -> BTreeMap<&'static str, OpRuns> {
        let mut runs: BTreeMap<&'static str, OpRuns> = BTreeMap::new();
        for step in &self.plan.steps {
            if let Action::Compute(op) = step.action {
                let node = self.plan.graph.node(op);
                let entry = runs.entry(node.op.name()).or_default();
                match node.recompute_of {
                    Some(_) => entry.recomputed += 1,
                    None => entry.first += 1,
                }
            }
        }
        runs
    }

    /// What the step holds, in bytes.
    pub fn memory(&self) -> MemoryReport {
        MemoryReport::of(&self.plan, &self.executor, self.recipe.options.executor())
    }

    pub(crate) fn fill_source(
        &mut self,
        storage: Storage,
        name: &str,
        fill: impl FnOnce(&mut [f32]),
    ) -> Result<(), Error> {
        // A source that nothing reads was removed with the code that does not matter.
        if self.source_type(storage, name).is_some() {
            let target = match storage {
                Storage::Weight => self.executor.weight_mut(name)?,
                _ => self.executor.state_mut(name)?,
            };
            fill(bytemuck::cast_slice_mut(target.bytes));
        }
        Ok(())
    }

    pub(crate) fn program(&self) -> ProgramId {
        self.micro
    }

    pub(crate) fn executor_mut(&mut self) -> &mut CpuExecutor {
        &mut self.executor
    }

    pub(crate) fn executor(&self) -> &CpuExecutor {
        &self.executor
    }

    pub(crate) fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    fn source_type(&self, storage: Storage, name: &str) -> Option<Type> {
        let values = &self.plan.graph.values;
        let found = values.iter().find(|v| v.producer.is_none() && v.storage == storage && v.name == name);
        found.map(|value| value.ty.clone())
    }

    fn names(&self, storage: Storage) -> String {
        let ours = |name: &&str| *name != self.recipe.seed && *name != RNG;
        let values = self.plan.graph.values.iter().filter(|v| v.producer.is_none() && v.storage == storage);
        listed(&values.map(|value| value.name.as_str()).filter(ours).collect::<Vec<_>>())
    }
}

fn check(kind: &'static str, name: &str, ty: &Type, dtype: DType, elements: usize) -> Result<(), Error> {
    if ty.dtype == dtype && ty.shape.numel() == elements {
        return Ok(());
    }
    let (name, expected) = (name.to_string(), ty.to_string());
    Err(Error::WrongElements { kind, name, expected, given: format!("{elements} of {dtype}") })
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_string() } else { names.join(", ") }
}

fn copy_source(from: &mut CpuExecutor, to: &mut CpuExecutor, storage: Storage, name: &str) -> Result<(), Error> {
    match storage {
        Storage::Weight => to.weight_mut(name)?.bytes.copy_from_slice(from.weight_mut(name)?.bytes),
        Storage::State => to.state_mut(name)?.bytes.copy_from_slice(from.state(name)?.bytes),
        Storage::Input => to.input_mut(name)?.bytes.copy_from_slice(from.input_mut(name)?.bytes),
        Storage::Arena => {}
    }
    Ok(())
}
