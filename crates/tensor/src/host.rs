//! Tensors in host memory, owned and typed. Invariant: the data's length is the shape's element count.

use crate::{DType, QuantisedData, Shape};
use half::{bf16, f16};

/// Owned elements of one dtype.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum TensorData {
    F32(Vec<f32>),
    BF16(Vec<bf16>),
    F16(Vec<f16>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    U8(Vec<u8>),
    I8(Vec<i8>),
    Quantised(QuantisedData),
}

/// A row-major tensor in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    shape: Shape,
    data: TensorData,
}

impl HostTensor {
    /// Wraps elements in a shape. Panics if the counts differ: callers have checked their input.
    pub fn new(shape: impl Into<Shape>, data: TensorData) -> Self {
        let shape = shape.into();
        let tensor = HostTensor { shape, data };
        assert_eq!(tensor.shape.numel(), tensor.len(), "HostTensor: shape {} and element count differ", tensor.shape);
        tensor
    }

    /// An f32 tensor.
    pub fn from_f32(shape: impl Into<Shape>, data: Vec<f32>) -> Self {
        HostTensor::new(shape, TensorData::F32(data))
    }

    /// An i32 tensor.
    pub fn from_i32(shape: impl Into<Shape>, data: Vec<i32>) -> Self {
        HostTensor::new(shape, TensorData::I32(data))
    }

    /// All zeros.
    pub fn zeros(shape: impl Into<Shape>, dtype: DType) -> Self {
        let shape = shape.into();
        let n = shape.numel();
        let data = match dtype {
            DType::F32 => TensorData::F32(vec![0.0; n]),
            DType::BF16 => TensorData::BF16(vec![bf16::ZERO; n]),
            DType::F16 => TensorData::F16(vec![f16::ZERO; n]),
            DType::I32 => TensorData::I32(vec![0; n]),
            DType::U32 => TensorData::U32(vec![0; n]),
            DType::U8 => TensorData::U8(vec![0; n]),
            DType::I8 => TensorData::I8(vec![0; n]),
            DType::Nf4 | DType::Nf4Single | DType::Int8 => return HostTensor::from_f64(shape, dtype, &vec![0.0; n]),
        };
        HostTensor { shape, data }
    }

    /// A tensor from little-endian bytes as files hold them; `None` if the length does not match.
    pub fn from_le_bytes(shape: impl Into<Shape>, dtype: DType, bytes: &[u8]) -> Option<Self> {
        let shape = shape.into();
        if dtype.bytes_of(&shape)? != bytes.len() {
            return None;
        }
        let data = match dtype {
            DType::F32 => TensorData::F32(bytemuck::pod_collect_to_vec(bytes)),
            DType::BF16 => TensorData::BF16(bytemuck::pod_collect_to_vec(bytes)),
            DType::F16 => TensorData::F16(bytemuck::pod_collect_to_vec(bytes)),
            DType::I32 => TensorData::I32(bytemuck::pod_collect_to_vec(bytes)),
            DType::U32 => TensorData::U32(bytemuck::pod_collect_to_vec(bytes)),
            DType::U8 => TensorData::U8(bytes.to_vec()),
            DType::I8 => TensorData::I8(bytemuck::pod_collect_to_vec(bytes)),
            DType::Nf4 | DType::Nf4Single | DType::Int8 => {
                let format = dtype.quant_format()?;
                TensorData::Quantised(QuantisedData::from_bytes(format, shape.clone(), bytes.to_vec())?)
            }
        };
        Some(HostTensor { shape, data })
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The typed elements.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        match &self.data {
            TensorData::F32(_) => DType::F32,
            TensorData::BF16(_) => DType::BF16,
            TensorData::F16(_) => DType::F16,
            TensorData::I32(_) => DType::I32,
            TensorData::U32(_) => DType::U32,
            TensorData::U8(_) => DType::U8,
            TensorData::I8(_) => DType::I8,
            TensorData::Quantised(data) => data.format().dtype(),
        }
    }

    fn len(&self) -> usize {
        match &self.data {
            TensorData::F32(v) => v.len(),
            TensorData::BF16(v) => v.len(),
            TensorData::F16(v) => v.len(),
            TensorData::I32(v) => v.len(),
            TensorData::U32(v) => v.len(),
            TensorData::U8(v) => v.len(),
            TensorData::I8(v) => v.len(),
            TensorData::Quantised(data) => data.shape().numel(),
        }
    }

    /// The elements as raw little-endian bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.data {
            TensorData::F32(v) => bytemuck::cast_slice(v),
            TensorData::BF16(v) => bytemuck::cast_slice(v),
            TensorData::F16(v) => bytemuck::cast_slice(v),
            TensorData::I32(v) => bytemuck::cast_slice(v),
            TensorData::U32(v) => bytemuck::cast_slice(v),
            TensorData::U8(v) => v,
            TensorData::I8(v) => bytemuck::cast_slice(v),
            TensorData::Quantised(data) => data.bytes(),
        }
    }

    /// The elements, if they are f32.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::F32(v) => Some(v),
            _ => None,
        }
    }

    /// Each element widened to f64 (exact for every dtype here).
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            TensorData::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            TensorData::BF16(v) => v.iter().map(|x| x.to_f64()).collect(),
            TensorData::F16(v) => v.iter().map(|x| x.to_f64()).collect(),
            TensorData::I32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            TensorData::U32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            TensorData::U8(v) => v.iter().map(|&x| f64::from(x)).collect(),
            TensorData::I8(v) => v.iter().map(|&x| f64::from(x)).collect(),
            TensorData::Quantised(data) => data.to_f32().into_iter().map(f64::from).collect(),
        }
    }

    /// f64 values rounded once to `dtype` (to nearest, ties to even; integers truncate; quantised types are made from f32,
    /// which panics on a number that is not finite).
    pub fn from_f64(shape: impl Into<Shape>, dtype: DType, values: &[f64]) -> Self {
        let shape = shape.into();
        let data = match dtype {
            DType::F32 => TensorData::F32(values.iter().map(|&x| x as f32).collect()),
            DType::BF16 => TensorData::BF16(values.iter().map(|&x| bf16::from_f32(to_odd(x))).collect()),
            DType::F16 => TensorData::F16(values.iter().map(|&x| f16::from_f32(to_odd(x))).collect()),
            DType::I32 => TensorData::I32(values.iter().map(|&x| x as i32).collect()),
            DType::U32 => TensorData::U32(values.iter().map(|&x| x as u32).collect()),
            DType::U8 => TensorData::U8(values.iter().map(|&x| x as u8).collect()),
            DType::I8 => TensorData::I8(values.iter().map(|&x| x as i8).collect()),
            DType::Nf4 | DType::Nf4Single | DType::Int8 => quantised(dtype, &shape, values),
        };
        HostTensor::new(shape, data)
    }

    /// The same values in another dtype, each rounded once.
    pub fn cast(&self, dtype: DType) -> HostTensor {
        if dtype == self.dtype() {
            return self.clone();
        }
        HostTensor::from_f64(self.shape.clone(), dtype, &self.to_f64())
    }
}

/// The f32 next to `x`, the one with an odd last bit if `x` is none: rounding it further is rounding `x` once. (The
/// conversions of `half` from f64 look at the upper 20 bits of the mantissa only.)
fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    let bits = near.to_bits();
    if f64::from(near) == x || !near.is_finite() || bits % 2 == 1 {
        return near;
    }
    f32::from_bits(if f64::from(near.abs()) > x.abs() { bits - 1 } else { bits + 1 })
}

fn quantised(dtype: DType, shape: &Shape, values: &[f64]) -> TensorData {
    let format = dtype.quant_format().expect("asked of quantised types alone");
    assert_eq!(shape.numel(), values.len(), "HostTensor: shape {shape} and element count differ");
    let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    let data = QuantisedData::quantise(format, shape.clone(), &values);
    TensorData::Quantised(data.unwrap_or_else(|fault| panic!("HostTensor: element {} is {}", fault.index, fault.value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_for_every_dtype() {
        for dtype in DType::PLAIN {
            let t = HostTensor::from_f64([2, 3], dtype, &[0.0, 1.0, 2.0, 3.0, 4.0, 100.0]);
            let back = HostTensor::from_le_bytes([2, 3], dtype, t.as_bytes()).expect("lengths match");
            assert_eq!(t, back);
            assert!(HostTensor::from_le_bytes([2, 4], dtype, t.as_bytes()).is_none());
        }
    }

    #[test]
    fn rounding_from_f64_is_one_rounding() {
        let (half, tiny) = (1.0 + 1.0 / 256.0, 1.0 / f64::from(1u32 << 23));
        for (x, rounded) in [
            (half, 1.0),
            (half + tiny, 1.0 + 1.0 / 128.0),
            (half + 1e-15, 1.0 + 1.0 / 128.0),
            (half - 1e-15, 1.0),
            (-half - 1e-15, -1.0 - 1.0 / 128.0),
            (1e300, f64::INFINITY),
            (1e-300, 0.0),
        ] {
            assert_eq!(HostTensor::from_f64([1], DType::BF16, &[x]).to_f64(), [rounded], "{x:e}");
        }
    }

    #[test]
    fn cast_rounds_to_nearest_even() {
        let t = HostTensor::from_f32([2], vec![1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0]);
        assert_eq!(t.cast(DType::BF16).to_f64(), [1.0, 1.0 + 4.0 / 256.0]);
    }
}
