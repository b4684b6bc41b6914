//! Adapters: initialised, read from and written to PEFT's files.
//!
//! Invariant: a state `base_model.model.<module>.lora_A.weight` is PEFT's tensor of that name, unchanged.

use crate::load::floats;
use crate::precision::{parameter_name, refresh_working_copies, write_parameter};
use crate::{LoraConfig, Model, ModelError, Parameter, Targets};
use remat_formats::{AdapterConfig, ModelConfig, NamedTensor, SafetensorsFile, TargetModules, write_safetensors};
use remat_ir::{Graph, Type, Value};
use remat_plan::Executor;
use remat_tensor::{Philox, stream_of_name};
use std::path::Path;

const WEIGHTS: &str = "adapter_model.safetensors";
/// Files of an adapter's folder as they are written here.
pub const ADAPTER_FILES: &[&str] = &["adapter_config.json", WEIGHTS];
/// What PEFT puts before a module's name.
const PREFIX: &str = "base_model.model.";
/// Names of unmatched tensors that a message lists; the rest are counted.
const SHOWN_KEYS: usize = 8;

impl Model {
    /// Initialises adapters as PEFT does: A uniform in ±1/√in (Kaiming with a = √5), B zero. Each draws from a stream of
    /// its own name, so that adding a target changes no other.
    ///
    /// # Errors
    /// A state the executor does not have.
    pub fn init_adapter(
        &self,
        parameters: &[Parameter],
        seed: u64,
        executor: &mut dyn Executor,
    ) -> Result<(), ModelError> {
        for parameter in parameters.iter().filter(|parameter| parameter.name.ends_with(".lora_A.weight")) {
            let bound = 1.0 / (parameter.ty.shape.last() as f32).sqrt();
            let philox = Philox::new(seed, stream_of_name(&parameter.name));
            let target = executor.state_mut(&parameter.name)?;
            for (i, x) in floats(target.bytes).iter_mut().enumerate() {
                *x = (2.0 * philox.uniform(i as u64) - 1.0) * bound;
            }
        }
        refresh_working_copies(parameters, executor)
    }

    /// The adapter settings of a PEFT folder.
    ///
    /// # Errors
    /// A missing or malformed `adapter_config.json`, or settings that LoRA here does not cover.
    pub fn adapter_settings(&self, folder: &Path) -> Result<LoraConfig, ModelError> {
        let config = AdapterConfig::from_dir(folder)?;
        let refuse = |problem: &str| {
            Err(ModelError::Adapter {
                folder: folder.join("adapter_config.json").display().to_string(),
                problem: problem.to_string(),
            })
        };
        if config.peft_type != "LORA" {
            return refuse(&format!("peft_type is {}: only LORA adapters are supported", config.peft_type));
        }
        if let Some(key) = config.unsupported.first() {
            return refuse(&format!("{key} makes the adapter more than plain LoRA, which is not supported"));
        }
        if config.exclude_modules.is_some() {
            return refuse("exclude_modules is not supported; list what is adapted in target_modules instead");
        }
        if config.use_dora {
            return refuse("use_dora is true: DoRA is not supported; merge it into the base with PEFT first");
        }
        if config.bias != "none" {
            return refuse(&format!("bias is \"{}\": only \"none\" is supported", config.bias));
        }
        if !config.rank_pattern.is_empty() || !config.alpha_pattern.is_empty() {
            return refuse("rank_pattern and alpha_pattern are not supported: all adapters share one rank and alpha");
        }
        if !config.modules_to_save.is_empty() || config.layers_to_transform.is_some() {
            return refuse("modules_to_save and layers_to_transform are not supported");
        }
        if config.fan_in_fan_out != matches!(self.config, ModelConfig::Gpt2(_)) {
            return refuse(
                "fan_in_fan_out does not fit this base model: it is true for GPT-2 and false for the others",
            );
        }
        let targets = match config.target_modules {
            TargetModules::Names(names) => Targets::Names(names),
            TargetModules::Pattern(pattern) if pattern == "all-linear" => Targets::AllLinear,
            TargetModules::Pattern(pattern) => Targets::Pattern(pattern),
        };
        Ok(LoraConfig {
            rank: config.r,
            alpha: config.lora_alpha as f32,
            dropout: config.lora_dropout as f32,
            rank_stabilised: config.use_rslora,
            targets,
        })
    }

    /// Reads the adapter's weights into the executor's states. Every parameter must be in the file, and nothing else.
    ///
    /// # Errors
    /// A tensor that is missing, unexpected or of another shape.
    pub fn load_adapter(
        &self,
        folder: &Path,
        parameters: &[Parameter],
        executor: &mut dyn Executor,
    ) -> Result<(), ModelError> {
        let adapters: Vec<(&str, &Type)> = parameters.iter().map(|p| (p.name.as_str(), &p.ty)).collect();
        self.load_adapters(folder, &adapters, executor)
    }

    /// As [`Model::load_adapter`], for the adapters that `graph` names; without gradients there are no parameters.
    ///
    /// # Errors
    /// As [`Model::load_adapter`].
    pub fn load_adapter_of(&self, folder: &Path, graph: &Graph, executor: &mut dyn Executor) -> Result<(), ModelError> {
        let is_adapter = |value: &&Value| value.producer.is_none() && value.name.starts_with(PREFIX);
        let adapters = graph.values.iter().filter(is_adapter).map(|value| (parameter_name(&value.name), &value.ty));
        self.load_adapters(folder, &adapters.collect::<Vec<_>>(), executor)
    }

    fn load_adapters(
        &self,
        folder: &Path,
        adapters: &[(&str, &Type)],
        executor: &mut dyn Executor,
    ) -> Result<(), ModelError> {
        let path = folder.join(WEIGHTS);
        let file = SafetensorsFile::open(&path)?;
        let fail = |tensor: &str, problem: String| ModelError::Tensor {
            folder: path.display().to_string(),
            tensor: tensor.to_string(),
            problem,
        };
        // Keys that match nothing say most about what is wrong (another base, another prefix), so they come first.
        let matches = |name: &str| adapters.iter().any(|(wanted, _)| *wanted == name);
        let mut extra: Vec<&str> = file.names().filter(|name| !matches(name)).collect();
        if !extra.is_empty() {
            extra.sort_unstable();
            let example = adapters.iter().map(|(name, _)| *name).find(|name| file.tensor_info(name).is_none());
            return Err(unmatched(&path, &extra, file.names().count(), example));
        }
        for (name, ty) in adapters {
            let Some(info) = file.tensor_info(name) else {
                return Err(fail(name, "is missing: the adapter was made for another base model".into()));
            };
            if info.shape.dims() != ty.shape.dims() {
                let (found, expected) = (&info.shape, &ty.shape);
                return Err(fail(name, format!("has shape {found}, the base model needs {expected}")));
            }
        }
        for (name, _) in adapters {
            let read_f32 = |target: &mut [f32]| Ok(file.read_as_f32_into(name, target)?);
            write_parameter(name, executor, read_f32, |target| Ok(file.read_as_bf16_into(name, target)?))?;
        }
        Ok(())
    }

    /// Writes a PEFT adapter folder: `adapter_config.json` and `adapter_model.safetensors` (f32).
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_adapter(
        &self,
        folder: &Path,
        lora: &LoraConfig,
        parameters: &[Parameter],
        executor: &dyn Executor,
    ) -> Result<(), ModelError> {
        let targets = match &lora.targets {
            Targets::Pattern(pattern) => TargetModules::Pattern(pattern.clone()),
            Targets::Names(names) => TargetModules::Names(names.clone()),
            Targets::AllLinear => TargetModules::Names(kinds(&self.linear_names())),
        };
        let mut config = AdapterConfig::lora(lora.rank, f64::from(lora.alpha), targets);
        config.lora_dropout = f64::from(lora.dropout);
        config.use_rslora = lora.rank_stabilised;
        config.fan_in_fan_out = matches!(self.config, ModelConfig::Gpt2(_));
        config.base_model_name_or_path = Some(self.folder.display().to_string());
        config.write(folder)?;
        write_parameters(&folder.join(WEIGHTS), parameters, executor)
    }
}

/// Tensors of an adapter's file that belong to no target module: their names, and one that would have matched.
fn unmatched(path: &Path, extra: &[&str], of: usize, example: Option<&str>) -> ModelError {
    let mut names: Vec<String> = extra.iter().take(SHOWN_KEYS).map(|name| format!("\"{name}\"")).collect();
    if extra.len() > SHOWN_KEYS {
        names.push(format!("and {} more", extra.len() - SHOWN_KEYS));
    }
    let wanted = example.map_or(String::new(), |name| format!("; this base model would read \"{name}\""));
    let problem = format!(
        "{} of {of} tensors match no target module of this base model: {}{wanted}; the adapter was made for another base, \
         or its target_modules do not name them",
        extra.len(),
        names.join(", ")
    );
    ModelError::Adapter { folder: path.display().to_string(), problem }
}

/// Writes the states of parameters under their names, straight from the executor's memory.
pub(crate) fn write_parameters(
    path: &Path,
    parameters: &[Parameter],
    executor: &dyn Executor,
) -> Result<(), ModelError> {
    let mut tensors = Vec::with_capacity(parameters.len());
    for parameter in parameters {
        let view = executor.state(&parameter.name)?;
        let (dtype, shape) = (view.ty.dtype, &view.ty.shape);
        tensors.push(NamedTensor { name: &parameter.name, dtype, shape, bytes: view.bytes });
    }
    Ok(write_safetensors(path, &tensors, &[("format", "pt")])?)
}

/// The last components of module names, once each.
fn kinds(modules: &[String]) -> Vec<String> {
    let mut kinds: Vec<String> = modules.iter().filter_map(|m| m.rsplit('.').next()).map(str::to_string).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
