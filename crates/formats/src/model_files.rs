//! The weight files of a model folder: one `model.safetensors`, or shards listed by an index.
//!
//! Invariant: an index cannot name a file outside its folder, and every tensor it lists is in the file it names.

use crate::json::{self, UniqueMap};
use crate::safetensors::{SafetensorsFile, TensorInfo};
use crate::{FormatsError, HeldFile, foreign_weights};
use half::bf16;
use remat_tensor::{DType, HostTensor};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const SAFETENSORS: &str = ".safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Most names of a folder's files that are looked at.
const MOST_NAMES: usize = 4096;
/// Largest index that is read: half a million tensors.
const INDEX_LIMIT_BYTES: u64 = 64 << 20;

/// All weight files of a folder, opened.
#[derive(Debug)]
pub struct ModelFiles {
    folder: PathBuf,
    files: Vec<SafetensorsFile>,
    tensors: BTreeMap<String, usize>,
}

impl ModelFiles {
    /// Whether a folder has weight files, or links that should lead to some.
    pub fn are_in(folder: &Path) -> bool {
        [SINGLE, INDEX].iter().any(|name| folder.join(name).symlink_metadata().is_ok())
    }

    /// Opens the weight files of a folder and checks their headers.
    ///
    /// # Errors
    /// No safetensors, a missing shard, an index that does not match its shards.
    pub fn open(folder: &Path) -> Result<Self, FormatsError> {
        if !folder.is_dir() {
            return Err(FormatsError::missing(folder, "give the folder of a model as Hugging Face writes it"));
        }
        let single = folder.join(SINGLE);
        // A link whose target is gone should be reported as such, not passed over.
        if single.symlink_metadata().is_ok() {
            let file = SafetensorsFile::open(&single)?;
            let tensors = file.names().map(|name| (name.to_string(), 0)).collect();
            return Ok(ModelFiles { folder: folder.to_path_buf(), files: vec![file], tensors });
        }
        let index = folder.join(INDEX);
        if index.symlink_metadata().is_ok() {
            return ModelFiles::open_shards(folder, &index);
        }
        let neither = "holds neither model.safetensors nor model.safetensors.index.json";
        let names = names_in(folder);
        let problem = match foreign_weights::instead(&names) {
            _ if names.iter().any(|name| name.ends_with(SAFETENSORS)) => {
                let there = names.iter().filter(|name| name.ends_with(SAFETENSORS)).take(3);
                let there = there.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
                format!(
                    "{neither}, but {there}; rename a single file to model.safetensors, download the index of shards"
                )
            }
            Some(instead) => format!("{neither}; {instead}"),
            None => format!("{neither}; give the folder of a model"),
        };
        Err(FormatsError::malformed(folder, problem))
    }

    /// Names of files of the folder that hold weights, too, and are not read: other formats, an adapter, other safetensors.
    pub fn unread_files(&self) -> Vec<String> {
        let is_read = |name: &String| {
            self.files.iter().any(|file| file.path().file_name().is_some_and(|read| read == name.as_str()))
        };
        let holds_weights = |name: &String| foreign_weights::is_foreign(name) || name.ends_with(SAFETENSORS);
        names_in(&self.folder).into_iter().filter(|name| holds_weights(name) && !is_read(name)).collect()
    }

    /// Whether two tensors are of one shape and dtype and hold the same bytes.
    ///
    /// # Errors
    /// A tensor that is not there, a read that fails.
    pub fn are_the_same(&self, name: &str, other: &str) -> Result<bool, FormatsError> {
        self.file_of(name)?.holds_the_same(name, self.file_of(other)?, other)
    }

    fn open_shards(folder: &Path, index: &Path) -> Result<Self, FormatsError> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: Option<UniqueMap<String>>,
        }
        let text = json::read_text(index, INDEX_LIMIT_BYTES, "download it again")?;
        let Index { weight_map } = json::parse(index, &text)?;
        let Some(UniqueMap(weight_map)) = weight_map.filter(|map| !map.0.is_empty()) else {
            return Err(FormatsError::key(
                index,
                "weight_map",
                "lists no tensors; it maps tensor names to shard files",
            ));
        };
        let mut opened = ModelFiles { folder: folder.to_path_buf(), files: Vec::new(), tensors: BTreeMap::new() };
        let mut shards: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, shard) in &weight_map {
            let number = match shards.get(shard.as_str()) {
                Some(&number) => number,
                None => {
                    opened.files.push(open_shard(folder, index, name, shard)?);
                    shards.insert(shard, opened.files.len() - 1);
                    opened.files.len() - 1
                }
            };
            let file = &opened.files[number];
            if file.tensor_info(name).is_none() {
                let problem = "is listed in the index but is not in the file; download both again";
                return Err(FormatsError::tensor(file.path(), name, problem));
            }
            opened.tensors.insert(name.clone(), number);
        }
        // What an index does not list is read all the same, as transformers does.
        for (number, file) in opened.files.iter().enumerate() {
            for name in file.names() {
                opened.tensors.entry(name.to_string()).or_insert(number);
            }
        }
        Ok(opened)
    }

    /// What the files say of a tensor.
    pub fn tensor_info(&self, name: &str) -> Option<&TensorInfo> {
        self.files[*self.tensors.get(name)?].tensor_info(name)
    }

    /// The number format of floats that most bytes are in; `None` where no tensor holds floats.
    pub fn stored_dtype(&self) -> Option<DType> {
        let bytes_of = |dtype| {
            let infos = self.tensors.keys().filter_map(|name| self.tensor_info(name));
            infos.filter(|info| info.dtype == Some(dtype)).map(|info| info.bytes).sum::<u64>()
        };
        let dtypes = [DType::F32, DType::F16, DType::BF16].map(|dtype| (bytes_of(dtype), dtype));
        dtypes.into_iter().max_by_key(|&(bytes, _)| bytes).filter(|&(bytes, _)| bytes > 0).map(|(_, dtype)| dtype)
    }

    /// The folder they lie in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The files themselves, held open.
    pub fn held(&self) -> impl Iterator<Item = &HeldFile> {
        self.files.iter().map(SafetensorsFile::held)
    }

    /// The file that holds a tensor.
    ///
    /// # Errors
    /// A tensor that no file holds.
    pub fn file_of(&self, name: &str) -> Result<&SafetensorsFile, FormatsError> {
        match self.tensors.get(name) {
            Some(&file) => Ok(&self.files[file]),
            None => Err(FormatsError::tensor(&self.folder, name, "is in none of the model's files")),
        }
    }

    /// Reads a whole tensor.
    ///
    /// # Errors
    /// As [`SafetensorsFile::read`].
    pub fn read(&self, name: &str) -> Result<HostTensor, FormatsError> {
        self.file_of(name)?.read(name)
    }

    /// Reads a tensor into `target`, widened to f32.
    ///
    /// # Errors
    /// As [`SafetensorsFile::read_as_f32_into`].
    pub fn read_as_f32_into(&self, name: &str, target: &mut [f32]) -> Result<(), FormatsError> {
        self.file_of(name)?.read_as_f32_into(name, target)
    }

    /// Streams a tensor through one bounded buffer, widened to f32.
    ///
    /// # Errors
    /// As [`SafetensorsFile::read_chunks_as_f32`].
    pub fn read_chunks_as_f32(
        &self,
        name: &str,
        sink: &mut dyn FnMut(&[f32]) -> Result<(), FormatsError>,
    ) -> Result<(), FormatsError> {
        self.file_of(name)?.read_chunks_as_f32(name, sink)
    }

    /// Streams a tensor through one bounded buffer, rounded to bf16.
    ///
    /// # Errors
    /// As [`SafetensorsFile::read_chunks_as_bf16`].
    pub fn read_chunks_as_bf16(
        &self,
        name: &str,
        sink: &mut dyn FnMut(&[bf16]) -> Result<(), FormatsError>,
    ) -> Result<(), FormatsError> {
        self.file_of(name)?.read_chunks_as_bf16(name, sink)
    }
}

fn open_shard(folder: &Path, index: &Path, tensor: &str, shard: &str) -> Result<SafetensorsFile, FormatsError> {
    if !is_plain_name(shard) {
        let problem = format!("must name a file in the same folder, not {:?}", crate::error::excerpt(shard));
        return Err(FormatsError::key(index, tensor, problem));
    }
    let path = folder.join(shard);
    SafetensorsFile::open(&path).map_err(|error| match error {
        FormatsError::Missing { path, .. } => {
            FormatsError::missing(&path, "model.safetensors.index.json lists this shard; download it into the folder")
        }
        other => other,
    })
}

/// Names of the files of a folder, sorted; none if it cannot be listed.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(MOST_NAMES);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// A file name without any path in it.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}
