//! `transpose`: the axes in another order: axis i of the result is axis `permutation[i]` of x.
//!
//! Operand: x, real numbers or i32. Result: y. The derivative is the inverse permutation.

use super::{OpDef, movable, operands};
use crate::axes::{few_axes, offsets, strides};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `transpose`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transpose {
    /// The operand's axis at each place.
    pub permutation: Vec<usize>,
}

impl Transpose {
    /// What puts the axes back.
    pub fn inverse(&self) -> Transpose {
        let mut permutation = vec![0; self.permutation.len()];
        for (place, &axis) in self.permutation.iter().enumerate() {
            permutation[axis] = place;
        }
        Transpose { permutation }
    }
}

impl OpDef for Transpose {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        let x = inputs[0];
        movable("x", x)?;
        few_axes("x", &x.shape)?;
        let mut sorted = self.permutation.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..x.shape.len()) {
            return Err(format!("attribute permutation = {:?} does not order the axes of x {x}", self.permutation));
        }
        Ok(vec![Type::new(x.dtype, self.permutation.iter().map(|&axis| x.shape[axis]).collect::<Vec<_>>())])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Copy
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("transpose")?;
        let dx = if cx.needs[0] { Some(cx.emit1("dx", self.inverse(), &[dy])?) } else { None };
        Ok(vec![dx])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let own = strides(&inputs[0].shape);
        let turned: Vec<usize> = self.permutation.iter().map(|&axis| own[axis]).collect();
        let at = offsets(&results[0].shape, &turned);
        vec![Array::new(results[0].shape.clone(), at.into_iter().map(|at| inputs[0].data[at]).collect())]
    }

    fn samples() -> Vec<Sample> {
        let of = |permutation: &[usize]| Sample::new(Transpose { permutation: permutation.to_vec() });
        vec![
            of(&[1, 0]).normal([37, 70]),
            of(&[0, 2, 1]).normal([2, 7, 33]),
            of(&[0, 2, 1, 3]).normal([2, 5, 3, 17]),
            of(&[3, 1, 0, 2]).normal([2, 3, 4, 5]),
            of(&[0]).normal([4]),
            of(&[2, 0, 1]).ids([2, 1, 3], 9),
        ]
    }
}
