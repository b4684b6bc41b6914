//! What a node costs, independent of any machine. Prices in seconds are made from these by the compiler's cost model.

use crate::Type;

/// Work of one node.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// Floating-point operations; a multiply-add counts two.
    pub flops: f64,
    /// Bytes read and written if every operand and result moved once, and what is read again.
    pub bytes: f64,
    /// Elements that live and die inside the op: logits of the head, which pass through an exponential there, numbers
    /// that a quantised weight is decoded to, and what is made as its transpose.
    pub inner: f64,
}

impl Cost {
    /// The given FLOPs, with every operand and result moved once.
    pub fn new(flops: f64, inputs: &[&Type], outputs: &[&Type]) -> Self {
        let bytes = inputs.iter().chain(outputs).map(|ty| ty.bytes() as f64).sum();
        Cost { flops, bytes, inner: 0.0 }
    }

    /// The same with so many more bytes: of operands that are read again.
    pub fn with_bytes(self, more: usize) -> Self {
        Cost { bytes: self.bytes + more as f64, ..self }
    }

    /// The same with so many elements inside.
    pub fn with_inner(self, inner: f64) -> Self {
        Cost { inner, ..self }
    }

    /// Element-wise work: a fixed number of FLOPs per element of the first result.
    pub fn pointwise(flops_per_element: f64, inputs: &[&Type], outputs: &[&Type]) -> Self {
        let elements = outputs.first().map_or(0, |ty| ty.shape.numel());
        Cost::new(flops_per_element * elements as f64, inputs, outputs)
    }
}
