//! `linear_cross_entropy_with_grad`: `linear_cross_entropy` and its gradient in one pass, so that each chunk's logits are
//! made once. Simplification makes it; it is the same mathematics as the two ops apart.
//!
//! Operands: those of `linear_cross_entropy_grad`. Results: loss, then those of the gradient.

use super::linear_cross_entropy::logits;
use super::linear_cross_entropy_grad::samples_of;
use super::{LinearCrossEntropyGrad, Op, OpDef};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp, Workspace};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `linear_cross_entropy_with_grad`: those of the gradient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinearCrossEntropyWithGrad(pub LinearCrossEntropyGrad);

impl OpDef for LinearCrossEntropyWithGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let gradients = self.0.infer(inputs)?;
        let mut results = self.0.forward().infer(&inputs[..self.0.dloss_operand()])?;
        results.extend(gradients);
        Ok(results)
    }

    fn result_name(&self, index: usize) -> &'static str {
        index.checked_sub(1).map_or("loss", |index| self.0.result_name(index))
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        self.0.donations().into_iter().map(|(operand, result)| (operand, result + 1)).collect()
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        let op = Self(LinearCrossEntropyGrad { accumulate: true, ..self.0.clone() });
        (self.0.has_parameters() && !self.0.accumulate).then(|| (op.into(), 1 + self.0.first_of_parameters()))
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Head
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..self.0.forward().targets_operand()
    }

    fn workspace(&self, inputs: &[&Type]) -> Workspace {
        Workspace::Logits { tokens: inputs[0].shape.rows(), vocab: inputs[1].shape[0] }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("linear_cross_entropy_with_grad", "it is made after differentiation"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(self.0.work(inputs), inputs, outputs).with_inner(logits(inputs[0], inputs[1]))
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let mut all = self.0.forward().eval(&inputs[..self.0.dloss_operand()], &results[..1]);
        all.extend(self.0.eval(inputs, &results[1..]));
        all
    }

    fn samples() -> Vec<Sample> {
        let wanted = [(true, false, false), (true, true, false), (true, true, true)];
        samples_of(&wanted, |gradient| LinearCrossEntropyWithGrad(gradient).into())
    }
}
