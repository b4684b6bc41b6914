//! The files that go beside the weights of a model: its configuration, its tokenizer.
//!
//! Invariant: they are copied in pieces from what was opened with the model, so that a save needs no memory for them and no
//! model folder.

use crate::ModelError;
use remat_formats::{FormatsError, HeldFile, SETTINGS_LIMIT_BYTES, TOKENIZER_FILE_LIMIT_BYTES, read_text_file};
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

/// What training does not change: the tokenizer, the chat template and the settings of generation.
pub fn companion_files() -> impl Iterator<Item = &'static str> {
    MODEL_FILES.iter().skip(2).copied()
}

/// The files that go beside the weights, as they were when the model was opened.
#[derive(Debug, Default)]
pub(crate) struct Companions {
    /// The text of `config.json`.
    pub(crate) config: String,
    /// The others that are there, held open: they can be copied whatever becomes of the folder.
    files: Vec<(&'static str, HeldFile)>,
}

impl Companions {
    /// Of a model folder.
    pub(crate) fn open(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let config = read_text_file(&path, SETTINGS_LIMIT_BYTES);
        let config = config.map_err(FormatsError::reading(&path, "give the folder of a model"))?;
        let mut files = Vec::new();
        for name in companion_files() {
            let Some(file) = HeldFile::open_optional(&folder.join(name))? else { continue };
            if file.bytes() > TOKENIZER_FILE_LIMIT_BYTES {
                let path = file.path().to_path_buf();
                let problem = format!(
                    "holds {} bytes, more than the {TOKENIZER_FILE_LIMIT_BYTES} such a file may have",
                    file.bytes()
                );
                return Err(FormatsError::Malformed { path, problem }.into());
            }
            files.push((name, file));
        }
        Ok(Companions { config, files })
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = &HeldFile> {
        self.files.iter().map(|(_, file)| file)
    }

    /// Copies all but `config.json` into a folder.
    pub(crate) fn copy_to(&self, folder: &Path) -> Result<(), ModelError> {
        Ok(self.files.iter().try_for_each(|(name, file)| file.copy_to(&folder.join(name)))?)
    }
}
