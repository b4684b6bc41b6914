//! Fills a device's weights and states from the checkpoint, one tensor at a time through a bounded buffer.
//!
//! Invariant: no tensor is ever held here; elements are converted to the target's dtype on the way, or quantised. (A
//! GPT-2 weight that is quantised has to be transposed: it is read once per strip of rows that fits a bounded buffer.)

use crate::adapter::BaseWeights;
use crate::precision::write_parameter;
use crate::rope::{LOCAL_INV_FREQ, inv_freq, inv_freq_name, is_inv_freq};
use crate::source::Source;
use crate::{Model, ModelError, Precision};
use half::{bf16, f16};
use remat_formats::{FormatsError, ModelFiles, QuantisedContent, quantised_contents};
use remat_ir::{Graph, SourceRole, Storage, Type, Value};
use remat_plan::{Device, FileRange, SourceWriter, WeightPart};
use remat_tensor::{DType, NotFinite, QuantFormat, QuantisedTensor, Quantiser, Shape};
use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// The model's files, those that were asked for held open.
struct OpenFiles<'a> {
    files: &'a ModelFiles,
    opened: HashMap<PathBuf, Arc<File>>,
}

impl OpenFiles<'_> {
    /// Where some bytes of a weight are.
    fn part(&mut self, content: QuantisedContent) -> Result<WeightPart, ModelError> {
        let tensor = match content {
            QuantisedContent::Known(bytes) => return Ok(WeightPart::Known(bytes)),
            QuantisedContent::Tensor(tensor) => tensor,
        };
        let file = self.files.file_of(&tensor)?;
        let info = self.files.tensor_info(&tensor).expect("a file has it");
        let path = file.path().to_path_buf();
        let file = match self.opened.get(&path) {
            Some(file) => Arc::clone(file),
            None => Arc::clone(self.opened.entry(path.clone()).or_insert(Arc::new(file.held().handle()?))),
        };
        Ok(WeightPart::InFile(FileRange { file, path, offset: info.offset, bytes: info.bytes }))
    }
}

/// Elements of a strip of a weight that is transposed.
const STRIP_ELEMENTS: usize = 1 << 18;

impl BaseWeights for Model {
    fn read_weight(
        &self,
        name: &str,
        elements: usize,
        sink: &mut dyn FnMut(&[f32]) -> Result<(), FormatsError>,
    ) -> Result<(), ModelError> {
        let tensor = self.tensor_of(name).ok_or_else(|| self.missing(name))?;
        self.source.read_chunks(&tensor, elements, sink)
    }
}

impl Model {
    /// Loads every base parameter that `graph` names, and its rotary frequencies: frozen weights, and trained states under
    /// full fine-tuning, with the f32 master of a bf16 working copy if the device has one. f16 becomes bf16 where the graph
    /// is bf16. Tensor shapes are checked before the first byte is copied.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape, or of a dtype that cannot be widened to f32.
    pub fn load_weights(&self, graph: &Graph, device: &mut dyn Device) -> Result<(), ModelError> {
        self.check_weights(graph)?;
        let mut quantiser = Quantiser::new();
        for value in graph.values.iter().filter(|value| value.producer.is_none()) {
            if value.storage == Storage::State {
                // A preset's source has a tensor of any name; what training adds to the model is not read from it.
                let base = value.parameter().filter(|_| value.role.is_some_and(SourceRole::is_base_parameter));
                if let Some((name, tensor)) = base.and_then(|name| Some((name, self.tensor_of(name)?))) {
                    let elements = value.ty.shape.numel();
                    write_parameter(name, device, &mut |sink| {
                        self.source.read_chunks(&tensor, elements, &mut |piece| {
                            sink(piece);
                            Ok(())
                        })
                    })?;
                }
            } else if value.storage == Storage::Weight && !value.role.is_some_and(SourceRole::is_adapter_parameter) {
                let source = device.known(Storage::Weight, &value.name)?;
                if device.is_in_file(source) {
                    continue;
                }
                let mut writer = SourceWriter::new(device, source);
                self.load_weight(&value.name, &value.ty, &mut quantiser, &mut writer)?;
                writer.finish()?;
            }
        }
        Ok(())
    }

    /// The frozen weights of `graph` that lie in the files byte for byte as its kernels read them: one tensor, or those of a
    /// quantised weight, one behind the other.
    ///
    /// # Errors
    /// Too many open files.
    pub fn weights_in_files(&self, graph: &Graph) -> Result<HashMap<String, Vec<WeightPart>>, ModelError> {
        let Source::Files(files, _) = &self.source else { return Ok(HashMap::new()) };
        let mut opened = OpenFiles { files, opened: HashMap::new() };
        let mut found = HashMap::new();
        let is_weight = |value: &&Value| value.storage == Storage::Weight && value.producer.is_none();
        for value in graph.values.iter().filter(is_weight).filter(|value| !is_inv_freq(&value.name)) {
            if !value.role.is_some_and(SourceRole::is_base_parameter) {
                continue;
            }
            let parts = match (value.ty.dtype.quant_format(), self.stored.get(&value.name)) {
                (Some(format), Some(stored)) if stored.info.format == format && stored.info.shape == value.ty.shape => {
                    let contents = quantised_contents(&stored.tensor, &stored.info).into_iter();
                    contents.map(|content| opened.part(content)).collect::<Result<Vec<_>, ModelError>>()?
                }
                _ => {
                    let Some(tensor) = self.tensor_of(&value.name) else { continue };
                    let Some(info) = files.tensor_info(&tensor) else { continue };
                    if info.dtype != Some(value.ty.dtype) || info.shape != value.ty.shape {
                        continue;
                    }
                    vec![opened.part(QuantisedContent::Tensor(tensor))?]
                }
            };
            found.insert(value.name.clone(), parts);
        }
        Ok(found)
    }

    /// Fills in the rotary frequencies for sequences of these lengths, where the device's plans read them: plans of several
    /// lengths on one device may read several.
    ///
    /// # Errors
    /// A device that fails.
    pub fn load_frequencies(
        &self,
        lengths: impl IntoIterator<Item = usize>,
        device: &mut dyn Device,
    ) -> Result<(), ModelError> {
        let names = lengths.into_iter().map(|tokens| inv_freq_name(&self.config, tokens));
        for name in names.chain([LOCAL_INV_FREQ.to_string()]) {
            if let Some(source) = device.source(Storage::Weight, &name) {
                let mut writer = SourceWriter::new(device, source);
                writer.push(&inv_freq(&self.config, &name));
                writer.finish()?;
            }
        }
        Ok(())
    }

    /// Reads one frozen weight.
    fn load_weight(
        &self,
        name: &str,
        ty: &Type,
        quantiser: &mut Quantiser,
        writer: &mut SourceWriter<'_>,
    ) -> Result<(), ModelError> {
        if is_inv_freq(name) {
            writer.push(&inv_freq(&self.config, name));
            return Ok(());
        }
        if let Some(format) = ty.dtype.quant_format() {
            return self.load_quantised(name, &ty.shape, format, quantiser, &mut |at, bytes| writer.push_at(at, bytes));
        }
        let tensor = self.tensor_of(name).ok_or_else(|| self.missing(name))?;
        match ty.dtype {
            DType::BF16 => self.source.read_chunks_bf16(&tensor, ty.shape.numel(), &mut |piece| {
                writer.push(piece);
                Ok(())
            }),
            _ => self.source.read_chunks(&tensor, ty.shape.numel(), &mut |piece| {
                writer.push(piece);
                Ok(())
            }),
        }
    }

    /// Reads a weight that the files hold quantised, or quantises it from pieces.
    fn load_quantised(
        &self,
        name: &str,
        shape: &Shape,
        format: QuantFormat,
        quantiser: &mut Quantiser,
        write: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), ModelError> {
        if let (Some(stored), Source::Files(files, _)) = (self.stored.get(name), &self.source) {
            return Ok(files.read_quantised(&stored.tensor, &stored.info, write)?);
        }
        // What is quantised is the weight as it would be computed with.
        let rounded_to = (self.precision == Precision::Bf16).then_some(DType::BF16);
        self.quantise_into(name, shape, rounded_to, quantiser.begin(format, shape, write))
    }

    /// Quantises a linear's weight from pieces, rounded to a 16-bit dtype first if one is given.
    pub(crate) fn quantise_into(
        &self,
        name: &str,
        shape: &Shape,
        rounded_to: Option<DType>,
        mut tensor: QuantisedTensor<'_>,
    ) -> Result<(), ModelError> {
        let mut fault = Ok(());
        let mut rounded: Vec<f32> = Vec::new();
        self.read_out_in(name, shape, &mut |piece| {
            let mut values = piece;
            if let Some(dtype) = rounded_to {
                rounded.clear();
                match dtype {
                    DType::F16 => rounded.extend(piece.iter().map(|&x| f16::from_f32(x).to_f32())),
                    _ => rounded.extend(piece.iter().map(|&x| bf16::from_f32(x).to_f32())),
                }
                values = &rounded;
            }
            // The first fault is told once the tensor has been read.
            if fault.is_ok() {
                fault = tensor.push(values);
            }
        })?;
        fault.map_err(|NotFinite { index, value }| {
            self.tensor_error(
                name,
                format!("holds {value} at element {index} and cannot be quantised; check the model"),
            )
        })?;
        tensor.finish();
        Ok(())
    }

    /// Streams a linear's weight as f32 in the order [out, in].
    pub(crate) fn read_out_in(
        &self,
        name: &str,
        shape: &Shape,
        sink: &mut dyn FnMut(&[f32]),
    ) -> Result<(), ModelError> {
        let tensor = self.tensor_of(name).ok_or_else(|| self.missing(name))?;
        if !self.config.block.weights_in_out {
            return self.source.read_chunks(&tensor, shape.numel(), &mut |piece| {
                sink(piece);
                Ok(())
            });
        }
        let (fan_out, fan_in) = (shape[0], shape[1]);
        let strip = (STRIP_ELEMENTS / fan_in).clamp(1, fan_out);
        let mut rows = vec![0.0; strip * fan_in];
        for first in (0..fan_out).step_by(strip) {
            let end = (first + strip).min(fan_out);
            let mut at = 0;
            self.source.read_chunks(&tensor, shape.numel(), &mut |mut piece| {
                while !piece.is_empty() {
                    let (i, o) = (at / fan_out, at % fan_out);
                    let (run, rest) = piece.split_at(piece.len().min(fan_out - o));
                    for out in o.max(first)..(o + run.len()).min(end) {
                        rows[(out - first) * fan_in + i] = run[out - o];
                    }
                    at += run.len();
                    piece = rest;
                }
                Ok(())
            })?;
            sink(&rows[..(end - first) * fan_in]);
        }
        Ok(())
    }

    /// Checks that every weight of `graph` is in the files with its shape, without reading any.
    ///
    /// # Errors
    /// The first tensor that is missing or of another shape.
    pub fn check_weights(&self, graph: &Graph) -> Result<(), ModelError> {
        for value in &graph.values {
            if let Some(name) = value.parameter().filter(|_| value.role.is_some_and(SourceRole::is_base_parameter)) {
                self.check_tensor(name, &value.ty)?;
            }
        }
        Ok(())
    }

    fn check_tensor(&self, name: &str, ty: &Type) -> Result<(), ModelError> {
        let fail = |problem: String| self.tensor_error(name, problem);
        if let Some(stored) = self.stored.get(name) {
            let (found, expected) = (&stored.info.shape, &ty.shape);
            let message = || format!("has shape {found}, quantised, config.json implies {expected}");
            return if found == expected { Ok(()) } else { Err(fail(message())) };
        }
        let Some(tensor) = self.tensor_of(name) else {
            return Err(self.missing(name));
        };
        let turned = ty.dtype.quant_format().is_some() && self.config.block.weights_in_out;
        let expected = if turned { Shape::from([ty.shape[1], ty.shape[0]]) } else { ty.shape.clone() };
        if let Some(found) = self.source.shape_of(&tensor, self.config.vocab_size)
            && found != expected
        {
            return Err(fail(format!("has shape {found}, config.json implies {expected}")));
        }
        Ok(())
    }

    pub(crate) fn tensor_error(&self, name: &str, problem: String) -> ModelError {
        ModelError::Tensor { folder: self.folder.display().to_string(), tensor: name.to_string(), problem }
    }

    fn missing(&self, name: &str) -> ModelError {
        self.tensor_error(name, self.source.missing(name))
    }

    /// The checkpoint's name of a parameter.
    pub(crate) fn tensor_of(&self, name: &str) -> Option<String> {
        // A head that was tied begins as the embedding is, where it is trained by itself or the embedding is.
        let is_head = self.config.tie_word_embeddings && name == self.config.head_weight();
        match is_head {
            true => self.source.tensor_of(&self.config.embedding_weight()),
            false => self.source.tensor_of(name),
        }
    }
}
