//! An adapter as a GGUF file: A and B of each linear, for llama.cpp's `--lora`.
//!
//! llama.cpp adds alpha / rank · B·A, with the rank that B has. Where it reads rows of queries and keys in another order, B's
//! rows are written in it. Invariant: the file adds what the adapter adds here, whatever the adapter's own rule of scaling.

use super::file::{GgufOptions, GgufReport, Sink, alpha_of, architecture, as_formats, general, open_out, write};
use super::rows::Rows;
use crate::merge::OpenAdapter;
use crate::{Model, ModelError};
use remat_formats::{FormatsError, GgufElement, GgufEntry, GgufFile, GgufName, GgufSpec};
use remat_tensor::Shape;
use std::path::Path;

/// One linear.
struct Adapted {
    module: String,
    fans: (usize, usize),
    head_rows: Option<usize>,
}

impl Model {
    /// Writes an adapter of this base as a GGUF file. No weights of the base are read.
    ///
    /// # Errors
    /// As [`Model::export_gguf`].
    pub fn export_adapter_gguf(
        &self,
        adapter: &Path,
        options: &GgufOptions,
        out: &Path,
    ) -> Result<GgufReport, ModelError> {
        let target = open_out(self, Some(adapter), out, options.replace)?;
        let architecture = architecture(self)?;
        let adapter = OpenAdapter::open(self, adapter)?;
        let rank = adapter.config.rank;
        let (mut specs, mut linears) = (Vec::new(), Vec::new());
        for module in &adapter.modules {
            let weight = format!("{module}.weight");
            let Some(GgufName { name, head_rows }) = architecture.tensor(&self.config, &weight) else {
                let problem = "has no name in llama.cpp; fold the adapter into the model first";
                return Err(self.tensor_error(&weight, problem.to_string()));
            };
            let (fan_in, fan_out) = adapter.fans(module);
            let spec = |end: &str, shape: [usize; 2]| GgufSpec {
                name: format!("{name}.{end}"),
                element: options.element.of_rows(shape[1]),
                shape: Shape::from(shape),
            };
            specs.extend([spec("lora_a", [rank, fan_in]), spec("lora_b", [fan_out, rank])]);
            linears.push(Adapted { module: module.clone(), fans: (fan_in, fan_out), head_rows });
        }
        let mut entries = general(&architecture, "adapter", &adapter.folder);
        entries.push(("adapter.type".to_string(), GgufEntry::Text("lora".to_string())));
        entries.push(("adapter.lora.alpha".to_string(), GgufEntry::F32(alpha_of(&adapter)?)));
        let file = GgufFile { entries, tensors: specs };
        let to_formats = as_formats(&adapter.folder);
        let file_bytes = write(&file, target, &mut |number, sink| {
            let linear = &linears[number / 2];
            write_matrix(&adapter, linear, &file.tensors[number], number % 2 == 1, sink).map_err(&to_formats)
        })?;
        let elements = linears.iter().map(|linear| rank * (linear.fans.0 + linear.fans.1)).max().unwrap_or(0);
        Ok(GgufReport {
            architecture: architecture.name(),
            tensors: file.tensors.len(),
            fallen_back: file
                .tensors
                .iter()
                .filter(|spec| options.element == GgufElement::Q8_0 && spec.element == GgufElement::F16)
                .count(),
            adapted: linears.len(),
            dequantised: 0,
            file_bytes,
            held_bytes: 4 * size_of::<f32>() * elements,
            notes: architecture.notes,
        })
    }
}

fn write_matrix(
    adapter: &OpenAdapter,
    linear: &Adapted,
    spec: &GgufSpec,
    is_b: bool,
    sink: &mut Sink<'_>,
) -> Result<(), ModelError> {
    let (a, b) = adapter.matrices(&linear.module, linear.fans)?;
    let matrix = if is_b { &b } else { &a };
    let out_of_range = |value: f32| {
        let element = spec.element.name();
        let problem = format!("holds {value:e}, which {element} cannot hold; write it in f32");
        FormatsError::Tensor { path: adapter.folder.clone(), tensor: spec.name.clone(), problem }
    };
    let mut rows = Rows::new(spec.element, spec.shape.last(), linear.head_rows.filter(|_| is_b), &out_of_range);
    rows.push(matrix, sink)?;
    Ok(rows.finish(sink)?)
}
