//! The names that an adapter's tensors have in PEFT's file.
//!
//! Invariant: an adapter's own state has the file's name already; a parameter of the base that is trained beside it has the
//! checkpoint's name as a state, and in the file that of the module inside PEFT's model: a linear that has an adapter is the
//! `base_layer` of that, and the head is `lm_head` whatever the family's checkpoints call it.

use super::outer_modules::{HEAD_MODULE, embedding_module};
use super::targets::Targetable;
use super::trained_base::{HEAD_IN_MEMORY, TrainedBase};
use super::variant::LoraConfig;
use crate::ModelError;
use remat_formats::ModelConfig;

/// What PEFT puts before a module's name.
pub(crate) const PREFIX: &str = "base_model.model.";

/// The names for one base and one adapter's settings.
pub(crate) struct FileNames {
    adapted: Vec<String>,
    /// The head's weight, and the embedding's where a trained one is both.
    head: String,
    embedding_and_head: Option<String>,
    /// Weights of the base that PEFT may write copies of, with the names that these have.
    copies: Vec<(String, String)>,
}

impl FileNames {
    /// Of a base and an adapter.
    ///
    /// # Errors
    /// As [`LoraConfig::modules`] and [`TrainedBase::of`].
    pub(crate) fn of(base: &ModelConfig, lora: &LoraConfig) -> Result<Self, ModelError> {
        let adapted: Vec<String> = lora.modules(&Targetable::of(base))?.into_iter().map(|module| module.name).collect();
        let trained = TrainedBase::of(base, lora, adapted.clone())?;
        let embedding_and_head = trained.is_tied.then(|| base.embedding_weight());
        let outer = [(embedding_module(base), base.embedding_weight()), (HEAD_MODULE.to_string(), base.head_weight())];
        let is_adapted = |(module, _): &(String, String)| adapted.contains(module);
        let copies = outer.into_iter().filter(is_adapted);
        let copies = copies.map(|(module, weight)| (weight, format!("{PREFIX}{module}.base_layer.weight"))).collect();
        Ok(FileNames { adapted, head: base.head_weight(), embedding_and_head, copies })
    }

    /// Weights of the base that PEFT writes beside their adapters unless told otherwise (`save_embedding_layers`), each with the
    /// name in the file.
    pub(crate) fn copies(&self) -> &[(String, String)] {
        &self.copies
    }

    /// The names in the file of a state: two of an embedding that is the head, too.
    pub(crate) fn of_state(&self, state: &str) -> Vec<String> {
        if state.starts_with(PREFIX) {
            return vec![state.to_string()];
        }
        if state == self.head {
            return vec![format!("{PREFIX}{HEAD_IN_MEMORY}")];
        }
        if self.embedding_and_head.as_deref() == Some(state) {
            return vec![format!("{PREFIX}{state}"), format!("{PREFIX}{HEAD_IN_MEMORY}")];
        }
        let module = state.strip_suffix(".bias").filter(|module| self.adapted.iter().any(|name| name == module));
        vec![match module {
            Some(module) => format!("{PREFIX}{module}.base_layer.bias"),
            None => format!("{PREFIX}{state}"),
        }]
    }
}
