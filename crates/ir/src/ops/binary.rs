//! `binary`: y = f(a, b), element-wise, for one of a closed set of functions, with NumPy's broadcasting.
//!
//! Operands: a, b of one float dtype. Result: y of the shape that they have together. What is known of an operand's shape is
//! an attribute ([`Extent`]), so that rows and places follow from the op alone; [`Binary::of`] finds it. The derivative emits
//! `binary` or `binary_grad`, and sums over broadcast axes.

use super::{BinaryGrad, OpDef, Reduce, Reduction, Reshape, Unary, UnaryFunction, float, operands};
use crate::axes::{broadcast, offsets, strides_within};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `binary`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binary {
    /// Which function.
    pub function: BinaryFunction,
    /// How a lies in the result; whole where the text form says nothing.
    #[serde(default, skip_serializing_if = "Extent::is_whole")]
    pub a: Extent,
    /// The same of b.
    #[serde(default, skip_serializing_if = "Extent::is_whole")]
    pub b: Extent,
}

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BinaryFunction {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a·b.
    Mul,
    /// a/b.
    Div,
    /// a to the power b; where a is 0 the derivative by b is 0.
    Pow,
    /// The larger; NaN if one is NaN. Where they are equal, each has half the derivative.
    Maximum,
    /// The smaller; the same.
    Minimum,
}

/// How an operand lies in the result that it is broadcast to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// It has the result's shape.
    #[default]
    Whole,
    /// All axes but the last are the result's, and the last is 1.
    Column,
    /// One axis: one row for all.
    Row,
    /// Anything that broadcasts.
    Any,
}

impl Extent {
    /// Of an operand in a result.
    pub fn of(operand: &[usize], result: &[usize]) -> Extent {
        let all = [Extent::Whole, Extent::Column, Extent::Row];
        all.into_iter().find(|extent| extent.holds(operand, result)).unwrap_or(Extent::Any)
    }

    fn holds(self, operand: &[usize], result: &[usize]) -> bool {
        match self {
            Extent::Whole => operand == result,
            Extent::Column => {
                operand.len() == result.len() && operand.split_last().zip(result.split_last()).is_some_and(|(own, all)| own.1 == all.1 && *own.0 == 1)
            }
            Extent::Row => operand.len() == 1,
            Extent::Any => true,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        *self == Extent::Whole
    }

    /// Refuses an operand that does not lie so.
    pub(super) fn check(self, name: &str, operand: &Type, result: &[usize]) -> Result<(), String> {
        if self.holds(&operand.shape, result) {
            return Ok(());
        }
        let text = serde_json::to_string(&self).expect("a word");
        Err(format!("attribute {name} = {text} does not hold of {name} {operand} in a result {result:?}"))
    }

    /// Of operands that lie so, those whose rows are the result's; `None` if there are others than that and single rows.
    pub(super) fn rows(extents: &[(usize, Extent)]) -> Option<Vec<usize>> {
        let mut rows = Vec::new();
        for &(index, extent) in extents {
            match extent {
                Extent::Whole | Extent::Column => rows.push(index),
                Extent::Row => {}
                Extent::Any => return None,
            }
        }
        Some(rows).filter(|rows| !rows.is_empty())
    }
}

impl BinaryFunction {
    /// All of them.
    pub const ALL: [BinaryFunction; 7] = [
        BinaryFunction::Add,
        BinaryFunction::Sub,
        BinaryFunction::Mul,
        BinaryFunction::Div,
        BinaryFunction::Pow,
        BinaryFunction::Maximum,
        BinaryFunction::Minimum,
    ];

    fn value(self, a: f64, b: f64) -> f64 {
        match self {
            BinaryFunction::Add => a + b,
            BinaryFunction::Sub => a - b,
            BinaryFunction::Mul => a * b,
            BinaryFunction::Div => a / b,
            BinaryFunction::Pow => a.powf(b),
            _ if a.is_nan() || b.is_nan() => f64::NAN,
            BinaryFunction::Maximum => a.max(b),
            BinaryFunction::Minimum => a.min(b),
        }
    }

    /// Operands of these shapes, away from where there is no derivative.
    pub(super) fn operands_of(self, sample: Sample, a: &[usize], b: &[usize]) -> Sample {
        match self {
            BinaryFunction::Pow => {
                let elements = a.iter().product();
                let positive = (0..elements).map(|i: usize| 1.2 + (0.9 * i as f64).sin()).collect();
                sample.f32(a, positive).normal(b)
            }
            BinaryFunction::Div => {
                let elements = b.iter().product();
                let sign = |i: usize| if i.is_multiple_of(3) { -1.0 } else { 1.0 };
                let apart = (0..elements).map(|i: usize| sign(i) * (1.5 + (0.9 * i as f64).sin())).collect();
                sample.normal(a).f32(b, apart)
            }
            _ => sample.normal(a).normal(b),
        }
    }
}

impl Binary {
    /// The op for operands of these types; one that fits none where they do not broadcast.
    pub fn of(function: BinaryFunction, a: &Type, b: &Type) -> Binary {
        match broadcast(("a", a), ("b", b)) {
            Ok(result) => Binary { function, a: Extent::of(&a.shape, &result), b: Extent::of(&b.shape, &result) },
            Err(_) => Binary { function, a: Extent::Any, b: Extent::Any },
        }
    }
}

/// Emits a `binary` in a derivative.
fn emit(cx: &mut Vjp<'_>, suffix: &str, function: BinaryFunction, a: ValueId, b: ValueId) -> Result<ValueId, IrError> {
    let op = Binary::of(function, cx.builder.ty(a), cx.builder.ty(b));
    cx.emit1(suffix, op, &[a, b])
}

/// Sums a cotangent over the axes that its operand was broadcast along.
pub(super) fn summed_to(cx: &mut Vjp<'_>, suffix: &str, d: ValueId, shape: &[usize]) -> Result<ValueId, IrError> {
    let from = cx.builder.ty(d).shape.to_vec();
    let missing = from.len() - shape.len();
    let is_broadcast = |axis: &usize| *axis < missing || shape[axis - missing] != from[*axis];
    let axes: Vec<i64> = (0..from.len()).filter(is_broadcast).map(|axis| axis as i64 - from.len() as i64).collect();
    let summed = if axes.is_empty() || axes.iter().all(|&axis| from[(axis + from.len() as i64) as usize] == 1) {
        d
    } else {
        cx.emit1(&format!("{suffix}.sum"), Reduce { reduction: Reduction::Sum, axes }, &[d])?
    };
    if missing == 0 {
        return Ok(summed);
    }
    cx.emit1(&format!("{suffix}.shape"), Reshape { shape: shape.to_vec() }, &[summed])
}

impl Binary {
    /// The cotangent of operand `index` in the result's shape.
    fn cotangent(&self, cx: &mut Vjp<'_>, dy: ValueId, index: usize) -> Result<ValueId, IrError> {
        let (a, b) = (cx.inputs[0], cx.inputs[1]);
        let name = ["da", "db"][index];
        match (self.function, index) {
            (BinaryFunction::Add, _) | (BinaryFunction::Sub, 0) => Ok(dy),
            (BinaryFunction::Sub, _) => cx.emit1(name, Unary { function: UnaryFunction::Neg }, &[dy]),
            (BinaryFunction::Mul, 0) => emit(cx, name, BinaryFunction::Mul, dy, b),
            (BinaryFunction::Mul, _) => emit(cx, name, BinaryFunction::Mul, dy, a),
            (BinaryFunction::Div, 0) => emit(cx, name, BinaryFunction::Div, dy, b),
            _ => {
                let grad = BinaryGrad { function: self.function, operand: index, a: self.a, b: self.b };
                cx.emit1(name, grad, &[dy, a, b])
            }
        }
    }
}

impl OpDef for Binary {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        let (a, b) = (inputs[0], inputs[1]);
        float("a", a)?;
        float("b", b)?;
        if a.dtype != b.dtype {
            return Err(format!("a {a} and b {b} must have one dtype"));
        }
        let shape = broadcast(("a", a), ("b", b))?;
        self.a.check("a", a, &shape)?;
        self.b.check("b", b, &shape)?;
        Ok(vec![Type::new(a.dtype, shape)])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        let extents = [(0, self.a), (1, self.b)];
        extents.into_iter().filter(|(_, extent)| extent.is_whole()).map(|(index, _)| (index, 0)).collect()
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Extent::rows(&[(0, self.a), (1, self.b)])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        if self.function == BinaryFunction::Pow { OpClass::Gelu } else { OpClass::Add }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("binary")?;
        let mut cotangents = vec![None; 2];
        for index in (0..2).filter(|&index| cx.needs[index]) {
            let wide = self.cotangent(cx, dy, index)?;
            let shape = cx.builder.ty(cx.inputs[index]).shape.to_vec();
            cotangents[index] = Some(summed_to(cx, ["da", "db"][index], wide, &shape)?);
        }
        Ok(cotangents)
    }

    /// A power counts as an exponential and a logarithm.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(if self.function == BinaryFunction::Pow { 24.0 } else { 1.0 }, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let shape = &results[0].shape;
        let at = [0, 1].map(|operand| offsets(shape, &strides_within(&inputs[operand].shape, shape)));
        let value = |(&a, &b): (&usize, &usize)| self.function.value(inputs[0].data[a], inputs[1].data[b]);
        vec![Array::new(shape.clone(), at[0].iter().zip(&at[1]).map(value).collect())]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for function in BinaryFunction::ALL {
            for &(a, b) in shapes_for(function == BinaryFunction::Mul) {
                let ty = |shape: &[usize]| Type::new(remat_tensor::DType::F32, shape);
                let op = Binary::of(function, &ty(a), &ty(b));
                samples.push(function.operands_of(Sample::new(op), a, b));
            }
        }
        samples
    }
}

/// All shapes for one function of a family, which all walk alike; for the others equal ones and an axis in the middle.
pub(super) fn shapes_for(all: bool) -> &'static [(&'static [usize], &'static [usize])] {
    if all { &SHAPES } else { &SHAPES[..2] }
}

/// Shapes of two operands: equal, a row, a column, one number, an axis in the middle, each the other's row and column.
const SHAPES: [(&[usize], &[usize]); 9] = [
    (&[2, 7, 33], &[2, 7, 33]),
    (&[2, 3, 4, 5], &[2, 1, 4, 1]),
    (&[1, 3, 5], &[1, 3, 5]),
    (&[2, 7, 33], &[33]),
    (&[2, 3, 1], &[2, 3, 20]),
    (&[1], &[3, 5]),
    (&[4, 1], &[7]),
    (&[3, 1, 2], &[4, 1]),
    (&[1, 1, 3], &[1, 3]),
];
