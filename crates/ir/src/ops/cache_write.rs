//! `cache_write`: row n of each sequence's cache := the new row of that position, in place.
//!
//! Operands: cache [B, S, W] (state), x [B, T, W] of its dtype, positions i32 [B, T]. Result: the cache's new value, with
//! cache[b, positions[b, t]] = x[b, t]; of two rows for one position the later stays. Executors refuse a position outside
//! 0..S; here it writes nothing. Keys and values of generated text live in such states.

use super::embedding::row_of;
use super::{OpDef, float, operands, rank, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// `cache_write` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheWrite;

impl OpDef for CacheWrite {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3)?;
        let (cache, x) = (inputs[0], inputs[1]);
        float("cache", cache)?;
        rank("cache", cache, 3)?;
        rank("x", x, 3)?;
        typed("x", x, cache.dtype, &[cache.shape[0], x.shape[1], cache.shape[2]])?;
        typed("positions", inputs[2], DType::I32, &x.shape[..2])?;
        Ok(vec![cache.clone()])
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..2
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("cache_write", "an update in place has no derivative"))
    }

    /// Only the rows that are written count, not the cache.
    fn cost(&self, inputs: &[&Type], _outputs: &[&Type]) -> Cost {
        Cost::new(0.0, &[inputs[1], inputs[2]], &[inputs[1]])
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (mut cache, x, positions) = (inputs[0].clone(), inputs[1], inputs[2]);
        let (capacity, tokens) = (cache.shape[1], x.shape[1]);
        for (n, &position) in positions.data.iter().enumerate() {
            if let Some(row) = row_of(position, capacity) {
                cache.row_mut(n / tokens * capacity + row).copy_from_slice(x.row(n));
            }
        }
        vec![cache]
    }

    /// One row; rows in order; rows out of order, and one position written twice.
    fn samples() -> Vec<Sample> {
        let of = |batch: usize, capacity: usize, width: usize, positions: &[i32]| {
            let tokens = positions.len() / batch;
            Sample::new(CacheWrite)
                .normal([batch, capacity, width])
                .normal([batch, tokens, width])
                .i32([batch, tokens], positions.to_vec())
        };
        vec![of(1, 5, 7, &[3]), of(2, 6, 33, &[1, 2, 3, 0, 1, 2]), of(1, 40, 70, &[39, 0, 7, 0])]
    }
}
