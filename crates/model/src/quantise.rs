//! Writes a model in few bits, as transformers and bitsandbytes write and load it.
//!
//! Invariants: the model is read one tensor at a time and no more than one quantised tensor is held, so it may be larger
//! than memory; the folder appears under its name when it is complete and on disk, and not at all if anything fails; of a
//! folder that is there, only a model that was written here is replaced, as `remat_formats::OwnFiles` says. Every linear is
//! quantised twice, since a file wants some scales before the codes. Look next at `remat_formats::quantised_parts` for the
//! tensors of a weight.

use crate::out_folder::OutFolder;
use crate::parameters::Parameter;
use crate::source::Source;
use crate::{Model, ModelError, Quant};
use half::{bf16, f16};
use remat_formats::{
    FormatsError, PartContent, Places, QuantisedPart, SettingName, TensorSpec, quantised_parts, write_atomic,
    write_safetensors_from,
};
use remat_tensor::{DType, Quantiser, into_bytes};
use serde_json::{Value, json};
use std::path::Path;

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
        let inputs = match self.source {
            Source::Files(..) => Places::new().reads(&SettingName("model").to_string(), &self.folder),
            Source::Random(_) => Places::new(),
        };
        let out = OutFolder::open(out, inputs, replace)?;
        if let Some(stored) = self.stored_quant() {
            let problem = format!("{}: is quantised already, to {stored}", self.folder.display());
            return Err(ModelError::Setting(problem));
        }
        out.probe()?;
        let parameters = self.parameters()?;
        let dtype = match self.source.tensor_of(&parameters[0].name) {
            Some(tensor) if self.source.is_f16(&tensor) => DType::F16,
            _ => DType::BF16,
        };
        let mut report = QuantiseReport::default();
        out.write(&mut |folder: &Path| {
            report = self.write_into(folder, &parameters, quant, dtype)?;
            Ok(())
        })?;
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
            let Parameter { name, shape, is_linear } = parameter;
            if *is_linear {
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
                PartContent::Range(range) if parameters[*parameter].is_linear => {
                    self.quantise(parameters, *parameter, &mut current).map_err(problem)?;
                    sink(&current.bytes[range.clone()])
                }
                PartContent::Range(_) => self.copy_rounded(&parameters[*parameter], dtype, sink),
            }
        })?;
        report.file_bytes = std::fs::metadata(&path).map_err(FormatsError::reading(&path, ""))?.len();
        self.write_companions(folder, quant, dtype)?;
        Ok(report)
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
