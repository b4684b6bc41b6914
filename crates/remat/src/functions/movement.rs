//! The same elements in another shape, order or place.

use super::axes::{axis_of, refused};
use crate::graph::{Graph, Tensor};
use crate::{Error, ops};

impl Graph {
    /// The same elements under another shape: x [..], f32, bf16 or i32; one size may be −1, and is what is left.
    ///
    /// # Errors
    /// Sizes that do not hold x's elements.
    pub fn reshape(&mut self, x: Tensor, shape: &[isize]) -> Result<Tensor, Error> {
        let ty = self.ty(x)?;
        let misfit = || refused("reshape", format!("shape {shape:?} does not hold the elements of x {ty}"));
        let known = shape.iter().filter(|&&size| size != -1).try_fold(1usize, |product, &size| {
            usize::try_from(size).ok().and_then(|size| product.checked_mul(size)).filter(|&product| product > 0)
        });
        let known = known.ok_or_else(misfit)?;
        let unknown = shape.iter().filter(|&&size| size == -1).count();
        let left = ty.shape.numel() / known;
        if unknown > 1 || left * known != ty.shape.numel() || (unknown == 0 && left != 1) {
            return Err(misfit());
        }
        let shape = shape.iter().map(|&size| usize::try_from(size).unwrap_or(left)).collect();
        self.op1("reshape", ops::Reshape { shape }, &[x])
    }

    /// Axes `start` to `end` as one (PyTorch's defaults are 0 and −1): x [..], f32, bf16 or i32.
    ///
    /// # Errors
    /// Axes that x does not have, an end before the start.
    pub fn flatten(&mut self, x: Tensor, start: isize, end: isize) -> Result<Tensor, Error> {
        let (first, last, shape) = (self.axis("flatten", x, start)?, self.axis("flatten", x, end)?, self.sizes(x)?);
        if last < first {
            return Err(refused("flatten", format!("axis {end} of x {} stands before axis {start}", self.ty(x)?)));
        }
        let joined = shape[first..=last].iter().product();
        let shape = [&shape[..first], &[joined], &shape[last + 1..]].concat();
        self.op1("flatten", ops::Reshape { shape }, &[x])
    }

    /// A new axis of size 1 at `dim`, one of the result's: x [..], f32, bf16 or i32.
    ///
    /// # Errors
    /// An axis that the result does not have.
    pub fn unsqueeze(&mut self, x: Tensor, dim: isize) -> Result<Tensor, Error> {
        let mut shape = self.sizes(x)?;
        let Some(axis) = axis_of(shape.len() + 1, dim) else {
            return Err(refused("unsqueeze", format!("x {} with one more axis has no axis {dim}", self.ty(x)?)));
        };
        shape.insert(axis, 1);
        self.op1("unsqueeze", ops::Reshape { shape }, &[x])
    }

    /// Without an axis of size 1: x [..], f32, bf16 or i32. What has no other axis keeps it.
    ///
    /// # Errors
    /// An axis that x does not have, or one of another size.
    pub fn squeeze(&mut self, x: Tensor, dim: isize) -> Result<Tensor, Error> {
        let (axis, mut shape) = (self.axis("squeeze", x, dim)?, self.sizes(x)?);
        if shape[axis] != 1 {
            return Err(refused("squeeze", format!("axis {dim} of x {} has more than one element", self.ty(x)?)));
        }
        if shape.len() > 1 {
            shape.remove(axis);
        }
        self.op1("squeeze", ops::Reshape { shape }, &[x])
    }

    /// Two axes exchanged: x [..] of at most 8 axes, f32, bf16 or i32.
    ///
    /// # Errors
    /// An axis that x does not have.
    pub fn transpose(&mut self, x: Tensor, dim0: isize, dim1: isize) -> Result<Tensor, Error> {
        let (first, second) = (self.axis("transpose", x, dim0)?, self.axis("transpose", x, dim1)?);
        let mut permutation: Vec<usize> = (0..self.sizes(x)?.len()).collect();
        permutation.swap(first, second);
        self.op1("transpose", ops::Transpose { permutation }, &[x])
    }

    /// The axes in another order, axis i of the result being axis `dims[i]` of x: x [..] of at most 8 axes, f32, bf16 or i32.
    ///
    /// # Errors
    /// What does not order x's axes.
    pub fn permute(&mut self, x: Tensor, dims: &[isize]) -> Result<Tensor, Error> {
        let permutation = dims.iter().map(|&dim| self.axis("permute", x, dim)).collect::<Result<_, _>>()?;
        self.op1("permute", ops::Transpose { permutation }, &[x])
    }

    /// Every `step`-th element from `start` up to `end` along an axis, x[.., start:end:step, ..]: x [..] of at most 8 axes, f32, bf16
    /// or i32.
    ///
    /// # Errors
    /// An axis that x does not have, elements that it does not have, none at all.
    pub fn slice(&mut self, x: Tensor, dim: isize, start: usize, end: usize, step: usize) -> Result<Tensor, Error> {
        let (axis, shape) = (self.axis("slice", x, dim)?, self.sizes(x)?);
        self.op1("slice", ops::Slice::along(&shape, axis, start, end, step), &[x])
    }

    /// `length` elements from `start` on along an axis: x [..] of at most 8 axes, f32, bf16 or i32.
    ///
    /// # Errors
    /// As [`Graph::slice`].
    pub fn narrow(&mut self, x: Tensor, dim: isize, start: usize, length: usize) -> Result<Tensor, Error> {
        self.slice(x, dim, start, start.saturating_add(length), 1)
    }

    /// Elements of a value before and behind each axis, a pair for each, first axis first (`torch.nn.functional.pad` begins with the
    /// last): x [..] of at most 8 axes, f32, bf16, or i32, which is padded with 0 alone.
    ///
    /// # Errors
    /// Another number of pairs than x has axes, a value that is NaN.
    pub fn pad(&mut self, x: Tensor, by: &[(usize, usize)], value: f32) -> Result<Tensor, Error> {
        let (low, high) = by.iter().copied().unzip();
        self.op1("pad", ops::Pad { low, high, between: vec![0; by.len()], value }, &[x])
    }

    /// x broadcast to a shape of at most 8 axes: f32, bf16 or i32.
    ///
    /// # Errors
    /// A shape that x does not broadcast to.
    pub fn expand(&mut self, x: Tensor, shape: &[usize]) -> Result<Tensor, Error> {
        self.op1("expand", ops::Expand { shape: shape.to_vec() }, &[x])
    }

    /// Joins along an axis: parts [..], both f32 or both bf16, that differ in that axis alone.
    ///
    /// # Errors
    /// No parts, parts that differ in another axis, an axis that they do not have.
    pub fn cat(&mut self, parts: &[Tensor], dim: isize) -> Result<Tensor, Error> {
        let Some(&first) = parts.first() else { return Err(refused("cat", "there is nothing to join".to_string())) };
        let behind = self.sizes(first)?.len() - 1 - self.axis("cat", first, dim)?;
        self.op1("cat", ops::Concat { groups: 1, behind }, parts)
    }

    /// Joins along a new axis: parts [..] of one shape, all f32 or all bf16.
    ///
    /// # Errors
    /// No parts, parts of several types, an axis that the result does not have.
    pub fn stack(&mut self, parts: &[Tensor], dim: isize) -> Result<Tensor, Error> {
        let parts: Vec<Tensor> = parts.iter().map(|&part| self.unsqueeze(part, dim)).collect::<Result<_, _>>()?;
        self.cat(&parts, dim)
    }

    /// Cuts an axis into pieces of these sizes: x [..], f32 or bf16.
    ///
    /// # Errors
    /// Sizes that do not sum to the axis, an axis that x does not have.
    pub fn split_dim(&mut self, x: Tensor, sizes: &[usize], dim: isize) -> Result<Vec<Tensor>, Error> {
        let behind = self.sizes(x)?.len() - 1 - self.axis("split", x, dim)?;
        self.op("split", ops::Split { sizes: sizes.to_vec(), groups: 1, behind }, &[x])
    }

    /// Cuts an axis into equal pieces: x [..], f32 or bf16.
    ///
    /// # Errors
    /// An axis that x does not have, or that so many pieces do not divide.
    pub fn chunk(&mut self, x: Tensor, pieces: usize, dim: isize) -> Result<Vec<Tensor>, Error> {
        let size = self.sizes(x)?[self.axis("chunk", x, dim)?];
        if pieces == 0 || !size.is_multiple_of(pieces) {
            return Err(refused("chunk", format!("{pieces} pieces do not divide axis {dim} of x {}", self.ty(x)?)));
        }
        self.split_dim(x, &vec![size / pieces; pieces], dim)
    }
}
