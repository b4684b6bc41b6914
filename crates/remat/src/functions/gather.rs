//! Elements by their numbers and by masks.

use crate::graph::{Graph, Tensor};
use crate::{Error, ops};

impl Graph {
    /// Slices along an axis, by their numbers, as `torch.index_select` and, of ids with several axes, `numpy.take`: x [.., A, ..], f32,
    /// bf16 or i32, ids i32 [I..], each in 0..A; y [.., I.., ..]. Equal ids add their gradients, in order.
    ///
    /// # Errors
    /// Operands that do not fit, an axis that x does not have; when it runs, an id outside the axis.
    pub fn index_select(&mut self, x: Tensor, dim: isize, ids: Tensor) -> Result<Tensor, Error> {
        let axis = self.axis("index_select", x, dim)?;
        self.op1("index_select", ops::Gather { axis }, &[x, ids])
    }

    /// Single elements along an axis, by their numbers, as `torch.gather` and `numpy.take_along_axis`: x [.., A, ..], f32, bf16 or i32,
    /// ids i32 [.., I, ..] of x's other axes, each in 0..A; y of the shape of ids. Equal ids add their gradients, in order.
    ///
    /// # Errors
    /// Operands that do not fit, an axis that x does not have; when it runs, an id outside the axis.
    pub fn gather(&mut self, x: Tensor, dim: isize, ids: Tensor) -> Result<Tensor, Error> {
        let axis = self.axis("gather", x, dim)?;
        self.op1("gather", ops::TakeAlongAxis { axis }, &[x, ids])
    }

    /// a where a mask is 1 and b where it is 0, as `torch.where`: mask i32 [..] of 0 and 1, a and b [..], both f32 or both bf16; y of
    /// the shape that all three broadcast to.
    ///
    /// # Errors
    /// Operands that do not fit; when it runs, a mask of other numbers.
    pub fn where_mask(&mut self, mask: Tensor, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.op1("where", ops::Select, &[mask, a, b])
    }

    /// A value where a mask is 1, x elsewhere: x [..], f32 or bf16, mask i32 of 0 and 1, which broadcasts to x; y like x. The value may
    /// be infinite, as scores that softmax is to pass over are.
    ///
    /// # Errors
    /// Operands that do not fit, a value that is NaN; when it runs, a mask of other numbers.
    pub fn masked_fill(&mut self, x: Tensor, mask: Tensor, value: f32) -> Result<Tensor, Error> {
        self.op1("masked_fill", ops::MaskedFill { value, filled: true }, &[x, mask])
    }
}
