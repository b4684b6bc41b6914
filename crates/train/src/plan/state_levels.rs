//! Which training states may leave memory together, the cheapest first.
//!
//! Method: by what they are for. Moments are read and written once an update, sums of gradients once more for each
//! micro-batch, gradients in every backward, and parameters are read by every forward and backward and written by the update.
//! Of each kind a quarter of the parameters' leave after the other, spread evenly over the model. Invariant: each level holds
//! the one before, and the list depends on no limit, so that a lower limit only ever adds to what is off memory.

use crate::plan::placement::TrainedPlaces;
use remat_ir::{Graph, SourceRole, StateRole, Storage, Value};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// States of fewer bytes stay where they are: a copy costs more than they take.
const LEAST_BYTES: usize = 4096;

/// What a state is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// What the optimizer keeps.
    Moments,
    /// Parameters in f32 of which forward and backward read a copy.
    Masters,
    /// Gradients that are added up over micro-batches.
    GradientSums,
    /// Gradients that backward adds to.
    Gradients,
    /// Parameters as forward and backward read them.
    Parameters,
}

impl StateKind {
    const ALL: [StateKind; 5] =
        [StateKind::Moments, StateKind::Masters, StateKind::GradientSums, StateKind::Gradients, StateKind::Parameters];

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            StateKind::Moments => "moments",
            StateKind::Masters => "masters",
            StateKind::GradientSums => "gradient sums",
            StateKind::Gradients => "gradients",
            StateKind::Parameters => "parameters",
        }
    }

    /// Of a role, where the parameter has a working copy or not. None of what is no training state.
    fn of(role: StateRole, has_copy: bool) -> StateKind {
        match role {
            StateRole::FirstMoment
            | StateRole::SecondMoment
            | StateRole::FirstMomentScales
            | StateRole::SecondMomentScales => StateKind::Moments,
            StateRole::Value if has_copy => StateKind::Masters,
            StateRole::Value | StateRole::WorkingCopy => StateKind::Parameters,
            StateRole::GradientSum => StateKind::GradientSums,
            StateRole::Gradient => StateKind::Gradients,
        }
    }
}

/// The training states of some graphs.
pub(crate) struct TrainingStates<'a> {
    states: Vec<State<'a>>,
}

/// One of them.
struct State<'a> {
    value: &'a Value,
    kind: StateKind,
    parameter: &'a str,
    /// That of its parameter, in the order of the graphs.
    number: usize,
}

impl<'a> TrainingStates<'a> {
    /// Each once, whatever graphs name it.
    pub(crate) fn of(graphs: &[&'a Graph]) -> Self {
        let mut seen = HashSet::new();
        let sources = graphs.iter().flat_map(|graph| &graph.values).filter(|value| {
            value.producer.is_none() && value.storage == Storage::State && seen.insert(value.name.as_str())
        });
        let of_parameter = |value: &'a Value| match value.role {
            Some(SourceRole::Parameter(_, role)) => Some((value, role, value.parameter()?)),
            _ => None,
        };
        let states: Vec<(&Value, StateRole, &str)> = sources.filter_map(of_parameter).collect();
        let copied: HashSet<&str> =
            states.iter().filter(|state| state.1 == StateRole::WorkingCopy).map(|state| state.2).collect();
        let mut numbers = HashMap::new();
        let states = states.into_iter().map(|(value, role, parameter)| {
            let next = numbers.len();
            let number = *numbers.entry(parameter).or_insert(next);
            State { value, kind: StateKind::of(role, copied.contains(parameter)), parameter, number }
        });
        TrainingStates { states: states.collect() }
    }

    /// Names of what is off memory at least, because its place is given.
    pub(crate) fn forced(&self, places: &TrainedPlaces) -> HashSet<String> {
        self.named(|state| places.on_disk.contains(state.parameter))
    }

    /// Names of what is off memory at each level above that.
    pub(crate) fn levels(&self, places: &TrainedPlaces) -> Vec<HashSet<String>> {
        let mut levels = vec![self.forced(places)];
        for kind in StateKind::ALL {
            for quarters in 1..=4 {
                let more = self.named(|state| {
                    let may = state.value.ty.bytes() >= LEAST_BYTES && !places.in_memory.contains(state.parameter);
                    may && state.kind == kind && state.number % 4 < quarters
                });
                let before = &levels[levels.len() - 1];
                let level: HashSet<String> = before | &more;
                if level.len() > before.len() {
                    levels.push(level);
                }
            }
        }
        levels.split_off(1)
    }

    fn named(&self, are: impl Fn(&State<'_>) -> bool) -> HashSet<String> {
        self.states.iter().filter(|state| are(state)).map(|state| state.value.name.clone()).collect()
    }

    /// Bytes of those of some names, each rounded up to a multiple of `alignment_bytes`.
    pub(crate) fn bytes(&self, names: &HashSet<String>, alignment_bytes: usize) -> usize {
        let named = self.states.iter().map(|state| state.value).filter(|value| names.contains(&value.name));
        named.map(|value| value.ty.bytes().next_multiple_of(alignment_bytes)).sum()
    }

    /// Every state with what it is for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a Value, StateKind)> {
        self.states.iter().map(|state| (state.value, state.kind))
    }
}
