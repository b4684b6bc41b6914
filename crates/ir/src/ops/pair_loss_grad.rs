//! `pair_loss_grad`: the gradient of `pair_loss` by x, or by y if `of_target`: dloss times the function's slope. At the kink of an
//! absolute value the slope is 0, as PyTorch's.
//!
//! Operands: x, y of one type, dloss f32 of their shape, then pos_weight f32 [C] if there is one. Result: like x.

use super::pair_loss::{PairFunction, PairLoss, op_of, pos_weight_of};
use super::{OpDef, operands, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `pair_loss_grad`: those of its forward, and of which operand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairLossGrad {
    /// Which loss.
    pub function: PairFunction,
    /// Whether a weight of positive answers follows.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub pos_weight: bool,
    /// Whether it is the gradient of y; else of x.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub of_target: bool,
}

impl OpDef for PairLossGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3 + usize::from(self.pos_weight))?;
        self.function.fit(inputs[0], inputs[1], inputs.get(3))?;
        typed("dloss", inputs[2], DType::F32, &inputs[0].shape)?;
        Ok(vec![inputs[0].clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0), (1, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0, 1, 2])
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..2
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("pair_loss_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(self.function.work() + 1.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let mut dx = inputs[0].clone();
        for (i, dx) in dx.data.iter_mut().enumerate() {
            let (y, p) = (inputs[1].data[i], pos_weight_of(inputs.get(3), i));
            let slope = match self.of_target {
                false => self.function.slope(*dx, y, p),
                true => self.function.slope_of_target(*dx, y, p),
            };
            *dx = inputs[2].data[i] * slope;
        }
        vec![dx]
    }

    fn samples() -> Vec<Sample> {
        let with_cotangent = |forward: Sample| {
            let PairLoss { function, pos_weight } = op_of(&forward);
            // Of the others the two differ by their sign.
            let both = [PairFunction::Mse, PairFunction::BceWithLogits].contains(&function);
            [false, true].into_iter().filter(move |of_target| !of_target || both).map(move |of_target| {
                let sample = Sample::new(PairLossGrad { function, pos_weight, of_target });
                let sample = sample.operand(&forward, 0).operand(&forward, 1).normal(forward.types[0].shape.clone());
                if pos_weight { sample.operand(&forward, 2) } else { sample }
            })
        };
        PairLoss::samples().into_iter().flat_map(with_cotangent).collect()
    }
}
