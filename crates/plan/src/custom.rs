//! Kernels of a library user's own ops, registered with a device under the op's name.
//!
//! Invariant: a kernel sees each operand as bytes and each result once, so that safe code cannot alias them; whether it
//! gives the same bits at every thread count is the user's promise, which validation tests. A device whose memory the
//! processor cannot address refuses custom ops, or brings operands and results to it.

use remat_ir::{Custom, Type};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// An operand of a custom op.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// Element type and shape.
    pub ty: &'a Type,
    /// Row-major little-endian elements, aligned for their dtype.
    pub bytes: &'a [u8],
}

/// A result of a custom op, to be written.
#[derive(Debug)]
pub struct TensorViewMut<'a> {
    /// Element type and shape.
    pub ty: &'a Type,
    /// Row-major little-endian elements, aligned for their dtype.
    pub bytes: &'a mut [u8],
}

/// Computes one custom op.
pub trait CustomKernel: Send + Sync {
    /// Writes every result of the call.
    ///
    /// # Errors
    /// An operand that it refuses: what is wrong with it.
    fn run(&self, call: CustomCall<'_>) -> Result<(), String>;
}

/// Operands of one call, as a device hands them to a kernel.
pub trait CustomInputs<'a> {
    /// Operand `index`.
    fn input(&self, index: usize) -> TensorView<'a>;
}

/// Results of one call.
pub trait CustomOutputs {
    /// Result `index`, to be written.
    fn output(&mut self, index: usize) -> TensorViewMut<'_>;
}

/// One call: operands, results and attributes.
pub struct CustomCall<'a> {
    op: &'a Custom,
    inputs: &'a dyn CustomInputs<'a>,
    outputs: &'a mut dyn CustomOutputs,
}

impl<'a> CustomCall<'a> {
    /// Of an op on these operands.
    pub fn new(op: &'a Custom, inputs: &'a dyn CustomInputs<'a>, outputs: &'a mut dyn CustomOutputs) -> Self {
        CustomCall { op, inputs, outputs }
    }

    /// The op's attributes.
    pub fn attributes(&self) -> &'a str {
        self.op.attributes()
    }

    /// Operand `index`; there are as many as the op's `infer` accepted.
    pub fn input(&self, index: usize) -> TensorView<'a> {
        self.inputs.input(index)
    }

    /// Result `index`, to be written.
    pub fn output(&mut self, index: usize) -> TensorViewMut<'_> {
        self.outputs.output(index)
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

    /// The kernel of an op.
    ///
    /// # Errors
    /// None of this name: what is missing.
    pub fn of(&self, op: &Custom) -> Result<Arc<dyn CustomKernel>, String> {
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
