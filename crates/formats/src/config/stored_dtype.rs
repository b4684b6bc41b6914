//! In which number format a model is published: `dtype` of `config.json`, or `torch_dtype`, as older files call it.
//!
//! Invariant: a name that is none of the floats computed with here says nothing; it is no error, because the weight files
//! are what counts and the key is free text.

use super::ModelConfig;
use crate::json::{self, CONFIG_LIMIT_BYTES};
use crate::keys::Keys;
use crate::{FormatsError, own_files};
use remat_tensor::DType;
use serde_json::Value;
use std::path::Path;

impl ModelConfig {
    /// The number format that `config.json` of a folder names, if it names one.
    ///
    /// # Errors
    /// As [`ModelConfig::from_dir`].
    pub fn declared_dtype_of(folder: &Path) -> Result<Option<DType>, FormatsError> {
        let path = folder.join("config.json");
        let remedy = own_files::remedy(folder, "give the folder of a model as Hugging Face writes it");
        ModelConfig::declared_dtype(&path, &json::read_text(&path, CONFIG_LIMIT_BYTES, remedy)?)
    }

    /// The same of the text of a `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// Text that is no JSON object.
    pub fn declared_dtype(path: &Path, text: &str) -> Result<Option<DType>, FormatsError> {
        let json: Value = json::parse(path, text)?;
        let keys = Keys::new(path, &json)?;
        let name = ["dtype", "torch_dtype"].iter().find_map(|key| keys.value(key));
        Ok(match name.and_then(Value::as_str).map(|name| name.strip_prefix("torch.").unwrap_or(name)) {
            Some("float32" | "float") => Some(DType::F32),
            Some("bfloat16") => Some(DType::BF16),
            Some("float16" | "half") => Some(DType::F16),
            _ => None,
        })
    }
}
