//! `cached_attention`: o = softmax(c(scale · q·kᵀ) over the visible keys) · v, per head, with keys and values from caches; c as
//! in `attention`.
//!
//! Operands: q [B, T, H·E], k and v [B, S, K·E], positions i32 [B, T]. Result: o like q. Key j of a cache is that of
//! position j; token t of row b sees the keys j in [max(0, p − window + 1), p] with p = positions[b, t], so what lies
//! behind p in the caches does not matter. Query head h reads kv head h / (H/K). Executors refuse a position outside
//! 0..S; here it gives NaN. The form of `attention` for generation: no dropout, no segments, no derivative.

use super::attention::dot;
use super::embedding::row_of;
use super::{Attention, OpDef, operands, rank, softcap, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `cached_attention`, as those of `attention`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CachedAttention {
    /// Number H of query heads.
    pub heads: usize,
    /// Number K of key and value heads; divides H.
    pub kv_heads: usize,
    /// Factor of q·kᵀ, usually 1/√E.
    pub scale: f32,
    /// How many keys a token sees at most, itself included.
    pub window: Option<usize>,
    /// Scores s become cap · tanh(s / cap); not where the text form says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f32>,
}

impl CachedAttention {
    /// The same op on whole sequences; its checks of attributes and of q hold here, too.
    fn whole(&self) -> Attention {
        let CachedAttention { heads, kv_heads, scale, window, softcap } = *self;
        Attention { heads, kv_heads, scale, window, softcap, dropout: 0.0, stream: 0 }
    }

    /// First key that a token at `position` sees.
    fn first_visible(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

impl OpDef for CachedAttention {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 4)?;
        let (q, k, v, positions) = (inputs[0], inputs[1], inputs[2], inputs[3]);
        rank("q", q, 3)?;
        rank("k", k, 3)?;
        typed("positions", positions, DType::I32, &q.shape[..2])?;
        // The attributes and q: with keys of the queries' own length, which fit whatever q and the attributes allow.
        let heads = self.heads.max(1);
        let own = Type::new(q.dtype, [q.shape[0], q.shape[1], q.shape.last() / heads * self.kv_heads.min(heads)]);
        self.whole().fit(q, &own, &own, &[positions])?;
        typed("k", k, q.dtype, &[q.shape[0], k.shape[1], own.shape.last()])?;
        typed("v", v, k.dtype, &k.shape)?;
        Ok(vec![q.clone()])
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Attention
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..3
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("cached_attention", "generation is not differentiated; use attention"))
    }

    /// As if every token saw as many keys as the cache or the window can hold.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let keys = self.window.map_or(inputs[1].shape[1], |window| window.min(inputs[1].shape[1]));
        Cost::new(4.0 * inputs[0].shape.numel() as f64 * keys as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (q, k, v, positions) = (inputs[0], inputs[1], inputs[2], inputs[3]);
        let (tokens, capacity, size) = (q.shape[1], k.shape[1], q.shape.last() / self.heads);
        let mut o = Array::zeros(results[0].shape.clone());
        for (n, &position) in positions.data.iter().enumerate() {
            let Some(position) = row_of(position, capacity) else {
                o.row_mut(n).fill(f64::NAN);
                continue;
            };
            for h in 0..self.heads {
                let (query, kv) = (h * size..(h + 1) * size, h / (self.heads / self.kv_heads) * size);
                let key = |j: usize| (n / tokens * capacity + j, kv..kv + size);
                let visible = self.first_visible(position)..position + 1;
                let score = |j: usize| {
                    let (row, columns) = key(j);
                    let score = f64::from(self.scale) * dot(&q.row(n)[query.clone()], &k.row(row)[columns]);
                    softcap::capped(self.softcap, score)
                };
                let scores: Vec<f64> = visible.clone().map(score).collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                for (j, s) in visible.zip(scores) {
                    let (row, columns) = key(j);
                    let weight = (s - max).exp() / sum;
                    o.row_mut(n)[query.clone()].iter_mut().zip(&v.row(row)[columns]).for_each(|(o, v)| *o += weight * v);
                }
            }
        }
        vec![o]
    }

    /// One token on one key; grouped heads; a window; a long cache; tokens that do not follow each other; a cap.
    fn samples() -> Vec<Sample> {
        let plain = CachedAttention { heads: 1, kv_heads: 1, scale: 0.5, window: None, softcap: None };
        let grouped = CachedAttention { heads: 4, kv_heads: 2, scale: 0.41, ..plain.clone() };
        let of = |op: &CachedAttention, capacity: usize, size: usize, positions: [&[i32]; 2]| {
            let batch = positions.iter().filter(|row| !row.is_empty()).count();
            let shape = |tokens: usize, heads: usize| [batch, tokens, heads * size];
            let tokens = positions[0].len();
            Sample::new(op.clone())
                .normal(shape(tokens, op.heads))
                .normal(shape(capacity, op.kv_heads))
                .normal(shape(capacity, op.kv_heads))
                .i32([batch, tokens], positions.concat())
        };
        vec![
            of(&plain, 1, 4, [&[0], &[]]),
            of(&plain, 9, 3, [&[8], &[2]]),
            of(&grouped, 9, 6, [&[3, 4, 5], &[0, 8, 2]]),
            of(&CachedAttention { window: Some(3), ..grouped.clone() }, 9, 6, [&[1, 2, 8], &[0, 4, 7]]),
            of(&CachedAttention { heads: 2, ..plain }, 700, 70, [&[699, 300], &[]]),
            of(&CachedAttention { window: Some(300), ..grouped.clone() }, 700, 16, [&[640], &[20]]),
            of(&CachedAttention { softcap: Some(0.8), ..grouped }, 9, 6, [&[3, 4, 5], &[0, 8, 2]]),
        ]
    }
}
