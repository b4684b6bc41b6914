//! `gather_shards`: every rank sends its shard of some tensors to all others, so that all of them have the whole.
//!
//! Operands: tensors, of which this rank's own shard is up to date. Results: the same, up to date in whole: in place, of states
//! by donation. Its `eval` is that of ranks which all hold the same.

use super::OpDef;
use crate::{Array, Collective, Cost, IrError, Movement, OpClass, Sample, Type, ValueId, Vjp, World};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `gather_shards`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatherShards {
    /// Who gathers.
    pub world: World,
    /// Elements of each tensor.
    pub lengths: Vec<usize>,
    /// Where the shards of all of them together begin and end.
    pub bounds: Vec<usize>,
    /// Whether the tensors are states.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub in_state: bool,
}

impl GatherShards {
    fn pairs(&self) -> Vec<(usize, usize)> {
        (0..self.lengths.len()).map(|index| (index, index)).collect()
    }

    fn as_collective(&self) -> Collective<'_> {
        let GatherShards { world, lengths, bounds, .. } = self;
        Collective { movement: Movement::Gather, world: *world, lengths, bounds }
    }
}

impl OpDef for GatherShards {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        self.as_collective().check()?;
        super::operands(inputs, self.lengths.len())?;
        for ((index, ty), &length) in inputs.iter().enumerate().zip(&self.lengths) {
            if ty.dtype != inputs[0].dtype || ty.dtype.element_bytes() != Some(4) {
                return Err(format!("tensor {index} {ty} must have elements of 4 bytes, of one type with the others"));
            }
            if ty.shape.numel() != length {
                return Err(format!("tensor {index} {ty} must have {length} elements"));
            }
        }
        Ok(inputs.iter().map(|&ty| ty.clone()).collect())
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        if self.in_state { self.pairs() } else { Vec::new() }
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        if self.in_state { Vec::new() } else { self.pairs() }
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
        Err(cx.refuse("gather_shards", "it belongs to the update, which is not differentiated"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        inputs.iter().map(|&tensor| tensor.clone()).collect()
    }

    /// Of a process alone: what several do is tested where there are several.
    fn samples() -> Vec<Sample> {
        let of = |shapes: &[&[usize]], in_state| {
            let lengths: Vec<usize> = shapes.iter().map(|shape| shape.iter().product()).collect();
            let bounds = vec![0, lengths.iter().sum()];
            let op = GatherShards { world: World::ALONE, lengths, bounds, in_state };
            shapes.iter().fold(Sample::new(op), |sample, &shape| sample.normal(shape))
        };
        vec![of(&[&[1]], false), of(&[&[5, 7], &[33, 19]], true), of(&[&[5, 7], &[33, 19]], false)]
    }
}
