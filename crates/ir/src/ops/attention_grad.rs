//! `attention_grad`: dq, dk and dv of `attention`, from its output and softmax statistic.
//!
//! Operands: dy like q, q [B, T, H·E], k and v [B, T, K·E], o like q, lse f32 [B, H, T], segment_start i32 [B, T], then
//! rng u32 [4] if dropout > 0. Results: dq, dk, dv like q, k, v. With S = scale·q·kᵀ, P = exp(c(S) − lse), the dropout factors
//! Z and D = Σ dy·o: dv = (P∘Z)ᵀ dy, dS = c′(S) ∘ P ∘ (Z ∘ dy·vᵀ − D), dq = scale · dS·k, dk = scale · dSᵀ·q; with a cap,
//! c′(S) = 1 − (c(S) / cap)², else 1. A kv head's gradient is the sum over the query heads that read it, in ascending order. Dao, *FlashAttention-2*, 2023.

use super::attention::{Attention, dot};
use super::{OpDef, operands, same, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp, Workspace};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `attention_grad`: those of its forward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionGrad {
    /// Number H of query heads.
    pub heads: usize,
    /// Number K of key and value heads; divides H.
    pub kv_heads: usize,
    /// Factor of q·kᵀ.
    pub scale: f32,
    /// How many keys a token sees at most, itself included.
    pub window: Option<usize>,
    /// Scores s become cap · tanh(s / cap); not where the text form says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f32>,
    /// Probability of dropping a softmax probability.
    pub dropout: f32,
    /// Stream of the forward's dropout.
    pub stream: u64,
}

impl AttentionGrad {
    /// The gradient op of this forward op.
    pub fn of(forward: &Attention) -> Self {
        let Attention { heads, kv_heads, scale, window, softcap, dropout, stream } = forward.clone();
        AttentionGrad { heads, kv_heads, scale, window, softcap, dropout, stream }
    }

    /// The forward op.
    pub fn forward(&self) -> Attention {
        let AttentionGrad { heads, kv_heads, scale, window, softcap, dropout, stream } = self.clone();
        Attention { heads, kv_heads, scale, window, softcap, dropout, stream }
    }
}

impl OpDef for AttentionGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let forward = self.forward();
        operands(inputs, 6 + forward.rest())?;
        let (dy, q, k, v, o) = (inputs[0], inputs[1], inputs[2], inputs[3], inputs[4]);
        forward.fit(q, k, v, &inputs[6..])?;
        same(("dy", dy), ("q", q))?;
        same(("o", o), ("q", q))?;
        let statistic = forward.statistic(q);
        typed("lse", inputs[5], statistic.dtype, &statistic.shape)?;
        Ok(vec![q.clone(), k.clone(), v.clone()])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["dq", "dk", "dv"][index]
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        if self.dropout > 0.0 { OpClass::AttentionDropoutGrad } else { OpClass::AttentionGrad }
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..5
    }

    fn workspace(&self, inputs: &[&Type]) -> Workspace {
        let (heads, kv_heads, q) = (self.heads, self.kv_heads, &inputs[1].shape);
        let (batch, queries, keys, head_size) = (q[0], q[1], q[1], q.last() / heads);
        Workspace::HeadGradients { batch, queries, keys, heads, kv_heads, head_size }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("attention_grad", "second derivatives are not supported"))
    }

    /// Five products where the forward has two.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(2.5 * self.forward().work(inputs[1]), inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (dy, q, k, v, o, lse) = (inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], inputs[5]);
        let walk = self.forward().walk(q, inputs[6], inputs.get(7));
        let scale = f64::from(self.scale);
        let [mut dq, mut dk, mut dv] = [q, k, v].map(|x| Array::zeros(x.shape.clone()));
        for (b, h, i) in walk.queries() {
            let query = walk.query(b, h, i);
            let d = dot(&dy.data[query.clone()], &o.data[query.clone()]);
            for j in walk.visible(b, i) {
                let key = walk.key(b, h, j);
                let score = walk.score(q, k, (b, h, i), j);
                let p = (score - lse.data[walk.statistic(b, h, i)]).exp();
                let kept = walk.kept(b, h, i, j);
                let ds = p * (kept * dot(&dy.data[query.clone()], &v.data[key.clone()]) - d) * walk.slope(score) * scale;
                for e in 0..walk.head_size {
                    let (query, key) = (query.start + e, key.start + e);
                    dv.data[key] += p * kept * dy.data[query];
                    dq.data[query] += ds * k.data[key];
                    dk.data[key] += ds * q.data[query];
                }
            }
        }
        vec![dq, dk, dv]
    }

    fn samples() -> Vec<Sample> {
        let with_cotangent = |forward: Sample| {
            let crate::Op::Attention(op) = &forward.op else { unreachable!("these are samples of attention") };
            let results = forward.eval();
            let sample = Sample::new(AttentionGrad::of(op)).normal(forward.types[0].shape.clone());
            let sample = sample.operand(&forward, 0).operand(&forward, 1).operand(&forward, 2);
            let sample = sample.array(&results[0]).array(&results[1]);
            (3..forward.types.len()).fold(sample, |sample, index| sample.operand(&forward, index))
        };
        Attention::samples().into_iter().map(with_cotangent).collect()
    }
}
