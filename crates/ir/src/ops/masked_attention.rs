//! `masked_attention`: o = dropout(softmax(scale · q·kᵀ + mask)) · v, per head; keys and values may be of another sequence than
//! the queries, and of another length. The meaning of torch.nn.functional.scaled_dot_product_attention.
//!
//! Operands: q [B, T, H·E], k and v [B, S, K·E], then a mask if `mask`, then rng u32 [4] if dropout > 0. A boolean mask is i32,
//! and its 0 hides a key; an additive one is f32, so that −∞ hides; of shape [B, S] (padding of keys), [B, T, S], or
//! [B or 1, H or 1, T or 1, S]. Results: o like q; lse f32 [B, H, T], the logarithm of the softmax's denominator, a residual.
//! If `causal`, query i sees the keys j ≤ i alone. A query that sees no key at all gives o = 0 and lse = −∞, and gradients
//! of zero. Query head h reads kv head h / (H/K). The T×S probabilities are never a value. Vaswani et al., 2017; Dao et
//! al., *FlashAttention*, 2022. Look at `attention` for the form of packed documents, with windows and capped scores.

use super::attention::dot;
use super::dropout::Dropout;
use super::{MaskedAttentionGrad, OpDef, finite, float, operands, rank, same, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::{DType, Philox, Shape};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What a mask does to scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionMask {
    /// i32: 0 hides the key, anything else does nothing.
    Boolean,
    /// f32: added to the score.
    Additive,
}

impl AttentionMask {
    /// The dtype of its elements.
    pub fn dtype(self) -> DType {
        match self {
            AttentionMask::Boolean => DType::I32,
            AttentionMask::Additive => DType::F32,
        }
    }

    /// The score behind the mask, `None` where it is hidden.
    fn masked(self, score: f64, mask: f64) -> Option<f64> {
        match self {
            AttentionMask::Boolean => (mask != 0.0).then_some(score),
            AttentionMask::Additive => (mask != f64::NEG_INFINITY).then_some(score + mask),
        }
    }
}

/// Attributes of `masked_attention`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedAttention {
    /// Number H of query heads.
    pub heads: usize,
    /// Number K of key and value heads; divides H.
    pub kv_heads: usize,
    /// Factor of q·kᵀ, usually 1/√E.
    pub scale: f32,
    /// Whether query i sees no key behind the i-th.
    pub causal: bool,
    /// Whether a mask follows, and of which kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<AttentionMask>,
    /// Probability of dropping a softmax probability, in [0, 1). Element ((b·H + h)·T + i)·S + j of the mask.
    pub dropout: f32,
    /// `stream_of_name` of the node's stable name, for dropout.
    pub stream: u64,
}

impl MaskedAttention {
    /// Checks attributes and the operands q, k, v, mask and rng.
    pub(super) fn fit(&self, q: &Type, k: &Type, v: &Type, rest: &[&Type]) -> Result<(), String> {
        finite("scale", self.scale)?;
        Dropout::probability("dropout", self.dropout)?;
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(format!("attribute kv_heads = {kv_heads} must divide heads = {heads}"));
        }
        float("q", q)?;
        rank("q", q, 3)?;
        rank("k", k, 3)?;
        if !q.shape.last().is_multiple_of(heads) {
            return Err(format!("the last axis of q {q} is not a multiple of heads = {heads}"));
        }
        let head_size = q.shape.last() / heads;
        typed("k", k, q.dtype, &[q.shape[0], k.shape[1], kv_heads * head_size])?;
        same(("k", k), ("v", v))?;
        if let Some(mask) = self.mask {
            let sizes = [q.shape[0], q.shape[1], k.shape[1]];
            if rest[0].dtype != mask.dtype() || self.mask_strides(&rest[0].shape, sizes).is_none() {
                let ([b, t, s], h) = (sizes, heads);
                let shapes = format!("[{b}, {s}], [{b}, {t}, {s}] or [{b} or 1, {h} or 1, {t} or 1, {s}]");
                return Err(format!("the mask {} must be {}, of shape {shapes}", rest[0], mask.dtype()));
            }
        }
        rest.get(usize::from(self.mask.is_some())).map_or(Ok(()), |rng| typed("rng", rng, DType::U32, &[4]))
    }

    /// By how many elements of a mask neighbours in the batch, among the heads and among the queries lie apart, 0 where they
    /// share them; keys lie one behind the other. `sizes` are B, T and S. `None` for a shape that no mask has.
    pub fn mask_strides(&self, mask: &Shape, [batch, queries, keys]: [usize; 3]) -> Option<[usize; 3]> {
        let heads = self.heads;
        let [b, h, t] = match *mask.dims() {
            [b, s] if [b, s] == [batch, keys] => [b, 1, 1],
            [b, t, s] if [b, t, s] == [batch, queries, keys] => [b, 1, t],
            [b, h, t, s] if s == keys => [b, h, t],
            _ => return None,
        };
        if ![1, batch].contains(&b) || ![1, heads].contains(&h) || ![1, queries].contains(&t) {
            return None;
        }
        let stride = |size: usize, inner: usize| if size == 1 { 0 } else { inner };
        Some([stride(b, h * t * keys), stride(h, t * keys), stride(t, keys)])
    }

    /// Number of operands behind q, k and v (and o and lse, in backward).
    pub(super) fn rest(&self) -> usize {
        usize::from(self.mask.is_some()) + usize::from(self.dropout > 0.0)
    }

    /// Type of lse.
    pub(super) fn statistic(&self, q: &Type) -> Type {
        Type::new(DType::F32, [q.shape[0], self.heads, q.shape[1]])
    }

    /// FLOPs of the forward pass: 4·E for every pair that is not behind a causal diagonal; a mask spares none.
    pub(super) fn work(&self, q: &Type, k: &Type) -> f64 {
        let (batch, queries, keys) = (q.shape[0] as f64, q.shape[1] as f64, k.shape[1] as f64);
        let square = queries.min(keys);
        let pairs = if self.causal { square * (square + 1.0) / 2.0 + (queries - square) * keys } else { queries * keys };
        4.0 * q.shape.last() as f64 * batch * pairs
    }
}

/// One evaluation: sizes, the mask, what dropout keeps.
pub(super) struct Pairs<'a> {
    op: &'a MaskedAttention,
    pub(super) sizes: [usize; 3],
    pub(super) head_size: usize,
    mask: Option<(&'a Array, AttentionMask, [usize; 3])>,
    philox: Option<Philox>,
}

impl<'a> Pairs<'a> {
    /// Of the operands q and k, and of mask and rng in `rest`.
    pub(super) fn of(op: &'a MaskedAttention, q: &Array, k: &Array, rest: &[&'a Array]) -> Self {
        let sizes = [q.shape[0], q.shape[1], k.shape[1]];
        let strides = |mask: &Array| op.mask_strides(&mask.shape, sizes).expect("operands satisfy `infer`");
        let mask = op.mask.map(|kind| (rest[0], kind, strides(rest[0])));
        let philox = rest.get(usize::from(op.mask.is_some())).map(|rng| Dropout::philox(rng, op.stream));
        Pairs { op, sizes, head_size: q.shape.last() / op.heads, mask, philox }
    }

    /// Every (b, h, i): one softmax each.
    pub(super) fn queries(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let ([batch, tokens, _], heads) = (self.sizes, self.op.heads);
        (0..batch).flat_map(move |b| (0..heads).flat_map(move |h| (0..tokens).map(move |i| (b, h, i))))
    }

    /// Where query head h of token i lies in q and o.
    pub(super) fn query(&self, b: usize, h: usize, i: usize) -> Range<usize> {
        let start = ((b * self.sizes[1] + i) * self.op.heads + h) * self.head_size;
        start..start + self.head_size
    }

    /// Where the kv head of query head h of token j lies in k and v.
    pub(super) fn key(&self, b: usize, h: usize, j: usize) -> Range<usize> {
        let kv_head = h / (self.op.heads / self.op.kv_heads);
        let start = ((b * self.sizes[2] + j) * self.op.kv_heads + kv_head) * self.head_size;
        start..start + self.head_size
    }

    /// Where (b, h, i) lies in lse.
    pub(super) fn statistic(&self, b: usize, h: usize, i: usize) -> usize {
        (b * self.op.heads + h) * self.sizes[1] + i
    }

    /// What dropout multiplies the probability of (b, h, i, j) with.
    pub(super) fn kept(&self, (b, h, i): (usize, usize, usize), j: usize) -> f64 {
        let element = self.statistic(b, h, i) * self.sizes[2] + j;
        self.philox.map_or(1.0, |philox| Dropout::multiplier(self.op.dropout, &philox, element as u64))
    }

    /// The keys that a query sees, each with its score.
    pub(super) fn scores(&self, q: &Array, k: &Array, (b, h, i): (usize, usize, usize)) -> Vec<(usize, f64)> {
        let keys = if self.op.causal { self.sizes[2].min(i + 1) } else { self.sizes[2] };
        let score = |j: usize| {
            let plain = f64::from(self.op.scale) * dot(&q.data[self.query(b, h, i)], &k.data[self.key(b, h, j)]);
            let Some((mask, kind, [of_b, of_h, of_i])) = self.mask else { return Some((j, plain)) };
            Some((j, kind.masked(plain, mask.data[b * of_b + h * of_h + i * of_i + j])?))
        };
        (0..keys).filter_map(score).collect()
    }
}

impl OpDef for MaskedAttention {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3 + self.rest())?;
        self.fit(inputs[0], inputs[1], inputs[2], &inputs[3..])?;
        Ok(vec![inputs[0].clone(), self.statistic(inputs[0])])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["o", "lse"][index]
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
        let dy = cx.dy("masked_attention")?;
        if self.mask.is_some() && cx.needs[3] {
            return Err(cx.refuse("masked_attention", "its mask cannot be trained; compute it from what is not"));
        }
        let mut inputs = vec![dy, cx.inputs[0], cx.inputs[1], cx.inputs[2], cx.outputs[0], cx.outputs[1]];
        inputs.extend(&cx.inputs[3..]);
        let grads = cx.emit("dx", MaskedAttentionGrad::of(self), &inputs)?;
        let mut cotangents = vec![None; cx.inputs.len()];
        for (index, grad) in grads.into_iter().enumerate() {
            cotangents[index] = cx.needs[index].then_some(grad);
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(self.work(inputs[0], inputs[1]), inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
        let pairs = Pairs::of(self, q, k, &inputs[3..]);
        let mut o = Array::zeros(results[0].shape.clone());
        let mut lse = Array::zeros(results[1].shape.clone());
        for (b, h, i) in pairs.queries() {
            let scores = pairs.scores(q, k, (b, h, i));
            let max = scores.iter().map(|score| score.1).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score.1 - max).exp()).sum();
            let statistic = if scores.is_empty() { max } else { max + sum.ln() };
            lse.data[pairs.statistic(b, h, i)] = statistic;
            for (j, score) in scores {
                let weight = (score - statistic).exp() * pairs.kept((b, h, i), j);
                let value = &v.data[pairs.key(b, h, j)];
                o.data[pairs.query(b, h, i)].iter_mut().zip(value).for_each(|(o, v)| *o += weight * v);
            }
        }
        vec![o, lse]
    }

    /// Every key; crossed with fewer and with more keys, causal; each kind and shape of mask; dropout; lengths that cross any
    /// kernel's tiles. Every query sees some key: else lse is not finite.
    fn samples() -> Vec<Sample> {
        let (heads, kv_heads, dropout) = (1, 1, 0.0);
        let plain = MaskedAttention { heads, kv_heads, scale: 0.5, causal: false, mask: None, dropout, stream: 3 };
        let grouped = MaskedAttention { heads: 4, kv_heads: 2, scale: 0.41, ..plain.clone() };
        let causal = MaskedAttention { causal: true, ..grouped.clone() };
        let boolean = MaskedAttention { mask: Some(AttentionMask::Boolean), ..grouped.clone() };
        let additive = MaskedAttention { mask: Some(AttentionMask::Additive), ..grouped.clone() };
        let dropped = |op: &MaskedAttention| MaskedAttention { dropout: 0.3, ..op.clone() };
        vec![
            plain.sample([1, 1, 1], 4, &[]),
            plain.sample([2, 5, 3], 3, &[]),
            grouped.sample([2, 6, 9], 6, &[]),
            causal.sample([2, 6, 9], 6, &[]),
            causal.sample([2, 9, 4], 6, &[]),
            boolean.sample([2, 5, 9], 6, &[2, 9]),
            boolean.sample([2, 5, 9], 6, &[2, 5, 9]),
            additive.sample([2, 5, 9], 6, &[1, 4, 5, 9]),
            additive.sample([2, 5, 9], 6, &[2, 1, 1, 9]),
            dropped(&boolean).sample([1, 140, 150], 8, &[1, 4, 140, 150]),
            dropped(&additive).sample([2, 70, 20], 8, &[2, 70, 20]),
            MaskedAttention { mask: Some(AttentionMask::Boolean), ..causal.clone() }.sample([1, 70, 70], 8, &[1, 70]),
            dropped(&causal).sample([1, 40, 300], 16, &[]),
            plain.sample([1, 131, 260], 16, &[]),
        ]
    }
}

impl MaskedAttention {
    /// A sample of this op, with a mask of this shape where it has one; of each row of a mask every third key or so is hidden,
    /// never the first.
    fn sample(&self, [batch, queries, keys]: [usize; 3], head_size: usize, mask: &[usize]) -> Sample {
        let width = self.kv_heads * head_size;
        let sample = Sample::new(self.clone())
            .normal([batch, queries, self.heads * head_size])
            .normal([batch, keys, width])
            .normal([batch, keys, width]);
        let hidden = |n: usize| !n.is_multiple_of(keys) && (n * 7 + n / keys).is_multiple_of(3);
        let elements = 0..mask.iter().product::<usize>();
        let sample = match self.mask {
            None => sample,
            Some(AttentionMask::Boolean) => sample.i32(mask, elements.map(|n| i32::from(!hidden(n)) * 2).collect()),
            Some(AttentionMask::Additive) => {
                let bias = |n: usize| if hidden(n) { f64::NEG_INFINITY } else { (n as f64 * 0.7).sin() };
                sample.f32(mask, elements.map(bias).collect())
            }
        };
        if self.dropout > 0.0 { sample.rng() } else { sample }
    }
}
