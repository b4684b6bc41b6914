//! `norm_of_squares`: the norm of all gradients together, of their blocks' sums of squares.
//!
//! Operand: i32 [2 · blocks], halves of f64 as `square_sums` makes them, of all ranks. Result: f32 [1]. The blocks of each tensor
//! are added in their order, wherever they lie, and then the tensors' sums: the order of `grad_norm` in a single process.

use super::{OpDef, number_of, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};

/// Attributes of `norm_of_squares`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormOfSquares {
    /// Of each tensor, the runs of its blocks in order: the first block of a run, and how many.
    pub tensors: Vec<Vec<[usize; 2]>>,
}

impl NormOfSquares {
    /// The norm of these blocks.
    pub fn norm(&self, sums: &[f64]) -> f64 {
        let of_tensor =
            |runs: &Vec<[usize; 2]>| runs.iter().flat_map(|&[first, count]| &sums[first..first + count]).sum::<f64>();
        self.tensors.iter().map(of_tensor).sum::<f64>().sqrt()
    }
}

impl OpDef for NormOfSquares {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        let words = inputs[0];
        if words.dtype != DType::I32 || words.shape.len() != 1 || !words.shape.numel().is_multiple_of(2) {
            return Err(format!("sums {words} must be i32 [2 · blocks]"));
        }
        let blocks = words.shape.numel() / 2;
        let ends = self.tensors.iter().flatten().map(|[first, count]| first.checked_add(*count));
        if ends.into_iter().any(|end| end.is_none_or(|end| end > blocks)) {
            return Err(format!("attribute tensors: there are {blocks} blocks"));
        }
        Ok(vec![Type::new(DType::F32, [1])])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::GradNorm
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("norm_of_squares", "it belongs to the update, which is not differentiated"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(1.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let sums: Vec<f64> =
            inputs[0].data.chunks_exact(2).map(|words| number_of([words[0] as i32, words[1] as i32])).collect();
        vec![Array::new([1], vec![self.norm(&sums)])]
    }

    fn samples() -> Vec<Sample> {
        let of = |sums: &[f64], tensors: Vec<Vec<[usize; 2]>>| {
            let words: Vec<i32> = sums.iter().flat_map(|&sum| super::words_of(sum)).collect();
            Sample::new(NormOfSquares { tensors }).i32([words.len()], words)
        };
        vec![
            of(&[2.25], vec![vec![[0, 1]]]),
            of(&[1.5, 0.125, 1e20, 7.0, 3.3], vec![vec![[3, 2], [0, 1]], vec![[1, 2]]]),
        ]
    }
}
