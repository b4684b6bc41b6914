//! `binary_grad`: the cotangent of one operand of a `binary` whose derivative is no `binary` itself: dy·∂f/∂a or dy·∂f/∂b,
//! in the result's shape. What an operand was broadcast along is summed behind it.
//!
//! Operands: dy in the result's shape, a, b, of one float dtype. Result: like dy.

use super::binary::shapes_for;
use super::{BinaryFunction, Extent, OpDef, float, operands};
use crate::axes::{broadcast, offsets, strides_within};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};

/// Attributes of `binary_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BinaryGrad {
    /// The function of the forward.
    pub function: BinaryFunction,
    /// The operand whose cotangent it is: 0 or 1.
    pub operand: usize,
    /// How a lies in the result; whole where the text form says nothing.
    #[serde(default, skip_serializing_if = "Extent::is_whole")]
    pub a: Extent,
    /// The same of b.
    #[serde(default, skip_serializing_if = "Extent::is_whole")]
    pub b: Extent,
}

/// ∂f/∂a or ∂f/∂b.
fn slope(function: BinaryFunction, operand: usize, a: f64, b: f64) -> f64 {
    // Of two equal operands each has half.
    let share = |greater: bool| if a == b { 0.5 } else { f64::from(u8::from(greater)) };
    match (function, operand) {
        (BinaryFunction::Add, _) | (BinaryFunction::Sub, 0) => 1.0,
        (BinaryFunction::Sub, _) => -1.0,
        (BinaryFunction::Mul, 0) => b,
        (BinaryFunction::Mul, _) => a,
        (BinaryFunction::Div, 0) => 1.0 / b,
        (BinaryFunction::Div, _) => -a / (b * b),
        (BinaryFunction::Pow, 0) => if b == 0.0 { 0.0 } else { b * a.powf(b - 1.0) },
        (BinaryFunction::Pow, _) => if a == 0.0 && b >= 0.0 { 0.0 } else { a.powf(b) * a.ln() },
        (BinaryFunction::Maximum, 0) | (BinaryFunction::Minimum, 1) => share(a > b),
        (BinaryFunction::Maximum, _) | (BinaryFunction::Minimum, _) => share(a < b),
    }
}

impl OpDef for BinaryGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3)?;
        let (dy, a, b) = (inputs[0], inputs[1], inputs[2]);
        float("dy", dy)?;
        if self.operand > 1 {
            return Err(format!("attribute operand = {} must be 0 or 1", self.operand));
        }
        let shape = broadcast(("a", a), ("b", b))?;
        if dy.shape.dims() != shape || a.dtype != dy.dtype || b.dtype != dy.dtype {
            return Err(format!("dy {dy} must have the shape and dtype of the result of a {a} and b {b}"));
        }
        self.a.check("a", a, &shape)?;
        self.b.check("b", b, &shape)?;
        Ok(vec![dy.clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Extent::rows(&[(0, Extent::Whole), (1, self.a), (2, self.b)])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        if self.function == BinaryFunction::Pow { OpClass::GeluGrad } else { OpClass::Add }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("binary_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(if self.function == BinaryFunction::Pow { 30.0 } else { 4.0 }, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let shape = &results[0].shape;
        let at = [1, 2].map(|operand| offsets(shape, &strides_within(&inputs[operand].shape, shape)));
        let (a, b) = (&inputs[1].data, &inputs[2].data);
        let slopes = at[0].iter().zip(&at[1]).map(|(&i, &j)| slope(self.function, self.operand, a[i], b[j]));
        vec![Array::new(shape.clone(), inputs[0].data.iter().zip(slopes).map(|(dy, slope)| dy * slope).collect())]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for function in BinaryFunction::ALL {
            for &(a, b) in shapes_for(function == BinaryFunction::Div) {
                let types = [a, b].map(|shape| Type::new(DType::F32, shape));
                let shape = broadcast(("a", &types[0]), ("b", &types[1])).expect("they broadcast");
                let extents = [a, b].map(|operand| Extent::of(operand, &shape));
                for operand in 0..2 {
                    let op = BinaryGrad { function, operand, a: extents[0], b: extents[1] };
                    samples.push(function.operands_of(Sample::new(op).normal(shape.clone()), a, b));
                }
            }
        }
        // Equal operands share the derivative.
        for (function, operand) in [(BinaryFunction::Maximum, 0), (BinaryFunction::Minimum, 1)] {
            let op = BinaryGrad { function, operand, a: Extent::Whole, b: Extent::Whole };
            let (a, b) = (vec![1.0, 2.0, -1.0, 0.5], vec![1.0, -2.0, 3.0, 0.5]);
            samples.push(Sample::new(op).normal([1, 4]).f32([1, 4], a).f32([1, 4], b));
        }
        samples
    }
}
