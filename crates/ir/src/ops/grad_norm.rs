//! `grad_norm`: the Euclidean norm of all gradients together, √(Σ over tensors and elements of g²).
//!
//! Operands: one or more f32 tensors. Result: f32 [1].

use super::{OpDef, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};

/// `grad_norm` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GradNorm;

impl OpDef for GradNorm {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        if inputs.is_empty() {
            return Err("expects at least 1 operand, got 0".to_string());
        }
        for (index, ty) in inputs.iter().enumerate() {
            typed(&format!("gradient {index}"), ty, DType::F32, &ty.shape)?;
        }
        Ok(vec![Type::new(DType::F32, [1])])
    }

    fn by_element(&self, operands: usize) -> Option<Vec<usize>> {
        Some(vec![1; operands])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::GradNorm
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("grad_norm", "it belongs to the update, which is not differentiated"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let elements: f64 = inputs.iter().map(|ty| ty.shape.numel() as f64).sum();
        Cost::new(2.0 * elements, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let squares: f64 = inputs.iter().flat_map(|g| &g.data).map(|g| g * g).sum();
        vec![Array::new([1], vec![squares.sqrt()])]
    }

    fn samples() -> Vec<Sample> {
        vec![
            Sample::new(GradNorm).normal([1]),
            Sample::new(GradNorm).normal([5, 7]).normal([33, 19]).normal_around([3], 100.0, 1.0),
            Sample::new(GradNorm).normal([40, 70]).normal([17]),
        ]
    }
}
