//! Products of matrices.

use crate::graph::{Graph, Tensor};
use crate::{DType, Error, ops};
use ops::{Layout, Matmul};

impl Graph {
    /// a·b: a [.., M, K], b [.., K, N], both f32 or both bf16; y [.., M, N]. Leading axes broadcast. With a b of two axes that is a
    /// weight, an input or f32, it is a linear layer: a [.., K], y [.., N].
    ///
    /// # Errors
    /// Operands that do not fit.
    pub fn matmul(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        if self.is_weight(b)? {
            return self.op1("matmul", ops::Linear::plain(Layout::InOut), &[a, b]);
        }
        self.op1("matmul", Matmul::PLAIN, &[a, b])
    }

    /// a·bᵀ, as scores of queries and keys are made: a [.., M, K], b [.., N, K], both f32 or both bf16; y [.., M, N]. Leading axes
    /// broadcast.
    ///
    /// # Errors
    /// Operands that do not fit.
    pub fn matmul_transposed(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.op1("matmul", Matmul { transpose_a: false, transpose_b: true }, &[a, b])
    }

    /// Whether a value is a matrix whose gradient may be f32: it is f32 itself, has none, or is one rounded.
    fn is_weight(&self, b: Tensor) -> Result<bool, Error> {
        let (graph, id) = (self.b.graph(), self.id(b, "matmul")?);
        let value = graph.value(id);
        let is_rounded = |producer| {
            let node: &remat_ir::Node = graph.node(producer);
            node.inputs.len() == 1 && graph.ty(node.inputs[0]).dtype == DType::F32
        };
        let may_be = value.ty.dtype == DType::F32 || value.producer.is_none_or(|(producer, _)| is_rounded(producer));
        // What is quantised, or no number at all, is for `linear` to take or refuse.
        Ok(value.ty.shape.len() <= 2 && may_be)
    }
}
