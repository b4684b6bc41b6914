//! The interpreter's tensors: f64 elements whatever the dtype. Integers up to 2^53 are exact.

use crate::Type;
use remat_tensor::{HostTensor, Shape};

/// A dense row-major tensor of f64.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Dimensions, outermost first.
    pub shape: Shape,
    /// Elements, row-major.
    pub data: Vec<f64>,
}

impl Array {
    /// Wraps elements in a shape; the counts must agree.
    pub fn new(shape: impl Into<Shape>, data: Vec<f64>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.numel(), data.len(), "Array: shape {shape} and element count differ");
        Array { shape, data }
    }

    /// All zeros.
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let n = shape.numel();
        Array { shape, data: vec![0.0; n] }
    }

    /// A host tensor widened to f64.
    pub fn from_host(tensor: &HostTensor) -> Self {
        Array { shape: tensor.shape().clone(), data: tensor.to_f64() }
    }

    /// The elements as a host tensor of `ty`'s dtype, each rounded once.
    pub fn to_host(&self, ty: &Type) -> HostTensor {
        HostTensor::from_f64(self.shape.clone(), ty.dtype, &self.data)
    }

    /// Number of rows: the product of all axes but the last.
    pub fn rows(&self) -> usize {
        self.shape.rows()
    }

    /// Row `i` along the last axis.
    pub fn row(&self, i: usize) -> &[f64] {
        let n = self.shape.last();
        &self.data[i * n..(i + 1) * n]
    }

    /// Row `i` along the last axis, to be written.
    pub fn row_mut(&mut self, i: usize) -> &mut [f64] {
        let n = self.shape.last();
        &mut self.data[i * n..(i + 1) * n]
    }

    /// Element-wise function of one array.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Array {
        Array { shape: self.shape.clone(), data: self.data.iter().map(|&x| f(x)).collect() }
    }

    /// Element-wise function of two arrays of one shape.
    pub fn zip(&self, other: &Array, f: impl Fn(f64, f64) -> f64) -> Array {
        assert_eq!(self.shape, other.shape, "Array::zip: shapes differ");
        Array { shape: self.shape.clone(), data: self.data.iter().zip(&other.data).map(|(&a, &b)| f(a, b)).collect() }
    }
}
