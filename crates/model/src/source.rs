//! Where a model's parameters come from: the files of a folder, or for a preset a generator.
//!
//! Invariant: both are read in pieces through a bounded buffer, and a parameter of a preset is a pure function of its name
//! and of what the model's graph reads it as: the same on every machine, whatever is read before it.

use crate::ModelError;
use crate::names::TensorNames;
use half::bf16;
use remat_formats::{FormatsError, ModelFiles};
use remat_ir::{Graph, Node, OpClass, OpDef, SourceRole};
use remat_tensor::{DType, Philox, Shape, stream_of_name};
use std::collections::HashMap;

/// Standard deviation of random matrices, as models of these families are initialised.
const DEVIATION: f32 = 0.02;
/// Elements that are handed over at a time.
const PIECE: usize = 1 << 14;

/// Parameters by name.
#[derive(Debug)]
pub(crate) enum Source {
    /// A checkpoint, and which of its tensors is which parameter.
    Files(ModelFiles, TensorNames),
    /// Random matrices, norms of one, biases of zero.
    Random(Vectors),
}

/// The parameters of a preset that are no matrices, and what they begin with.
#[derive(Debug, Default)]
pub(crate) struct Vectors(HashMap<String, f32>);

impl Vectors {
    /// Of a model's graph: what a norm multiplies by is one; every other vector is added, and zero.
    pub fn of(graph: &Graph) -> Self {
        let of_base = graph.values.iter().filter(|value| value.role.is_some_and(SourceRole::is_base_parameter));
        let vectors = of_base.filter(|value| value.ty.shape.dims().len() == 1);
        let mut start: HashMap<String, f32> = vectors.map(|value| (value.name.clone(), 0.0)).collect();
        let is_norm = |node: &&Node| {
            let (inputs, outputs) = graph.node_types(node);
            matches!(node.op.class(&inputs, &outputs), OpClass::RmsNorm | OpClass::LayerNorm)
        };
        for node in graph.nodes.iter().filter(is_norm) {
            start.entry(graph.value(node.inputs[1]).name.clone()).and_modify(|scale| *scale = 1.0);
        }
        Vectors(start)
    }

    /// The elements of a random parameter from `first` on, which is a multiple of four.
    fn fill(&self, tensor: &str, first: u64, target: &mut [f32]) {
        match self.0.get(tensor) {
            Some(&start) => target.fill(start),
            None => Philox::new(0, stream_of_name(tensor)).nearly_normal(first, DEVIATION, target),
        }
    }
}

impl Source {
    /// The name a parameter has here.
    pub fn tensor_of(&self, name: &str) -> Option<String> {
        match self {
            Source::Files(_, names) => names.tensor_of(name).map(str::to_string),
            Source::Random(_) => Some(name.to_string()),
        }
    }

    /// What to say of a parameter that has no name here.
    pub fn missing(&self, name: &str) -> String {
        match self {
            Source::Files(files, names) => names.missing(name, files),
            Source::Random(_) => "is missing".to_string(),
        }
    }

    /// The shape a tensor has here; `None` if it takes any. One that grew has `vocabulary` rows.
    pub fn shape_of(&self, tensor: &str, vocabulary: usize) -> Option<Shape> {
        match self {
            Source::Files(files, names) => {
                let shape = &files.tensor_info(tensor)?.shape;
                let grew = names.rows_of_grown(tensor).is_some_and(|rows| shape.dims().first() == Some(&rows));
                Some(if grew { Shape::new([&[vocabulary][..], &shape[1..]].concat()) } else { shape.clone() })
            }
            Source::Random(_) => None,
        }
    }

    /// Whether a tensor is stored as f16.
    pub fn is_f16(&self, tensor: &str) -> bool {
        match self {
            Source::Files(files, _) => files.tensor_info(tensor).is_some_and(|info| info.dtype == Some(DType::F16)),
            Source::Random(_) => false,
        }
    }

    /// Streams a tensor of so many elements as f32.
    pub fn read_chunks(
        &self,
        tensor: &str,
        elements: usize,
        sink: &mut dyn FnMut(&[f32]) -> Result<(), FormatsError>,
    ) -> Result<(), ModelError> {
        match self {
            Source::Files(files, names) => match names.rows_of_grown(tensor) {
                Some(rows) => read_grown(files, (tensor, rows), elements, sink),
                None => Ok(files.read_chunks_as_f32(tensor, sink)?),
            },
            Source::Random(vectors) => {
                let mut piece = vec![0.0; PIECE.min(elements)];
                for first in (0..elements).step_by(PIECE) {
                    let count = PIECE.min(elements - first);
                    vectors.fill(tensor, first as u64, &mut piece[..count]);
                    sink(&piece[..count])?;
                }
                Ok(())
            }
        }
    }

    /// Streams a tensor of so many elements, rounded to bf16.
    pub fn read_chunks_bf16(
        &self,
        tensor: &str,
        elements: usize,
        sink: &mut dyn FnMut(&[bf16]) -> Result<(), FormatsError>,
    ) -> Result<(), ModelError> {
        if let Source::Files(files, names) = self
            && names.rows_of_grown(tensor).is_none()
        {
            return Ok(files.read_chunks_as_bf16(tensor, sink)?);
        }
        let mut rounded = Vec::new();
        self.read_chunks(tensor, elements, &mut |piece| {
            rounded.clear();
            rounded.extend(piece.iter().map(|&x| bf16::from_f32(x)));
            sink(&rounded)
        })
    }
}

/// Streams a tensor that has more rows than the files: those of the files, then their mean as often as it takes.
fn read_grown(
    files: &ModelFiles,
    (tensor, rows): (&str, usize),
    elements: usize,
    sink: &mut dyn FnMut(&[f32]) -> Result<(), FormatsError>,
) -> Result<(), ModelError> {
    let stored = files.tensor_info(tensor).map_or(0, |info| info.shape.numel());
    let (width, mut at) = (stored / rows, 0);
    let mut sums = vec![0.0f64; width];
    files.read_chunks_as_f32(tensor, &mut |piece| {
        for &x in piece {
            sums[at % width] += f64::from(x);
            at += 1;
        }
        sink(piece)
    })?;
    let mean: Vec<f32> = sums.iter().map(|sum| (sum / rows as f64) as f32).collect();
    (at..elements).step_by(width).try_for_each(|_| sink(&mean))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    /// The sources of a preset's graph.
    fn preset(name: &str) -> Source {
        Model::from_preset(name).expect("a preset").source
    }

    fn read(source: &Source, name: &str, count: usize) -> Vec<f32> {
        let mut read = Vec::new();
        let take = &mut |piece: &[f32]| {
            read.extend_from_slice(piece);
            Ok(())
        };
        source.read_chunks(name, count, take).expect("never fails");
        read
    }

    #[test]
    fn random_tensors_have_the_usual_spread_and_do_not_depend_on_how_they_are_read() {
        let (name, count) = ("model.layers.0.mlp.up_proj.weight", 100_000);
        let mut whole = vec![0.0; count];
        Vectors::default().fill(name, 0, &mut whole);
        assert_eq!(whole, read(&Source::Random(Vectors::default()), name, count));
        let mean = whole.iter().sum::<f32>() / count as f32;
        let deviation = (whole.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count as f32).sqrt();
        assert!(mean.abs() < 3e-4 && (deviation / DEVIATION - 1.0).abs() < 0.02, "{mean} {deviation}");
    }

    #[test]
    fn what_a_norm_multiplies_by_is_one_and_other_vectors_are_zero() {
        for (model, name, value) in [
            ("tinyllama-1.1b", "model.norm.weight", 1.0),
            ("tinyllama-1.1b", "model.layers.3.post_attention_layernorm.weight", 1.0),
            ("qwen3-8b", "model.layers.0.self_attn.q_norm.weight", 1.0),
            ("qwen2.5-0.5b", "model.layers.0.self_attn.q_proj.bias", 0.0),
            ("gpt2", "transformer.h.0.ln_1.weight", 1.0),
            ("gpt2", "transformer.h.0.ln_1.bias", 0.0),
            ("gpt2", "transformer.ln_f.weight", 1.0),
        ] {
            assert_eq!(read(&preset(model), name, 5), [value; 5], "{model}: {name}");
        }
        assert!(read(&preset("gpt2"), "transformer.h.0.attn.c_attn.weight", 5).iter().all(|x| *x != 0.0 && *x != 1.0));
    }
}
