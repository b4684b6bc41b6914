//! A compiled step on its device: inputs in, loss and gradients out, and updates of the parameters.
//!
//! Invariants: a run allocates nothing; an error leaves the step usable, with gradients as they were when it happened.
//! Gradients add up over runs until an update or [`Step::zero_gradients`]. Look next at `compile` for how a step is made.

use crate::recipe::Recipe;
use crate::{CheckpointPolicy, Error, MemoryReport};
use remat_ir::{RANDOM_KEY, SourceRole, StateRole, Storage, TRAINED_TOKENS, Type, Value, ValueId};
use remat_model::refresh_working_copies;
use remat_plan::{Action, Device, Observer, Plan, ProgramId, Residual, SourceId, SourceWriter};
use remat_step::LoadedStep;
use remat_tensor::{DType, bf16, f16};
use std::collections::{BTreeMap, BTreeSet};

/// There is one micro-step.
const MICRO: usize = 0;

/// Elements that are written at a time.
const PIECE: usize = 1 << 14;

/// Rust's types for the elements of inputs and outputs.
pub trait Element: bytemuck::Pod {
    /// The dtype they are elements of.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
impl Element for bf16 {
    const DTYPE: DType = DType::BF16;
}
impl Element for f16 {
    const DTYPE: DType = DType::F16;
}
impl Element for i32 {
    const DTYPE: DType = DType::I32;
}
impl Element for u32 {
    const DTYPE: DType = DType::U32;
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
    pub(crate) policy: CheckpointPolicy,
    loaded: LoadedStep,
    pub(crate) updates_made: u32,
    /// Of the random ops of the next run: the seed's halves, updates, and runs since.
    pub(crate) key: [u32; 4],
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Step(policy {}, {} steps, arena {} bytes)",
            self.policy,
            self.plan().steps.len(),
            self.plan().arena_bytes
        )
    }
}

impl Step {
    /// Compiles and loads; all sources are zero.
    pub(crate) fn load(recipe: Recipe, policy: CheckpointPolicy) -> Result<Step, Error> {
        let plans = recipe.plans(&policy)?;
        let loaded = recipe.load(plans)?;
        let seed = recipe.options.seed;
        Ok(Step { recipe, policy, loaded, updates_made: 0, key: [seed as u32, (seed >> 32) as u32, 0, 0] })
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
        self.with_loss()?;
        self.loaded.micro(MICRO, factor, self.key)?;
        self.next_run();
        Ok(self.loaded.loss(MICRO)?)
    }

    fn with_loss(&self) -> Result<(), Error> {
        let missing = || Error::NotCompiledFor("no loss here: use Step::run_forward".to_string());
        self.recipe.loss.as_ref().map(|_| ()).ok_or_else(missing)
    }

    /// As [`Step::run`], and tells `observer` of every step of the plan. It is a run as any other: gradients are added, buffers
    /// move once.
    ///
    /// # Errors
    /// As [`Step::run`].
    pub fn run_observed(&mut self, observer: &mut dyn Observer) -> Result<f32, Error> {
        self.with_loss()?;
        self.prepare()?;
        self.loaded.observe(MICRO, observer)?;
        self.next_run();
        Ok(self.loaded.loss(MICRO)?)
    }

    /// The bytes of all states that a run changes: gradients and buffers.
    pub(crate) fn changed_states(&self) -> Result<Vec<Vec<u8>>, Error> {
        let device = self.loaded.device();
        self.changed_names().map(|state| Ok(device.read_all(device.known(Storage::State, state)?)?)).collect()
    }

    /// Puts back what [`Step::changed_states`] returned.
    pub(crate) fn restore_changed(&mut self, saved: &[Vec<u8>]) -> Result<(), Error> {
        let names: Vec<String> = self.changed_names().map(str::to_string).collect();
        let device = self.loaded.device_mut();
        for (state, bytes) in names.iter().zip(saved) {
            device.write_all(device.known(Storage::State, state)?, bytes)?;
        }
        Ok(())
    }

    fn gradient_names(&self) -> impl Iterator<Item = &str> {
        self.recipe.trained.gradients.iter().filter_map(|gradient| gradient.state.as_deref())
    }

    fn changed_names(&self) -> impl Iterator<Item = &str> {
        self.gradient_names().chain(self.buffer_names())
    }

    /// Names of the buffers that a run or an evaluation reads or updates, in the order they were made.
    pub fn buffer_names(&self) -> impl Iterator<Item = &str> {
        let buffers = self.sources_of(Storage::State).filter(|value| value.role == Some(SourceRole::Buffer));
        let mut seen = BTreeSet::new();
        buffers.map(|value| value.name.as_str()).filter(move |&name| seen.insert(name))
    }

    /// The elements of a buffer.
    ///
    /// # Errors
    /// A name that is not one.
    pub fn buffer(&self, name: &str) -> Result<Vec<f32>, Error> {
        self.known_buffer(name)?;
        self.read(Storage::State, name)
    }

    /// Writes a buffer.
    ///
    /// # Errors
    /// A name that is not one, another number of elements.
    pub fn set_buffer(&mut self, name: &str, elements: &[f32]) -> Result<(), Error> {
        self.known_buffer(name)?;
        let ty = self.source_type(Storage::State, name).unwrap_or_else(|| Type::new(DType::F32, [elements.len()]));
        check("buffer", name, &ty, DType::F32, elements.len())?;
        self.write(Storage::State, name, elements)
    }

    fn known_buffer(&self, name: &str) -> Result<(), Error> {
        if self.buffer_names().any(|buffer| buffer == name) {
            return Ok(());
        }
        let available = listed(&self.buffer_names().collect::<Vec<_>>());
        Err(Error::UnknownName { kind: "buffer", name: name.to_string(), available })
    }

    /// Runs a step that was compiled by [`crate::Graph::compile_forward`].
    ///
    /// # Errors
    /// An input that a kernel refuses; a step with a loss.
    pub fn run_forward(&mut self) -> Result<(), Error> {
        if self.recipe.loss.is_some() {
            return Err(Error::NotCompiledFor("this step has a backward: use Step::run".to_string()));
        }
        Ok(self.loaded.micro(MICRO, 1.0, self.key)?)
    }

    /// Turns the key to the next run's.
    fn next_run(&mut self) {
        self.key[3] = self.key[3].wrapping_add(1);
    }

    /// Counts an update.
    fn next_update(&mut self) {
        self.updates_made = self.updates_made.saturating_add(1);
        (self.key[2], self.key[3]) = (self.key[2].wrapping_add(1), 0);
    }

    /// Writes what a run reads beside its inputs, for a run that is watched.
    pub(crate) fn prepare(&mut self) -> Result<(), Error> {
        Ok(self.loaded.prepare(1.0, self.key)?)
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
        self.write(Storage::Input, name, elements)
    }

    /// The elements of a value that was made readable by [`crate::Graph::output`], as of the last run; bf16 and f16 widened.
    ///
    /// # Errors
    /// A name that is not an output, elements that are no real numbers: those are read by [`Step::output_of`].
    pub fn output(&self, name: &str) -> Result<Vec<f32>, Error> {
        self.read_floats(self.known_output(name)?)
    }

    /// As [`Step::output`], in the dtype that the value has.
    ///
    /// # Errors
    /// A name that is not an output, elements of another dtype.
    pub fn output_of<T: Element>(&self, name: &str) -> Result<Vec<T>, Error> {
        let id = self.known_output(name)?;
        let ty = self.plan().graph.ty(id);
        check("output", name, ty, T::DTYPE, ty.shape.numel())?;
        let mut read = vec![T::zeroed(); ty.shape.numel()];
        self.loaded.read_output(MICRO, name, bytemuck::cast_slice_mut(&mut read))?;
        Ok(read)
    }

    fn known_output(&self, name: &str) -> Result<ValueId, Error> {
        let graph = &self.plan().graph;
        let Some(&id) = graph.outputs.iter().find(|&&id| graph.value(id).name == name) else {
            let names: Vec<&str> = graph.outputs.iter().map(|&id| graph.value(id).name.as_str()).collect();
            let available = listed(&names);
            return Err(Error::UnknownName { kind: "output", name: name.to_string(), available });
        };
        Ok(id)
    }

    /// An output of real numbers.
    fn read_floats(&self, id: ValueId) -> Result<Vec<f32>, Error> {
        let value = self.plan().graph.value(id);
        let widen: fn(&[u8]) -> Vec<f32> = match value.ty.dtype {
            DType::F32 => |bytes| bytes.as_chunks().0.iter().map(|&four| f32::from_ne_bytes(four)).collect(),
            DType::BF16 => |bytes| bytes.as_chunks().0.iter().map(|&two| bf16::from_ne_bytes(two).to_f32()).collect(),
            DType::F16 => |bytes| bytes.as_chunks().0.iter().map(|&two| f16::from_ne_bytes(two).to_f32()).collect(),
            _ => {
                let message = format!("output \"{}\" is {}: read it with Step::output_of", value.name, value.ty);
                return Err(Error::NotCompiledFor(message));
            }
        };
        let mut bytes = vec![0; value.ty.bytes()];
        self.loaded.read_output(MICRO, &value.name, &mut bytes)?;
        Ok(widen(&bytes))
    }

    /// The gradient of a parameter (summed over the runs since the last update) or of an input (of the last run).
    ///
    /// # Errors
    /// A name whose gradient was not asked for.
    pub fn gradient(&self, name: &str) -> Result<Vec<f32>, Error> {
        let gradient = self.recipe.trained.gradients.iter().find(|gradient| gradient.value == name);
        let Some(gradient) = gradient else {
            let names: Vec<&str> =
                self.recipe.trained.gradients.iter().map(|gradient| gradient.value.as_str()).collect();
            let available = listed(&names);
            return Err(Error::UnknownName { kind: "gradient", name: name.to_string(), available });
        };
        if let Some(state) = &gradient.state {
            return self.read(Storage::State, state);
        }
        self.read_floats(self.known_output(&gradient.made)?)
    }

    /// Names of the trained parameters, in the order they were made.
    pub fn parameter_names(&self) -> Vec<&str> {
        self.recipe.trained.parameters.iter().map(|parameter| parameter.name.as_str()).collect()
    }

    /// The elements of a trained parameter.
    ///
    /// # Errors
    /// A name that is not one.
    pub fn parameter(&self, name: &str) -> Result<Vec<f32>, Error> {
        self.known_parameter(name)?;
        self.read(Storage::State, name)
    }

    /// Writes a trained parameter.
    ///
    /// # Errors
    /// A name that is not one, another number of elements.
    pub fn set_parameter(&mut self, name: &str, elements: &[f32]) -> Result<(), Error> {
        self.known_parameter(name)?;
        let ty = self.source_type(Storage::State, name).unwrap_or_else(|| Type::new(DType::F32, [elements.len()]));
        check("parameter", name, &ty, DType::F32, elements.len())?;
        self.write(Storage::State, name, elements)?;
        Ok(refresh_working_copies(&self.recipe.trained.parameters, self.loaded.device_mut())?)
    }

    /// Takes the parameters over that another step trains, its buffers and its frozen weights, where this one has sources of
    /// their names: a step of [`crate::Graph::compile_forward`] evaluates or generates with what a training step has learnt. Returns how many.
    ///
    /// # Errors
    /// A source of the same name and another type.
    pub fn copy_parameters_from(&mut self, other: &Step) -> Result<usize, Error> {
        let theirs = other.recipe.trained.parameters.iter().map(|parameter| (Storage::State, parameter.name.as_str()));
        let frozen = other.plan().graph.values.iter().filter(|value| value.producer.is_none());
        let frozen =
            frozen.filter(|value| value.storage == Storage::Weight).map(|value| (Storage::Weight, value.name.as_str()));
        let buffers = other.buffer_names().map(|name| (Storage::State, name));
        let (mut copied, mut buffer) = (0, Vec::new());
        for (storage, name) in theirs.chain(buffers).chain(frozen) {
            let places = [Storage::State, Storage::Weight];
            let Some(at) = places.into_iter().find(|&at| self.loaded.device().source(at, name).is_some()) else {
                continue;
            };
            let (from, to) = (other.loaded.device(), self.loaded.device_mut());
            let (source, target) = (from.known(storage, name)?, to.known(at, name)?);
            let (given, ty) = (from.source_type(source).clone(), to.source_type(target).clone());
            if given != ty {
                let (kind, name, expected, given) = ("parameter", name.to_string(), ty.to_string(), given.to_string());
                return Err(Error::WrongElements { kind, name, expected, given });
            }
            copy(from, source, to, target, &mut buffer)?;
            copied += 1;
        }
        refresh_working_copies(&self.recipe.trained.parameters, self.loaded.device_mut())?;
        Ok(copied)
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
        self.write(Storage::Weight, name, elements)
    }

    pub(crate) fn known_parameter(&self, name: &str) -> Result<(), Error> {
        if self.recipe.trained.parameters.iter().any(|parameter| parameter.name == name) {
            return Ok(());
        }
        let available = listed(&self.parameter_names());
        Err(Error::UnknownName { kind: "trained parameter", name: name.to_string(), available })
    }

    /// Updates all parameters with the optimizer by the gradients summed so far, zeroes those, and returns their norm before
    /// clipping. Groups with a rate of their own take that.
    ///
    /// # Errors
    /// A step compiled without [`crate::Options::optimizer`], or without parameters.
    pub fn update(&mut self, learning_rate: f32) -> Result<f32, Error> {
        if self.recipe.trained.update.is_none() {
            let message = "no optimizer here: compile with Options::optimizer";
            return Err(Error::NotCompiledFor(message.to_string()));
        }
        let made = self.updates_made.saturating_add(1);
        self.write_group_rates(learning_rate)?;
        let norm = self.loaded.update(learning_rate, i32::try_from(made).unwrap_or(i32::MAX))?;
        self.next_update();
        Ok(norm)
    }

    /// Updates all parameters with an optimizer of your own, then zeroes the gradients. `apply` is called with the name of
    /// each parameter, its elements, and its gradient.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn update_with(&mut self, mut apply: impl FnMut(&str, &mut [f32], &[f32])) -> Result<(), Error> {
        for index in 0..self.recipe.trained.parameters.len() {
            let parameter = &self.recipe.trained.parameters[index];
            let (name, gradient) = (parameter.name.clone(), parameter.state(StateRole::Gradient));
            let gradient: Vec<f32> = self.read(Storage::State, &gradient)?;
            let mut elements: Vec<f32> = self.read(Storage::State, &name)?;
            apply(&name, &mut elements, &gradient);
            self.write(Storage::State, &name, &elements)?;
        }
        refresh_working_copies(&self.recipe.trained.parameters, self.loaded.device_mut())?;
        self.next_update();
        self.zero_gradients()
    }

    /// Forgets the gradients summed so far.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn zero_gradients(&mut self) -> Result<(), Error> {
        let names: Vec<String> = self.gradient_names().map(str::to_string).collect();
        let device = self.loaded.device_mut();
        for state in names {
            device.write_zeros(device.known(Storage::State, &state)?)?;
        }
        Ok(())
    }

    /// The policy it was compiled under.
    pub fn policy(&self) -> &CheckpointPolicy {
        &self.policy
    }

    /// The plan of forward and backward.
    pub fn plan(&self) -> &Plan {
        self.loaded.micro_plan(MICRO)
    }

    /// Every value that lives from forward to backward, with its type, bytes, layer, and the op that needs it.
    pub fn saved_residuals(&self) -> Vec<Residual> {
        self.plan().saved_residuals()
    }

    /// How often each op runs in one step, by the op's name.
    pub fn op_runs(&self) -> BTreeMap<&'static str, OpRuns> {
        let mut runs: BTreeMap<&'static str, OpRuns> = BTreeMap::new();
        let plan = self.plan();
        for step in &plan.steps {
            if let Action::Compute(op) = step.action {
                let node = plan.graph.node(op);
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
        let executor_bytes = self.recipe.options.device_options().profile().executor_bytes;
        MemoryReport::of(self.plan(), self.loaded.device().memory(), executor_bytes)
    }

    /// Writes the first elements of a parameter or weight, which `fill` makes piece by piece from an index on.
    pub(crate) fn fill_source(
        &mut self,
        storage: Storage,
        name: &str,
        fill: &dyn Fn(usize, &mut [f32]),
    ) -> Result<(), Error> {
        let device = self.loaded.device_mut();
        // A source that nothing reads was removed with the code that does not matter.
        let Some(source) = device.source(storage, name) else { return Ok(()) };
        let elements = device.source_type(source).shape.numel();
        let (mut piece, mut writer) = (vec![0.0; PIECE.min(elements)], SourceWriter::new(device, source));
        for first in (0..elements).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(elements - first)];
            fill(first, piece);
            writer.push(piece);
        }
        Ok(writer.finish()?)
    }

    pub(crate) fn write<T: Element>(&mut self, storage: Storage, name: &str, elements: &[T]) -> Result<(), Error> {
        let device = self.loaded.device_mut();
        Ok(device.write_all(device.known(storage, name)?, elements)?)
    }

    pub(crate) fn read(&self, storage: Storage, name: &str) -> Result<Vec<f32>, Error> {
        let device = self.loaded.device();
        Ok(device.read_all(device.known(storage, name)?)?)
    }

    pub(crate) fn program(&self) -> ProgramId {
        self.loaded.micro_program(MICRO)
    }

    pub(crate) fn device_mut(&mut self) -> &mut dyn Device {
        self.loaded.device_mut()
    }

    pub(crate) fn device(&self) -> &dyn Device {
        self.loaded.device()
    }

    pub(crate) fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    pub(crate) fn recipe_mut(&mut self) -> &mut Recipe {
        &mut self.recipe
    }

    pub(crate) fn loaded(&self) -> &LoadedStep {
        &self.loaded
    }

    pub(crate) fn loaded_mut(&mut self) -> &mut LoadedStep {
        &mut self.loaded
    }

    /// All its plans.
    pub(crate) fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.loaded.plans()
    }

    fn source_type(&self, storage: Storage, name: &str) -> Option<Type> {
        let found = self.sources_of(storage).find(|value| value.name == name);
        found.map(|value| value.ty.clone())
    }

    fn names(&self, storage: Storage) -> String {
        let ours = |name: &&str| *name != self.recipe.trained.dloss && ![RANDOM_KEY, TRAINED_TOKENS].contains(name);
        let names: BTreeSet<&str> = self.sources_of(storage).map(|value| value.name.as_str()).filter(ours).collect();
        listed(&names.into_iter().collect::<Vec<_>>())
    }

    /// What forward, backward and the evaluation read.
    fn sources_of(&self, storage: Storage) -> impl Iterator<Item = &Value> {
        let values =
            std::iter::once(self.plan()).chain(self.loaded.forward_plans()).flat_map(|plan| &*plan.graph.values);
        values.filter(move |value| value.producer.is_none() && value.storage == storage)
    }
}

/// Copies the bytes of a source to one of the same type on another device.
fn copy(
    from: &dyn Device,
    source: SourceId,
    to: &mut dyn Device,
    target: SourceId,
    buffer: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut writer = SourceWriter::new(to, target);
    from.read_pieces(source, buffer, &mut |piece| {
        writer.push(piece);
        Ok::<(), Error>(())
    })?;
    Ok(writer.finish()?)
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
