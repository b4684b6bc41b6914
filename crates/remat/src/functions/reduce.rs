//! Sums, means, extremes and softmax along axes.

use crate::graph::{Graph, Tensor};
use crate::{Error, ops};
use ops::Reduction;

impl Graph {
    /// The sum along axes: x [..], f32 or bf16; y without those axes, or with size 1 there if `keepdim`. No axes means all; what
    /// has no axes left has shape [1]. Unlike [`Graph::sum`], it keeps x's dtype.
    ///
    /// # Errors
    /// An axis that x does not have, or one twice.
    pub fn sum_dim(&mut self, x: Tensor, dims: &[isize], keepdim: bool) -> Result<Tensor, Error> {
        self.reduce("sum_dim", Reduction::Sum, x, dims, keepdim)
    }

    /// The mean along axes; otherwise as [`Graph::sum_dim`].
    ///
    /// # Errors
    /// As [`Graph::sum_dim`].
    pub fn mean_dim(&mut self, x: Tensor, dims: &[isize], keepdim: bool) -> Result<Tensor, Error> {
        self.reduce("mean_dim", Reduction::Mean, x, dims, keepdim)
    }

    /// The largest element along axes; equal ones share the derivative. Otherwise as [`Graph::sum_dim`].
    ///
    /// # Errors
    /// As [`Graph::sum_dim`].
    pub fn amax(&mut self, x: Tensor, dims: &[isize], keepdim: bool) -> Result<Tensor, Error> {
        self.reduce("amax", Reduction::Max, x, dims, keepdim)
    }

    /// The smallest element along axes; equal ones share the derivative. Otherwise as [`Graph::sum_dim`].
    ///
    /// # Errors
    /// As [`Graph::sum_dim`].
    pub fn amin(&mut self, x: Tensor, dims: &[isize], keepdim: bool) -> Result<Tensor, Error> {
        self.reduce("amin", Reduction::Min, x, dims, keepdim)
    }

    /// The variance along axes, with the squares divided by n − `correction` (PyTorch's default is 1); otherwise as
    /// [`Graph::sum_dim`]. Made in two passes, mean and squares of what is left.
    ///
    /// # Errors
    /// As [`Graph::sum_dim`]; axes of no more than `correction` elements.
    pub fn var(&mut self, x: Tensor, dims: &[isize], correction: usize, keepdim: bool) -> Result<Tensor, Error> {
        let (axes, shape) = (self.axes("var", x, dims)?, self.sizes(x)?);
        let terms: usize = axes.iter().map(|&axis| shape[axis]).product();
        if terms <= correction {
            let message =
                format!("{terms} elements of x {} have no variance with correction {correction}", self.ty(x)?);
            return Err(super::axes::refused("var", message));
        }
        let mean = self.reduce("var.mean", Reduction::Mean, x, dims, true)?;
        let rest = self.sub(x, mean)?;
        let squares = self.square(rest)?;
        let mean = self.reduce("var", Reduction::Mean, squares, dims, keepdim)?;
        self.scale(mean, (terms as f64 / (terms - correction) as f64) as f32)
    }

    /// eˣ/Σeˣ along an axis: x [..], f32 or bf16; y like x. Fastest along the last.
    ///
    /// # Errors
    /// An axis that x does not have.
    pub fn softmax(&mut self, x: Tensor, dim: isize) -> Result<Tensor, Error> {
        self.softmax_along("softmax", x, dim, false)
    }

    /// x − ln Σeˣ along an axis: x [..], f32 or bf16; y like x. Fastest along the last.
    ///
    /// # Errors
    /// An axis that x does not have.
    pub fn log_softmax(&mut self, x: Tensor, dim: isize) -> Result<Tensor, Error> {
        self.softmax_along("log_softmax", x, dim, true)
    }

    fn softmax_along(&mut self, name: &'static str, x: Tensor, dim: isize, log: bool) -> Result<Tensor, Error> {
        let (axis, axes) = (self.axis(name, x, dim)?, self.sizes(x)?.len());
        if axis + 1 == axes {
            return self.op1(name, ops::Softmax { log }, &[x]);
        }
        let turned = self.transpose(x, dim, -1)?;
        let y = self.op1(name, ops::Softmax { log }, &[turned])?;
        self.transpose(y, dim, -1)
    }

    fn reduce(
        &mut self,
        name: &'static str,
        reduction: Reduction,
        x: Tensor,
        dims: &[isize],
        keepdim: bool,
    ) -> Result<Tensor, Error> {
        let (axes, shape) = (self.axes(name, x, dims)?, self.sizes(x)?);
        let from_last = axes.iter().map(|&axis| axis as i64 - shape.len() as i64).collect();
        let y = self.op1(name, ops::Reduce { reduction, axes: from_last }, &[x])?;
        if keepdim {
            return Ok(y);
        }
        let left = (0..shape.len()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]);
        let left: Vec<usize> = left.collect();
        self.op1(name, ops::Reshape { shape: if left.is_empty() { vec![1] } else { left } }, &[y])
    }
}
