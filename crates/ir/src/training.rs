//! What a training step is made from: a forward graph with its loss, and what of it is trained.
//!
//! Whoever builds models hands this over, whoever compiles and drives steps takes it. Invariant: the states of a parameter
//! (its gradient, moments, working copy) are named after it, by [`StateRole`] alone. Look next at the crate `step`.

use crate::{Graph, Type, ValueId};

/// What a state holds of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateRole {
    /// The parameter itself, in f32.
    Value,
    /// The sum of its gradients since the last update.
    Gradient,
    /// The first moment, or its codes.
    FirstMoment,
    /// The second moment, or its codes.
    SecondMoment,
    /// The scales of the first moment's codes.
    FirstMomentScales,
    /// The scales of the second moment's codes.
    SecondMomentScales,
    /// The parameter in the precision that forward and backward read.
    WorkingCopy,
}

impl StateRole {
    /// All roles, each with what is appended to the parameter's name.
    const SUFFIXES: [(StateRole, &'static str); 7] = [
        (StateRole::Value, ""),
        (StateRole::Gradient, ".grad"),
        (StateRole::FirstMoment, ".m"),
        (StateRole::SecondMoment, ".v"),
        (StateRole::FirstMomentScales, ".m_absmax"),
        (StateRole::SecondMomentScales, ".v_absmax"),
        (StateRole::WorkingCopy, ".bf16"),
    ];

    /// The states that training adds to a parameter computed in f32.
    pub const ADDED: [StateRole; 5] = [
        StateRole::Gradient,
        StateRole::FirstMoment,
        StateRole::SecondMoment,
        StateRole::FirstMomentScales,
        StateRole::SecondMomentScales,
    ];

    /// The name of a parameter's state.
    pub fn name(self, parameter: &str) -> String {
        let suffix = StateRole::SUFFIXES.iter().find(|(role, _)| *role == self).map_or("", |(_, suffix)| suffix);
        format!("{parameter}{suffix}")
    }

    /// The role of the state of this name, and the parameter that it belongs to.
    pub fn of(state: &str) -> (StateRole, &str) {
        let parts = |&(role, suffix): &(StateRole, &str)| {
            state.strip_suffix(suffix).filter(|_| !suffix.is_empty()).map(|parameter| (role, parameter))
        };
        StateRole::SUFFIXES.iter().find_map(parts).unwrap_or((StateRole::Value, state))
    }

    /// Whether it is the optimizer's: kept from update to update, and in a save.
    pub fn is_moment(self) -> bool {
        match self {
            StateRole::FirstMoment
            | StateRole::SecondMoment
            | StateRole::FirstMomentScales
            | StateRole::SecondMomentScales => true,
            StateRole::Value | StateRole::Gradient | StateRole::WorkingCopy => false,
        }
    }
}

/// A trainable parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Name of its state, which is its name in the file.
    pub name: String,
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
    /// Whether the graph has an input [`RANDOM_KEY`].
    pub random: bool,
}

/// Name of the input that keys all random ops of a run: u32 [4].
pub const RANDOM_KEY: &str = "rng";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_states_lead_back_to_their_parameter() {
        for (role, _) in StateRole::SUFFIXES {
            let name = role.name("model.layers.0.q_proj.weight");
            assert_eq!(StateRole::of(&name), (role, "model.layers.0.q_proj.weight"), "{name}");
        }
        assert_eq!(StateRole::of("transformer.h.0.mlp"), (StateRole::Value, "transformer.h.0.mlp"));
    }
}
