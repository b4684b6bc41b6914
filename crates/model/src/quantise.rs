//! Writes a model in few bits, as transformers and bitsandbytes write and load it.
//!
//! Invariants: the model is read one tensor at a time and no more than one quantised tensor is held, so it may be larger
//! than memory; the folder appears under its name when it is complete and on disk, and not at all if anything fails; of a
//! folder that is there, only a model that was written here is replaced, as `remat_formats::OwnFiles` says. Every linear is
//! quantised twice, since a file wants some scales before the codes. Look next at `remat_formats::quantised_parts` for the
//! tensors of a weight.

use crate::build;
use crate::companions::MODEL_FILES;
use crate::model_builder::BatchShape;
use crate::source::Source;
use crate::{Model, ModelError, Quant};
use half::{bf16, f16};
use remat_formats::{
    FormatsError, OwnFiles, PartContent, Places, QuantisedPart, TensorSpec, files_below, fsync_folder, lock_folder,
    probe_folder, quantised_parts, resolve, write_atomic, write_safetensors_from,
};
use remat_ir::SourceRole;
use remat_tensor::{DType, Quantiser, Shape, into_bytes};
use serde_json::{Value, json};
use std::fs::TryLockError;
use std::path::{Path, PathBuf};

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuantiseReport {
    /// Parameters of the weights that are quantised.
    pub quantised_parameters: usize,
    /// Bytes of these, scales and maps included.
    pub quantised_bytes: usize,
    /// Parameters that stay in 16 bits.
    pub other_parameters: usize,
    /// Size of the file of weights.
    pub file_bytes: u64,
}

/// One tensor of the file.
struct Planned {
    part: QuantisedPart,
    /// The parameter it is made of.
    parameter: usize,
}

/// A parameter of the model.
struct Parameter {
    name: String,
    shape: Shape,
    quantised: bool,
}

/// The quantised tensor that was made last, and how all are made.
struct Current {
    quant: Quant,
    /// What is quantised is rounded to this first.
    dtype: DType,
    parameter: Option<usize>,
    bytes: Vec<u8>,
    quantiser: Quantiser,
}

impl Model {
    /// Writes the model with its linears in NF4 with double quantisation or in int8; everything else in bf16, or in f16 if
    /// the model is. The tokenizer's files are copied. A model that was written to `out` before goes only under `replace`,
    /// once the new one is whole; other files there stay.
    ///
    /// # Errors
    /// A model that is quantised already, tensors that are missing or cannot be quantised, a folder that is the model's
    /// own or was not written here, a disk that is full.
    pub fn write_quantised(&self, quant: Quant, out: &Path, replace: bool) -> Result<QuantiseReport, ModelError> {
        let refuse = |problem: &str| Err(ModelError::Setting(format!("--out {}: {problem}", out.display())));
        let places = Places::new().writes_folder("--out", out, MODEL_FILES.iter().copied())?;
        match self.source {
            Source::Files(..) => places.reads("--model", &self.folder).check()?,
            Source::Random(_) => places.check()?,
        }
        let there = out.symlink_metadata().is_ok();
        if there && !replace {
            return refuse("exists; choose another folder, or replace it with --force");
        }
        if let Some(stored) = self.stored_quant() {
            let problem = format!("{}: is quantised already, to {stored}", self.folder.display());
            return Err(ModelError::Setting(problem));
        }
        if let Err(error) = probe_folder(out) {
            return refuse(&format!("cannot be written: {error}; choose a folder you may write to"));
        }
        let parameters = self.parameters()?;
        let dtype = match self.source.tensor_of(&parameters[0].name) {
            Some(tensor) if self.source.is_f16(&tensor) => DType::F16,
            _ => DType::BF16,
        };
        let mut report = QuantiseReport::default();
        let write = &mut |folder: &Path| {
            report = self.write_into(folder, &parameters, quant, dtype)?;
            Ok(())
        };
        if there {
            replaced(out, write)?
        } else {
            written(out, write)?
        }
        Ok(report)
    }

    fn write_into(
        &self,
        folder: &Path,
        parameters: &[Parameter],
        quant: Quant,
        dtype: DType,
    ) -> Result<QuantiseReport, ModelError> {
        let mut current = Current { quant, dtype, parameter: None, bytes: Vec::new(), quantiser: Quantiser::new() };
        let mut planned = Vec::new();
        let mut report = QuantiseReport::default();
        for (index, parameter) in parameters.iter().enumerate() {
            let Parameter { name, shape, quantised } = parameter;
            if *quantised {
                self.quantise(parameters, index, &mut current)?;
                report.quantised_parameters += shape.numel();
                report.quantised_bytes += current.bytes.len();
                let parts = quantised_parts(name, shape, quant.format(), dtype, &current.bytes);
                planned.extend(parts.into_iter().map(|part| Planned { part, parameter: index }));
            } else {
                report.other_parameters += shape.numel();
                let content = PartContent::Range(0..0);
                let part = QuantisedPart { name: name.clone(), dtype, shape: shape.clone(), content };
                planned.push(Planned { part, parameter: index });
            }
        }
        let specs: Vec<TensorSpec<'_>> = planned
            .iter()
            .map(|Planned { part, .. }| TensorSpec { name: &part.name, dtype: part.dtype, shape: &part.shape })
            .collect();
        let path = folder.join("model.safetensors");
        write_safetensors_from(&path, &specs, &[("format", "pt")], &mut |index, sink| {
            let Planned { part, parameter } = &planned[index];
            let problem = |error: ModelError| match error {
                ModelError::Formats(error) => error,
                other => FormatsError::Malformed { path: self.folder.clone(), problem: other.to_string() },
            };
            match &part.content {
                PartContent::Bytes(bytes) => sink(bytes),
                PartContent::Range(range) if parameters[*parameter].quantised => {
                    self.quantise(parameters, *parameter, &mut current).map_err(problem)?;
                    sink(&current.bytes[range.clone()])
                }
                PartContent::Range(_) => self.copy_rounded(&parameters[*parameter], dtype, sink),
            }
        })?;
        report.file_bytes = std::fs::metadata(&path).map_err(failed(&path, "read its size"))?.len();
        self.write_companions(folder, quant, dtype)?;
        Ok(report)
    }

    /// All parameters with their shapes; linears as they are quantised, [out, in].
    fn parameters(&self) -> Result<Vec<Parameter>, ModelError> {
        let graph = build::evaluation(self.base(), None, BatchShape { batch: 1, seq_len: 1 })?.graph;
        self.check_weights(&graph)?;
        let linears = self.config.linear_names();
        let linears: std::collections::HashSet<String> =
            linears.into_iter().map(|module| format!("{module}.weight")).collect();
        let turned = self.config.block.weights_in_out;
        let weights = graph.values.iter().filter(|value| value.role.is_some_and(SourceRole::is_base_parameter));
        Ok(weights
            .map(|value| {
                let (name, dims) = (value.name.clone(), &value.ty.shape);
                let quantised = linears.contains(&name);
                let shape = if quantised && turned { Shape::from([dims[1], dims[0]]) } else { dims.clone() };
                Parameter { name, shape, quantised }
            })
            .collect())
    }

    /// Makes a parameter the current one.
    fn quantise(&self, parameters: &[Parameter], index: usize, current: &mut Current) -> Result<(), ModelError> {
        if current.parameter == Some(index) {
            return Ok(());
        }
        current.parameter = None;
        let Parameter { name, shape, .. } = &parameters[index];
        let format = current.quant.format();
        current.bytes.clear();
        current.bytes.resize(format.bytes(shape).expect("a value's size was checked"), 0);
        let mut write = into_bytes(&mut current.bytes);
        let tensor = current.quantiser.begin(format, shape, &mut write);
        self.quantise_into(name, shape, Some(current.dtype), tensor)?;
        current.parameter = Some(index);
        Ok(())
    }

    /// Hands over a parameter in 16 bits.
    fn copy_rounded(
        &self,
        parameter: &Parameter,
        dtype: DType,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), FormatsError>,
    ) -> Result<(), FormatsError> {
        let tensor = self.source.tensor_of(&parameter.name).unwrap_or_else(|| parameter.name.clone());
        let mut bytes = Vec::new();
        let read = self.source.read_chunks(&tensor, parameter.shape.numel(), &mut |piece| {
            bytes.clear();
            match dtype {
                DType::F16 => bytes.extend(piece.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes())),
                _ => bytes.extend(piece.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes())),
            }
            sink(&bytes)
        });
        read.map_err(|error| match error {
            ModelError::Formats(error) => error,
            other => FormatsError::Malformed { path: self.folder.clone(), problem: other.to_string() },
        })
    }

    /// Writes `config.json`, which says how the weights are stored, and copies the tokenizer's files.
    fn write_companions(&self, folder: &Path, quant: Quant, dtype: DType) -> Result<(), ModelError> {
        let mut config: Value = self.config_json()?;
        let name = if dtype == DType::F16 { "float16" } else { "bfloat16" };
        let old = config.get("torch_dtype").is_some();
        config[if old { "torch_dtype" } else { "dtype" }] = name.into();
        let (four_bit, eight_bit) = (quant == Quant::Nf4, quant == Quant::Int8);
        config["quantization_config"] = json!({
            "_load_in_4bit": four_bit,
            "_load_in_8bit": eight_bit,
            "bnb_4bit_compute_dtype": name,
            "bnb_4bit_quant_storage": "uint8",
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": four_bit,
            "llm_int8_enable_fp32_cpu_offload": false,
            "llm_int8_has_fp16_weight": false,
            "llm_int8_skip_modules": null,
            "llm_int8_threshold": 6.0,
            "load_in_4bit": four_bit,
            "load_in_8bit": eight_bit,
            "quant_method": "bitsandbytes",
        });
        let text = serde_json::to_string_pretty(&config).expect("JSON that was parsed");
        write_atomic(&folder.join("config.json"), format!("{text}\n").as_bytes())?;
        self.companions.copy_to(folder)
    }
}

/// A folder that is not there yet: it gets its name when it is whole.
fn written(out: &Path, write: &mut dyn FnMut(&Path) -> Result<(), ModelError>) -> Result<(), ModelError> {
    // The last part of a path may be `..`, or a link to what is not there yet.
    let out = &resolve(out).map_err(failed(out, "find the folder"))?;
    let temporary = beside(out);
    std::fs::create_dir_all(&temporary).map_err(failed(&temporary, "create the folder"))?;
    let whole = write(&temporary).and_then(|()| {
        let names = files_below(&temporary).map_err(failed(&temporary, "read the folder"))?;
        OwnFiles::of(&temporary, [] as [&str; 0]).add(names.iter().map(String::as_str))?;
        std::fs::rename(&temporary, out).map_err(failed(out, "give the folder its name"))?;
        Ok(fsync_folder(out.parent().unwrap_or(out))?)
    });
    whole.inspect_err(|_| {
        // The write has failed already; a leftover that cannot be removed either changes nothing.
        let _ = std::fs::remove_dir_all(&temporary);
    })
}

/// A folder that holds a model which was written here.
fn replaced(out: &Path, write: &mut dyn FnMut(&Path) -> Result<(), ModelError>) -> Result<(), ModelError> {
    let refuse = |problem: &str| Err(ModelError::Setting(format!("--out {}: {problem}", out.display())));
    let _lock = match lock_folder(out) {
        Err(TryLockError::WouldBlock) => {
            return refuse("another command is writing to it; wait until it ends, or choose another folder");
        }
        // A file system without locks is no reason not to write.
        lock => lock.ok(),
    };
    let no_model = "is not a model folder that remat wrote, so --force does not replace it; choose another folder, or \
                    remove it yourself";
    let Some(mut own) = OwnFiles::read(out)? else { return refuse(no_model) };
    own.recover()?;
    if !own.holds("config.json") {
        return refuse(no_model);
    }
    own.refuse_foreign("--out", MODEL_FILES.iter().copied())?;
    own.install(MODEL_FILES, write)
}

/// A name beside `out` that nobody else uses.
fn beside(out: &Path) -> PathBuf {
    let name = out.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    out.with_file_name(format!(".{name}.remat-{}", std::process::id()))
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> ModelError {
    let path = path.to_path_buf();
    move |source| FormatsError::NotWritten { path, action, source }.into()
}
