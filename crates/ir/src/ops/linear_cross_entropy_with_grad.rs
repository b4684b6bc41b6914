//! `linear_cross_entropy_with_grad`: `linear_cross_entropy` and its gradient in one pass, so that each chunk's logits are
//! made once. Simplification makes it; it is the same mathematics as the two ops apart.
//!
//! Operands: those of `linear_cross_entropy_grad`. Results: loss, then dh if `dh`, then dw if `dw`.

use super::linear_cross_entropy::{LinearCrossEntropy, logits, product_work};
use super::linear_cross_entropy_grad::{cap_of, with_cotangent};
use super::{LinearCrossEntropyGrad, Op, OpDef};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp, Workspace};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `linear_cross_entropy_with_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearCrossEntropyWithGrad {
    /// Whether the gradient of h is wanted.
    pub dh: bool,
    /// Whether the gradient of w is wanted.
    pub dw: bool,
    /// Whether the last operand is a gradient state of w to add onto.
    pub accumulate: bool,
    /// Logits z become cap · tanh(z / cap); not where the text form says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f32>,
}

impl LinearCrossEntropyWithGrad {
    /// The gradient half.
    pub fn gradient(&self) -> LinearCrossEntropyGrad {
        LinearCrossEntropyGrad { dh: self.dh, dw: self.dw, accumulate: self.accumulate, softcap: self.softcap }
    }

    /// The other half.
    fn forward(&self) -> LinearCrossEntropy {
        LinearCrossEntropy { softcap: self.softcap }
    }
}

impl OpDef for LinearCrossEntropyWithGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let gradients = self.gradient().infer(inputs)?;
        let mut results = self.forward().infer(&inputs[..3])?;
        results.extend(gradients);
        Ok(results)
    }

    fn result_name(&self, index: usize) -> &'static str {
        index.checked_sub(1).map_or("loss", |index| self.gradient().result_name(index))
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        self.gradient().donations().into_iter().map(|(operand, result)| (operand, result + 1)).collect()
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        (self.dw && !self.accumulate).then(|| (LinearCrossEntropyWithGrad { accumulate: true, ..self.clone() }.into(), 1 + usize::from(self.dh)))
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Head
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..2
    }

    fn workspace(&self, inputs: &[&Type]) -> Workspace {
        Workspace::Logits { tokens: inputs[0].shape.rows(), vocab: inputs[1].shape[0] }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("linear_cross_entropy_with_grad", "it is made after differentiation"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(self.gradient().products() * product_work(inputs[0], inputs[1]), inputs, outputs)
            .with_inner(logits(inputs[0], inputs[1]))
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let mut all = self.forward().eval(&inputs[..3], &results[..1]);
        all.extend(self.gradient().eval(inputs, &results[1..]));
        all
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for forward in LinearCrossEntropy::samples() {
            let softcap = cap_of(&forward);
            for (dh, dw, accumulate) in [(true, false, false), (true, true, false), (true, true, true)] {
                let op = LinearCrossEntropyWithGrad { dh, dw, accumulate, softcap };
                samples.push(with_cotangent(&forward, op, accumulate));
            }
        }
        samples
    }
}
