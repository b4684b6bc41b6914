//! `zeros`: a value filled with 0, for cotangents of results that nothing reads.
//!
//! No operands. Result: of the type given by the attributes.

use super::{OpDef, operands};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::{DType, Shape};
use serde::{Deserialize, Serialize};

/// Attributes of `zeros`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zeros {
    /// Element type.
    #[serde(with = "dtype_name")]
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

/// Writes a dtype by its name, as everywhere else in the text form.
pub(super) mod dtype_name {
    use remat_tensor::DType;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(dtype: &DType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(dtype.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DType, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl OpDef for Zeros {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 0)?;
        Ok(vec![Type::new(self.dtype, self.shape.clone())])
    }

    /// A constant: there is no operand to pass a cotangent to.
    fn vjp(&self, _cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Ok(Vec::new())
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(0.0, inputs, outputs)
    }

    fn eval(&self, _inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![Array::zeros(Shape::new(self.shape.clone()))]
    }

    fn samples() -> Vec<Sample> {
        let of = |dtype, shape: &[usize]| Sample::new(Zeros { dtype, shape: shape.to_vec() });
        vec![of(DType::F32, &[1]), of(DType::F32, &[2, 3, 17]), of(DType::I32, &[5]), of(DType::BF16, &[3, 7])]
    }
}
