//! Pretrained decoders under the names that users of transformers know.
//!
//! Invariant: checkpointing is a property of compiled steps: it changes no parameter, no name and no saved file. Look
//! next at `remat_model` for the families and at [`crate::Step`] for what [`Model::training_step`] gives.

use crate::groups::{Grouped, grouped};
use crate::recipe::Recipe;
use crate::step::Step;
use crate::{CheckpointPolicy, Error, Options};
use remat_formats::{FormatsError, ModelConfig, Rotary};
use remat_ir::{Parameter, ParameterKind, Storage};
use remat_model::{BatchShape, CacheShape, LoraConfig, Method, Precision, refresh_working_copies};
use remat_step::TrainingStep;
use std::path::Path;

/// A pretrained model, or the shape of one.
///
/// ```
/// use remat::{AdamWSettings, BatchShape, CheckpointPolicy, LoraConfig, Method, Model, Options};
///
/// # fn main() -> Result<(), remat::Error> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/parity/llama-gqa-tied");
/// let mut model = Model::from_pretrained(folder)?;
/// let footprint = model.memory_footprint()?;
/// let lora = LoraConfig { rank: 4, alpha: 8.0, ..LoraConfig::default() };
/// let method = Method::Lora(lora);
/// let shape = BatchShape { batch: 1, seq_len: 16 };
/// let options = || Options::new().adamw(AdamWSettings::default());
///
/// assert!(!model.is_gradient_checkpointing());
/// let mut plain = model.training_step(&method, shape, options())?;
/// model.gradient_checkpointing_enable(CheckpointPolicy::full());
/// assert!(model.is_gradient_checkpointing());
/// let mut checkpointed = model.training_step(&method, shape, options())?;
/// model.gradient_checkpointing_disable();
///
/// // Activations fall, the footprint stays, and so does every bit of the loss.
/// assert!(checkpointed.memory().activation_bytes < plain.memory().activation_bytes);
/// assert_eq!(model.memory_footprint()?, footprint);
/// let ids: Vec<i32> = (1..17).collect();
/// for step in [&mut plain, &mut checkpointed] {
///     step.set_input("ids", &ids)?;
///     step.set_input("targets", &ids)?;
/// }
/// assert_eq!(plain.run()?, checkpointed.run()?);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Model {
    source: Origin,
    policy: Option<CheckpointPolicy>,
}

#[derive(Debug)]
enum Origin {
    Folder(Box<remat_model::Model>),
    Shape(Box<ModelConfig>, Precision),
}

impl Model {
    /// Opens a model folder as Hugging Face writes it: `config.json` and safetensors. Weights are read when a step is made.
    ///
    /// # Errors
    /// A missing or malformed file, an unsupported architecture.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let model = remat_model::Model::open(folder.as_ref())?;
        Ok(Model { source: Origin::Folder(Box::new(model)), policy: None })
    }

    /// The shape of a published model, without weights: for its memory, not for training.
    ///
    /// ```
    /// use remat::{Model, Precision};
    /// # fn main() -> Result<(), remat::Error> {
    /// let model = Model::from_preset("gpt2-medium")?.in_precision(Precision::Bf16);
    /// assert_eq!(model.memory_footprint()?, 709_646_336);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A name that is not known; the message lists those that are.
    pub fn from_preset(name: &str) -> Result<Self, Error> {
        let config = remat_model::preset(name)?;
        Ok(Model { source: Origin::Shape(Box::new(config), Precision::F32), policy: None })
    }

    /// The model in another precision than f32.
    pub fn in_precision(self, precision: Precision) -> Self {
        let source = match self.source {
            Origin::Folder(model) => Origin::Folder(Box::new(model.in_precision(precision))),
            Origin::Shape(config, _) => Origin::Shape(config, precision),
        };
        Model { source, ..self }
    }

    /// Steps made from now on recompute what `policy` says, unless their options have a policy. Enabling twice is enabling
    /// once, with the later policy.
    pub fn gradient_checkpointing_enable(&mut self, policy: CheckpointPolicy) {
        self.policy = Some(policy);
    }

    /// Steps made from now on keep everything that backward reads, unless their options have a policy.
    pub fn gradient_checkpointing_disable(&mut self) {
        self.policy = None;
    }

    /// Whether a policy is enabled.
    pub fn is_gradient_checkpointing(&self) -> bool {
        self.policy.is_some()
    }

    /// Bytes of parameters and buffers, as `get_memory_footprint()` of transformers counts them: each parameter once (a
    /// tied head is the embedding), in the model's precision. Of the families here only those with rotary positions
    /// have buffers: `inv_freq` and `original_inv_freq`, f32, of half of a head's rotated elements each.
    ///
    /// Gradient checkpointing does not change this number, which is no defect of either: it saves *activations*, which
    /// exist while a step runs and are not part of the model. Ask [`Step::memory`] for those.
    ///
    /// # Errors
    /// A configuration from which no graph can be built.
    pub fn memory_footprint(&self) -> Result<usize, Error> {
        let shape = BatchShape { batch: 1, seq_len: 1 };
        let (graph, config) = match &self.source {
            Origin::Folder(model) => (model.evaluation(None, shape)?.graph, model.config()),
            Origin::Shape(config, precision) => {
                let training = remat_model::training(config, *precision, &Method::Full, shape)?;
                let bytes =
                    |parameter: &Parameter| precision.dtype().bytes_of(&parameter.ty.shape).unwrap_or(usize::MAX);
                let parameters: usize = training.parameters.iter().map(bytes).sum();
                return Ok(parameters + buffer_bytes(config));
            }
        };
        // The rotary table is a weight of the graph and a buffer there: counted as buffer.
        let rotary = rotary_bytes(config);
        let weights = graph.values.iter().filter(|value| value.storage == Storage::Weight);
        Ok(weights.map(|value| value.ty.bytes()).sum::<usize>() - rotary + buffer_bytes(config))
    }

    /// Compiles a training step and loads the weights. Adapters start as PEFT's do, so that the first loss is the base's.
    /// Inputs are `ids`, `targets` (−100 where a token takes no part), `positions` and `segment_start`, i32 [B, T]; the
    /// last two hold one sequence per row until they are written. The loss is the sum over the tokens that take part:
    /// run with [`Step::run_scaled`] and 1/tokens.
    ///
    /// # Errors
    /// A model without weights, targets that match nothing, a tensor that does not fit, a policy that cannot be met.
    pub fn training_step(&self, method: &Method, shape: BatchShape, options: Options) -> Result<Step, Error> {
        let Origin::Folder(model) = &self.source else {
            let message = "a preset has a shape but no weights: open a folder with Model::from_pretrained";
            return Err(Error::NotCompiledFor(message.to_string()));
        };
        if options.gradients_of.is_some() {
            let message = "a pretrained model trains what its method says: leave gradients_of out";
            return Err(Error::NotCompiledFor(message.to_string()));
        }
        if options.evaluation.is_some() {
            let message = "a pretrained model has no graph of yours beside it: leave the evaluation out";
            return Err(Error::NotCompiledFor(message.to_string()));
        }
        if model.precision() == Precision::Bf16 && options.optimizer.is_none() {
            let message = "in bf16 the optimizer holds the f32 parameters: compile with Options::optimizer";
            return Err(Error::NotCompiledFor(message.to_string()));
        }
        let seed = options.seed;
        let policy = options.policy.clone().or(self.policy.clone()).unwrap_or_else(CheckpointPolicy::none);
        let training = model.training(method, shape)?;
        let named: Vec<(&str, &[usize])> =
            training.parameters.iter().map(|parameter| (parameter.name.as_str(), parameter.ty.shape.dims())).collect();
        let Grouped { groups, frozen } = grouped(&options.groups, &named, options.optimizer.is_some())?;
        if !frozen.is_empty() {
            let message =
                "a pretrained model trains what its method says: leave frozen groups out, or choose other targets";
            return Err(Error::NotCompiledFor(message.to_string()));
        }
        let TrainingStep { graph, trained } = TrainingStep::new(training, options.rule(groups).as_ref())?;
        let loss = Some(trained.loss.clone());
        let cache = |capacity| CacheShape { batch: 1, capacity, chunk: 1 };
        let generation =
            options.generation.map(|capacity| model.generation(Some(method), cache(capacity))).transpose()?;
        let forward = generation.map(|graphs| graphs.decode);
        let mut step = Step::load(Recipe { graph, loss, trained, forward, weights_are_own: false, options }, policy)?;
        let (graph, parameters) = (step.plan().graph.clone(), step.recipe().trained.parameters.clone());
        model.load_weights(&graph, step.device_mut())?;
        if let Some(lora) = method.adapter() {
            model.init_adapter(lora, &parameters, seed, step.device_mut())?;
        }
        let positions: Vec<i32> = (0..shape.batch).flat_map(|_| 0..shape.seq_len as i32).collect();
        if graph.find("positions").is_some() {
            step.set_input("positions", &positions)?;
        }
        Ok(step)
    }

    /// The settings of a PEFT folder's adapter, for a step that [`Model::load_adapter`] fills.
    ///
    /// # Errors
    /// A model without weights, a folder without an adapter or with one that does not fit this model.
    pub fn adapter_config(&self, folder: impl AsRef<Path>) -> Result<LoraConfig, Error> {
        Ok(self.weights("adapters")?.adapter_settings(folder.as_ref())?.config)
    }

    /// Reads the adapter of a PEFT folder into a step that was made with its [`Model::adapter_config`]; moments and gradients
    /// stay as they are.
    ///
    /// # Errors
    /// A model without weights, a tensor that is missing, unexpected or of another shape.
    pub fn load_adapter(&self, step: &mut Step, folder: impl AsRef<Path>) -> Result<(), Error> {
        let parameters = step.recipe().trained.parameters.clone();
        self.weights("adapters")?.load_adapter(folder.as_ref(), &parameters, step.device_mut())?;
        Ok(refresh_working_copies(&parameters, step.device_mut())?)
    }

    /// Writes the model that a step of [`Method::Full`] has trained as a new folder, which transformers and
    /// [`Model::from_pretrained`] load: weights in f32, configuration and tokenizer.
    ///
    /// # Errors
    /// A model without weights, a step that trains adapters, a folder that exists, a file that cannot be written.
    pub fn save_model(&self, step: &Step, folder: impl AsRef<Path>) -> Result<(), Error> {
        let (model, folder) = (self.weights("weights")?, folder.as_ref());
        let parameters = &step.recipe().trained.parameters;
        if parameters.iter().any(|parameter| parameter.kind != ParameterKind::Base) {
            let message = "this step trains an adapter: write it with Model::save_adapter";
            return Err(Error::NotCompiledFor(message.to_string()));
        }
        if folder.symlink_metadata().is_ok() {
            let message = format!("{}: exists; choose another folder, or remove it yourself", folder.display());
            return Err(Error::NotCompiledFor(message));
        }
        std::fs::create_dir_all(folder).map_err(FormatsError::not_written(folder, "create the folder"))?;
        Ok(model.save_full(folder, parameters, step.device())?)
    }

    fn weights(&self, what: &str) -> Result<&remat_model::Model, Error> {
        match &self.source {
            Origin::Folder(model) => Ok(model),
            Origin::Shape(..) => Err(Error::NotCompiledFor(format!("a preset has no {what}: open a folder"))),
        }
    }

    /// Writes the adapters of a step as a PEFT folder.
    ///
    /// # Errors
    /// A model without weights, a file that cannot be written.
    pub fn save_adapter(&self, step: &Step, lora: &LoraConfig, folder: impl AsRef<Path>) -> Result<(), Error> {
        let model = self.weights("adapters")?;
        Ok(model.save_adapter(folder.as_ref(), lora, &step.recipe().trained.parameters, step.device())?)
    }
}

/// Buffers of a model there: transformers registers `inv_freq` and `original_inv_freq`.
fn buffer_bytes(config: &ModelConfig) -> usize {
    2 * rotary_bytes(config)
}

/// Rotary frequencies: a table, and one more where layers with a window have their own.
fn rotary_bytes(config: &ModelConfig) -> usize {
    let tables = |rotary: &Rotary| 1 + usize::from(rotary.local_theta.is_some() && config.has_window());
    config.rotary().map_or(0, |rotary| 4 * (rotary.dims / 2) * tables(rotary))
}
