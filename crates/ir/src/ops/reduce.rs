//! `reduce`: the sum, mean, largest or smallest element along some axes, which stay with size 1.
//!
//! Operand: x. Result: y of x's dtype. Sums are made in f64 on the CPU, in blocks that follow from the shape alone. Saves x and
//! y for the extremes, nothing for the others; equal extremes share the derivative, as `torch.amax` has it. Along the last axis
//! alone rows stay apart.

use super::{Expand, OpDef, ReduceGrad, Scale, float, operands};
use crate::axes::{few_axes, from_last, offsets, strides_within};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `reduce`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reduce {
    /// What is made of the elements.
    pub reduction: Reduction,
    /// Along which axes, counted from the last, which is −1; ascending.
    pub axes: Vec<i64>,
}

/// What is made of several elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// The sum, divided by their number.
    Mean,
    /// The largest; NaN if one is NaN.
    Max,
    /// The smallest; the same.
    Min,
}

impl Reduction {
    /// All of them.
    pub const ALL: [Reduction; 4] = [Reduction::Sum, Reduction::Mean, Reduction::Max, Reduction::Min];
}

/// The shape with these axes reduced to 1; refuses axes that are not there, given twice or in another order.
pub(super) fn reduced(x: &Type, axes: &[i64]) -> Result<Vec<usize>, String> {
    few_axes("x", &x.shape)?;
    let mut shape = x.shape.to_vec();
    if axes.is_empty() {
        return Err("attribute axes = [] must name an axis".to_string());
    }
    if let Some(pair) = axes.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(format!("attribute axes = {axes:?} must ascend, and {} stands before {}", pair[0], pair[1]));
    }
    for &axis in axes {
        let index = from_last(axis, shape.len()).filter(|_| axis < 0);
        let index = index.ok_or_else(|| format!("attribute axes = {axes:?}: x {x} has no axis {axis} from the last"))?;
        shape[index] = 1;
    }
    Ok(shape)
}

impl OpDef for Reduce {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        float("x", inputs[0])?;
        Ok(vec![Type::new(inputs[0].dtype, reduced(inputs[0], &self.axes)?)])
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        (self.axes == [-1]).then(|| vec![0])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("reduce")?;
        if !cx.needs[0] {
            return Ok(vec![None]);
        }
        let shape = cx.builder.ty(cx.inputs[0]).shape.clone();
        let terms = shape.numel() / cx.builder.ty(cx.outputs[0]).shape.numel();
        let expand = Expand { shape: shape.to_vec() };
        let dx = match self.reduction {
            Reduction::Sum => cx.emit1("dx", expand, &[dy])?,
            Reduction::Mean => {
                let share = cx.emit1("share", Scale { factor: 1.0 / terms as f32 }, &[dy])?;
                cx.emit1("dx", expand, &[share])?
            }
            Reduction::Max | Reduction::Min => {
                cx.emit1("dx", ReduceGrad { axes: self.axes.clone() }, &[dy, cx.inputs[0], cx.outputs[0]])?
            }
        };
        Ok(vec![Some(dx)])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(inputs[0].shape.numel() as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (x, shape) = (inputs[0], &results[0].shape);
        let terms = x.shape.numel() / shape.numel();
        let start = match self.reduction {
            Reduction::Sum | Reduction::Mean => 0.0,
            Reduction::Max => f64::NEG_INFINITY,
            Reduction::Min => f64::INFINITY,
        };
        let mut y = Array::zeros(shape.clone()).map(|_| start);
        for (&x, at) in x.data.iter().zip(offsets(&x.shape, &strides_within(shape, &x.shape))) {
            let so_far = y.data[at];
            y.data[at] = match self.reduction {
                Reduction::Sum | Reduction::Mean => so_far + x,
                _ if x.is_nan() || so_far.is_nan() => f64::NAN,
                Reduction::Max => so_far.max(x),
                Reduction::Min => so_far.min(x),
            };
        }
        vec![if self.reduction == Reduction::Mean { y.map(|sum| sum / terms as f64) } else { y }]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for reduction in Reduction::ALL {
            // Sums walk all; the others walk alike.
            let cuts = if reduction == Reduction::Sum { &CUTS[..] } else { &CUTS[..5] };
            for &(shape, axes) in cuts {
                samples.push(Sample::new(Reduce { reduction, axes: axes.to_vec() }).normal(shape));
            }
        }
        samples
    }
}

/// Shapes and axes: last, first, middle, several, all, of size 1, and enough for several blocks of terms.
pub(super) const CUTS: [(&[usize], &[i64]); 10] = [
    (&[1, 3, 5], &[-1]),
    (&[2, 7, 33], &[-1]),
    (&[2, 7, 33], &[-3]),
    (&[2, 7, 33], &[-2]),
    (&[3, 4, 5, 6], &[-4, -2]),
    (&[3, 4, 5, 6], &[-3, -1]),
    (&[2, 5, 3], &[-3, -2, -1]),
    (&[4, 1, 3], &[-2]),
    (&[1], &[-1]),
    (&[9000, 2], &[-2]),
];
