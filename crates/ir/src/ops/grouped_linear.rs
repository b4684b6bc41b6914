//! `grouped_linear`: y = alpha · x·W, where each row of x has the weight of the group that it lies in: the linear of experts,
//! whose rows were sorted by expert.
//!
//! Operands: ends i32 [E], never falling, the last M: group e is the rows from the end before it to ends[e], perhaps none; x [M, in];
//! then E weights ([out, in] or [in, out] by `layout`), all of one type. Result: y [M, out]. With a flipped layout it is also its own
//! dX. Cost: 2·M·in·out FLOPs, whoever the rows belong to. Rows beyond the last end give NaN here; devices refuse such ends.
//! Weights may be quantised, as those of `linear`.

use super::{GroupedLinearDw, Layout, Linear, OpDef, finite, float, integer, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::{DType, bf16};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `grouped_linear`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupedLinear {
    /// How the weights are stored.
    pub layout: Layout,
    /// Factor of the product; α/r for an adapter's second matrix, else 1.
    pub alpha: f32,
}

/// The operand with which the weights begin.
const FIRST_WEIGHT: usize = 2;

/// Refuses ends and rows that do not fit each other; the number of groups.
pub(super) fn groups(ends: &Type, x: &Type) -> Result<usize, String> {
    integer("ends", ends)?;
    float("x", x)?;
    if ends.shape.len() != 1 || x.shape.len() != 2 {
        return Err(format!("ends {ends} must have one axis, and x {x} two"));
    }
    Ok(ends.shape[0])
}

/// The rows of each group, as far as there are such rows.
pub(super) fn rows_of_groups(ends: &Array, rows: usize) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut range = |&end: &f64| {
        let end = (end.max(0.0) as usize).clamp(start, rows);
        std::mem::replace(&mut start, end)..end
    };
    ends.data.iter().map(&mut range).collect()
}

impl GroupedLinear {
    /// x·W of each group.
    pub fn plain(layout: Layout) -> Self {
        GroupedLinear { layout, alpha: 1.0 }
    }
}

impl OpDef for GroupedLinear {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let [ends, x, weights @ ..] = inputs else {
            return Err(format!("expects ends, x and weights, got {} operands", inputs.len()));
        };
        finite("alpha", self.alpha)?;
        let groups = groups(ends, x)?;
        operands(inputs, FIRST_WEIGHT.saturating_add(groups))?;
        let Some(first) = weights.first() else { return Err(format!("ends {ends} must have at least one group")) };
        if let Some(other) = weights.iter().find(|other| other != &first) {
            return Err(format!("the weights {first} and {other} must be of one type"));
        }
        Linear::plain(self.layout).infer(&[x, first])
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn class(&self, inputs: &[&Type], outputs: &[&Type]) -> OpClass {
        Linear::plain(self.layout).class(&inputs[1..=FIRST_WEIGHT], outputs)
    }

    fn activations(&self, operands: usize) -> Range<usize> {
        1..operands
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("grouped_linear")?;
        let (ends, x) = (cx.inputs[0], cx.inputs[1]);
        let weights = cx.inputs[FIRST_WEIGHT..].to_vec();
        let mut cotangents = vec![None; cx.inputs.len()];
        if cx.needs[FIRST_WEIGHT..].contains(&true) {
            if cx.builder.ty(weights[0]).dtype.quant_format().is_some() {
                return Err(
                    cx.refuse("grouped_linear", "its weights are quantised and cannot be trained; train an adapter")
                );
            }
            let dw =
                GroupedLinearDw { layout: self.layout, alpha: self.alpha, groups: weights.len(), accumulate: false };
            for (group, dw) in cx.emit("dw", dw, &[ends, x, dy])?.into_iter().enumerate() {
                let operand = FIRST_WEIGHT + group;
                cotangents[operand] = cx.needs[operand].then_some(dw);
            }
        }
        if cx.needs[1] {
            let dx = GroupedLinear { layout: self.layout.flipped(), alpha: self.alpha };
            cotangents[1] = Some(cx.emit1("dx", dx, &[&[ends, dy], &weights[..]].concat())?);
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let work = 2.0 * inputs[1].shape.numel() as f64 * outputs[0].shape.last() as f64;
        let cost = Cost::new(work, inputs, outputs);
        let decoded: usize = inputs[FIRST_WEIGHT..].iter().map(|weight| weight.shape.numel()).sum();
        match inputs[FIRST_WEIGHT].dtype.quant_format() {
            None => cost,
            Some(_) => cost.with_inner(decoded as f64),
        }
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let x = inputs[1];
        let (fan_in, fan_out) = self.layout.in_out(&inputs[FIRST_WEIGHT].shape);
        let mut y = Array::zeros(results[0].shape.clone());
        y.data.fill(f64::NAN);
        for (group, rows) in rows_of_groups(inputs[0], x.rows()).into_iter().enumerate() {
            let w = inputs[FIRST_WEIGHT + group];
            // A quantised weight is read in the dtype of x; a dense one has it already.
            let rounded = (results[0].dtype == DType::BF16).then(|| w.map(|x| bf16::from_f32(x as f32).to_f64()));
            let w = rounded.as_ref().unwrap_or(w);
            for n in rows {
                for o in 0..fan_out {
                    let terms = (0..fan_in).map(|i| x.row(n)[i] * w.data[self.layout.index(i, o, fan_in, fan_out)]);
                    y.row_mut(n)[o] = f64::from(self.alpha) * terms.sum::<f64>();
                }
            }
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        let groups: [&[i32]; 4] = [&[4, 4, 17], &[9], &[0, 0, 1], &[3, 40, 70]];
        for (ends, (fan_in, fan_out)) in groups.into_iter().zip([(5, 7), (33, 19), (3, 1), (64, 66)]) {
            for layout in [Layout::OutIn, Layout::InOut] {
                let w = match layout {
                    Layout::OutIn => [fan_out, fan_in],
                    Layout::InOut => [fan_in, fan_out],
                };
                let rows = ends[ends.len() - 1] as usize;
                let sample = Sample::new(GroupedLinear { layout, alpha: 0.5 }).i32([ends.len()], ends.to_vec());
                let sample = ends.iter().fold(sample.normal([rows, fan_in]), |sample, _| sample.normal(w));
                let quantised = (0..ends.len())
                    .fold(sample.clone(), |sample, group| sample.in_dtype(FIRST_WEIGHT + group, DType::Nf4Single));
                samples.extend([sample, quantised]);
            }
        }
        samples
    }
}
