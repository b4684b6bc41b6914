//! Saving a fully fine-tuned model as a folder that can be opened again, here or with transformers.
//!
//! Invariant: tensor names stay those of the checkpoint; weights are written as they were trained, in f32.

use crate::adapter::write_parameters;
use crate::preset::preset_json;
use crate::source::Source;
use crate::{Model, ModelError};
use remat_formats::{FormatsError, write_atomic};
use remat_ir::Parameter;
use remat_plan::Device;
use std::path::Path;

/// Files of a model folder as they are written here: the configuration, the weights, and what training does not change.
pub const MODEL_FILES: &[&str] = &[
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
];

/// What training does not change.
pub(crate) fn companions() -> impl Iterator<Item = &'static str> {
    MODEL_FILES.iter().skip(2).copied()
}

impl Model {
    /// The model's `config.json`.
    pub(crate) fn config_json(&self) -> Result<serde_json::Value, ModelError> {
        let path = self.folder.join("config.json");
        let text = match self.source {
            Source::Random => preset_json(&self.folder.to_string_lossy())?.to_string(),
            Source::Files(_) => std::fs::read_to_string(&path).map_err(|source| FormatsError::Io {
                path: path.clone(),
                action: "read the configuration",
                source,
            })?,
        };
        Ok(serde_json::from_str(&text).map_err(|error| FormatsError::Malformed { path, problem: error.to_string() })?)
    }

    /// Writes `model.safetensors` (f32), `config.json` with its dtype set to float32, and the tokenizer's files.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn save_full(&self, folder: &Path, parameters: &[Parameter], device: &dyn Device) -> Result<(), ModelError> {
        write_parameters(&folder.join("model.safetensors"), parameters, device)?;
        let mut json = self.config_json()?;
        for key in ["dtype", "torch_dtype"] {
            if let Some(value) = json.get_mut(key) {
                *value = "float32".into();
            }
        }
        let text = serde_json::to_string_pretty(&json).expect("JSON that was parsed");
        write_atomic(&folder.join("config.json"), format!("{text}\n").as_bytes())?;
        for name in companions() {
            let path = self.folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => write_atomic(&folder.join(name), &bytes)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(FormatsError::Io { path, action: "copy the file", source }.into()),
            }
        }
        Ok(())
    }
}
