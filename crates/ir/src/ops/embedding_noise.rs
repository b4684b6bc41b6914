//! `embedding_noise`: y = x + α/√(L·D) · u, with u uniform in [−1, 1) for every element; L is the number of tokens of the
//! sequence that a token belongs to.
//!
//! Operands: x [B, T, D], segment_start i32 [B, T], rng u32 [4]. Result: y like x. Tokens of one line with one start are one
//! sequence, so that padding and packed neighbours count for nothing. The noise is a pure function of (rng, stream,
//! element) and is never stored; the derivative is the identity. Jain et al., *NEFTune*, 2023.

use super::{Dropout, OpDef, finite, float, operands, rank, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `embedding_noise`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingNoise {
    /// The size of the noise: its norm over a sequence is α/√3 at most in the mean.
    pub alpha: f32,
    /// `stream_of_name` of the node's stable name, so that no two ops share their numbers.
    pub stream: u64,
}

impl OpDef for EmbeddingNoise {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3)?;
        finite("alpha", self.alpha)?;
        let x = inputs[0];
        float("x", x)?;
        rank("x", x, 3)?;
        typed("segment_start", inputs[1], DType::I32, &x.shape.dims()[..2])?;
        typed("rng", inputs[2], DType::U32, &[4])?;
        Ok(vec![x.clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Dropout
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("embedding_noise")?;
        Ok(vec![cx.needs[0].then_some(dy), None, None])
    }

    /// A random word counts as 25 operations: Philox makes four with ten rounds.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(29.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let philox = Dropout::philox(inputs[2], self.stream);
        let (mut y, starts) = (inputs[0].clone(), inputs[1]);
        let (width, line) = (y.data.len() / starts.data.len().max(1), starts.shape.last());
        for (token, start) in starts.data.iter().enumerate() {
            let first = token / line * line;
            let tokens = starts.data[first..first + line].iter().filter(|other| *other == start).count();
            let magnitude = f64::from(self.alpha) / ((tokens * width) as f64).sqrt();
            for element in token * width..(token + 1) * width {
                y.data[element] += magnitude * (2.0 * f64::from(philox.uniform(element as u64)) - 1.0);
            }
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let of = |alpha, stream, [lines, tokens, width]: [usize; 3]| {
            let sample = Sample::new(EmbeddingNoise { alpha, stream }).normal([lines, tokens, width]);
            sample.ids([lines, tokens], 3).rng()
        };
        vec![of(5.0, 11, [1, 3, 5]), of(0.5, u64::MAX, [2, 7, 33]), of(0.0, 0, [3, 1, 70])]
    }
}
