//! An adapter as a GGUF file: A and B of each linear, for llama.cpp's `--lora`.
//!
//! llama.cpp adds alpha / rank · B·A, with the rank that B has. Where it reads rows of queries and keys in another order, B's
//! rows are written in it. Invariant: the file adds what the adapter adds here, whatever the adapter's own rule of scaling.

use super::file::{GgufOptions, GgufReport, Sink, architecture, as_formats, general, open_out, write};
use super::rows::Rows;
use crate::adapter::AdaptedModule;
use crate::merge::OpenAdapter;
use crate::{Model, ModelError};
use remat_formats::{FormatsError, GgufElement, GgufEntry, GgufFile, GgufName, GgufSpec};
use remat_tensor::Shape;
use std::collections::HashMap;
use std::path::Path;

/// One linear.
struct Adapted<'a> {
    module: &'a AdaptedModule,
    /// What B is multiplied by, so that llama.cpp's rule of scaling comes to the adapter's.
    factor: f32,
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
        refuse_trained_base(self, &adapter)?;
        refuse_magnitudes(&adapter)?;
        let alpha = alpha_of(&adapter)?;
        let fans = self.parameters()?.into_iter().filter(|parameter| parameter.is_linear);
        let fans: HashMap<String, (usize, usize)> =
            fans.map(|parameter| (parameter.name, (parameter.shape[1], parameter.shape[0]))).collect();
        let (mut specs, mut linears) = (Vec::new(), Vec::new());
        for module in &adapter.modules {
            let (weight, rank) = (format!("{}.weight", module.name), module.rank);
            if !fans.contains_key(&weight) {
                return Err(outer_module(&adapter, &module.name));
            }
            let Some(GgufName { name, head_rows }) = architecture.tensor(&self.config, &weight) else {
                let problem = "has no name in llama.cpp; fold the adapter into the model first";
                return Err(self.tensor_error(&weight, problem.to_string()));
            };
            let (fan_in, fan_out) = fans[&weight];
            let spec = |end: &str, shape: [usize; 2]| GgufSpec {
                name: format!("{name}.{end}"),
                element: options.element.of_rows(shape[1]),
                shape: Shape::from(shape),
            };
            specs.extend([spec("lora_a", [rank, fan_in]), spec("lora_b", [fan_out, rank])]);
            let factor = of_file(module) / alpha;
            linears.push(Adapted { module, factor, fans: (fan_in, fan_out), head_rows });
        }
        let mut entries = general(&architecture, "adapter", &adapter.folder);
        entries.push(("adapter.type".to_string(), GgufEntry::Text("lora".to_string())));
        entries.push(("adapter.lora.alpha".to_string(), GgufEntry::F32(alpha)));
        let file = GgufFile { entries, tensors: specs };
        let to_formats = as_formats(&adapter.folder);
        let file_bytes = write(&file, target, &mut |number, sink| {
            let linear = &linears[number / 2];
            write_matrix(&adapter, linear, &file.tensors[number], number % 2 == 1, sink).map_err(&to_formats)
        })?;
        let elements =
            linears.iter().map(|linear| linear.module.rank * (linear.fans.0 + linear.fans.1)).max().unwrap_or(0);
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
    linear: &Adapted<'_>,
    spec: &GgufSpec,
    is_b: bool,
    sink: &mut Sink<'_>,
) -> Result<(), ModelError> {
    let (a, mut b) = adapter.matrices(linear.module, linear.fans)?;
    b.iter_mut().for_each(|x| *x *= linear.factor);
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

/// The alpha that llama.cpp has to divide by a module's rank for its scale.
fn of_file(module: &AdaptedModule) -> f32 {
    // llama.cpp divides by the rank whatever the adapter's own rule, so that the rule goes into alpha.
    let is_plain = module.scale == (f64::from(module.alpha) / module.rank as f64) as f32;
    if is_plain { module.alpha } else { module.scale * module.rank as f32 }
}

/// The alpha of the file: that of the first module that has one. Refuses an adapter that llama.cpp would scale otherwise: to
/// it, an alpha of 0 is none.
fn alpha_of(adapter: &OpenAdapter) -> Result<f32, ModelError> {
    match adapter.modules.iter().map(of_file).find(|alpha| *alpha != 0.0) {
        None => Err(ModelError::Adapter {
            folder: adapter.folder.join("adapter_config.json").display().to_string(),
            problem: "lora_alpha is 0, so the adapter adds nothing; llama.cpp would take it as if there were no alpha"
                .to_string(),
        }),
        Some(alpha) => Ok(alpha),
    }
}

/// Refuses DoRA, whose norms llama.cpp has no place for.
fn refuse_magnitudes(adapter: &OpenAdapter) -> Result<(), ModelError> {
    if !adapter.has_magnitudes {
        return Ok(());
    }
    let problem = "is a DoRA adapter, whose norms a GGUF adapter cannot hold; fold the adapter into the model: remat merge, or \
                   remat export of the model with the adapter";
    Err(ModelError::Adapter { folder: adapter.folder.display().to_string(), problem: problem.to_string() })
}

/// The error of an adapter of the embedding or the head, which llama.cpp reads in another layout, or not where they are tied.
fn outer_module(adapter: &OpenAdapter, module: &str) -> ModelError {
    let problem = format!(
        "adapts {module}, which is not written as a GGUF adapter; fold the adapter into the model: remat merge, or remat \
         export of the model with the adapter"
    );
    ModelError::Adapter { folder: adapter.folder.display().to_string(), problem }
}

/// Refuses what llama.cpp has no place for in an adapter.
fn refuse_trained_base(base: &Model, adapter: &OpenAdapter) -> Result<(), ModelError> {
    let Some(parameter) = adapter.replaces_some(&base.config) else { return Ok(()) };
    let problem = format!(
        "has parameters of the base itself ({parameter}), which a GGUF adapter cannot hold; fold the adapter into the model: \
         remat merge, or remat export of the model with the adapter"
    );
    Err(ModelError::Adapter { folder: adapter.folder.display().to_string(), problem })
}
