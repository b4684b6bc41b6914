//! Adapters: initialised, read from and written to PEFT's files.
//!
//! Invariant: a state `base_model.model.<module>.lora_A.weight` is PEFT's tensor of that name, unchanged.

use crate::precision::{refresh_working_copies, write_parameter};
use crate::{LoraConfig, Model, ModelError, Targets};
use remat_formats::{AdapterConfig, ModelConfig, SafetensorsFile, TargetModules, TensorSpec, write_safetensors_from};
use remat_ir::{Graph, Parameter, StateRole, Storage, Type, Value};
use remat_plan::{Device, SourceWriter};
use remat_tensor::{Philox, stream_of_name};
use std::path::Path;

const WEIGHTS: &str = "adapter_model.safetensors";
/// Files of an adapter's folder as they are written here.
pub const ADAPTER_FILES: &[&str] = &["adapter_config.json", WEIGHTS];
/// What PEFT puts before a module's name.
const PREFIX: &str = "base_model.model.";
/// Elements that are initialised at a time.
const PIECE: usize = 1 << 14;
/// Names of unmatched tensors that a message lists; the rest are counted.
const SHOWN_KEYS: usize = 8;

impl Model {
    /// Initialises adapters as PEFT does: A uniform in ±1/√in (Kaiming with a = √5), B zero. Each draws from a stream of
    /// its own name, so that adding a target changes no other.
    ///
    /// # Errors
    /// A state the device does not have.
    pub fn init_adapter(&self, parameters: &[Parameter], seed: u64, device: &mut dyn Device) -> Result<(), ModelError> {
        for parameter in parameters.iter().filter(|parameter| parameter.name.ends_with(".lora_A.weight")) {
            let bound = 1.0 / (parameter.ty.shape.last() as f32).sqrt();
            let philox = Philox::new(seed, stream_of_name(&parameter.name));
            let state = device.known(Storage::State, &parameter.name)?;
            let mut writer = SourceWriter::new(device, state);
            let mut piece = Vec::with_capacity(PIECE);
            for first in (0..parameter.ty.shape.numel()).step_by(PIECE) {
                let end = (first + PIECE).min(parameter.ty.shape.numel());
                piece.clear();
                piece.extend((first..end).map(|i| (2.0 * philox.uniform(i as u64) - 1.0) * bound));
                writer.push(&piece);
            }
            writer.finish()?;
        }
        refresh_working_copies(parameters, device)
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

    /// Reads the adapter's weights into the device's states. Every parameter must be in the file, and nothing else.
    ///
    /// # Errors
    /// A tensor that is missing, unexpected or of another shape.
    pub fn load_adapter(
        &self,
        folder: &Path,
        parameters: &[Parameter],
        device: &mut dyn Device,
    ) -> Result<(), ModelError> {
        let adapters: Vec<(&str, &Type)> = parameters.iter().map(|p| (p.name.as_str(), &p.ty)).collect();
        self.load_adapters(folder, &adapters, device)
    }

    /// As [`Model::load_adapter`], for the adapters that `graph` names; without gradients there are no parameters.
    ///
    /// # Errors
    /// As [`Model::load_adapter`].
    pub fn load_adapter_of(&self, folder: &Path, graph: &Graph, device: &mut dyn Device) -> Result<(), ModelError> {
        let is_adapter = |value: &&Value| value.producer.is_none() && value.name.starts_with(PREFIX);
        let adapters = graph.values.iter().filter(is_adapter).map(|value| (StateRole::of(&value.name).1, &value.ty));
        self.load_adapters(folder, &adapters.collect::<Vec<_>>(), device)
    }

    fn load_adapters(
        &self,
        folder: &Path,
        adapters: &[(&str, &Type)],
        device: &mut dyn Device,
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
            write_parameter(name, device, &mut |sink| {
                Ok(file.read_chunks_as_f32(name, &mut |piece| {
                    sink(piece);
                    Ok(())
                })?)
            })?;
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
        device: &dyn Device,
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
        write_parameters(&folder.join(WEIGHTS), parameters, device)
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

/// Writes the states of parameters under their names, piece by piece from the device's memory.
pub(crate) fn write_parameters(path: &Path, parameters: &[Parameter], device: &dyn Device) -> Result<(), ModelError> {
    let specs: Vec<TensorSpec<'_>> = parameters
        .iter()
        .map(|Parameter { name, ty, .. }| TensorSpec { name, dtype: ty.dtype, shape: &ty.shape })
        .collect();
    let mut buffer = Vec::new();
    write_safetensors_from(path, &specs, &[("format", "pt")], &mut |index, sink| {
        let state = device.known(Storage::State, &parameters[index].name)?;
        device.read_pieces(state, &mut buffer, &mut |piece| Ok::<(), ModelError>(sink(piece)?))
    })
}

/// The last components of module names, once each.
fn kinds(modules: &[String]) -> Vec<String> {
    let mut kinds: Vec<String> = modules.iter().filter_map(|m| m.rsplit('.').next()).map(str::to_string).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
