//! `pair_loss`: the loss of each element of x with the element of y that it should be, one of a few functions; d = x − y.
//!
//! Operands: x, y of one type, then a weight of positive answers p f32 [C] if `pos_weight`, with C the last axis of x. Result:
//! f32 of the shape of x. The definitions are those of torch.nn.functional: `mse` d²; `l1` |d|; `huber` d²/2 where |d| ≤ δ,
//! else δ·(|d| − δ/2); `smooth_l1` d²/(2β) where |d| < β, else |d| − β/2; `bce_with_logits`
//! (1 − y)·x + (1 + (p − 1)·y)·log(1 + e^−x), of logits x and probabilities y, with p = 1 where it is not given.

use super::{Op, OpDef, PairLossGrad, Scale, finite, float, operands, same, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Which loss a pair has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairFunction {
    /// The squared difference.
    Mse,
    /// The absolute difference.
    L1,
    /// Half the square near zero, a line beyond `delta`. Huber, 1964.
    Huber {
        /// Where the line begins; above 0.
        delta: f32,
    },
    /// Huber's loss with `delta = beta`, divided by `beta`; the absolute difference where that is 0.
    SmoothL1 {
        /// Where the line begins.
        beta: f32,
    },
    /// Binary cross entropy of a logit.
    BceWithLogits,
}

/// log(1 + e^x) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The sign, 0 of 0.
fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

impl PairFunction {
    /// One of each.
    const ALL: [PairFunction; 6] = [
        PairFunction::Mse,
        PairFunction::L1,
        PairFunction::Huber { delta: 0.75 },
        PairFunction::SmoothL1 { beta: 1.5 },
        PairFunction::SmoothL1 { beta: 0.0 },
        PairFunction::BceWithLogits,
    ];

    /// Checks attributes and the operands x, y and pos_weight, which the gradient shares.
    pub(super) fn fit(self, x: &Type, y: &Type, pos_weight: Option<&&Type>) -> Result<(), String> {
        if let PairFunction::Huber { delta } = self {
            finite("delta", delta)?;
            if delta <= 0.0 {
                return Err(format!("attribute delta = {delta} must be above 0"));
            }
        }
        if let PairFunction::SmoothL1 { beta } = self {
            finite("beta", beta)?;
            if beta < 0.0 {
                return Err(format!("attribute beta = {beta} must not be negative"));
            }
        }
        float("x", x)?;
        same(("x", x), ("y", y))?;
        let Some(pos_weight) = pos_weight else { return Ok(()) };
        if self != PairFunction::BceWithLogits {
            return Err("a weight of positive answers is for bce_with_logits alone".to_string());
        }
        typed("pos_weight", pos_weight, DType::F32, &[x.shape.last()])
    }

    /// The loss of one pair.
    fn value(self, x: f64, y: f64, p: f64) -> f64 {
        let d = x - y;
        match self {
            PairFunction::Mse => d * d,
            PairFunction::L1 => d.abs(),
            PairFunction::Huber { delta } => {
                let delta = f64::from(delta);
                if d.abs() <= delta { 0.5 * d * d } else { delta * (d.abs() - 0.5 * delta) }
            }
            PairFunction::SmoothL1 { beta } => {
                let beta = f64::from(beta);
                if d.abs() < beta { 0.5 * d * d / beta } else { d.abs() - 0.5 * beta }
            }
            PairFunction::BceWithLogits => (1.0 - y) * x + (1.0 + (p - 1.0) * y) * softplus(-x),
        }
    }

    /// Its derivative by x.
    pub(super) fn slope(self, x: f64, y: f64, p: f64) -> f64 {
        let d = x - y;
        match self {
            PairFunction::Mse => 2.0 * d,
            PairFunction::L1 => sign(d),
            PairFunction::Huber { delta } => d.clamp(-f64::from(delta), f64::from(delta)),
            PairFunction::SmoothL1 { beta } => {
                if d.abs() < f64::from(beta) { d / f64::from(beta) } else { sign(d) }
            }
            PairFunction::BceWithLogits => (1.0 - y) - (1.0 + (p - 1.0) * y) / (1.0 + x.exp()),
        }
    }

    /// Its derivative by y.
    pub(super) fn slope_of_target(self, x: f64, y: f64, p: f64) -> f64 {
        match self {
            PairFunction::BceWithLogits => (p - 1.0) * softplus(-x) - x,
            PairFunction::Mse | PairFunction::L1 | PairFunction::Huber { .. } | PairFunction::SmoothL1 { .. } => {
                -self.slope(x, y, p)
            }
        }
    }

    /// Operations of one pair: an exponential counts as ten, and so does a logarithm.
    pub(super) fn work(self) -> f64 {
        match self {
            PairFunction::Mse | PairFunction::L1 => 2.0,
            PairFunction::Huber { .. } | PairFunction::SmoothL1 { .. } => 6.0,
            PairFunction::BceWithLogits => 26.0,
        }
    }
}

/// The weight of positive answers of element `i`.
pub(super) fn pos_weight_of(pos_weight: Option<&&Array>, i: usize) -> f64 {
    pos_weight.map_or(1.0, |p| p.data[i % p.data.len()])
}

/// Attributes of `pair_loss`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairLoss {
    /// Which loss.
    pub function: PairFunction,
    /// Whether a weight of positive answers follows.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub pos_weight: bool,
}

impl OpDef for PairLoss {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2 + usize::from(self.pos_weight))?;
        self.function.fit(inputs[0], inputs[1], inputs.get(2))?;
        Ok(vec![Type::new(DType::F32, inputs[0].shape.clone())])
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0, 1])
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..2
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dloss = cx.dy("pair_loss")?;
        if self.pos_weight && cx.needs[2] {
            return Err(cx.refuse("pair_loss", "the weight of positive answers cannot be trained; use a frozen one"));
        }
        let mut inputs = vec![cx.inputs[0], cx.inputs[1], dloss];
        inputs.extend(&cx.inputs[2..]);
        let mut cotangents = vec![None; cx.inputs.len()];
        let of = |of_target| PairLossGrad { function: self.function, pos_weight: self.pos_weight, of_target };
        if cx.needs[0] {
            cotangents[0] = Some(cx.emit1("dx", of(false), &inputs)?);
        }
        if cx.needs[1] {
            // Of what depends on x − y alone, the other gradient is there already.
            cotangents[1] = Some(match (self.function, cotangents[0]) {
                (PairFunction::BceWithLogits, _) | (_, None) => cx.emit1("dy", of(true), &inputs)?,
                (_, Some(dx)) => cx.emit1("dy", Scale { factor: -1.0 }, &[dx])?,
            });
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(self.function.work(), inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let mut loss = inputs[0].clone();
        for (i, loss) in loss.data.iter_mut().enumerate() {
            *loss = self.function.value(*loss, inputs[1].data[i], pos_weight_of(inputs.get(2), i));
        }
        vec![loss]
    }

    /// Each function on ragged sizes; logits far into both tails.
    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for function in PairFunction::ALL {
            let op = PairLoss { function, pos_weight: false };
            samples.push(Sample::new(op).normal([7, 33]).normal_around([7, 33], 0.5, 0.7));
        }
        let bce = PairLoss { function: PairFunction::BceWithLogits, pos_weight: true };
        let plain = PairLoss { pos_weight: false, ..bce.clone() };
        samples.push(Sample::new(bce).normal([4, 19]).normal_around([4, 19], 0.5, 0.3).normal_around([19], 2.0, 0.5));
        let far = vec![-90.0, -20.0, 0.0, 20.0, 90.0, 3.0];
        samples.push(Sample::new(plain).f32([1, 6], far).f32([1, 6], vec![0.0, 1.0, 0.5, 0.0, 1.0, 1.0]));
        samples
    }
}

/// The function and the weighting of a sample.
pub(super) fn op_of(sample: &Sample) -> PairLoss {
    let Op::PairLoss(op) = &sample.op else { unreachable!("these are samples of pair_loss") };
    op.clone()
}
