//! What a training step is made from: a forward graph with its loss, and what of it is trained.
//!
//! Whoever builds models hands this over, whoever compiles and drives steps takes it. Invariant: the states of a parameter
//! (its gradient, moments, working copy) have its kind as their role, and names that [`StateRole`] makes of its own. Look
//! next at the crate `step`.

use crate::{Graph, ParameterKind, SourceRole, StateRole, Type, ValueId};

/// A trainable parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Name of its state, which is its name in the file.
    pub name: String,
    /// Whether it is the model's own or an adapter's.
    pub kind: ParameterKind,
    /// Name of a parameter that its gradient is a multiple of: as long as that one is zero, so is the gradient.
    pub gated_by: Option<String>,
    /// Its f32 type.
    pub ty: Type,
    /// The state that forward and backward read: of its own name, or the working copy.
    pub value: ValueId,
    /// Whether they read a copy in bf16 in place of the f32 state.
    pub has_working_copy: bool,
    /// The state that its gradients are added onto.
    pub gradient: ValueId,
    /// Whether weight decay applies.
    pub decay: bool,
}

impl Parameter {
    /// Name of one of its states.
    pub fn state(&self, role: StateRole) -> String {
        role.name(&self.name)
    }

    /// Role of one of its states.
    pub fn role(&self, role: StateRole) -> SourceRole {
        SourceRole::Parameter(self.kind, role)
    }

    /// Name of the bf16 state that the forward computation reads in its place, if it does.
    pub fn working_copy(&self) -> Option<String> {
        self.has_working_copy.then(|| self.state(StateRole::WorkingCopy))
    }
}

/// A forward graph with its loss, ready to be differentiated.
#[derive(Debug, Clone)]
pub struct Training {
    /// The forward computation.
    pub graph: Graph,
    /// The loss: f32 [1], an output.
    pub loss: ValueId,
    /// Cotangent of the loss: an input, f32 [1]; for a sum over tokens 1/N with N the trained tokens of the whole update.
    pub dloss: ValueId,
    /// What is trained, in graph order.
    pub parameters: Vec<Parameter>,
    /// Other values whose gradients are wanted: outputs of each run.
    pub wanted: Vec<ValueId>,
    /// Whether the graph has an input [`RANDOM_KEY`](crate::RANDOM_KEY).
    pub random: bool,
}
