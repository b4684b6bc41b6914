//! The weight files of a model folder: one `model.safetensors`, or shards listed by an index.
//!
//! Invariant: an index cannot name a file outside its folder.

use crate::FormatsError;
use crate::safetensors::{SafetensorsFile, TensorInfo};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// All weight files of a folder, opened.
#[derive(Debug)]
pub struct ModelFiles {
    files: Vec<SafetensorsFile>,
    tensors: BTreeMap<String, usize>,
}

impl ModelFiles {
    /// Opens the weight files of a folder and checks their headers.
    ///
    /// # Errors
    /// No safetensors, a missing shard, an index that does not match its shards.
    pub fn open(folder: &Path) -> Result<Self, FormatsError> {
        let single = folder.join(SINGLE);
        if single.exists() {
            let file = SafetensorsFile::open(&single)?;
            let tensors = file.names().map(|name| (name.to_string(), 0)).collect();
            return Ok(ModelFiles { files: vec![file], tensors });
        }
        let index = folder.join(INDEX);
        if index.exists() {
            return ModelFiles::open_shards(folder, &index);
        }
        let pickle = folder.join("pytorch_model.bin").exists() || folder.join("pytorch_model.bin.index.json").exists();
        let problem = if pickle {
            "only holds PyTorch pickle files, which can run code; save the model again with safe_serialization=True"
        } else {
            "holds neither model.safetensors nor model.safetensors.index.json; is it a model folder?"
        };
        Err(FormatsError::malformed(folder, problem))
    }

    fn open_shards(folder: &Path, index: &Path) -> Result<Self, FormatsError> {
        let text = std::fs::read_to_string(index).map_err(FormatsError::io(index, "read the index"))?;
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| FormatsError::malformed(index, error.to_string()))?;
        let Some(map) = json["weight_map"].as_object() else {
            return Err(FormatsError::key(index, "weight_map", "is missing; it maps tensor names to shard files"));
        };
        let mut shards: BTreeMap<&str, usize> = BTreeMap::new();
        let mut files: Vec<SafetensorsFile> = Vec::new();
        let mut tensors = BTreeMap::new();
        for (name, shard) in map {
            let shard = shard.as_str().filter(|shard| is_plain_name(shard)).ok_or_else(|| {
                FormatsError::key(index, name, format!("must name a file in this folder, not {shard}"))
            })?;
            let number = match shards.get(shard) {
                Some(&number) => number,
                None => {
                    files.push(SafetensorsFile::open(&folder.join(shard))?);
                    shards.insert(shard, files.len() - 1);
                    files.len() - 1
                }
            };
            if files[number].tensor_info(name).is_none() {
                return Err(FormatsError::tensor(
                    &folder.join(shard),
                    name,
                    "is listed in the index but not in the file",
                ));
            }
            tensors.insert(name.clone(), number);
        }
        Ok(ModelFiles { files, tensors })
    }

    /// What the files say of a tensor.
    pub fn tensor_info(&self, name: &str) -> Option<&TensorInfo> {
        self.files[*self.tensors.get(name)?].tensor_info(name)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The files' paths.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|file| file.path().to_path_buf())
    }

    /// Reads a tensor into `target`, widened to f32.
    ///
    /// # Errors
    /// As [`SafetensorsFile::read_as_f32_into`].
    pub fn read_as_f32_into(&self, name: &str, target: &mut [f32]) -> Result<(), FormatsError> {
        match self.tensors.get(name) {
            Some(&file) => self.files[file].read_as_f32_into(name, target),
            None => Err(FormatsError::tensor(Path::new(SINGLE), name, "is not in the model's files")),
        }
    }
}

/// A file name without any path in it.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}
