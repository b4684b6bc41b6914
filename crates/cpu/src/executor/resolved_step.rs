//! A step of a loaded plan: its operands and results as addresses.
//!
//! Invariant: each points at as many bytes as its type says. Look next at `resolve`, which makes them.

use super::operand::Operand;
use remat_comm::Engine;
use remat_ir::OpId;
use remat_plan::{CustomInputs, CustomKernel, CustomOutputs, TensorView, TensorViewMut};
use std::sync::Arc;

/// One step with its addresses.
#[derive(Clone)]
pub(super) struct ResolvedStep {
    pub(super) op: OpId,
    pub(super) reads: Vec<Operand>,
    pub(super) writes: Vec<Operand>,
    pub(super) workspace: (*mut u8, usize),
    /// The kernel of a custom op.
    pub(super) custom: Option<Arc<dyn CustomKernel>>,
    /// What joins the ranks, where they do something together here.
    pub(super) engine: Option<Arc<dyn Engine>>,
    /// How many rows the table has whose looked-up rows alone are the first operand, in their order.
    pub(super) table_rows: Option<usize>,
}

/// Operands of a custom op.
pub(super) struct CustomReads<'a>(pub(super) &'a [Operand]);

/// Results of a custom op.
pub(super) struct CustomWrites<'a>(pub(super) &'a [Operand]);

impl<'a> CustomInputs<'a> for CustomReads<'a> {
    fn input(&self, index: usize) -> TensorView<'a> {
        let operand = &self.0[index];
        // SAFETY: the checked plan gave the operand this many bytes; no result overlaps it, since custom ops never work in
        // place, and nothing else writes it during this step.
        let bytes = unsafe { std::slice::from_raw_parts(operand.start, operand.ty.bytes()) };
        TensorView { ty: &operand.ty, bytes }
    }
}

impl CustomOutputs for CustomWrites<'_> {
    fn output(&mut self, index: usize) -> TensorViewMut<'_> {
        let result = &self.0[index];
        // SAFETY: as in `input`; results do not overlap, and the borrow of `self` lets only one be held at a time.
        let bytes = unsafe { std::slice::from_raw_parts_mut(result.start, result.ty.bytes()) };
        TensorViewMut { ty: &result.ty, bytes }
    }
}
