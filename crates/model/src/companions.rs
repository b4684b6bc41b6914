//! The files that go beside the weights of a model: its configuration, its tokenizer.
//!
//! Invariant: they are copied in pieces from what was opened with the model, so that a save needs no memory for them and no
//! model folder.

use crate::ModelError;
use remat_formats::{
    FormatsError, HeldFile, SETTINGS_LIMIT_BYTES, TOKENIZER_FILE_LIMIT_BYTES, read_text_file, write_atomic,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Files of a model folder as they are written here: the configuration, the weights, and what training does not change.
pub const MODEL_FILES: &[&str] = &[
    "config.json",
    "model.safetensors",
    INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer.model",
    TEMPLATES_FOLDER,
];

/// What says which tensor is in which shard, of weights in several files.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// Chat templates for other uses than conversation, each a file.
const TEMPLATES_FOLDER: &str = "additional_chat_templates";
/// Most of them; published models have up to three.
const MOST_TEMPLATES: usize = 64;

/// The name of a shard; they are counted from 1.
pub(crate) fn shard_name(number: usize, of: usize) -> String {
    format!("model-{number:05}-of-{of:05}.safetensors")
}

/// Whether a file is named as a shard is.
pub(crate) fn is_shard(name: &str) -> bool {
    let numbers = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors")?.split_once("-of-"));
    let is_number = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(number, of)| is_number(number) && is_number(of))
}

/// Whether a model folder that was written here may have a file of this name.
pub fn is_model_file(name: &str) -> bool {
    if is_shard(name) {
        return true;
    }
    let template = name.strip_prefix(TEMPLATES_FOLDER).and_then(|rest| rest.strip_prefix('/'));
    template.map_or(MODEL_FILES.contains(&name), |file| file.ends_with(".jinja") && !file.contains('/'))
}

/// What training does not change, in a model folder: the tokenizer, the chat templates and the settings of generation.
///
/// # Errors
/// A folder of templates that cannot be read, or holds too many.
pub fn companion_files(folder: &Path) -> Result<Vec<String>, ModelError> {
    let mut names: Vec<String> = MODEL_FILES.iter().skip(3).map(|name| (*name).to_string()).collect();
    names.retain(|name| name != TEMPLATES_FOLDER);
    let templates = folder.join(TEMPLATES_FOLDER);
    if templates.is_dir() {
        let entries = fs::read_dir(&templates).map_err(FormatsError::reading(&templates, "download it again"))?;
        let files = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut files: Vec<String> = files.filter(|name| name.ends_with(".jinja")).collect();
        files.sort_unstable();
        if files.len() > MOST_TEMPLATES {
            let problem = format!("holds {} templates, more than {MOST_TEMPLATES}", files.len());
            return Err(FormatsError::Malformed { path: templates, problem }.into());
        }
        names.extend(files.iter().map(|name| format!("{TEMPLATES_FOLDER}/{name}")));
    }
    Ok(names)
}

/// The files that go beside the weights, as they were when the model was opened.
#[derive(Debug, Default)]
pub(crate) struct Companions {
    /// The text of `config.json`.
    pub(crate) config: String,
    /// The others that are there, held open: they can be copied whatever becomes of the folder.
    files: Vec<(String, HeldFile)>,
    /// What is written in place of some of them.
    replaced: BTreeMap<String, Vec<u8>>,
}

impl Companions {
    /// Of a model folder.
    pub(crate) fn open(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let config = read_text_file(&path, SETTINGS_LIMIT_BYTES);
        let config = config.map_err(FormatsError::reading(&path, "give the folder of a model"))?;
        let mut files = Vec::new();
        for name in companion_files(folder)? {
            let Some(file) = HeldFile::open_optional(&folder.join(&name))? else { continue };
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
        Ok(Companions { config, files, replaced: BTreeMap::new() })
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = &HeldFile> {
        self.files.iter().map(|(_, file)| file)
    }

    /// Has other bytes written in place of a file, or beside the others.
    pub(crate) fn replace(&mut self, name: &str, bytes: Vec<u8>) {
        self.replaced.insert(name.to_string(), bytes);
    }

    /// What is written in place of a file.
    pub(crate) fn replaced(&self, name: &str) -> Option<&[u8]> {
        self.replaced.get(name).map(Vec::as_slice)
    }

    /// Copies all but `config.json` into a folder.
    pub(crate) fn copy_to(&self, folder: &Path) -> Result<(), ModelError> {
        self.copy_some_to(folder, &|_| true)
    }

    /// As [`Companions::copy_to`], of some names.
    pub(crate) fn copy_some_to(&self, folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<(), ModelError> {
        let copied = self.files.iter().filter(|(name, _)| wanted(name) && !self.replaced.contains_key(name));
        copied.into_iter().try_for_each(|(name, file)| copy_within(file, folder, name))?;
        let replaced = self.replaced.iter().filter(|(name, _)| wanted(name));
        replaced.into_iter().try_for_each(|(name, bytes)| Ok(write_atomic(&folder.join(name), bytes)?))
    }
}

/// Copies a file into a folder under a name, which may have a folder in it.
pub(crate) fn copy_within(file: &HeldFile, folder: &Path, name: &str) -> Result<(), ModelError> {
    let path = folder.join(name);
    let within = path.parent().unwrap_or(folder);
    fs::create_dir_all(within).map_err(|source| FormatsError::NotWritten {
        path: within.to_path_buf(),
        action: "create the folder",
        source,
    })?;
    Ok(file.copy_to(&path)?)
}
