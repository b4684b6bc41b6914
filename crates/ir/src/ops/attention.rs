//! `attention`: o = dropout(softmax(c(scale · q·kᵀ) over the visible keys)) · v, per head, causal; c(s) = cap · tanh(s / cap),
//! or s where there is no cap.
//!
//! Operands: q [B, T, H·E], k and v [B, T, K·E], segment_start i32 [B, T], then rng u32 [4] if dropout > 0.
//! Results: o like q; lse f32 [B, H, T], the logarithm of the softmax's denominator, a residual. Token i sees the keys
//! j in [max(segment_start[i], i − window + 1), i]; query head h reads kv head h / (H/K). The T×T probabilities are
//! never a value. Vaswani et al., 2017; Dao et al., *FlashAttention*, 2022; Ainslie et al., *GQA*, 2023.

use super::dropout::Dropout;
use super::{AttentionGrad, OpDef, finite, float, operands, rank, same, softcap, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::{DType, Philox};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `attention`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
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
    /// Probability of dropping a softmax probability, in [0, 1). Element ((b·H + h)·T + i)·T + j of the mask.
    pub dropout: f32,
    /// `stream_of_name` of the node's stable name, for dropout.
    pub stream: u64,
}

impl Attention {
    /// Checks attributes and the operands q, k, v, segment_start and rng.
    pub(super) fn fit(&self, q: &Type, k: &Type, v: &Type, rest: &[&Type]) -> Result<(), String> {
        finite("scale", self.scale)?;
        softcap::check(self.softcap)?;
        Dropout::probability("dropout", self.dropout)?;
        if self.window == Some(0) {
            return Err("attribute window = 0 must be at least 1".to_string());
        }
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(format!("attribute kv_heads = {kv_heads} must divide heads = {heads}"));
        }
        float("q", q)?;
        rank("q", q, 3)?;
        if !q.shape.last().is_multiple_of(heads) {
            return Err(format!("the last axis of q {q} is not a multiple of heads = {heads}"));
        }
        let head_size = q.shape.last() / heads;
        // At most q's own width, since kv_heads divides heads: no overflow.
        typed("k", k, q.dtype, &[q.shape[0], q.shape[1], kv_heads * head_size])?;
        same(("k", k), ("v", v))?;
        typed("segment_start", rest[0], DType::I32, &q.shape[..2])?;
        rest.get(1).map_or(Ok(()), |rng| typed("rng", rng, DType::U32, &[4]))
    }

    /// Number of operands behind q, k and v (and o and lse, in backward).
    pub(super) fn rest(&self) -> usize {
        1 + usize::from(self.dropout > 0.0)
    }

    /// Type of lse.
    pub(super) fn statistic(&self, q: &Type) -> Type {
        Type::new(DType::F32, [q.shape[0], self.heads, q.shape[1]])
    }

    /// FLOPs of the forward pass: 4·E for every visible pair of query and key.
    pub(super) fn work(&self, q: &Type) -> f64 {
        let (batch, tokens, width) = (q.shape[0] as f64, q.shape[1] as f64, q.shape.last() as f64);
        let window = self.window.map_or(tokens, |window| (window as f64).min(tokens));
        let pairs = window * (window + 1.0) / 2.0 + (tokens - window) * window;
        4.0 * width * batch * pairs
    }

    /// The sizes and attributes that evaluation walks over.
    pub(super) fn walk(&self, q: &Array, segment_start: &Array, rng: Option<&&Array>) -> Walk {
        Walk {
            batch: q.shape[0],
            tokens: q.shape[1],
            head_size: q.shape.last() / self.heads,
            segment_start: segment_start.data.clone(),
            philox: rng.map(|rng| Dropout::philox(rng, self.stream)),
            op: self.clone(),
        }
    }
}

/// One evaluation's sizes: which keys a query sees, where heads lie, what dropout keeps.
pub(super) struct Walk {
    pub(super) batch: usize,
    pub(super) tokens: usize,
    pub(super) head_size: usize,
    segment_start: Vec<f64>,
    philox: Option<Philox>,
    op: Attention,
}

impl Walk {
    /// Every (b, h, i): one softmax each.
    pub(super) fn queries(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let (heads, tokens) = (self.op.heads, self.tokens);
        (0..self.batch).flat_map(move |b| (0..heads).flat_map(move |h| (0..tokens).map(move |i| (b, h, i))))
    }

    /// The keys that token i of row b sees; empty if its segment starts behind it.
    pub(super) fn visible(&self, b: usize, i: usize) -> Range<usize> {
        let window_start = self.op.window.map_or(0, |window| (i + 1).saturating_sub(window));
        let segment_start = self.segment_start[b * self.tokens + i].clamp(0.0, (i + 1) as f64) as usize;
        window_start.max(segment_start)..i + 1
    }

    /// Where query head h of token i lies in q and o.
    pub(super) fn query(&self, b: usize, h: usize, i: usize) -> Range<usize> {
        let start = ((b * self.tokens + i) * self.op.heads + h) * self.head_size;
        start..start + self.head_size
    }

    /// Where the kv head of query head h of token j lies in k and v.
    pub(super) fn key(&self, b: usize, h: usize, j: usize) -> Range<usize> {
        let kv_head = h / (self.op.heads / self.op.kv_heads);
        let start = ((b * self.tokens + j) * self.op.kv_heads + kv_head) * self.head_size;
        start..start + self.head_size
    }

    /// Where (b, h, i) lies in lse.
    pub(super) fn statistic(&self, b: usize, h: usize, i: usize) -> usize {
        (b * self.op.heads + h) * self.tokens + i
    }

    /// What dropout multiplies the probability of (b, h, i, j) with.
    pub(super) fn kept(&self, b: usize, h: usize, i: usize, j: usize) -> f64 {
        let element = self.statistic(b, h, i) * self.tokens + j;
        self.philox.map_or(1.0, |philox| Dropout::multiplier(self.op.dropout, &philox, element as u64))
    }

    /// The score of one pair: c(scale · q·k).
    pub(super) fn score(&self, q: &Array, k: &Array, (b, h, i): (usize, usize, usize), j: usize) -> f64 {
        let score = f64::from(self.op.scale) * dot(&q.data[self.query(b, h, i)], &k.data[self.key(b, h, j)]);
        softcap::capped(self.op.softcap, score)
    }

    /// c′ at a score that was capped.
    pub(super) fn slope(&self, score: f64) -> f64 {
        softcap::slope(self.op.softcap, score)
    }
}

/// The inner product.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl OpDef for Attention {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3 + self.rest())?;
        self.fit(inputs[0], inputs[1], inputs[2], &inputs[3..])?;
        Ok(vec![inputs[0].clone(), self.statistic(inputs[0])])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["o", "lse"][index]
    }

    fn has_batch_axes(&self, _inputs: &[&Type]) -> bool {
        true
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        if self.dropout > 0.0 { OpClass::AttentionDropout } else { OpClass::Attention }
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..3
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("attention")?;
        let mut inputs = vec![dy, cx.inputs[0], cx.inputs[1], cx.inputs[2], cx.outputs[0], cx.outputs[1]];
        inputs.extend(&cx.inputs[3..]);
        let grads = cx.emit("dx", AttentionGrad::of(self), &inputs)?;
        let mut cotangents = vec![None; cx.inputs.len()];
        for (index, grad) in grads.into_iter().enumerate() {
            cotangents[index] = cx.needs[index].then_some(grad);
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(self.work(inputs[0]), inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
        let walk = self.walk(q, inputs[3], inputs.get(4));
        let mut o = Array::zeros(results[0].shape.clone());
        let mut lse = Array::zeros(results[1].shape.clone());
        for (b, h, i) in walk.queries() {
            let visible = walk.visible(b, i);
            let scores: Vec<f64> = visible.clone().map(|j| walk.score(q, k, (b, h, i), j)).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            // No visible key: o = 0 and lse = −∞.
            let statistic = if scores.is_empty() { max } else { max + sum.ln() };
            lse.data[walk.statistic(b, h, i)] = statistic;
            for (j, s) in visible.zip(scores) {
                let weight = (s - statistic).exp() * walk.kept(b, h, i, j);
                let value = &v.data[walk.key(b, h, j)];
                o.data[walk.query(b, h, i)].iter_mut().zip(value).for_each(|(o, v)| *o += weight * v);
            }
        }
        vec![o, lse]
    }

    /// Plain; grouped heads with segments; a window; dropout; lengths that cross any kernel's tiles; caps that bend scores.
    fn samples() -> Vec<Sample> {
        let plain =
            Attention { heads: 1, kv_heads: 1, scale: 0.5, window: None, softcap: None, dropout: 0.0, stream: 3 };
        let grouped = Attention { heads: 4, kv_heads: 2, scale: 0.41, ..plain.clone() };
        vec![
            plain.sample([1, 1], 4, &[]),
            plain.sample([2, 5], 3, &[]),
            grouped.sample([2, 9], 6, &[4]),
            Attention { window: Some(3), ..grouped.clone() }.sample([2, 9], 6, &[4, 7]),
            Attention { dropout: 0.3, ..grouped.clone() }.sample([2, 9], 6, &[4]),
            Attention { heads: 2, kv_heads: 2, scale: 0.25, ..plain.clone() }.sample([1, 67], 16, &[33]),
            Attention { kv_heads: 1, window: Some(20), dropout: 0.3, ..grouped.clone() }.sample([1, 70], 8, &[50]),
            Attention { softcap: Some(1.5), ..grouped.clone() }.sample([2, 9], 6, &[4]),
            Attention { softcap: Some(0.7), window: Some(20), dropout: 0.3, ..grouped }.sample([1, 70], 8, &[50]),
        ]
    }
}

impl Attention {
    /// A sample of this op. Segments start at 0 and at `cuts`; with a cut at the end of a row, that is its padding.
    fn sample(&self, [batch, tokens]: [usize; 2], head_size: usize, cuts: &[usize]) -> Sample {
        let start = |i: usize| cuts.iter().copied().filter(|&cut| cut <= i).max().unwrap_or(0) as i32;
        let sample = Sample::new(self.clone())
            .normal([batch, tokens, self.heads * head_size])
            .normal([batch, tokens, self.kv_heads * head_size])
            .normal([batch, tokens, self.kv_heads * head_size])
            .i32([batch, tokens], (0..batch * tokens).map(|n| start(n % tokens)).collect());
        if self.dropout > 0.0 { sample.rng() } else { sample }
    }
}
