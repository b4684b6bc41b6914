//! Parameters of the base that are trained whole beside adapters: biases, and modules that PEFT saves (`modules_to_save`).
//!
//! Invariants: what PEFT's settings name is trained, or refused; a trained parameter of the base has the checkpoint's name as
//! a state, and PEFT's in an adapter's file. A head that is tied to the embedding is trained as PEFT does it: what is named is
//! a copy of its own, unless `ensure_weight_tying` keeps both one. Look next at `file_names` for the names in files.

use super::trained_biases::TrainedBiases;
use super::variant::LoraConfig;
use crate::ModelError;
use remat_formats::{ModelConfig, SettingName};
use std::collections::BTreeSet;

/// What transformers calls every head in memory, whatever checkpoints call it.
pub(super) const HEAD_IN_MEMORY: &str = "lm_head.weight";

/// What of a base is trained.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrainedBase {
    biases: TrainedBiases,
    adapted: Vec<String>,
    /// Ends of the names of modules that are trained whole.
    saved: Vec<String>,
    head: String,
    embedding: String,
    /// Whether embedding and head stay one where they are tied.
    pub keeps_tie: bool,
    /// Whether one of them is trained and is the other, too.
    pub is_tied: bool,
    /// What the graph had of it.
    used: BTreeSet<String>,
}

impl TrainedBase {
    /// Nothing of a base.
    pub(crate) fn none(base: &ModelConfig) -> Self {
        TrainedBase {
            biases: TrainedBiases::None,
            adapted: Vec::new(),
            saved: Vec::new(),
            head: base.head_weight(),
            embedding: base.embedding_weight(),
            keeps_tie: true,
            is_tied: false,
            used: BTreeSet::new(),
        }
    }

    /// Of a base, where the modules in `adapted` have adapters.
    ///
    /// # Errors
    /// A module that has an adapter, too.
    pub(crate) fn of(base: &ModelConfig, lora: &LoraConfig, adapted: Vec<String>) -> Result<Self, ModelError> {
        for end in &lora.modules_to_save {
            if let Some(both) = adapted.iter().find(|module| is_within(&format!("{module}.weight"), end)) {
                let (key, targets) = (SettingName("modules-to-save"), SettingName("targets"));
                let problem = "has an adapter; a module is trained whole or by an adapter";
                return Err(ModelError::Setting(format!("{key} {end}: {both} {problem}; take it out of {targets}")));
            }
        }
        let (biases, saved) = (lora.bias, lora.modules_to_save.clone());
        let mut trained = TrainedBase { biases, adapted, saved, ..TrainedBase::none(base) };
        let names_either = trained.contains(&trained.head) || trained.contains(&trained.embedding);
        let ties = lora.ensure_weight_tying && ties_by_name(&lora.modules_to_save);
        trained.is_tied = base.tie_word_embeddings && names_either && ties;
        trained.keeps_tie = !names_either || trained.is_tied;
        Ok(trained)
    }

    /// Whether a parameter of the base is trained.
    pub(crate) fn contains(&self, parameter: &str) -> bool {
        let saves = |name: &str| self.saved_by(name).is_some();
        let by_name = is_trained_bias(self.biases, parameter, &self.adapted) || saves(parameter);
        by_name || (self.is_tied && parameter == self.embedding)
    }

    /// The setting that a parameter is saved by.
    fn saved_by(&self, parameter: &str) -> Option<&String> {
        let is_head = parameter == self.head;
        let names = |end: &&String| is_within(parameter, end) || (is_head && is_within(HEAD_IN_MEMORY, end));
        self.saved.iter().find(names)
    }

    /// Takes note that the graph has a parameter, and says whether it is trained.
    pub(crate) fn take(&mut self, parameter: &str) -> bool {
        let is_trained = self.contains(parameter);
        if is_trained {
            self.used.insert(parameter.to_string());
        }
        is_trained
    }

    /// Refuses settings by which nothing of the graph is trained.
    ///
    /// # Errors
    /// The first of them.
    pub(crate) fn all_used(&self) -> Result<(), ModelError> {
        if self.biases != TrainedBiases::None && !self.used.iter().any(|name| name.ends_with(".bias")) {
            let whose = if self.biases == TrainedBiases::All { "this model has" } else { "the adapted linears have" };
            let problem = format!("{whose} no bias; leave it out");
            return Err(ModelError::Setting(format!("{} {}: {problem}", SettingName("bias"), self.biases)));
        }
        let names_head = |end: &str| is_within(HEAD_IN_MEMORY, end) || is_within(&self.head, end);
        let is_used = |end: &&String| {
            let by_name = self.used.iter().any(|name| is_within(name, end));
            by_name || (names_head(end) && (self.is_tied || self.used.contains(&self.head)))
        };
        let Some(unused) = self.saved.iter().find(|end| !is_used(end)) else { return Ok(()) };
        let (key, module) = (SettingName("modules-to-save"), |name: &str| name.trim_end_matches(".weight").to_string());
        let (embedding, head) = (module(&self.embedding), module(&self.head));
        let problem =
            format!("this model has no module of that name; its embedding and head are {embedding} and {head}");
        Err(ModelError::Setting(format!("{key} {unused}: {problem}")))
    }
}

/// Whether PEFT ties what these name: it knows embeddings and heads by two names, and leaves GPT-2's `wte` alone.
pub(crate) fn ties_by_name(modules: &[String]) -> bool {
    let is_known = |name: &String| ["embed_tokens", "lm_head"].contains(&name.rsplit('.').next().unwrap_or(name));
    modules.iter().any(is_known)
}

fn is_trained_bias(biases: TrainedBiases, parameter: &str, adapted: &[String]) -> bool {
    let Some(module) = parameter.strip_suffix(".bias") else { return false };
    match biases {
        TrainedBiases::None => false,
        TrainedBiases::All => true,
        TrainedBiases::LoraOnly => adapted.iter().any(|name| name == module),
    }
}

/// Whether a parameter belongs to a module whose name ends so, or to one within it; PEFT asks for no dot before the end.
fn is_within(parameter: &str, end: &str) -> bool {
    let modules = parameter.match_indices('.').map(|(at, _)| &parameter[..at]);
    modules.into_iter().any(|module| module.ends_with(end))
}
