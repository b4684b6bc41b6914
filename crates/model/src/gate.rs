//! Activations of MLPs as ops. Invariant: the one place that knows both what configurations and what ops call them.

use crate::model_builder::ModelBuilder;
use remat_formats::{Activation, GeluForm};
use remat_ir::ops::{self, Geglu, Swiglu};
use remat_ir::{IrError, ValueId};

/// activation(gate) · up.
pub(crate) fn gated(
    m: &mut ModelBuilder<'_>,
    name: &str,
    activation: Activation,
    gate_up: [ValueId; 2],
) -> Result<ValueId, IrError> {
    match activation {
        Activation::Silu => m.b.op1(name, Swiglu, &gate_up),
        Activation::Gelu(gelu) => m.b.op1(name, Geglu { form: form(gelu) }, &gate_up),
    }
}

/// GELU's form as ops name it.
pub(crate) fn form(gelu: GeluForm) -> ops::GeluForm {
    match gelu {
        GeluForm::Exact => ops::GeluForm::Exact,
        GeluForm::Tanh => ops::GeluForm::Tanh,
    }
}
