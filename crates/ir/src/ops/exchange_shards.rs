//! `exchange_shards`: the gradients of one round of micro-batches change hands. Each rank sends every other the shard that the
//! other owns, of its own micro-batch's gradient, and receives its own shard of theirs; the gradients are zeroed for the next.
//!
//! Operands: gradients (f32 states), present i32 [1]: how many ranks, the first ones, have a gradient in this round. Results:
//! the gradients, zeros; and, where this rank owns anything, f32 [ranks, own]: row r is rank r's part of this rank's shard, zeros
//! where that rank is not present. Nothing is added up here. Its `eval` is that of ranks which all hold the same.

use super::{OpDef, typed};
use crate::collective::pieces;
use crate::{Array, Collective, Cost, IrError, Movement, OpClass, Sample, Type, ValueId, Vjp, World};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `exchange_shards`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeShards {
    /// Who exchanges.
    pub world: World,
    /// Elements of each gradient.
    pub lengths: Vec<usize>,
    /// Where the shards of all of them together begin and end.
    pub bounds: Vec<usize>,
}

impl ExchangeShards {
    fn as_collective(&self) -> Collective<'_> {
        let ExchangeShards { world, lengths, bounds } = self;
        Collective { movement: Movement::AllToAll, world: *world, lengths, bounds }
    }
}

impl OpDef for ExchangeShards {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let collective = self.as_collective();
        collective.check()?;
        super::operands(inputs, self.lengths.len() + 1)?;
        let (present, gradients) = inputs.split_last().expect("as many operands as lengths, and one");
        for ((index, ty), &length) in gradients.iter().enumerate().zip(&self.lengths) {
            typed(&format!("gradient {index}"), ty, DType::F32, &ty.shape)?;
            if ty.shape.numel() != length {
                return Err(format!("gradient {index} {ty} must have {length} elements"));
            }
        }
        typed("present", present, DType::I32, &[1])?;
        let mut results: Vec<Type> = gradients.iter().map(|&ty| ty.clone()).collect();
        let own = collective.own().len();
        if own > 0 {
            results.push(Type::new(DType::F32, [self.world.size, own]));
        }
        Ok(results)
    }

    fn result_name(&self, index: usize) -> &'static str {
        if index == self.lengths.len() { "parts" } else { "g" }
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        (0..self.lengths.len()).map(|index| (index, index)).collect()
    }

    /// What others send is made once.
    fn is_deterministic(&self) -> bool {
        false
    }

    fn collective(&self) -> Option<Collective<'_>> {
        Some(self.as_collective())
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Copy
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("exchange_shards", "it belongs to the accumulation, which is not differentiated"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (present, gradients) = inputs.split_last().expect("`infer` has counted");
        let own = self.as_collective().own();
        let part = pieces(&self.lengths, own.clone()).flat_map(|(index, of)| gradients[index].data[of].to_vec());
        let part: Vec<f64> = part.collect();
        let mut results: Vec<Array> = gradients.iter().map(|g| Array::zeros(g.shape.clone())).collect();
        if !own.is_empty() {
            let mut parts = Array::zeros([self.world.size, own.len()]);
            let rows = parts.data.chunks_mut(own.len()).take(present.data[0] as usize);
            rows.for_each(|row| row.copy_from_slice(&part));
            results.push(parts);
        }
        results
    }

    /// Of a process alone: what several do is tested where there are several.
    fn samples() -> Vec<Sample> {
        let of = |shapes: &[&[usize]]| {
            let lengths: Vec<usize> = shapes.iter().map(|shape| shape.iter().product()).collect();
            let bounds = vec![0, lengths.iter().sum()];
            let op = ExchangeShards { world: World::ALONE, lengths, bounds };
            shapes.iter().fold(Sample::new(op), |sample, &shape| sample.normal(shape)).i32([1], vec![1])
        };
        vec![of(&[&[1]]), of(&[&[5, 7], &[33, 19], &[3]])]
    }
}
