//! What the sources of a graph are for.
//!
//! Invariant: a source is given its role where it is declared, and keeps it through every pass; names identify values and
//! say nothing. [`StateRole`] has the one table of how the states of a parameter are named after it. Look next at `build`.

use crate::Storage;
use std::fmt;

/// What a source is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceRole {
    /// An input that comes with the rows: token ids, positions, labels, whatever a model reads of a batch.
    Data,
    /// An input of one number for the whole run: the learning rate, the cotangent of the loss.
    Scalar,
    /// The input that keys random ops.
    Key,
    /// A weight that is computed and in no file: the frequencies of rotary embeddings.
    Constant,
    /// A parameter, frozen or trained, or what training keeps of it.
    Parameter(ParameterKind, StateRole),
    /// Keys or values of the tokens before.
    KvCache,
    /// What the model keeps beside its parameters and updates as it runs in training: running statistics.
    Buffer,
}

/// Whose a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParameterKind {
    /// The model's own.
    Base,
    /// The first matrix of a low-rank adapter, which reads the module's operand.
    AdapterA,
    /// The second matrix of a low-rank adapter, which writes into the module's result.
    AdapterB,
    /// The norms that an adapter gives the rows of the weight it adapts.
    AdapterMagnitude,
    /// The matrix of an embedding's adapter that the token ids choose columns of.
    EmbeddingA,
    /// The matrix of an embedding's adapter that writes into the residual stream.
    EmbeddingB,
    /// Rows of an embedding or a head that are trained in place of the base's.
    Tokens,
}

/// What a state holds of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateRole {
    /// The parameter itself, in f32.
    Value,
    /// The sum of its gradients since the last update; where each micro-batch is added to a [`StateRole::GradientSum`], the
    /// gradient of the present one.
    Gradient,
    /// The sum of the gradients of micro-batches, each of which began at zero.
    GradientSum,
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
    /// All roles.
    pub const ALL: [StateRole; 8] = [
        StateRole::Value,
        StateRole::Gradient,
        StateRole::GradientSum,
        StateRole::FirstMoment,
        StateRole::SecondMoment,
        StateRole::FirstMomentScales,
        StateRole::SecondMomentScales,
        StateRole::WorkingCopy,
    ];

    /// The states that training adds to a parameter computed in f32.
    pub const ADDED: [StateRole; 6] = [
        StateRole::Gradient,
        StateRole::GradientSum,
        StateRole::FirstMoment,
        StateRole::SecondMoment,
        StateRole::FirstMomentScales,
        StateRole::SecondMomentScales,
    ];

    /// The name of a parameter's state, in plans, on devices and in saves.
    pub fn name(self, parameter: &str) -> String {
        format!("{parameter}{}", self.suffix())
    }

    /// The name of the parameter that a state of this role and `name` is kept for.
    pub(crate) fn parameter(self, name: &str) -> &str {
        name.strip_suffix(self.suffix()).unwrap_or(name)
    }

    fn suffix(self) -> &'static str {
        self.words().1
    }

    /// The word of the text form, and the suffix of names.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            StateRole::Value => ("", ""),
            StateRole::Gradient => ("gradient", ".grad"),
            StateRole::GradientSum => ("gradient_sum", ".grad_sum"),
            StateRole::FirstMoment => ("first_moment", ".m"),
            StateRole::SecondMoment => ("second_moment", ".v"),
            StateRole::FirstMomentScales => ("first_moment_scales", ".m_absmax"),
            StateRole::SecondMomentScales => ("second_moment_scales", ".v_absmax"),
            StateRole::WorkingCopy => ("working_copy", ".bf16"),
        }
    }

    /// Whether it is of gradients, which are zero between two updates.
    pub fn is_gradient(self) -> bool {
        matches!(self, StateRole::Gradient | StateRole::GradientSum)
    }

    /// Whether it is the optimizer's: kept from update to update, and in a save.
    pub fn is_moment(self) -> bool {
        match self {
            StateRole::FirstMoment
            | StateRole::SecondMoment
            | StateRole::FirstMomentScales
            | StateRole::SecondMomentScales => true,
            StateRole::Value | StateRole::Gradient | StateRole::GradientSum | StateRole::WorkingCopy => false,
        }
    }
}

/// What writes a source first. Until then its memory need not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FirstWrite {
    /// Loading, whatever a run starts from.
    Load,
    /// Loading an adapter that was trained before; the matrix of a new one is zero.
    Adapter,
    /// Loading a save; what a new run starts with is zero.
    Resume,
    /// The first step.
    Step,
    /// The first sample.
    Sample,
}

impl FirstWrite {
    /// All of them, in the order in which they come.
    pub const ALL: [FirstWrite; 5] =
        [FirstWrite::Load, FirstWrite::Adapter, FirstWrite::Resume, FirstWrite::Step, FirstWrite::Sample];
}

impl ParameterKind {
    /// All kinds.
    const ALL: [ParameterKind; 7] = [
        ParameterKind::Base,
        ParameterKind::AdapterA,
        ParameterKind::AdapterB,
        ParameterKind::AdapterMagnitude,
        ParameterKind::EmbeddingA,
        ParameterKind::EmbeddingB,
        ParameterKind::Tokens,
    ];

    /// Whether it is part of an adapter.
    pub fn is_adapter(self) -> bool {
        match self {
            ParameterKind::Base => false,
            ParameterKind::AdapterA
            | ParameterKind::AdapterB
            | ParameterKind::AdapterMagnitude
            | ParameterKind::EmbeddingA
            | ParameterKind::EmbeddingB
            | ParameterKind::Tokens => true,
        }
    }

    fn word(self) -> &'static str {
        match self {
            ParameterKind::Base => "base",
            ParameterKind::AdapterA => "adapter_a",
            ParameterKind::AdapterB => "adapter_b",
            ParameterKind::AdapterMagnitude => "adapter_magnitude",
            ParameterKind::EmbeddingA => "embedding_a",
            ParameterKind::EmbeddingB => "embedding_b",
            ParameterKind::Tokens => "tokens",
        }
    }
}

impl SourceRole {
    /// A parameter of the model itself.
    pub const BASE: SourceRole = SourceRole::Parameter(ParameterKind::Base, StateRole::Value);

    /// The role of a source of which nothing else is said; the text form leaves it out.
    pub fn usual(storage: Storage) -> SourceRole {
        match storage {
            Storage::Input => SourceRole::Data,
            Storage::Weight | Storage::State | Storage::Arena => SourceRole::BASE,
        }
    }

    /// Whether a source of this storage can have it.
    pub fn suits(self, storage: Storage) -> bool {
        match self {
            SourceRole::Data | SourceRole::Scalar | SourceRole::Key => storage == Storage::Input,
            SourceRole::Constant => storage == Storage::Weight,
            SourceRole::Parameter(_, StateRole::Value) => [Storage::Weight, Storage::State].contains(&storage),
            SourceRole::Parameter(..) | SourceRole::KvCache | SourceRole::Buffer => storage == Storage::State,
        }
    }

    /// Whether it holds the elements of a parameter of the model itself: the parameter or its working copy.
    pub fn is_base_parameter(self) -> bool {
        let role = if let SourceRole::Parameter(ParameterKind::Base, role) = self { Some(role) } else { None };
        matches!(role, Some(StateRole::Value | StateRole::WorkingCopy))
    }

    /// The same of an adapter's parameter.
    pub fn is_adapter_parameter(self) -> bool {
        match self {
            SourceRole::Parameter(kind, StateRole::Value | StateRole::WorkingCopy) => kind.is_adapter(),
            _ => false,
        }
    }

    /// What writes a source of this role first.
    pub fn first_write(self) -> FirstWrite {
        match self {
            SourceRole::KvCache => FirstWrite::Sample,
            SourceRole::Data | SourceRole::Scalar | SourceRole::Key | SourceRole::Constant | SourceRole::Buffer => {
                FirstWrite::Load
            }
            SourceRole::Parameter(kind, role) => match role {
                StateRole::Gradient | StateRole::GradientSum => FirstWrite::Step,
                StateRole::FirstMoment
                | StateRole::SecondMoment
                | StateRole::FirstMomentScales
                | StateRole::SecondMomentScales => FirstWrite::Resume,
                StateRole::Value if [ParameterKind::AdapterB, ParameterKind::EmbeddingA].contains(&kind) => {
                    FirstWrite::Adapter
                }
                StateRole::Value | StateRole::WorkingCopy => FirstWrite::Load,
            },
        }
    }

    /// The role of which this is the text form.
    pub(crate) fn from_text(text: &str) -> Option<SourceRole> {
        let states = |kind| StateRole::ALL.map(|state| SourceRole::Parameter(kind, state));
        let parameters = ParameterKind::ALL.into_iter().flat_map(states);
        let states_besides = [SourceRole::KvCache, SourceRole::Buffer];
        let others = [SourceRole::Data, SourceRole::Scalar, SourceRole::Key, SourceRole::Constant];
        others.into_iter().chain(states_besides).chain(parameters).find(|role| role.to_string() == text)
    }
}

impl fmt::Display for SourceRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceRole::Data => f.write_str("data"),
            SourceRole::Scalar => f.write_str("scalar"),
            SourceRole::Key => f.write_str("key"),
            SourceRole::Constant => f.write_str("constant"),
            SourceRole::KvCache => f.write_str("kv_cache"),
            SourceRole::Buffer => f.write_str("buffer"),
            SourceRole::Parameter(kind, StateRole::Value) => f.write_str(kind.word()),
            SourceRole::Parameter(kind, role) => write!(f, "{} {}", kind.word(), role.words().0),
        }
    }
}

/// Name of the input that keys all random ops of a run: u32 [4].
pub const RANDOM_KEY: &str = "rng";

/// Name of the input of a micro-step that says how many tokens the whole update trains, f32 [1]: the reciprocal of the loss's
/// cotangent, or 0 where that is 0. Only losses that are not sums over tokens read it.
pub const TRAINED_TOKENS: &str = "loss.trained_tokens";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_role_is_its_own() {
        for kind in ParameterKind::ALL {
            for state in StateRole::ALL {
                let role = SourceRole::Parameter(kind, state);
                assert_eq!(SourceRole::from_text(&role.to_string()), Some(role));
            }
        }
        assert_eq!(SourceRole::from_text("key"), Some(SourceRole::Key));
        assert_eq!(SourceRole::from_text("buffer"), Some(SourceRole::Buffer));
        assert_eq!(SourceRole::from_text("base base"), None);
    }
}
