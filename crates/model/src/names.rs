//! Under which names a folder's files hold a model's parameters, and whether its head is the embedding: both as transformers 5
//! finds them (`core_model_loading.rename_source_key`, `PreTrainedModel.tie_weights`).
//!
//! A tensor is a parameter's if their names are equal, or are once the prefix of the base model (`model.`, `transformer.`) is
//! taken away from the tensor's or put before it, name by name: files may mix them. Beyond transformers, names of modules
//! that wrap a model in training (`module.`, `_orig_mod.` …) count for nothing. Invariant: of several tensors that are one
//! parameter's, the first by name is read; what is read by nothing is known, so that it can be told.

use crate::build;
use crate::model_builder::{Base, BatchShape};
use crate::stored::StoredQuantised;
use crate::{ModelError, Precision};
use remat_formats::{ModelConfig, ModelFiles, edit_distance, weight_of_part};
use remat_ir::{SourceRole, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Modules that wrap a model or a part of it in training: DDP's, torch.compile's, FSDP's, activation checkpointing's.
const WRAPPERS: [&str; 4] = ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// Ends of names of what older files hold although it is made anew from the configuration: masks, positions, frequencies.
const REMADE: [&str; 7] = [
    "rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
    ".crossattention.bias",
    "position_ids",
];

/// Names that a note or message lists.
const SHOWN: usize = 5;
/// Of how many tensors the nearest names are looked for, and how long names may be for that.
const MOST_COMPARED: usize = 20_000;
const LONGEST_COMPARED: usize = 200;

/// The tensors of a folder by the parameters they are.
#[derive(Debug)]
pub(crate) struct TensorNames {
    tensors: BTreeMap<String, String>,
    /// Tensors that are no parameter's, but for those that are made anew.
    unread: Vec<String>,
    /// The head's weight.
    head: String,
    /// Tensors with a row for each token that have more of them than the files: how many rows the files have.
    grown: BTreeMap<String, usize>,
}

impl TensorNames {
    /// Of the files of a model with this configuration.
    pub fn of(config: &ModelConfig, files: &ModelFiles) -> Result<Self, ModelError> {
        // The head may be in the files although the configuration ties it.
        let parameters = parameters(&ModelConfig { tie_word_embeddings: false, ..config.clone() })?;
        let prefix = config.block.names.outer;
        let head = config.head_weight();
        let (mut tensors, mut unread) = (BTreeMap::new(), Vec::new());
        for tensor in files.names() {
            let owner = weight_of_part(tensor).filter(|weight| files.tensor_info(weight).is_some());
            match parameter_of(owner.as_deref().unwrap_or(tensor), [prefix, &head], &parameters) {
                // Parts are found by the name of their weight.
                Some(_) if owner.is_some() => {}
                Some(parameter) if !tensors.contains_key(&parameter) => {
                    tensors.insert(parameter, tensor.to_string());
                }
                None if REMADE.iter().any(|end| tensor.ends_with(end)) => {}
                _ => unread.push(tensor.to_string()),
            }
        }
        Ok(TensorNames { tensors, unread, head, grown: BTreeMap::new() })
    }

    /// The tensor of a parameter.
    pub fn tensor_of(&self, parameter: &str) -> Option<&str> {
        self.tensors.get(parameter).map(String::as_str)
    }

    /// Lets these parameters have more rows than the `rows` of the files.
    pub fn grow(&mut self, parameters: impl IntoIterator<Item = String>, rows: usize) {
        let tensors = parameters.into_iter().filter_map(|name| self.tensors.get(&name).cloned());
        let grown: Vec<String> = tensors.collect();
        self.grown.extend(grown.into_iter().map(|tensor| (tensor, rows)));
    }

    /// The rows that the files have of a tensor, where it has more.
    pub fn rows_of_grown(&self, tensor: &str) -> Option<usize> {
        self.grown.get(tensor).copied()
    }

    /// Ties the head to the embedding where the configuration says so and the files do not say otherwise: only one of them is
    /// there, which is both then, or both are equal. Returns the configuration that holds, and a note where it is another.
    pub fn tie(
        &mut self,
        config: ModelConfig,
        files: &ModelFiles,
    ) -> Result<(ModelConfig, Option<String>), ModelError> {
        if !config.tie_word_embeddings {
            return Ok((config, None));
        }
        let (embedding, head) = (config.embedding_weight(), config.head_weight());
        match (self.tensors.get(&embedding), self.tensors.get(&head)) {
            (Some(embedding), Some(head)) if !files.are_the_same(embedding, head)? => {
                let note = format!(
                    "{}: config.json ties the head to the embedding, but the files hold {embedding:?} and {head:?} with \
                     different values: as in transformers, they are not tied; set tie_word_embeddings to false there",
                    files.folder().display()
                );
                Ok((ModelConfig { tie_word_embeddings: false, ..config }, Some(note)))
            }
            (None, Some(head)) => {
                let head = head.clone();
                self.tensors.insert(embedding, head);
                Ok((config, None))
            }
            _ => Ok((config, None)),
        }
    }

    /// What the files hold that nothing reads or that is not what one might think, each once.
    pub fn notes(&self, linears: usize, quantised: usize, files: &ModelFiles) -> Vec<String> {
        let folder = files.folder().display();
        let mut notes = Vec::new();
        if !self.unread.is_empty() {
            let (count, listed) = (self.unread.len(), listed(&self.unread));
            let are = if count == 1 { "tensor of the files is" } else { "tensors of the files are" };
            notes.push(format!("{folder}: {count} {are} not read, for this model has no such parameter: {listed}"));
        }
        let (adapter, others): (Vec<String>, Vec<String>) =
            files.unread_files().into_iter().partition(|name| name.starts_with("adapter_"));
        if !others.is_empty() {
            notes.push(format!("{folder}: not read, for the weights are in other files: {}", listed(&others)));
        }
        if !adapter.is_empty() {
            let name = listed(&adapter);
            notes.push(format!("{folder}: an adapter lies beside the model and is not applied: {name}"));
        }
        if quantised > 0 && quantised < linears {
            let left = linears - quantised;
            notes.push(format!("{folder}: {left} of {linears} linears are not quantised in the files, and stay so"));
        }
        notes
    }

    /// What to say of a parameter that no tensor is: which names are nearest to it.
    pub fn missing(&self, parameter: &str, files: &ModelFiles) -> String {
        let compared = files.names().filter(|name| name.len() <= LONGEST_COMPARED).take(MOST_COMPARED);
        let mut nearest: Vec<(usize, &str)> = compared.map(|name| (edit_distance(parameter, name), name)).collect();
        nearest.sort_unstable();
        let nearest: Vec<String> = nearest.into_iter().take(3).map(|(_, name)| format!("{name:?}")).collect();
        let held = match files.names().count() {
            0 => "the files hold no tensor".to_string(),
            count => format!("the files hold {count} tensors, the nearest by name {}", nearest.join(", ")),
        };
        let remedy = match parameter {
            head if head == self.head => "if the head is the embedding, set tie_word_embeddings to true in config.json",
            _ => "they are incomplete or belong to another config.json",
        };
        format!("is missing: {held}; {remedy}")
    }
}

/// The names of all parameters.
fn parameters(config: &ModelConfig) -> Result<BTreeSet<String>, ModelError> {
    let base = Base { config, precision: Precision::F32, stored: &StoredQuantised::default(), noise: 0.0 };
    let graph = build::evaluation(base, None, BatchShape { batch: 1, seq_len: 1 })?.graph;
    let is_parameter = |value: &Value| value.role.is_some_and(SourceRole::is_base_parameter);
    Ok(graph.values.into_iter().filter(is_parameter).map(|value| value.name).collect())
}

/// The parameter that a tensor of this name is.
fn parameter_of(tensor: &str, [prefix, head]: [&str; 2], parameters: &BTreeSet<String>) -> Option<String> {
    let plain: Vec<&str> = tensor.split('.').filter(|module| !WRAPPERS.contains(module)).collect();
    // Whatever a family calls its head, transformers 5 finds it under this name, too.
    let plain = if plain == ["lm_head", "weight"] { head.to_string() } else { plain.join(".") };
    let inner = plain.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
    let inner = inner.filter(|inner| parameters.contains(*inner)).map(str::to_string);
    let outer = || Some(format!("{prefix}.{plain}")).filter(|outer| parameters.contains(outer));
    let itself = || Some(plain.clone()).filter(|plain| parameters.contains(plain));
    inner.or_else(outer).or_else(itself)
}

/// The first names of a list, in quotes, and how many more there are.
fn listed(names: &[String]) -> String {
    let cut = |name: &String| name.chars().take(LONGEST_COMPARED).collect::<String>();
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("{:?}", cut(name))).collect();
    if names.len() > SHOWN {
        shown.push(format!("and {} more", names.len() - SHOWN));
    }
    shown.join(", ")
}
