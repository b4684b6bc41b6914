//! Where a model's parameters come from: the files of a folder, or for a preset a generator.
//!
//! Invariant: both are read in pieces through a bounded buffer, and a parameter of a preset is a pure function of its name:
//! the same on every machine, whatever is read before it.

use crate::ModelError;
use crate::names::TensorNames;
use half::bf16;
use remat_formats::{FormatsError, ModelFiles};
use remat_tensor::{DType, Philox, Shape, stream_of_name};

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
    Random,
}

impl Source {
    /// The name a parameter has here.
    pub fn tensor_of(&self, name: &str) -> Option<String> {
        match self {
            Source::Files(_, names) => names.tensor_of(name).map(str::to_string),
            Source::Random => Some(name.to_string()),
        }
    }

    /// What to say of a parameter that has no name here.
    pub fn missing(&self, name: &str) -> String {
        match self {
            Source::Files(files, names) => names.missing(name, files),
            Source::Random => "is missing".to_string(),
        }
    }

    /// The shape a tensor has here; `None` if it takes any.
    pub fn shape_of(&self, tensor: &str) -> Option<&Shape> {
        match self {
            Source::Files(files, _) => files.tensor_info(tensor).map(|info| &info.shape),
            Source::Random => None,
        }
    }

    /// Whether a tensor is stored as f16.
    pub fn is_f16(&self, tensor: &str) -> bool {
        match self {
            Source::Files(files, _) => files.tensor_info(tensor).is_some_and(|info| info.dtype == Some(DType::F16)),
            Source::Random => false,
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
            Source::Files(files, _) => Ok(files.read_chunks_as_f32(tensor, sink)?),
            Source::Random => {
                let mut piece = vec![0.0; PIECE.min(elements)];
                for first in (0..elements).step_by(PIECE) {
                    let count = PIECE.min(elements - first);
                    fill(tensor, first as u64, &mut piece[..count]);
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
        if let Source::Files(files, _) = self {
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

/// The elements of a random tensor from `first` on, which is a multiple of four.
fn fill(tensor: &str, first: u64, target: &mut [f32]) {
    if tensor.ends_with(".bias") {
        return target.fill(0.0);
    }
    let is_norm = ["norm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight"].iter().any(|end| tensor.ends_with(end));
    if is_norm {
        return target.fill(1.0);
    }
    Philox::new(0, stream_of_name(tensor)).nearly_normal(first, DEVIATION, target);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_tensors_have_the_usual_spread_and_do_not_depend_on_how_they_are_read() {
        let (source, name, count) = (Source::Random, "model.layers.0.mlp.up_proj.weight", 100_000);
        let read = |name: &str, count: usize| {
            let mut read = Vec::new();
            let take = &mut |piece: &[f32]| {
                read.extend_from_slice(piece);
                Ok(())
            };
            source.read_chunks(name, count, take).expect("never fails");
            read
        };
        let mut whole = vec![0.0; count];
        fill(name, 0, &mut whole);
        assert_eq!(whole, read(name, count));
        let mean = whole.iter().sum::<f32>() / count as f32;
        let deviation = (whole.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count as f32).sqrt();
        assert!(mean.abs() < 3e-4 && (deviation / DEVIATION - 1.0).abs() < 0.02, "{mean} {deviation}");
        for (name, value) in [("model.norm.weight", 1.0), ("transformer.h.0.ln_1.weight", 1.0), ("h.0.ln_1.bias", 0.0)]
        {
            assert_eq!(read(name, 5), [value; 5], "{name}");
        }
    }
}
