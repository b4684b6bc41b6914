//! `compare`: whether a stands in a relation to b, element-wise, with NumPy's broadcasting: a mask of 0 and 1.
//!
//! Operands: a, b of one dtype, real numbers or i32. Result: i32 of the shape that they have together. It has no derivative.
//! NaN is unequal to everything, and neither less nor greater.

use super::binary::shapes_for;
use super::{OpDef, operands};
use crate::axes::{broadcast, offsets, strides_within};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};

/// Attributes of `compare`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compare {
    /// Which relation.
    pub relation: Relation,
}

/// A relation of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// a = b.
    Equal,
    /// a ≠ b.
    NotEqual,
    /// a < b.
    Less,
    /// a ≤ b.
    LessEqual,
    /// a > b.
    Greater,
    /// a ≥ b.
    GreaterEqual,
}

impl Relation {
    /// All of them.
    pub const ALL: [Relation; 6] = [
        Relation::Equal,
        Relation::NotEqual,
        Relation::Less,
        Relation::LessEqual,
        Relation::Greater,
        Relation::GreaterEqual,
    ];

    /// Whether it holds.
    pub fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
        match self {
            Relation::Equal => a == b,
            Relation::NotEqual => a != b,
            Relation::Less => a < b,
            Relation::LessEqual => a <= b,
            Relation::Greater => a > b,
            Relation::GreaterEqual => a >= b,
        }
    }
}

impl OpDef for Compare {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        let (a, b) = (inputs[0], inputs[1]);
        if !(a.dtype.is_float() || a.dtype == DType::I32) || a.dtype != b.dtype {
            return Err(format!("a {a} and b {b} must have one dtype, of real numbers or i32"));
        }
        Ok(vec![Type::new(DType::I32, broadcast(("a", a), ("b", b))?)])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("compare", "a mask is 0 or 1, not a real number"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(1.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let shape = &results[0].shape;
        let at = [0, 1].map(|operand| offsets(shape, &strides_within(&inputs[operand].shape, shape)));
        let holds = |(&a, &b): (&usize, &usize)| self.relation.holds(inputs[0].data[a], inputs[1].data[b]);
        let mask = at[0].iter().zip(&at[1]).map(|pair| f64::from(u8::from(holds(pair)))).collect();
        vec![Array::new(shape.clone(), mask)]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for relation in Relation::ALL {
            let new = || Sample::new(Compare { relation });
            let shapes = shapes_for(relation == Relation::Less).iter();
            samples.extend(shapes.map(|&(a, b)| new().ids(a, 3).ids(b, 3)));
            samples.push(new().f32([2, 3], vec![1.0, -2.0, 0.5, 0.0, 3.0, -1.0]).f32([3], vec![1.0, -1.0, 0.5]));
        }
        samples
    }
}
