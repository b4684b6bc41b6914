//! `grouped_linear_dw`: the gradients of a grouped linear's weights: dW of each group = alpha · Σ over its rows of x ⊗ dy.
//!
//! Operands: ends i32 [E], x [M, in] and dy [M, out], all as in `grouped_linear`; then, if `accumulate`, the E gradient states that the
//! sums are added onto in place. Results: E gradients in f32, stored in `layout`; that of a group without rows is zero.

use super::grouped_linear::{groups, rows_of_groups};
use super::{GroupedLinear, Layout, LinearDw, Op, OpDef, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `grouped_linear_dw`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupedLinearDw {
    /// How the weights, and so their gradients, are stored.
    pub layout: Layout,
    /// Factor of the forward product.
    pub alpha: f32,
    /// E.
    pub groups: usize,
    /// Whether the last operands are gradient states to add onto.
    pub accumulate: bool,
}

/// The operand with which the gradient states begin.
const FIRST_STATE: usize = 3;

impl OpDef for GroupedLinearDw {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let [ends, x, dy, states @ ..] = inputs else {
            return Err(format!("expects ends, x and dy, got {} operands", inputs.len()));
        };
        let groups = groups(ends, x)?;
        if groups != self.groups {
            return Err(format!("attribute groups = {} does not fit ends {ends}", self.groups));
        }
        let gradient =
            LinearDw { layout: self.layout, alpha: self.alpha, accumulate: false }.infer(&[x, dy])?.remove(0);
        let onto = if self.accumulate { groups } else { 0 };
        operands(inputs, FIRST_STATE.saturating_add(onto))?;
        states.iter().try_for_each(|state| typed("the gradient", state, DType::F32, &gradient.shape))?;
        Ok(vec![gradient; groups])
    }

    fn result_name(&self, _index: usize) -> &'static str {
        "dw"
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        let onto = if self.accumulate { self.groups } else { 0 };
        (0..onto).map(|group| (FIRST_STATE + group, group)).collect()
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        (!self.accumulate).then(|| (GroupedLinearDw { accumulate: true, ..self.clone() }.into(), 0))
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn class(&self, inputs: &[&Type], outputs: &[&Type]) -> OpClass {
        LinearDw { layout: self.layout, alpha: self.alpha, accumulate: false }.class(&inputs[1..], outputs)
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        1..FIRST_STATE
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("grouped_linear_dw", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let work = 2.0 * inputs[1].shape.numel() as f64 * inputs[2].shape.last() as f64;
        Cost::new(work, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (x, dy) = (inputs[1], inputs[2]);
        let (fan_in, fan_out) = (x.shape.last(), dy.shape.last());
        let gradient = |(group, rows): (usize, Range<usize>)| {
            let mut dw = match self.accumulate {
                true => inputs[FIRST_STATE + group].clone(),
                false => Array::zeros(results[group].shape.clone()),
            };
            for i in 0..fan_in {
                for o in 0..fan_out {
                    let sum: f64 = rows.clone().map(|n| x.row(n)[i] * dy.row(n)[o]).sum();
                    dw.data[self.layout.index(i, o, fan_in, fan_out)] += f64::from(self.alpha) * sum;
                }
            }
            dw
        };
        rows_of_groups(inputs[0], x.rows()).into_iter().enumerate().map(gradient).collect()
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for forward in GroupedLinear::samples() {
            let Op::GroupedLinear(GroupedLinear { layout, alpha }) = forward.op else { continue };
            if forward.types[2].dtype != DType::F32 {
                continue;
            }
            let groups = forward.types[0].shape[0];
            let operands = |accumulate| {
                let op = GroupedLinearDw { layout, alpha, groups, accumulate };
                let sample = Sample::new(op).operand(&forward, 0).normal(forward.types[1].shape.clone());
                sample.normal(forward.eval().remove(0).shape)
            };
            let onto = (0..groups).fold(operands(true), |sample, _| sample.normal(forward.types[2].shape.clone()));
            samples.extend([operands(false), onto]);
        }
        samples
    }
}
