//! Axes as PyTorch counts them: from the first, or from the last where they are negative.

use crate::graph::{Graph, Tensor};
use crate::{Error, IrError};

/// The error of a method whose arguments do not fit.
pub(super) fn refused(method: &'static str, message: String) -> Error {
    Error::Graph(IrError::Operands { op: method.to_string(), node: method.to_string(), message })
}

impl Graph {
    /// Sizes of a tensor.
    pub(super) fn sizes(&self, x: Tensor) -> Result<Vec<usize>, Error> {
        Ok(self.ty(x)?.shape.to_vec())
    }

    /// The index of an axis of x.
    pub(super) fn axis(&self, method: &'static str, x: Tensor, dim: isize) -> Result<usize, Error> {
        let ty = self.ty(x)?;
        axis_of(ty.shape.len(), dim).ok_or_else(|| {
            let axes = ty.shape.len() as isize;
            refused(method, format!("x {ty} has no axis {dim}: axes are {} to {}", -axes, axes - 1))
        })
    }

    /// The indices of axes of x, ascending; of all of them if none is named.
    pub(super) fn axes(&self, method: &'static str, x: Tensor, dims: &[isize]) -> Result<Vec<usize>, Error> {
        if dims.is_empty() {
            return Ok((0..self.ty(x)?.shape.len()).collect());
        }
        let mut axes: Vec<usize> = dims.iter().map(|&dim| self.axis(method, x, dim)).collect::<Result<_, _>>()?;
        axes.sort_unstable();
        if axes.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(refused(method, format!("axes {dims:?} of x {} name one twice", self.ty(x)?)));
        }
        Ok(axes)
    }
}

/// The index of an axis among so many.
pub(super) fn axis_of(axes: usize, dim: isize) -> Option<usize> {
    let index = if dim < 0 { axes.checked_sub(dim.unsigned_abs())? } else { dim.unsigned_abs() };
    (index < axes).then_some(index)
}
