//! Adapters: which modules have one, how they start, and PEFT's folders of them.
//!
//! Invariants: a state `base_model.model.<module>.<tensor>` is PEFT's tensor of that name, unchanged; a target that matches
//! nothing is an error, never a run that trains less than was asked for. A kind of adapter is one file and its line in
//! `table`; look next at `lora`, and at `settings` for what is read of a folder.

mod adapter_start;
mod base_weights;
mod decomposition;
mod dora;
mod embedding;
mod expert_groups;
mod file_names;
mod layers;
mod lora;
mod origin;
mod outer_modules;
mod patterns;
mod selection;
mod settings;
mod start;
mod table;
mod targets;
mod trained_base;
mod trained_biases;
mod trained_tokens;
mod variant;
mod weight_reader;

pub use adapter_start::AdapterStart;
pub(crate) use base_weights::BaseWeights;
pub(crate) use dora::MAGNITUDE;
pub(crate) use embedding::HeadFactors;
pub(crate) use file_names::{FileNames, PREFIX};
pub use layers::Layers;
pub(crate) use outer_modules::{HEAD_MODULE, embedding_module};
pub use patterns::ModulePattern;
pub(crate) use selection::AdaptedModule;
pub use settings::AdapterSettings;
pub(crate) use settings::{check as check_settings, read as read_settings, to_peft};
pub(crate) use start::{init, refill};
pub(crate) use targets::Targetable;
pub use targets::Targets;
use trained_base::TrainedBase;
pub use trained_biases::TrainedBiases;
pub(crate) use trained_tokens::{TokenRows, TrainedTokens};
pub use variant::{LoraConfig, LoraVariant};

use crate::ModelError;
use crate::graph_builder::GraphBuilder;
use crate::precision::{write_parameter, write_parameters};
use half::{bf16, f16};
use remat_formats::{AdapterConfig, FormatsError, ModelConfig, SafetensorsFile};
use remat_ir::{Graph, IrError, Parameter, Storage, Type, Value, ValueId};
use remat_plan::Device;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
pub(crate) use variant::BaseLinear;
use variant::{AdaptedExperts, AdaptedLinear};

const WEIGHTS: &str = "adapter_model.safetensors";
/// Files of an adapter's folder as they are written here.
pub const ADAPTER_FILES: &[&str] = &["adapter_config.json", WEIGHTS];
/// Names of unmatched tensors that a message lists; the rest are counted.
const SHOWN_KEYS: usize = 8;

/// The adapters of one graph: the settings, the modules they apply to, and what of the base is trained beside them.
pub(crate) struct Adapters<'a> {
    config: Option<&'a LoraConfig>,
    modules: Vec<AdaptedModule>,
    /// Places in `modules`.
    by_name: BTreeMap<String, usize>,
    pub trained_base: TrainedBase,
    pub trained_tokens: TrainedTokens,
}

impl<'a> Adapters<'a> {
    /// Adapters for those linears of a base that the settings target; none without settings.
    ///
    /// # Errors
    /// Settings that name what is not there, or that do not go together.
    pub fn new(config: Option<&'a LoraConfig>, base: &ModelConfig) -> Result<Self, ModelError> {
        let Some(config) = config else {
            let (trained_base, trained_tokens) = (TrainedBase::none(base), TrainedTokens::default());
            let (modules, by_name) = (Vec::new(), BTreeMap::new());
            return Ok(Adapters { config: None, modules, by_name, trained_base, trained_tokens });
        };
        let targetable = Targetable::of(base);
        config.targets.check_names("targets", &targetable)?;
        let modules = config.modules(&targetable)?;
        let names = modules.iter().map(|module| module.name.clone()).collect();
        let trained_base = TrainedBase::of(base, config, names)?;
        expert_groups::check(config, &modules, base)?;
        embedding::check(base, config, &modules, &trained_base)?;
        let trained_tokens = TrainedTokens::of_settings(base, config)?;
        let by_name = modules.iter().enumerate().map(|(index, module)| (module.name.clone(), index)).collect();
        Ok(Adapters { config: Some(config), modules, by_name, trained_base, trained_tokens })
    }

    /// The embeddings `y` of `ids` with the adapter of the embedding, if there is one; sizes are [V, D].
    pub fn emit_embedding(
        &self,
        g: &mut GraphBuilder,
        path: &str,
        embedded: (ValueId, ValueId),
        sizes: [usize; 2],
    ) -> Result<ValueId, IrError> {
        embedding::emit_embedding(g, &self.modules, path, embedded, sizes)
    }

    /// What the adapter of the head adds to the logits of `hidden`, if there is one; sizes are [V, D].
    pub fn emit_head(
        &self,
        g: &mut GraphBuilder,
        hidden: ValueId,
        sizes: [usize; 2],
    ) -> Result<Option<HeadFactors>, IrError> {
        let Some(config) = self.config else { return Ok(None) };
        embedding::emit_head(g, (config, &self.modules), hidden, sizes)
    }

    /// The result of a linear, with its adapter if it has one.
    pub fn emit(
        &self,
        b: &mut GraphBuilder,
        path: &str,
        (x, base): (ValueId, BaseLinear),
        (fan_in, fan_out): (usize, usize),
    ) -> Result<ValueId, IrError> {
        let (Some(config), Some(&AdaptedModule { rank, scale, .. })) = (self.config, self.module(path)) else {
            return base.emit(b, path, x);
        };
        let (prefix, dropout) = (format!("{PREFIX}{path}"), config.dropout);
        let is_origin_taken = config.start.takes_from_base();
        let linear = AdaptedLinear { path, prefix, x, base, is_origin_taken, rank, scale, dropout, fan_in, fan_out };
        config.variant.0.emit(b, &linear)
    }

    /// The result of one linear of all experts with their adapters, if they have any.
    pub fn emit_of_experts(
        &self,
        b: &mut GraphBuilder,
        (path, modules): (&str, &[String]),
        (ends, x, y): (ValueId, ValueId, ValueId),
        (fan_in, fan_out): (usize, usize),
    ) -> Result<ValueId, IrError> {
        // `check` has seen that all of them are like the first, and that there is a form for experts.
        let first = modules.first().and_then(|module| self.module(module));
        let (Some(config), Some(&AdaptedModule { rank, scale, .. })) = (self.config, first) else { return Ok(y) };
        let Some(emit) = config.variant.0.of_experts() else { return Ok(y) };
        let (prefixes, dropout) = (modules.iter().map(|module| format!("{PREFIX}{module}")).collect(), config.dropout);
        emit(b, &AdaptedExperts { path, prefixes, ends, x, y, rank, scale, dropout, fan_in, fan_out })
    }

    fn module(&self, name: &str) -> Option<&AdaptedModule> {
        self.by_name.get(name).map(|&index| &self.modules[index])
    }
}

/// What `graph` reads of an adapter's folder, with types: adapters, and states of the base that are trained beside them.
/// Without gradients there are no parameters to ask.
pub(crate) fn of_graph(graph: &Graph) -> Vec<(&str, &Type)> {
    let is_trained = |value: &&Value| {
        let is_state = value.storage == Storage::State;
        is_state && value.role.is_some_and(|role| role.is_adapter_parameter() || role.is_base_parameter())
    };
    let adapters = graph.values.iter().filter(is_trained);
    adapters.filter_map(|value| Some((value.parameter()?, &value.ty))).collect()
}

/// Reads the weights of these adapters into the device's states. Each must be in the file, and nothing else.
pub(crate) fn load(
    (base, base_weights): (&ModelConfig, &dyn BaseWeights),
    folder: &Path,
    adapters: &[(&str, &Type)],
    device: &mut dyn Device,
) -> Result<(), ModelError> {
    let names = FileNames::of(base, &read_settings(base, folder)?.config)?;
    let weights = AdapterWeights::open(folder, &names, adapters)?;
    weights.check_copies(&names, base_weights)?;
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
    /// The file's tensors by the names of states.
    stored: BTreeMap<String, String>,
}

impl AdapterWeights {
    /// Opens the file of a PEFT folder and checks that it holds these states, each of its shape, and nothing else.
    pub(crate) fn open(folder: &Path, names: &FileNames, adapters: &[(&str, &Type)]) -> Result<Self, ModelError> {
        let path = folder.join(WEIGHTS);
        refuse_pickle(folder)?;
        let file = SafetensorsFile::open(&path)?;
        let fail = |tensor: &str, problem: String| ModelError::Tensor {
            folder: path.display().to_string(),
            tensor: tensor.to_string(),
            problem,
        };
        let stored = stored_names(&file).map_err(|(tensor, problem)| fail(&tensor, problem))?;
        let wanted: Vec<_> = adapters.iter().map(|(state, ty)| (*state, *ty, names.of_state(state))).collect();
        // Keys that match nothing say most about what is wrong (another base, another prefix), so they come first.
        let is_copy = |name: &str| names.copies().iter().any(|(_, copy)| copy == name);
        let matches =
            |name: &str| is_copy(name) || wanted.iter().any(|(.., names)| names.iter().any(|wanted| wanted == name));
        let extra: Vec<&str> =
            stored.iter().filter(|(name, _)| !matches(name)).map(|(_, tensor)| tensor.as_str()).collect();
        if !extra.is_empty() {
            let mut names = wanted.iter().flat_map(|(.., names)| names);
            let example = names.find(|name| !stored.contains_key(*name)).map(String::as_str);
            return Err(unmatched(&path, &extra, stored.len(), example));
        }
        let mut by_state = BTreeMap::new();
        for (state, ty, names) in wanted {
            let tensor = names.iter().find_map(|name| stored.get(name));
            let Some((tensor, info)) = tensor.and_then(|tensor| Some((tensor, file.tensor_info(tensor)?))) else {
                let name = names.first().map_or(state, String::as_str);
                return Err(fail(name, "is missing: the adapter was made for another base model".into()));
            };
            if info.shape.dims() != ty.shape.dims() {
                let (found, expected) = (&info.shape, &ty.shape);
                return Err(fail(tensor, format!("has shape {found}, the base model needs {expected}")));
            }
            by_state.insert(state.to_string(), tensor.clone());
        }
        let copies =
            names.copies().iter().filter_map(|(weight, copy)| Some((weight.clone(), stored.get(copy)?.clone())));
        by_state.extend(copies);
        Ok(AdapterWeights { file, stored: by_state })
    }

    /// Refuses copies of the base's embedding and head that are not what this base has: the adapter was made on another.
    ///
    /// # Errors
    /// Such a copy; a read that fails.
    pub(crate) fn check_copies(&self, names: &FileNames, base: &dyn BaseWeights) -> Result<(), ModelError> {
        for (weight, _) in names.copies().iter().filter(|(weight, _)| self.stored.contains_key(weight)) {
            // A copy may be rounded as the model was that PEFT had; nothing is held of either.
            let (mut of_copy, mut elements) = (DefaultHasher::new(), 0);
            self.stream(weight, &mut |piece| {
                piece.iter().for_each(|x| x.to_bits().hash(&mut of_copy));
                elements += piece.len();
                Ok(())
            })?;
            let roundings: [fn(f32) -> f32; 3] = [|x| x, |x| bf16::from_f32(x).to_f32(), |x| f16::from_f32(x).to_f32()];
            let (mut of_base, mut at) = (roundings.map(|_| DefaultHasher::new()), 0);
            base.read_weight(weight, elements, &mut |piece| {
                for (hasher, rounded) in of_base.iter_mut().zip(roundings) {
                    piece.iter().for_each(|&x| rounded(x).to_bits().hash(hasher));
                }
                at += piece.len();
                Ok(())
            })?;
            if at != elements || of_base.iter().all(|hasher| hasher.finish() != of_copy.finish()) {
                let problem = "is a copy of another base's weight: give the base that the adapter was made on";
                return Err(ModelError::Tensor {
                    folder: self.file.path().display().to_string(),
                    tensor: self.tensor_of(weight).to_string(),
                    problem: problem.to_string(),
                });
            }
        }
        Ok(())
    }

    /// The file's name of a tensor that was checked.
    fn tensor_of(&self, name: &str) -> &str {
        &self.stored[name]
    }

    /// Hands a tensor that was checked to a sink, in pieces.
    ///
    /// # Errors
    /// As [`AdapterWeights::read_into`]; what the sink returns.
    pub(crate) fn stream(
        &self,
        name: &str,
        sink: &mut dyn FnMut(&[f32]) -> Result<(), FormatsError>,
    ) -> Result<(), ModelError> {
        Ok(self.file.read_chunks_as_f32(self.tensor_of(name), sink)?)
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
        // In memory the norms are the weight of a module of their own.
        let name = match name.strip_suffix(".weight") {
            Some(norms) if norms.ends_with(&format!(".{MAGNITUDE}")) => norms.to_string(),
            _ => name,
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

/// Writes a PEFT folder: settings and weights (f32), for the base as it is stored whatever adapters started with.
pub(crate) fn save(
    folder: &Path,
    (settings, start): (AdapterConfig, AdapterStart),
    names: &FileNames,
    parameters: &[Parameter],
    device: &dyn Device,
) -> Result<(), ModelError> {
    if start.takes_from_base() {
        origin::of_file(settings).write(folder)?;
        return origin::write(&folder.join(WEIGHTS), names, parameters, device);
    }
    settings.write(folder)?;
    let of_file = parameters.iter().flat_map(|parameter| {
        names.of_state(&parameter.name).into_iter().map(move |name| (name, parameter)).collect::<Vec<_>>()
    });
    write_parameters(&folder.join(WEIGHTS), &of_file.collect::<Vec<_>>(), device)
}
