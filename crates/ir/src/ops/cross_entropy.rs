//! `cross_entropy`: the loss of each row of logits z [.., C] with its class y:
//! loss = (1 − ε)·w[y]·(lse − z[y]) + ε/C · Σ over c of w[c]·(lse − z[c]), and 0 where the target is ignored; lse = log Σ exp(z).
//!
//! Operands: logits [.., C], targets i32 [..], then the classes' weights w f32 [C] if `weighted` (else all 1). Results: loss
//! and lse f32, both of the shape of targets; lse is a residual. As torch.nn.functional.cross_entropy with no reduction.
//! Executors refuse a target outside 0..C that is not ignored; here it gives NaN. Szegedy et al., *Rethinking the
//! Inception architecture*, 2016, for the smoothing ε.

use super::embedding::row_of;
use super::{CrossEntropyGrad, IGNORED, OpDef, float, integer, operands, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `cross_entropy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropy {
    /// ε in [0, 1]: how much of each target is spread over all classes.
    pub smoothing: f32,
    /// The target of a row that takes no part.
    pub ignored: i32,
    /// Whether the weights of the classes follow.
    pub weighted: bool,
}

impl Default for CrossEntropy {
    /// No smoothing, −100 ignored, no weights: PyTorch's.
    fn default() -> Self {
        CrossEntropy { smoothing: 0.0, ignored: IGNORED, weighted: false }
    }
}

impl CrossEntropy {
    /// Checks attributes, logits, targets and weights, which the gradient shares.
    pub(super) fn fit(&self, logits: &Type, targets: &Type, weights: Option<&&Type>) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.smoothing) {
            return Err(format!("attribute smoothing = {} must be in [0, 1]", self.smoothing));
        }
        float("logits", logits)?;
        integer("targets", targets)?;
        if logits.shape.split_last().is_none_or(|(_, outer)| outer != targets.shape.dims()) {
            return Err(format!("logits {logits} must have the axes of targets {targets} and one more"));
        }
        weights.map_or(Ok(()), |weights| typed("weights", weights, DType::F32, &[logits.shape.last()]))
    }

    /// Row `n`: its target's class (`None` if there is no such class), or nothing at all where it is ignored.
    pub(super) fn class_of(&self, targets: &Array, n: usize, classes: usize) -> Option<Option<usize>> {
        (targets.data[n] != f64::from(self.ignored)).then(|| row_of(targets.data[n], classes))
    }
}

/// log Σ exp of a row.
pub(super) fn logsumexp(row: &[f64]) -> f64 {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + row.iter().map(|z| (z - max).exp()).sum::<f64>().ln()
}

/// The weight of a class.
pub(super) fn weight_of(weights: Option<&&Array>, class: usize) -> f64 {
    weights.map_or(1.0, |weights| weights.data[class])
}

impl OpDef for CrossEntropy {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2 + usize::from(self.weighted))?;
        self.fit(inputs[0], inputs[1], inputs.get(2))?;
        Ok(vec![Type::new(DType::F32, inputs[1].shape.clone()); 2])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["loss", "lse"][index]
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dloss = cx.dy("cross_entropy")?;
        if self.weighted && cx.needs[2] {
            return Err(cx.refuse("cross_entropy", "the weights of classes cannot be trained; use frozen ones"));
        }
        let mut cotangents = vec![None; cx.inputs.len()];
        if cx.needs[0] {
            let mut inputs = vec![cx.inputs[0], cx.inputs[1], cx.outputs[1], dloss];
            inputs.extend(&cx.inputs[2..]);
            cotangents[0] = Some(cx.emit1("dx", CrossEntropyGrad::of(self), &inputs)?);
        }
        Ok(cotangents)
    }

    /// An exponential counts as ten operations.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let of_each = if self.smoothing > 0.0 { 15.0 } else { 12.0 };
        Cost::new(of_each * inputs[0].shape.numel() as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (logits, weights) = (inputs[0], inputs.get(2));
        let (classes, smoothing) = (logits.shape.last(), f64::from(self.smoothing));
        let [mut loss, mut lse] = [0, 1].map(|result: usize| Array::zeros(results[result].shape.clone()));
        for n in 0..logits.rows() {
            let row = logits.row(n);
            lse.data[n] = logsumexp(row);
            let Some(target) = self.class_of(inputs[1], n, classes) else { continue };
            let below = |class: usize| weight_of(weights, class) * (lse.data[n] - row[class]);
            let smooth: f64 = if smoothing > 0.0 { (0..classes).map(below).sum() } else { 0.0 };
            let own = target.map_or(f64::NAN, below);
            loss.data[n] = (1.0 - smoothing) * own + smoothing / classes as f64 * smooth;
        }
        vec![loss, lse]
    }

    /// Plain; smoothed; weighted; both, with another target ignored; one class; logits far from zero; all ignored.
    fn samples() -> Vec<Sample> {
        let plain = CrossEntropy::default();
        let smoothed = CrossEntropy { smoothing: 0.1, ..plain.clone() };
        let weighted = CrossEntropy { weighted: true, ..plain.clone() };
        vec![
            plain.sample(&[2, 9], 11, |n| n == 4),
            smoothed.sample(&[7], 37, |n| n % 3 == 0),
            weighted.sample(&[2, 3, 4], 16, |n| n == 2),
            CrossEntropy { smoothing: 0.25, ignored: 2, weighted: true }.sample(&[70], 70, |n| n % 5 == 0),
            plain.sample(&[3], 1, |_| false),
            CrossEntropy { smoothing: 1.0, ..plain.clone() }.sample(&[5], 6, |_| false),
            plain.far_sample(),
            weighted.sample(&[4], 5, |_| true),
        ]
    }
}

impl CrossEntropy {
    /// A sample whose rows `ignored` take no part.
    fn sample(&self, rows: &[usize], classes: usize, ignored: fn(usize) -> bool) -> Sample {
        let shape: Vec<usize> = rows.iter().copied().chain([classes]).collect();
        let mut sample = Sample::new(self.clone()).normal_around(shape, 0.0, 2.0).ids(rows, classes as u32);
        for (n, target) in sample.inputs[1].data.iter_mut().enumerate() {
            if ignored(n) {
                *target = f64::from(self.ignored);
            }
        }
        if self.weighted { sample.normal_around([classes], 1.0, 0.2) } else { sample }
    }

    /// Logits that only a sum behind their maximum survives.
    fn far_sample(&self) -> Sample {
        let far = |i: usize| [-300.0, 400.0, 395.5, -2.0][i % 4] + i as f64;
        Sample::new(self.clone()).f32([2, 18], (0..36).map(far).collect()).i32([2], vec![1, 17])
    }
}
