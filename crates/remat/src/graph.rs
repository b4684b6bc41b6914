//! The graph of a model under construction: named sources, scopes, and checkpoint regions.
//!
//! Invariants: names are unique and do not depend on whether a layer is a region, so that checkpointing changes no
//! parameter's name; a body that fails leaves the graph usable. Look next at `layers` for the ops as methods and at
//! [`crate::Step`] for what a graph compiles to.

use crate::Error;
use remat_ir::{Builder, Custom, CustomOp, Op, RANDOM_KEY, StateRole, Storage, TRAINED_TOKENS, Type, ValueId};
use remat_tensor::{DType, Philox, stream_of_name};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells the tensors of one graph from those of another.
static GRAPHS: AtomicU64 = AtomicU64::new(0);

/// A value of a [`Graph`]: cheap to copy, without data of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tensor {
    graph: u64,
    pub(crate) id: ValueId,
}

/// What a parameter holds before training.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one: the weight of a norm.
    Ones,
    /// Normal with this standard deviation.
    Normal(f32),
    /// Uniform between minus and plus this bound.
    Uniform(f32),
    /// Uniform in ±1/√in, with `in` the last axis: torch.nn.Linear's.
    Linear,
    /// These elements, row-major.
    Values(Vec<f32>),
}

/// A parameter, frozen weight or buffer with its first elements.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub name: String,
    pub id: ValueId,
    pub ty: Type,
    pub init: Init,
    pub trained: bool,
    pub storage: Storage,
}

/// A model under construction.
#[derive(Debug)]
pub struct Graph {
    pub(crate) b: Builder,
    number: u64,
    /// The graphs that this one was cloned from, with how many values each had then.
    ancestors: Vec<(u64, u32)>,
    scope: Vec<String>,
    node_names: HashMap<String, u32>,
    source_names: HashSet<String>,
    /// What training adds to parameters, by name, each with its parameter.
    state_names: HashMap<String, String>,
    pub(crate) sources: Vec<Source>,
    pub(crate) rng: Option<ValueId>,
    /// Buffers, each with its value after the updates that the graph has so far.
    buffers: HashMap<ValueId, ValueId>,
    training: bool,
}

impl Clone for Graph {
    /// A graph of its own, to be compiled in another way or continued differently. It takes the tensors that this one has made
    /// so far, and none that either makes from now on is the other's.
    fn clone(&self) -> Self {
        let mut ancestors = self.ancestors.clone();
        ancestors.push((self.number, self.b.graph().values.len() as u32));
        Graph {
            b: self.b.clone(),
            number: GRAPHS.fetch_add(1, Ordering::Relaxed),
            ancestors,
            scope: self.scope.clone(),
            node_names: self.node_names.clone(),
            source_names: self.source_names.clone(),
            state_names: self.state_names.clone(),
            sources: self.sources.clone(),
            rng: self.rng,
            buffers: self.buffers.clone(),
            training: self.training,
        }
    }
}

impl Default for Graph {
    fn default() -> Self {
        Graph::new()
    }
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Graph {
            b: Builder::new(),
            number: GRAPHS.fetch_add(1, Ordering::Relaxed),
            ancestors: Vec::new(),
            scope: Vec::new(),
            node_names: HashMap::new(),
            source_names: HashSet::new(),
            state_names: HashMap::new(),
            sources: Vec::new(),
            rng: None,
            buffers: HashMap::new(),
            training: true,
        }
    }

    /// An empty graph of a model as it is used and not trained, as after `model.eval()` of PyTorch: one function makes a model
    /// in either, with the same names. Nothing is dropped, neither by dropout nor in attention, and batch norm uses its running
    /// statistics.
    pub fn evaluation() -> Self {
        Graph { training: false, ..Graph::new() }
    }

    /// Whether it is of a model in training: true unless it was made by [`Graph::evaluation`].
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// The key of random ops, u32 [4], which is another in each run: the last operand of a custom op that draws by it. It can be
    /// read and set by [`crate::Step::random_key`] and [`crate::Step::set_random_key`].
    pub fn random_key(&mut self) -> Tensor {
        self.rng()
    }

    /// Whether a value or state has this name.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.source_names.contains(name) || self.node_names.contains_key(name) || self.state_names.contains_key(name)
    }

    /// A value that is written before each run.
    ///
    /// # Errors
    /// A name that exists, a shape without elements.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Result<Tensor, Error> {
        let (name, ty) = self.new_source("input", name, dtype, shape)?;
        let id = self.b.input(&name, ty);
        Ok(self.tensor(id))
    }

    /// A trained f32 parameter, named `<scope>.<name>`.
    ///
    /// # Errors
    /// A name that exists, a shape without elements, initial elements of another number.
    pub fn parameter(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, Error> {
        self.source(name, shape, init, true)
    }

    /// A frozen f32 weight, named `<scope>.<name>`: no gradient, no optimizer state.
    ///
    /// # Errors
    /// As [`Graph::parameter`].
    pub fn frozen(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, Error> {
        self.source(name, shape, init, false)
    }

    /// An f32 buffer, named `<scope>.<name>`: kept with the model beside its parameters and not trained; ops of training update
    /// it as they run, such as [`Graph::batch_norm`] its running statistics. An evaluation by [`crate::Options::evaluation`]
    /// declares the same buffers and reads the step's; [`crate::Step::copy_parameters_from`] copies them elsewhere,
    /// [`crate::Step::save`] writes them.
    ///
    /// # Errors
    /// As [`Graph::parameter`].
    pub fn buffer(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, Error> {
        let (name, ty) = self.new_source("buffer", name, DType::F32, shape)?;
        check_init("buffer", &name, &ty, &init)?;
        let id = self.b.buffer(&name, ty.clone());
        self.buffers.insert(id, id);
        self.sources.push(Source { name, id, ty, init, trained: false, storage: Storage::State });
        Ok(self.tensor(id))
    }

    fn source(&mut self, name: &str, shape: &[usize], init: Init, trained: bool) -> Result<Tensor, Error> {
        let kind = if trained { "parameter" } else { "weight" };
        let (name, ty) = self.new_source(kind, name, DType::F32, shape)?;
        check_init(kind, &name, &ty, &init)?;
        if trained {
            self.reserve_states(kind, &name)?;
        }
        let id = if trained { self.b.state(&name, ty.clone()) } else { self.b.weight(&name, ty.clone()) };
        let storage = if trained { Storage::State } else { Storage::Weight };
        self.sources.push(Source { name, id, ty, init, trained, storage });
        Ok(self.tensor(id))
    }

    /// The present value of what may be a buffer.
    pub(crate) fn buffer_now(&self, x: Tensor) -> Result<Tensor, Error> {
        let id = self.id(x, "buffer")?;
        Ok(self.tensor(self.buffers.get(&id).copied().unwrap_or(id)))
    }

    /// Whether it was made by [`Graph::buffer`].
    pub(crate) fn is_buffer(&self, x: Tensor) -> Result<bool, Error> {
        Ok(self.buffers.contains_key(&self.id(x, "buffer")?))
    }

    /// Lets later readers of a buffer read its updated value.
    pub(crate) fn set_buffer_now(&mut self, buffer: Tensor, value: Tensor) -> Result<(), Error> {
        let (buffer, value) = (self.id(buffer, "buffer")?, self.id(value, "buffer")?);
        self.buffers.insert(buffer, value);
        Ok(())
    }

    /// Whether the graph has an op that updates this buffer.
    pub(crate) fn updates(&self, buffer: ValueId) -> bool {
        self.buffers.get(&buffer).is_some_and(|&now| now != buffer)
    }

    fn new_source(
        &mut self,
        kind: &'static str,
        name: &str,
        dtype: DType,
        shape: &[usize],
    ) -> Result<(String, Type), Error> {
        let name = self.path(name);
        let ty = Type::new(dtype, shape);
        ty.check().map_err(|fault| Error::WrongElements {
            kind,
            name: name.clone(),
            expected: "to have one or more axes of at least 1".to_string(),
            given: format!("a type that {fault}"),
        })?;
        if OF_TRAINING.contains(&name.as_str()) {
            return Err(Error::DuplicateName { kind: "value of the training step", name });
        }
        let taken = |name: &String| self.source_names.contains(name) || self.node_names.contains_key(name);
        if taken(&name) {
            return Err(Error::DuplicateName { kind, name });
        }
        if let Some(parameter) = self.state_names.get(&name) {
            let (parameter, state) = (parameter.clone(), name.clone());
            return Err(Error::NameOfState { kind, name, parameter, state });
        }
        self.source_names.insert(name.clone());
        Ok((name, ty))
    }

    /// Keeps the names that training gives to what it adds to a parameter.
    fn reserve_states(&mut self, kind: &'static str, parameter: &str) -> Result<(), Error> {
        for state in StateRole::ADDED.map(|role| role.name(parameter)) {
            if self.source_names.contains(&state) || self.node_names.contains_key(&state) {
                let parameter = parameter.to_string();
                return Err(Error::NameOfState { kind, name: parameter.clone(), parameter, state });
            }
            self.state_names.insert(state, parameter.to_string());
        }
        Ok(())
    }

    /// Names what `body` makes `<name>.…`.
    pub fn scope<T>(&mut self, name: &str, body: impl FnOnce(&mut Graph) -> T) -> T {
        self.scope.push(name.to_string());
        let result = body(self);
        self.scope.pop();
        result
    }

    /// Runs `body` as a checkpoint region: what it computes need not live until backward, but can be computed again from
    /// what enters it. Which values are in fact kept is the choice of the [`crate::CheckpointPolicy`] that the step is compiled
    /// with. Regions nest, and each is a level: the inner ones are computed again from what enters them. Anything can enter and
    /// leave them, and whatever `body` captures is captured. Names are those that [`Graph::scope`] gives.
    ///
    /// ```
    /// use remat::{CheckpointPolicy, DType, Graph, Init, Options};
    ///
    /// # fn main() -> Result<(), remat::Error> {
    /// let mut g = Graph::new();
    /// let x = g.input("x", DType::F32, &[4, 8])?;
    /// let classes = g.input("classes", DType::I32, &[4])?;
    /// // Two layers in one region, each a region of its own; one value goes in, two come out.
    /// let (h, gate) = g.checkpoint("block", |g| {
    ///     let gate = g.checkpoint("gate", |g| g.dense("fc", x, 8))?;
    ///     let h = g.checkpoint("up", |g| {
    ///         let up = g.dense("fc", x, 8)?;
    ///         g.gelu(up)
    ///     })?;
    ///     Ok::<_, remat::Error>((h, gate))
    /// })?;
    /// let h = g.add(h, gate)?;
    /// let head = g.parameter("head", &[2, 8], Init::Linear)?;
    /// let loss = g.cross_entropy(h, head, classes)?;
    /// let step = g.compile(loss, Options::new().policy(CheckpointPolicy::full()))?;
    /// assert!(step.parameter_names().contains(&"block.up.fc.weight"));
    /// # Ok(()) }
    /// ```
    pub fn checkpoint<T>(&mut self, name: &str, body: impl FnOnce(&mut Graph) -> T) -> T {
        self.scope.push(name.to_string());
        let path = self.scope.join(".");
        self.b.enter_region(&path);
        let result = body(self);
        self.b.leave_region();
        self.scope.pop();
        result
    }

    /// Gives a value a name that policies can refer to, as `jax.ad_checkpoint.checkpoint_name` does. The value's own name
    /// stays, and so does the value: ops that would be fused across it are not. Naming it again replaces the name.
    ///
    /// # Errors
    /// A tensor of another graph.
    pub fn checkpoint_name(&mut self, x: Tensor, name: &str) -> Result<Tensor, Error> {
        let id = self.id(x, "checkpoint_name")?;
        self.b.name_for_policies(id, name);
        Ok(x)
    }

    /// Applies any op, under the name `<scope>.<name>` (with a number behind it if that exists). Results come in the op's
    /// order.
    ///
    /// # Errors
    /// Operands that do not fit, a tensor of another graph.
    pub fn op(&mut self, name: &str, op: impl Into<Op>, operands: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        let name = self.unique_node_name(name);
        self.op_named(&name, op, operands)
    }

    /// Applies an op of your own, under the name of its definition. Its kernel is given by [`crate::Options::kernel`].
    ///
    /// # Errors
    /// As [`Graph::op`].
    pub fn custom(
        &mut self,
        definition: &Arc<dyn CustomOp>,
        attributes: &str,
        operands: &[Tensor],
    ) -> Result<Vec<Tensor>, Error> {
        self.op(definition.name(), Custom::new(definition.clone(), attributes), operands)
    }

    /// Applies an op whose full name is known to be free.
    pub(crate) fn op_named(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        operands: &[Tensor],
    ) -> Result<Vec<Tensor>, Error> {
        let operands: Vec<ValueId> = operands.iter().map(|&x| self.id(x, name)).collect::<Result<_, _>>()?;
        let results = self.b.op(name, op, &operands)?;
        Ok(results.into_iter().map(|id| self.tensor(id)).collect())
    }

    /// Applies an op and returns its first result.
    pub(crate) fn op1(&mut self, name: &str, op: impl Into<Op>, operands: &[Tensor]) -> Result<Tensor, Error> {
        Ok(self.op(name, op, operands)?[0])
    }

    /// Makes a value readable after a run, by [`crate::Step::output`].
    ///
    /// # Errors
    /// A tensor of another graph.
    pub fn output(&mut self, x: Tensor) -> Result<(), Error> {
        let id = self.id(x, "output")?;
        self.b.output(id);
        Ok(())
    }

    /// The type of a tensor.
    ///
    /// # Errors
    /// A tensor of another graph.
    pub fn ty(&self, x: Tensor) -> Result<&Type, Error> {
        Ok(self.b.ty(self.id(x, "ty")?))
    }

    /// The name of a tensor.
    ///
    /// # Errors
    /// A tensor of another graph.
    pub fn name(&self, x: Tensor) -> Result<&str, Error> {
        Ok(&self.b.graph().value(self.id(x, "name")?).name)
    }

    pub(crate) fn id(&self, x: Tensor, place: &str) -> Result<ValueId, Error> {
        let inherited = |&(number, values): &(u64, u32)| number == x.graph && x.id.0 < values;
        if x.graph == self.number || self.ancestors.iter().any(inherited) {
            Ok(x.id)
        } else {
            Err(Error::ForeignTensor { place: place.to_string() })
        }
    }

    fn tensor(&self, id: ValueId) -> Tensor {
        Tensor { graph: self.number, id }
    }

    fn path(&self, name: &str) -> String {
        if self.scope.is_empty() { name.to_string() } else { format!("{}.{name}", self.scope.join(".")) }
    }

    /// A node's full name, free and stable: random ops draw their stream from it.
    pub(crate) fn unique_node_name(&mut self, name: &str) -> String {
        let path = self.path(name);
        loop {
            let count = self.node_names.entry(path.clone()).or_insert(0);
            *count += 1;
            let candidate = if *count == 1 { path.clone() } else { format!("{path}_{count}") };
            // A source's name is taken, too, and a state's: values are told apart by name.
            let other = candidate != path && self.node_names.contains_key(&candidate);
            let of_source = self.source_names.contains(&candidate) || self.state_names.contains_key(&candidate);
            if !other && !of_source && !OF_TRAINING.contains(&candidate.as_str()) {
                self.node_names.entry(candidate.clone()).or_insert(1);
                return candidate;
            }
        }
    }

    /// The input that random ops read: seed low, seed high, step, micro-batch.
    pub(crate) fn rng(&mut self) -> Tensor {
        let id = match self.rng {
            Some(id) => id,
            None => self.b.random_key(),
        };
        self.rng = Some(id);
        self.tensor(id)
    }
}

/// Refuses initial elements of another number than the type has.
fn check_init(kind: &'static str, name: &str, ty: &Type, init: &Init) -> Result<(), Error> {
    let Init::Values(values) = init else { return Ok(()) };
    if values.len() == ty.shape.numel() {
        return Ok(());
    }
    let (name, given) = (name.to_string(), format!("{} initial elements", values.len()));
    Err(Error::WrongElements { kind, name, expected: ty.to_string(), given })
}

/// Name of the input that holds the cotangent of the loss.
pub(crate) const DLOSS: &str = "dloss";

/// Names of what a training step adds to a graph, beside the states of parameters.
const OF_TRAINING: [&str; 7] = ["lr", "step", "grad_norm", "clip_scale", DLOSS, RANDOM_KEY, TRAINED_TOKENS];

impl Init {
    /// The elements from `first` on of a parameter of this name and type. Each name has its own stream, so that adding a
    /// parameter changes no other.
    pub(crate) fn fill(&self, name: &str, ty: &Type, seed: u64, first: usize, target: &mut [f32]) {
        let philox = Philox::new(seed, stream_of_name(name));
        let uniform = |i: usize| 2.0 * philox.uniform(i as u64) - 1.0;
        let each = |target: &mut [f32], f: &dyn Fn(usize) -> f32| {
            target.iter_mut().zip(first..).for_each(|(x, i)| *x = f(i));
        };
        match self {
            Init::Zeros => target.fill(0.0),
            Init::Ones => target.fill(1.0),
            Init::Normal(deviation) => each(target, &|i| philox.normal(i as u64) * deviation),
            Init::Uniform(bound) => each(target, &|i| uniform(i) * bound),
            Init::Linear => {
                let bound = 1.0 / (ty.shape.last() as f32).sqrt();
                each(target, &|i| uniform(i) * bound);
            }
            Init::Values(values) => target.copy_from_slice(&values[first..first + target.len()]),
        }
    }
}
