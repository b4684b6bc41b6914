//! The weight files of a model folder: one `model.safetensors`, or shards listed by an index.
//!
//! Invariant: an index cannot name a file outside its folder, and every tensor it lists is in the file it names.

use crate::json::{self, UniqueMap};
use crate::safetensors::{SafetensorsFile, TensorInfo};
use crate::{FormatsError, HeldFile};
use half::bf16;
use remat_tensor::{DType, HostTensor};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLES: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
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
        let problem = if PICKLES.iter().any(|name| folder.join(name).exists()) {
            "only holds PyTorch pickle files, which can run code when they are opened; \
             convert them: load the model with transformers and call save_pretrained(folder, safe_serialization=True)"
        } else {
            "holds neither model.safetensors nor model.safetensors.index.json; give the folder of a model"
        };
        Err(FormatsError::malformed(folder, problem))
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

/// A file name without any path in it.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}
