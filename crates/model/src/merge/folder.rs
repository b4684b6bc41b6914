//! Writes a base with an adapter folded in as a model folder, as transformers loads it.
//!
//! Invariants: tensors have the checkpoint's names and layout; the head stays tied if it is; what is not read of the base
//! (quantisation, tensors that no parameter is) is not written. Of tokenizer, template and generation settings the adapter's
//! own are taken, which it was trained with, before the base's.

use super::merged::Merged;
use super::shards;
use crate::companions::companion_files;
use crate::out_folder::OutFolder;
use crate::source::Source;
use crate::{Model, ModelError};
use half::{bf16, f16};
use remat_formats::{
    FormatsError, GgufElement, HeldFile, OutOfRange, Places, SettingName, TensorSpec, write_atomic,
    write_safetensors_from,
};
use remat_tensor::{DType, Shape};
use std::ops::Range;
use std::path::Path;

/// How a merged model is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeOptions {
    /// f32, bf16 or f16; `None` is what the base's files hold.
    pub dtype: Option<DType>,
    /// Most bytes of tensors in one file.
    pub shard_bytes: u64,
    /// Whether a model that remat wrote there before goes.
    pub replace: bool,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MergeReport {
    /// Parameters.
    pub parameters: usize,
    /// Linears with an adapter, which was folded in.
    pub adapted: usize,
    /// Linears that the base's files hold quantised.
    pub dequantised: usize,
    /// What all is written in.
    pub dtype: DType,
    /// Files of weights.
    pub files: usize,
    /// Bytes of the tensors.
    pub bytes: u64,
    /// Bytes that were held at most, beside what the process held before.
    pub held_bytes: usize,
    /// √(Σ(scale·B·A)² / ΣW²) over the weights with an adapter; 0 without.
    pub change: f64,
    /// √(Σ(rounded − exact)² / Σexact²) over the weights that were adapted or dequantised; 0 if there are none.
    pub rounding: f64,
}

/// Sums over the weights that are not written as they were read.
#[derive(Debug, Default)]
struct Sums {
    base: f64,
    added: f64,
    exact: f64,
    lost: f64,
}

impl Model {
    /// Writes the model with an adapter folded in, dequantised where its files hold it quantised; the folder is whole or not
    /// there.
    ///
    /// # Errors
    /// An adapter that does not fit or is more than LoRA; numbers that the dtype cannot hold; a folder that is an input or was
    /// not written here; a disk that is too small.
    pub fn write_merged(
        &self,
        adapter: Option<&Path>,
        options: &MergeOptions,
        out: &Path,
    ) -> Result<MergeReport, ModelError> {
        let inputs = match self.source {
            Source::Files(..) => Places::new().reads(&SettingName("model").to_string(), &self.folder),
            Source::Random(_) => Places::new(),
        };
        let inputs =
            adapter.iter().fold(inputs, |inputs, folder| inputs.reads(&SettingName("adapter").to_string(), folder));
        let out = OutFolder::open(out, inputs, options.replace)?;
        let merged = Merged::open(self, adapter)?;
        out.probe()?;
        let dtype = options.dtype.unwrap_or(self.stored_dtype());
        let sizes = merged.sizes(dtype);
        let bytes = sizes.iter().sum();
        out.require_space(bytes)?;
        let files = shards::split(&sizes, options.shard_bytes);
        let mut sums = Sums::default();
        out.write(&mut |folder| {
            sums = Sums::default();
            merged.write_weights(folder, dtype, &files, &mut sums)?;
            if files.len() > 1 {
                let names: Vec<&str> = merged.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
                shards::write_index(folder, &names, &files, (merged.count(), bytes))?;
            }
            merged.write_companions(folder, dtype)
        })?;
        let relative = |part: f64, whole: f64| if whole > 0.0 { (part / whole).sqrt() } else { 0.0 };
        Ok(MergeReport {
            parameters: merged.count(),
            adapted: merged.parameters.iter().filter(|parameter| merged.adapter_of(parameter).is_some()).count(),
            dequantised: merged.parameters.iter().filter(|parameter| merged.is_quantised(parameter)).count(),
            dtype,
            files: files.len(),
            bytes,
            held_bytes: merged.held_bytes(self.config.block.weights_in_out),
            change: relative(sums.added, sums.base),
            rounding: relative(sums.lost, sums.exact),
        })
    }
}

impl Merged<'_> {
    fn count(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.shape.numel()).sum()
    }

    fn sizes(&self, dtype: DType) -> Vec<u64> {
        let element = dtype.element_bytes().unwrap_or(size_of::<f32>()) as u64;
        self.parameters.iter().map(|parameter| parameter.shape.numel() as u64 * element).collect()
    }

    fn write_weights(
        &self,
        folder: &Path,
        dtype: DType,
        files: &[Range<usize>],
        sums: &mut Sums,
    ) -> Result<(), ModelError> {
        let in_out = self.model.config.block.weights_in_out;
        let shapes: Vec<Shape> = self
            .parameters
            .iter()
            .map(|parameter| match parameter.is_linear && in_out {
                true => Shape::from([parameter.shape[1], parameter.shape[0]]),
                false => parameter.shape.clone(),
            })
            .collect();
        for (number, file) in files.iter().enumerate() {
            let path = folder.join(shards::name(number, files.len()));
            let specs: Vec<TensorSpec<'_>> = file
                .clone()
                .map(|index| TensorSpec { name: &self.parameters[index].name, dtype, shape: &shapes[index] })
                .collect();
            write_safetensors_from(&path, &specs, &[("format", "pt")], &mut |index, sink| {
                self.write_weight(file.start + index, dtype, sums, sink)
            })?;
        }
        Ok(())
    }

    fn write_weight(
        &self,
        index: usize,
        dtype: DType,
        sums: &mut Sums,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), FormatsError>,
    ) -> Result<(), ModelError> {
        let parameter = &self.parameters[index];
        let is_changed = self.adapter_of(parameter).is_some() || self.is_quantised(parameter);
        let (mut bytes, mut exact, mut lost) = (Vec::new(), 0.0, 0.0);
        let change = self.stream(parameter, self.model.config.block.weights_in_out, &mut |piece| {
            bytes.clear();
            let fits = element_of(dtype).encode(piece, &mut bytes);
            fits.map_err(|OutOfRange { value, .. }| self.out_of_range(&parameter.name, value, dtype.name()))?;
            if is_changed {
                for &x in piece {
                    let difference = f64::from(rounded(dtype, x)) - f64::from(x);
                    exact += f64::from(x) * f64::from(x);
                    lost += difference * difference;
                }
            }
            sink(&bytes)
        })?;
        sums.base += change.base;
        sums.added += change.added;
        sums.exact += exact;
        sums.lost += lost;
        Ok(())
    }

    /// The error of a number that an element type cannot hold.
    pub(crate) fn out_of_range(&self, name: &str, value: f32, element: &str) -> FormatsError {
        let problem = format!(
            "comes to {value:e}, which {element} cannot hold; write it in bf16 or f32, or check the model and the adapter"
        );
        FormatsError::Tensor { path: self.model.folder.clone(), tensor: name.to_string(), problem }
    }

    /// Writes `config.json`, and what lies beside weights.
    fn write_companions(&self, folder: &Path, dtype: DType) -> Result<(), ModelError> {
        let mut config = self.model.config_json()?;
        if self.model.config.tie_word_embeddings && !self.config.tie_word_embeddings {
            config["tie_word_embeddings"] = false.into();
        }
        if let Some(keys) = config.as_object_mut() {
            keys.remove("quantization_config");
            let key = if keys.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
            let name = match dtype {
                DType::BF16 => "bfloat16",
                DType::F16 => "float16",
                _ => "float32",
            };
            keys.insert(key.to_string(), name.into());
        }
        let text = format!("{config:#}\n");
        write_atomic(&folder.join("config.json"), text.as_bytes())?;
        let Some(adapter) = &self.adapter else { return self.model.companions.copy_to(folder) };
        let (has_tokenizer, settings) = (adapter.folder.join("tokenizer.json").is_file(), "generation_config.json");
        let of_base = |name: &str| name == settings || !has_tokenizer;
        self.model.companions.copy_some_to(folder, &of_base)?;
        for name in companion_files(&adapter.folder)? {
            if has_tokenizer || name == settings {
                let Some(file) = HeldFile::open_optional(&adapter.folder.join(&name))? else { continue };
                crate::companions::copy_within(&file, folder, &name)?;
            }
        }
        Ok(())
    }
}

/// A dtype as elements are encoded.
fn element_of(dtype: DType) -> GgufElement {
    match dtype {
        DType::BF16 => GgufElement::Bf16,
        DType::F16 => GgufElement::F16,
        _ => GgufElement::F32,
    }
}

/// A number as it is written.
fn rounded(dtype: DType, x: f32) -> f32 {
    match dtype {
        DType::BF16 => bf16::from_f32(x).to_f32(),
        DType::F16 => f16::from_f32(x).to_f32(),
        _ => x,
    }
}
