//! Policies as rules by name and op.
//!
//! Invariant: a rule that matches nothing, and two `must`s that contradict each other, are errors that name the value. Look
//! next at `decision` for what a decision means.

use crate::Error;
use crate::decision::{Candidate, Decision, Known, NO_VALUE};
use remat_ir::Graph;

/// Decisions that are refused rather than not followed, with the functions that make them.
const MUSTS: [(Decision, &str); 3] = [
    (Decision::MustSave, "must_save"),
    (Decision::MustRecompute, "must_recompute"),
    (Decision::MustOffload, "must_offload"),
];

/// Rules by name: the strongest that matches a value wins, what none matches is [`Rules::otherwise`].
#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub(crate) rules: Vec<(Vec<String>, Decision)>,
    otherwise: Option<Decision>,
}

impl Rules {
    /// No rules: everything is kept.
    pub fn new() -> Self {
        Rules::default()
    }

    /// Decides values whose own name, checkpoint name or op is one of these.
    pub fn with<S: Into<String>>(mut self, decision: Decision, names: impl IntoIterator<Item = S>) -> Self {
        self.rules.push((names.into_iter().map(Into::into).collect(), decision));
        self
    }

    /// [`Decision::MustSave`] for these.
    pub fn must_save<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        self.with(Decision::MustSave, names)
    }

    /// [`Decision::PreferSave`] for these.
    pub fn prefer_save<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        self.with(Decision::PreferSave, names)
    }

    /// [`Decision::PreferRecompute`] for these.
    pub fn prefer_recompute<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        self.with(Decision::PreferRecompute, names)
    }

    /// [`Decision::MustRecompute`] for these.
    pub fn must_recompute<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        self.with(Decision::MustRecompute, names)
    }

    /// [`Decision::MustOffload`] for these.
    pub fn must_offload<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        self.with(Decision::MustOffload, names)
    }

    /// [`Decision::PreferOffload`] for these.
    pub fn prefer_offload<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        self.with(Decision::PreferOffload, names)
    }

    /// What applies to values that no rule matches; [`Decision::PreferSave`] if this is not called.
    pub fn otherwise(mut self, decision: Decision) -> Self {
        self.otherwise = Some(decision);
        self
    }

    pub(crate) fn decide(&self, value: &Candidate<'_>) -> Result<Decision, Error> {
        let matches = |names: &Vec<String>| value.is_any_of(names) || names.iter().any(|name| name == value.op);
        let mut found: Vec<Decision> =
            self.rules.iter().filter(|(names, _)| matches(names)).map(|&(_, decision)| decision).collect();
        let musts: Vec<&str> =
            MUSTS.iter().filter(|(must, _)| found.contains(must)).map(|(_, function)| *function).collect();
        if let [first, second, ..] = musts[..] {
            let name = value.name;
            let message = format!("\"{name}\" is named by {first} and by {second}; take it out of one");
            return Err(Error::Policy(message));
        }
        let is_must = |decision: &Decision| MUSTS.iter().any(|(must, _)| must == decision);
        found.sort_by_key(|decision| !is_must(decision));
        Ok(found.first().copied().or(self.otherwise).unwrap_or(Decision::PreferSave))
    }

    /// A name that matches nothing is a mistake, never a policy that does less than was asked for.
    pub(crate) fn all_match(&self, graph: &Graph) -> Result<(), Error> {
        let known = Known::of(graph);
        let names = self.rules.iter().flat_map(|(names, _)| names);
        match names.into_iter().find(|name| !known.has_value(name) && !known.has_op(name)) {
            None => Ok(()),
            Some(name) => Err(Error::Policy(format!("a rule names \"{name}\", which is no op here, and {}", NO_VALUE))),
        }
    }
}
