//! Saving a fully fine-tuned model as a folder that can be opened again, here or with transformers.
//!
//! Invariants: tensor names stay those of the checkpoint; weights are written as they were trained, in f32. Look next at
//! `companions` for the files beside them.

use crate::precision::write_parameters;
use crate::preset::preset_json;
use crate::source::Source;
use crate::{Model, ModelError};
use remat_formats::{FormatsError, ModelConfig, write_atomic};
use remat_ir::Parameter;
use remat_plan::Device;
use std::path::Path;

impl Model {
    /// The model's `config.json`, with what its files say of the head.
    pub(crate) fn config_json(&self) -> Result<serde_json::Value, ModelError> {
        let preset;
        let text = match self.source {
            Source::Random(_) => {
                preset = preset_json(&self.folder.to_string_lossy())?.to_string();
                &preset
            }
            Source::Files(..) => &self.companions.config,
        };
        let path = self.folder.join("config.json");
        let declared = ModelConfig::parse(&path, text)?;
        let malformed = |error: serde_json::Error| FormatsError::Malformed { path, problem: error.to_string() };
        let mut json: serde_json::Value = serde_json::from_str(text).map_err(malformed)?;
        // What is written holds the head by itself, so it must say so.
        if declared.tie_word_embeddings && !self.config.tie_word_embeddings {
            json["tie_word_embeddings"] = false.into();
        }
        if declared.vocab_size != self.config.vocab_size {
            json["vocab_size"] = self.config.vocab_size.into();
        }
        Ok(json)
    }

    /// Writes `model.safetensors` (f32), `config.json` with its dtype set to float32, and the tokenizer's files.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn save_full(&self, folder: &Path, parameters: &[Parameter], device: &dyn Device) -> Result<(), ModelError> {
        let named: Vec<_> = parameters.iter().map(|parameter| (parameter.name.clone(), parameter)).collect();
        write_parameters(&folder.join("model.safetensors"), &named, device)?;
        let mut json = self.config_json()?;
        for key in ["dtype", "torch_dtype"] {
            if let Some(value) = json.get_mut(key) {
                *value = "float32".into();
            }
        }
        let text = serde_json::to_string_pretty(&json).expect("JSON that was parsed");
        write_atomic(&folder.join("config.json"), format!("{text}\n").as_bytes())?;
        self.companions.copy_to(folder)
    }
}
