//! Operands of a loaded step.

use remat_ir::Type;

/// An operand or result: where it is and what it is.
#[derive(Debug, Clone)]
pub(crate) struct Operand {
    pub(crate) start: *mut u8,
    pub(crate) ty: Type,
}
