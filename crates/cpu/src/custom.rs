//! Kernels of a library user's own ops, registered with the executor under the op's name.
//!
//! Invariant: a kernel sees each operand as bytes and each result once, so that safe code cannot alias them; whether it
//! gives the same bits at every thread count is the user's promise, which validation tests.

use crate::executor::Operand;
use remat_ir::Custom;
use remat_plan::{TensorView, TensorViewMut};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Computes one custom op.
pub trait CustomKernel: Send + Sync {
    /// Writes every result of the call.
    ///
    /// # Errors
    /// An operand that it refuses: what is wrong with it.
    fn run(&self, call: CustomCall<'_>) -> Result<(), String>;
}

/// One call: operands, results and attributes.
pub struct CustomCall<'a> {
    pub(crate) op: &'a Custom,
    pub(crate) reads: &'a [Operand],
    pub(crate) writes: &'a [Operand],
}

impl<'a> CustomCall<'a> {
    /// The op's attributes.
    pub fn attributes(&self) -> &'a str {
        self.op.attributes()
    }

    /// Operand `index`; there are as many as the op's `infer` accepted.
    pub fn input(&self, index: usize) -> TensorView<'a> {
        let operand = &self.reads[index];
        // SAFETY: the checked plan gave the operand this many bytes; no result overlaps it, since custom ops never work in
        // place, and nothing else writes it during this step.
        let bytes = unsafe { std::slice::from_raw_parts(operand.start, operand.ty.bytes()) };
        TensorView { ty: &operand.ty, bytes }
    }

    /// Result `index`, to be written.
    pub fn output(&mut self, index: usize) -> TensorViewMut<'_> {
        let result = &self.writes[index];
        // SAFETY: as in `input`; results do not overlap, and the borrow of `self` lets only one be held at a time.
        let bytes = unsafe { std::slice::from_raw_parts_mut(result.start, result.ty.bytes()) };
        TensorViewMut { ty: &result.ty, bytes }
    }
}

/// Kernels by the name of their op.
#[derive(Clone, Default)]
pub struct CustomKernels {
    by_name: HashMap<String, Arc<dyn CustomKernel>>,
}

impl CustomKernels {
    /// Adds a kernel, in place of another of this name.
    pub fn register(&mut self, name: &str, kernel: Arc<dyn CustomKernel>) {
        self.by_name.insert(name.to_string(), kernel);
    }

    /// The kernel of an op, or what is missing.
    pub(crate) fn of(&self, op: &Custom) -> Result<Arc<dyn CustomKernel>, String> {
        let kernel = self.by_name.get(op.custom_name()).cloned();
        kernel.ok_or_else(|| {
            format!("no kernel is registered under \"{}\": register one before the plan is loaded", op.custom_name())
        })
    }
}

impl fmt::Debug for CustomKernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}
