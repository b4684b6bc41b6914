//! Adapters: which modules have one, how they start, and PEFT's folders of them.
//!
//! Invariants: a state `base_model.model.<module>.<tensor>` is PEFT's tensor of that name, unchanged; a target that matches
//! nothing is an error, never a run that trains less than was asked for. A kind of adapter is one file and its line in
//! [`VARIANTS`]; look next at `lora`.

mod lora;
mod targets;
mod variant;

pub use targets::Targets;
pub use variant::{LoraConfig, LoraVariant};

use crate::ModelError;
use crate::graph_builder::GraphBuilder;
use crate::precision::{refresh_working_copies, write_parameter, write_parameters};
use remat_formats::{AdapterConfig, ModelConfig, SafetensorsFile, TargetModules};
use remat_ir::{Graph, IrError, Parameter, ParameterKind, SourceRole, Storage, Type, Value, ValueId};
use remat_plan::{Device, SourceWriter};
use remat_tensor::{Philox, stream_of_name};
use std::path::Path;
use targets::{kinds, no_target};
use variant::{AdaptedLinear, Start};

/// Every kind of adapter.
const VARIANTS: [LoraVariant; 1] = [lora::LORA];

const WEIGHTS: &str = "adapter_model.safetensors";
/// Files of an adapter's folder as they are written here.
pub const ADAPTER_FILES: &[&str] = &["adapter_config.json", WEIGHTS];
/// What PEFT puts before a module's name.
const PREFIX: &str = "base_model.model.";
/// Elements that are initialised at a time.
const PIECE: usize = 1 << 14;
/// Names of unmatched tensors that a message lists; the rest are counted.
const SHOWN_KEYS: usize = 8;

/// The adapters of one graph: the settings and the modules they apply to.
pub(crate) struct Adapters<'a> {
    config: Option<&'a LoraConfig>,
    modules: Vec<String>,
    available: Vec<String>,
}

impl<'a> Adapters<'a> {
    /// Adapters for those of `linears` (full module names) that the settings target; none without settings.
    pub fn new(config: Option<&'a LoraConfig>, linears: Vec<String>) -> Result<Self, ModelError> {
        let Some(config) = config else {
            return Ok(Adapters { config: None, modules: Vec::new(), available: linears });
        };
        config.check()?;
        let modules = config.targets.among(&linears)?;
        Ok(Adapters { config: Some(config), modules, available: linears })
    }

    /// The result of a linear with its adapter, if it has one.
    pub fn emit(
        &self,
        b: &mut GraphBuilder,
        path: &str,
        (x, y): (ValueId, ValueId),
        (fan_in, fan_out): (usize, usize),
    ) -> Result<ValueId, IrError> {
        match self.config {
            Some(config) if self.modules.iter().any(|target| target == path) => {
                let linear = AdaptedLinear { path, prefix: format!("{PREFIX}{path}"), x, y, fan_in, fan_out };
                config.variant.0.emit(b, config, &linear)
            }
            _ => Ok(y),
        }
    }

    /// Refuses targets that matched nothing.
    pub fn all_matched(&self) -> Result<(), ModelError> {
        match self.config {
            Some(config) if self.modules.is_empty() => Err(no_target(&config.targets.to_string(), &self.available)),
            _ => Ok(()),
        }
    }
}

/// What an adapter's tensor starts with; `None` for a parameter of the base.
fn start_of(kind: ParameterKind) -> Option<Start> {
    let mut tensors = VARIANTS.iter().flat_map(|variant| variant.0.tensors());
    tensors.find(|tensor| tensor.kind == kind).map(|tensor| tensor.start)
}

/// Initialises adapters as PEFT does. Each tensor draws from a stream of its own name, so that adding a target changes no
/// other; what starts at zero is left as the device has it.
pub(crate) fn init(parameters: &[Parameter], seed: u64, device: &mut dyn Device) -> Result<(), ModelError> {
    for parameter in parameters.iter().filter(|parameter| start_of(parameter.kind) == Some(Start::KaimingUniform)) {
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

/// The settings of a PEFT folder, for a base of this configuration.
pub(crate) fn read_settings(base: &ModelConfig, folder: &Path) -> Result<LoraConfig, ModelError> {
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
    let Some(&variant) = VARIANTS.iter().find(|variant| variant.0.is_meant_by(&config)) else {
        return refuse("use_dora is true: DoRA is not supported; merge it into the base with PEFT first");
    };
    if config.bias != "none" {
        return refuse(&format!("bias is \"{}\": only \"none\" is supported", config.bias));
    }
    if !config.rank_pattern.is_empty() || !config.alpha_pattern.is_empty() {
        return refuse("rank_pattern and alpha_pattern are not supported: all adapters share one rank and alpha");
    }
    if !config.modules_to_save.is_empty() || config.layers_to_transform.is_some() {
        return refuse("modules_to_save and layers_to_transform are not supported");
    }
    if config.fan_in_fan_out != base.block.weights_in_out {
        return refuse("fan_in_fan_out does not fit this base model: it is true for GPT-2 and false for the others");
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
        variant,
    })
}

/// The adapters that `graph` names, with their types; without gradients there are no parameters to ask.
pub(crate) fn of_graph(graph: &Graph) -> Vec<(&str, &Type)> {
    let is_adapter = |value: &&Value| value.role.is_some_and(SourceRole::is_adapter_parameter);
    let adapters = graph.values.iter().filter(is_adapter);
    adapters.filter_map(|value| Some((value.parameter()?, &value.ty))).collect()
}

/// Reads the weights of these adapters into the device's states. Each must be in the file, and nothing else.
pub(crate) fn load(folder: &Path, adapters: &[(&str, &Type)], device: &mut dyn Device) -> Result<(), ModelError> {
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

/// Writes a PEFT folder for a base of this configuration that lies in `base_folder`: settings and weights (f32).
pub(crate) fn save(
    (base, base_folder): (&ModelConfig, &Path),
    folder: &Path,
    lora: &LoraConfig,
    parameters: &[Parameter],
    device: &dyn Device,
) -> Result<(), ModelError> {
    let targets = match &lora.targets {
        Targets::Pattern(pattern) => TargetModules::Pattern(pattern.clone()),
        Targets::Names(names) => TargetModules::Names(names.clone()),
        Targets::AllLinear => TargetModules::Names(kinds(&base.linear_names())),
    };
    let config = AdapterConfig {
        fan_in_fan_out: base.block.weights_in_out,
        base_model_name_or_path: Some(base_folder.display().to_string()),
        ..lora.variant.0.to_peft(lora, targets)
    };
    config.write(folder)?;
    write_parameters(&folder.join(WEIGHTS), parameters, device)
}
