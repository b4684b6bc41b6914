//! Policies under the names of JAX (`jax.checkpoint_policies`), and of what PyTorch's selective checkpointing does by ops.
//!
//! Invariant: names that a policy asks for are some value's, or the policy is refused when a step is compiled.

use crate::decision::{Candidate, Decision};
use crate::policy::{Decide, Predicate};
use crate::{CheckpointPolicy, Error};
use std::sync::Arc;

/// Makes a policy that takes no arguments.
type Make = fn() -> CheckpointPolicy;

/// JAX's names of policies without arguments, each of its spellings.
const IN_JAX: [(&str, Make); 8] = [
    ("everything_saveable", CheckpointPolicy::everything_saveable),
    ("nothing_saveable", CheckpointPolicy::nothing_saveable),
    ("dots_saveable", CheckpointPolicy::dots_saveable),
    ("checkpoint_dots", CheckpointPolicy::dots_saveable),
    ("dots_with_no_batch_dims_saveable", CheckpointPolicy::dots_with_no_batch_dims_saveable),
    ("checkpoint_dots_with_no_batch_dims", CheckpointPolicy::dots_with_no_batch_dims_saveable),
    ("offload_dot_with_no_batch_dims", CheckpointPolicy::offload_dot_with_no_batch_dims),
    ("offload_dots", CheckpointPolicy::offload_dots),
];

impl CheckpointPolicy {
    /// The policy that JAX calls so.
    pub(crate) fn in_jax(name: &str) -> Option<Self> {
        IN_JAX.iter().find(|(known, _)| *known == name).map(|(_, policy)| policy())
    }

    /// JAX's name for [`CheckpointPolicy::none`].
    pub fn everything_saveable() -> Self {
        CheckpointPolicy::none()
    }

    /// JAX's name for [`CheckpointPolicy::full`].
    pub fn nothing_saveable() -> Self {
        CheckpointPolicy::full()
    }

    /// Keeps the results of matrix products and attention, recomputes what is cheap.
    pub fn dots_saveable() -> Self {
        by_value("dots_saveable", |value| prefer(value.is_contraction))
    }

    /// Another of JAX's names for [`CheckpointPolicy::dots_saveable`].
    pub fn checkpoint_dots() -> Self {
        CheckpointPolicy::dots_saveable()
    }

    /// Keeps the results of products with weights, recomputes what has batch axes (attention, products of activations for each
    /// place of leading axes) and what is cheap.
    pub fn dots_with_no_batch_dims_saveable() -> Self {
        by_value("dots_with_no_batch_dims_saveable", |value| prefer(value.is_contraction && !value.has_batch_dims))
    }

    /// Another of JAX's names for [`CheckpointPolicy::dots_with_no_batch_dims_saveable`].
    pub fn checkpoint_dots_with_no_batch_dims() -> Self {
        CheckpointPolicy::dots_with_no_batch_dims_saveable()
    }

    /// As [`CheckpointPolicy::dots_with_no_batch_dims_saveable`], with what is kept offloaded, to the folder of
    /// [`crate::Options::offload`].
    pub fn offload_dot_with_no_batch_dims() -> Self {
        by_value("offload_dot_with_no_batch_dims", |value| match value.is_contraction && !value.has_batch_dims {
            true => Decision::PreferOffload,
            false => Decision::PreferRecompute,
        })
    }

    /// As [`CheckpointPolicy::dots_saveable`], with the results of products and attention offloaded.
    pub fn offload_dots() -> Self {
        by_value("offload_dots", |value| match value.is_contraction {
            true => Decision::PreferOffload,
            false => Decision::PreferRecompute,
        })
    }

    /// Keeps, inside regions, only values of these names: their own, or those that `checkpoint_name` gave.
    pub fn save_only_these_names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        by_names("save_only_these_names", names, |value, names| prefer(value.is_any_of(names)))
    }

    /// Keeps everything but values of these names.
    pub fn save_any_except_these_names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        by_names("save_any_except_these_names", names, |value, names| prefer(!value.is_any_of(names)))
    }

    /// JAX's name for [`CheckpointPolicy::save_any_except_these_names`].
    pub fn save_anything_except_these_names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        CheckpointPolicy::save_any_except_these_names(names)
    }

    /// Keeps, inside regions, only values that `checkpoint_name` gave a name, but none of these.
    pub fn save_any_names_but_these<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        by_names("save_any_names_but_these", names, |value, names| {
            prefer(value.checkpoint_name.is_some() && !value.is_any_of(names))
        })
    }

    /// Keeps, inside regions, only results of these ops; an op of your own goes by its own name.
    pub fn save_only_these_ops<S: Into<String>>(ops: impl IntoIterator<Item = S>) -> Self {
        let ops: Vec<String> = ops.into_iter().map(Into::into).collect();
        let known = ops.clone();
        let decide: Decide = Arc::new(move |value| prefer(ops.iter().any(|op| op == value.op)));
        let name = "save_only_these_ops";
        CheckpointPolicy::of_predicate(Predicate { name, names: Vec::new(), ops: known, decide })
    }

    /// Keeps, inside regions, only values of the first names, and offloads those of the second.
    pub fn save_and_offload_only_these_names<S: Into<String>, O: Into<String>>(
        saved: impl IntoIterator<Item = S>,
        offloaded: impl IntoIterator<Item = O>,
    ) -> Self {
        let saved: Vec<String> = saved.into_iter().map(Into::into).collect();
        let offloaded: Vec<String> = offloaded.into_iter().map(Into::into).collect();
        let names = saved.iter().chain(&offloaded).cloned().collect::<Vec<_>>();
        by_names("save_and_offload_only_these_names", names, move |value, _| {
            if value.is_any_of(&offloaded) { Decision::PreferOffload } else { prefer(value.is_any_of(&saved)) }
        })
    }

    /// Keeps, inside regions, what one of two policies by value keeps: predicates, and policies that have a name of JAX's.
    ///
    /// # Errors
    /// A policy that does not decide by value: `every`, a budget, `auto`, rules.
    pub fn save_from_both_policies(one: &Self, other: &Self) -> Result<Self, Error> {
        let (one, other) = (one.by_value()?, other.by_value()?);
        let (first, second) = (one.decide.clone(), other.decide.clone());
        let decide: Decide = Arc::new(move |value| {
            let decisions = [first(value), second(value)];
            let recomputes =
                |decision: &Decision| [Decision::PreferRecompute, Decision::MustRecompute].contains(decision);
            decisions.into_iter().find(|decision| !recomputes(decision)).unwrap_or(Decision::PreferRecompute)
        });
        let (names, ops) = ([one.names, other.names].concat(), [one.ops, other.ops].concat());
        Ok(CheckpointPolicy::of_predicate(Predicate { name: "save_from_both_policies", names, ops, decide }))
    }

    /// This policy as a function of a value.
    fn by_value(&self) -> Result<Predicate, Error> {
        let constant = |name, decision| {
            let decide: Decide = Arc::new(move |_| decision);
            Predicate { name, names: Vec::new(), ops: Vec::new(), decide }
        };
        match (self.as_named(), self.as_predicate()) {
            (Some(remat_plan::Policy::None), _) => Ok(constant("everything_saveable", Decision::PreferSave)),
            (Some(remat_plan::Policy::Full), _) => Ok(constant("nothing_saveable", Decision::PreferRecompute)),
            (_, Some(predicate)) => Ok(predicate.clone()),
            _ => Err(Error::Policy(format!(
                "{self} does not decide value by value, so it cannot be joined with another"
            ))),
        }
    }
}

fn by_value(name: &'static str, decide: fn(&Candidate<'_>) -> Decision) -> CheckpointPolicy {
    CheckpointPolicy::of_predicate(Predicate { name, names: Vec::new(), ops: Vec::new(), decide: Arc::new(decide) })
}

fn by_names<S: Into<String>>(
    name: &'static str,
    names: impl IntoIterator<Item = S>,
    decide: impl Fn(&Candidate<'_>, &[String]) -> Decision + Send + Sync + 'static,
) -> CheckpointPolicy {
    let names: Vec<String> = names.into_iter().map(Into::into).collect();
    let known = names.clone();
    let decide: Decide = Arc::new(move |value| decide(value, &names));
    CheckpointPolicy::of_predicate(Predicate { name, names: known, ops: Vec::new(), decide })
}

fn prefer(save: bool) -> Decision {
    if save { Decision::PreferSave } else { Decision::PreferRecompute }
}
