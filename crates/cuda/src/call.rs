//! An op with the types of its operands and results: what recipes make launches from.
//!
//! Invariant: only types are known here, never addresses, so a recipe is a pure function.

use remat_ir::Type;
use remat_tensor::DType;

/// The types of one op's operands and results.
#[derive(Debug, Clone, Copy)]
pub struct OpTypes<'a> {
    /// Operands, in the op's order.
    pub reads: &'a [&'a Type],
    /// Results, in the op's order.
    pub writes: &'a [&'a Type],
}

impl<'a> OpTypes<'a> {
    /// Sizes of operand `index`.
    pub fn shape(&self, index: usize) -> &'a [usize] {
        self.reads[index].shape.dims()
    }

    /// Rows (all axes but the last) of operand `index`.
    pub fn rows(&self, index: usize) -> usize {
        self.reads[index].shape.rows()
    }

    /// Last axis of operand `index`.
    pub fn last(&self, index: usize) -> usize {
        self.reads[index].shape.last()
    }

    /// Elements of operand `index`.
    pub fn numel(&self, index: usize) -> usize {
        self.reads[index].shape.numel()
    }

    /// Elements of result `index`.
    pub fn result_numel(&self, index: usize) -> usize {
        self.writes[index].shape.numel()
    }

    /// Name of operand `index`'s float type in kernels' names.
    pub fn float(&self, index: usize) -> Result<&'static str, String> {
        float_name(self.reads[index])
    }

    /// A kernel's name with the float type of operand `index` behind it.
    pub fn named(&self, stem: &str, index: usize) -> Result<String, String> {
        Ok(format!("{stem}_{}", self.float(index)?))
    }
}

/// `f32` or `bf16`: kernels are compiled for these.
pub fn float_name(ty: &Type) -> Result<&'static str, String> {
    match ty.dtype {
        DType::F32 => Ok("f32"),
        DType::BF16 => Ok("bf16"),
        other => Err(format!("there is no CUDA kernel for {other}; use f32 or bf16")),
    }
}

/// Bytes of an element of a float type that kernels are compiled for.
pub fn float_bytes(ty: &Type) -> usize {
    if ty.dtype == DType::BF16 { 2 } else { 4 }
}
