//! Adapters: which modules have one, how they start, and PEFT's folders of them.
//!
//! Invariants: a state `base_model.model.<module>.<tensor>` is PEFT's tensor of that name, unchanged; a target that matches
//! nothing is an error, never a run that trains less than was asked for. A kind of adapter is one file and its line in
//! `table`; look next at `lora`, and at `settings` for what is read of a folder.

mod lora;
mod settings;
mod table;
mod targets;
mod variant;

pub use settings::AdapterSettings;
pub(crate) use settings::{read as read_settings, to_peft};
pub use targets::Targets;
pub use variant::{LoraConfig, LoraVariant};

use crate::ModelError;
use crate::graph_builder::GraphBuilder;
use crate::precision::{refresh_working_copies, write_parameter, write_parameters};
use remat_formats::{AdapterConfig, SafetensorsFile};
use remat_ir::{Graph, IrError, Parameter, ParameterKind, SourceRole, Storage, Type, Value, ValueId};
use remat_plan::{Device, SourceWriter};
use remat_tensor::{Philox, stream_of_name};
use std::collections::BTreeMap;
use std::path::Path;
use table::VARIANTS;
use targets::no_target;
use variant::{AdaptedLinear, Start};

const WEIGHTS: &str = "adapter_model.safetensors";
/// Files of an adapter's folder as they are written here.
pub const ADAPTER_FILES: &[&str] = &["adapter_config.json", WEIGHTS];
/// What PEFT puts before a module's name.
pub(crate) const PREFIX: &str = "base_model.model.";
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

/// The adapters that `graph` names, with their types; without gradients there are no parameters to ask.
pub(crate) fn of_graph(graph: &Graph) -> Vec<(&str, &Type)> {
    let is_adapter = |value: &&Value| value.role.is_some_and(SourceRole::is_adapter_parameter);
    let adapters = graph.values.iter().filter(is_adapter);
    adapters.filter_map(|value| Some((value.parameter()?, &value.ty))).collect()
}

/// Reads the weights of these adapters into the device's states. Each must be in the file, and nothing else.
pub(crate) fn load(folder: &Path, adapters: &[(&str, &Type)], device: &mut dyn Device) -> Result<(), ModelError> {
    let weights = AdapterWeights::open(folder, adapters)?;
    for (name, _) in adapters {
        write_parameter(name, device, &mut |sink| {
            Ok(weights.file.read_chunks_as_f32(weights.tensor_of(name), &mut |piece| {
                sink(piece);
                Ok(())
            })?)
        })?;
    }
    Ok(())
}

/// The file of an adapter's weights.
pub(crate) struct AdapterWeights {
    file: SafetensorsFile,
    /// Tensors by PEFT's names.
    stored: BTreeMap<String, String>,
}

impl AdapterWeights {
    /// Opens the file of a PEFT folder and checks that it holds these tensors, each of its shape, and nothing else.
    pub(crate) fn open(folder: &Path, adapters: &[(&str, &Type)]) -> Result<Self, ModelError> {
        let path = folder.join(WEIGHTS);
        refuse_pickle(folder)?;
        let file = SafetensorsFile::open(&path)?;
        let fail = |tensor: &str, problem: String| ModelError::Tensor {
            folder: path.display().to_string(),
            tensor: tensor.to_string(),
            problem,
        };
        let stored = stored_names(&file).map_err(|(tensor, problem)| fail(&tensor, problem))?;
        // Keys that match nothing say most about what is wrong (another base, another prefix), so they come first.
        let matches = |name: &str| adapters.iter().any(|(wanted, _)| *wanted == name);
        let extra: Vec<&str> =
            stored.iter().filter(|(name, _)| !matches(name)).map(|(_, tensor)| tensor.as_str()).collect();
        if !extra.is_empty() {
            let example = adapters.iter().map(|(name, _)| *name).find(|name| !stored.contains_key(*name));
            return Err(unmatched(&path, &extra, stored.len(), example));
        }
        for (name, ty) in adapters {
            let Some(info) = stored.get(*name).and_then(|tensor| file.tensor_info(tensor)) else {
                return Err(fail(name, "is missing: the adapter was made for another base model".into()));
            };
            if info.shape.dims() != ty.shape.dims() {
                let (found, expected) = (&info.shape, &ty.shape);
                return Err(fail(name, format!("has shape {found}, the base model needs {expected}")));
            }
        }
        Ok(AdapterWeights { file, stored })
    }

    /// The file's name of a tensor that was checked.
    fn tensor_of(&self, name: &str) -> &str {
        &self.stored[name]
    }

    /// Reads a tensor that was checked.
    ///
    /// # Errors
    /// A read that fails; a number that is infinite or none.
    pub(crate) fn read_into(&self, name: &str, target: &mut [f32]) -> Result<(), ModelError> {
        Ok(self.file.read_as_f32_into(self.tensor_of(name), target)?)
    }
}

/// The tensors of an adapter's file by PEFT's names. Some programs write the states of a model as they are in memory, where
/// the adapter's own name stands before the tensor's last part: `lora_A.default.weight`.
fn stored_names(file: &SafetensorsFile) -> Result<BTreeMap<String, String>, (String, String)> {
    let mut stored: BTreeMap<String, String> = BTreeMap::new();
    for tensor in file.names() {
        let name = match tensor.strip_suffix(".default.weight") {
            Some(module) => format!("{module}.weight"),
            None => tensor.strip_suffix(".default").unwrap_or(tensor).to_string(),
        };
        if let Some(other) = stored.insert(name, tensor.to_string()) {
            return Err((tensor.to_string(), format!("and \"{other}\" are one tensor twice: keep one of them")));
        }
    }
    Ok(stored)
}

/// Says what a folder holds that has its weights as a pickle.
fn refuse_pickle(folder: &Path) -> Result<(), ModelError> {
    if folder.join(WEIGHTS).exists() {
        return Ok(());
    }
    let pickles = ["adapter_model.bin", "adapter_model.pt", "adapter_model.pth", "pytorch_model.bin"];
    let Some(pickle) = pickles.iter().find(|name| folder.join(name).exists()) else { return Ok(()) };
    let problem = format!(
        "is a pickle: reading one can run any program that is in it, so it is not read; convert it where you trust it: \
         python -c \"import torch, safetensors.torch as s; s.save_file(torch.load('{pickle}', weights_only=True), \
         '{WEIGHTS}')\""
    );
    Err(ModelError::Adapter { folder: folder.join(pickle).display().to_string(), problem })
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

/// Writes a PEFT folder: settings and weights (f32).
pub(crate) fn save(
    folder: &Path,
    settings: &AdapterConfig,
    parameters: &[Parameter],
    device: &dyn Device,
) -> Result<(), ModelError> {
    settings.write(folder)?;
    write_parameters(&folder.join(WEIGHTS), parameters, device)
}
