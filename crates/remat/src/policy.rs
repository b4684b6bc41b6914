//! Checkpointing policies: which values live from forward to backward.
//!
//! A policy is a name (`none`, `full`, `every:N`, `budget:BYTES`, `auto`), a predicate on each value, or rules by name and
//! op (`rules`). Invariant: a policy changes memory and time, never a bit of loss or gradients. Under a predicate or rules, what
//! lies outside regions, what regions hand on, and the last region (backward starts there) is kept unless the decision
//! is a `must`. Look next at `compile`, where decisions become the compiler's set of kept values.

use crate::decision::{Candidate, Decision, candidate, forward_producer};
use crate::{Error, Rules};
use remat_compiler::{Choice, Kept};
use remat_ir::Graph;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What a policy makes of a graph.
pub(crate) struct Chosen {
    pub choice: Choice,
    /// The names of what has to be offloaded.
    pub must_offload: Vec<String>,
}

type Predicate = Arc<dyn Fn(&Candidate<'_>) -> Decision + Send + Sync>;

/// Which values live from forward to backward.
#[derive(Clone)]
pub struct CheckpointPolicy {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Named(remat_plan::Policy),
    Predicate(&'static str, Predicate),
    Rules(Rules),
}

impl fmt::Debug for CheckpointPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointPolicy({self})")
    }
}

impl fmt::Display for CheckpointPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Named(policy) => policy.fmt(f),
            Kind::Predicate(name, _) => f.write_str(name),
            Kind::Rules(rules) => write!(f, "selective with {} rules", rules.rules.len()),
        }
    }
}

impl Default for CheckpointPolicy {
    /// [`CheckpointPolicy::full`]: marking regions is enough to have them recomputed.
    fn default() -> Self {
        CheckpointPolicy::full()
    }
}

impl From<remat_plan::Policy> for CheckpointPolicy {
    fn from(policy: remat_plan::Policy) -> Self {
        CheckpointPolicy { kind: Kind::Named(policy) }
    }
}

impl FromStr for CheckpointPolicy {
    type Err = Error;

    /// `none`, `full`, `every:N`, `budget:BYTES` or `auto`; also `everything_saveable`, `nothing_saveable`,
    /// `dots_saveable` and `offload_dots`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "everything_saveable" => Ok(CheckpointPolicy::everything_saveable()),
            "nothing_saveable" => Ok(CheckpointPolicy::nothing_saveable()),
            "dots_saveable" => Ok(CheckpointPolicy::dots_saveable()),
            "offload_dots" => Ok(CheckpointPolicy::offload_dots()),
            _ => text.parse::<remat_plan::Policy>().map(Into::into).map_err(Error::Policy),
        }
    }
}

impl CheckpointPolicy {
    /// Keeps everything that backward reads: no checkpointing.
    pub fn none() -> Self {
        remat_plan::Policy::None.into()
    }

    /// Keeps what enters each region; nested ones are levels.
    pub fn full() -> Self {
        remat_plan::Policy::Full.into()
    }

    /// As [`CheckpointPolicy::full`], with this many consecutive regions as one segment; 0 counts as 1.
    pub fn every(regions: usize) -> Self {
        remat_plan::Policy::Every(regions.max(1)).into()
    }

    /// The fastest plan that keeps at most this many bytes from forward to backward, of those that no other beats in memory
    /// and time. It weighs every value up to the last region; below one boundary per region it makes boundaries again from
    /// each other. A graph without regions keeps everything.
    pub fn budget(bytes: usize) -> Self {
        remat_plan::Policy::Budget(bytes).into()
    }

    /// The fastest plan whose arena is within [`crate::Options::arena_cap_bytes`].
    pub fn auto() -> Self {
        remat_plan::Policy::Auto.into()
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
        CheckpointPolicy::named_predicate("dots_saveable", |value| prefer(value.is_contraction))
    }

    /// Keeps, inside regions, only values of these names: their own, or those that `checkpoint_name` gave.
    pub fn save_only_these_names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        CheckpointPolicy::named_predicate("save_only_these_names", move |value| prefer(value.is_any_of(&names)))
    }

    /// Keeps everything but values of these names.
    pub fn save_any_except_these_names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        CheckpointPolicy::named_predicate("save_any_except_these_names", move |value| prefer(!value.is_any_of(&names)))
    }

    /// Keeps, inside regions, only results of these ops.
    pub fn save_only_these_ops<S: Into<String>>(ops: impl IntoIterator<Item = S>) -> Self {
        let ops: Vec<String> = ops.into_iter().map(Into::into).collect();
        CheckpointPolicy::named_predicate("save_only_these_ops", move |value| {
            prefer(ops.iter().any(|op| op == value.op))
        })
    }

    /// As [`CheckpointPolicy::dots_saveable`], with the results of products and attention offloaded; JAX's
    /// `offload_dot_with_no_batch_dims`.
    pub fn offload_dots() -> Self {
        CheckpointPolicy::named_predicate("offload_dots", |value| match value.is_contraction {
            true => Decision::PreferOffload,
            false => Decision::PreferRecompute,
        })
    }

    /// Keeps, inside regions, only values of the first names, and offloads those of the second.
    pub fn save_and_offload_only_these_names<S: Into<String>, O: Into<String>>(
        saved: impl IntoIterator<Item = S>,
        offloaded: impl IntoIterator<Item = O>,
    ) -> Self {
        let saved: Vec<String> = saved.into_iter().map(Into::into).collect();
        let offloaded: Vec<String> = offloaded.into_iter().map(Into::into).collect();
        CheckpointPolicy::named_predicate("save_and_offload_only_these_names", move |value| {
            if value.is_any_of(&offloaded) { Decision::PreferOffload } else { prefer(value.is_any_of(&saved)) }
        })
    }

    /// Decides each value by a function of it, as `create_selective_checkpoint_contexts` does for ops.
    ///
    /// ```
    /// use remat::{CheckpointPolicy, Decision};
    ///
    /// // Attention is dear and its result small: keep that, and compute the rest of a region again.
    /// let policy = CheckpointPolicy::predicate(|value| match value.op {
    ///     "attention" => Decision::MustSave,
    ///     _ if value.bytes < 4096 => Decision::PreferSave,
    ///     _ => Decision::PreferRecompute,
    /// });
    /// # assert_eq!(policy.to_string(), "predicate");
    /// ```
    pub fn predicate(decide: impl Fn(&Candidate<'_>) -> Decision + Send + Sync + 'static) -> Self {
        CheckpointPolicy::named_predicate("predicate", decide)
    }

    fn named_predicate(
        name: &'static str,
        decide: impl Fn(&Candidate<'_>) -> Decision + Send + Sync + 'static,
    ) -> Self {
        CheckpointPolicy { kind: Kind::Predicate(name, Arc::new(decide)) }
    }

    /// Decides by rules.
    pub fn rules(rules: Rules) -> Self {
        CheckpointPolicy { kind: Kind::Rules(rules) }
    }

    /// The plan's policy, for one that has a name there.
    pub(crate) fn as_named(&self) -> Option<&remat_plan::Policy> {
        match &self.kind {
            Kind::Named(policy) => Some(policy),
            Kind::Predicate(..) | Kind::Rules(_) => None,
        }
    }

    /// What a predicate or rules make of a graph.
    pub(crate) fn choice(&self, graph: &Graph, names: &HashMap<String, String>) -> Result<Chosen, Error> {
        let by_region = Kept::segments(graph, 1);
        if let Kind::Rules(rules) = &self.kind {
            rules.all_match(graph, names)?;
        }
        let mut refused = Vec::new();
        let (mut offload, mut must_offload) = (Vec::new(), Vec::new());
        let mut keep = vec![true; graph.values.len()];
        for id in graph.value_ids() {
            let Some((producer, node)) = forward_producer(graph, id) else { continue };
            let decision = self.decide(&candidate(graph, names, id, node))?;
            keep[id.index()] = match decision {
                Decision::MustSave | Decision::PreferSave => true,
                Decision::MustOffload | Decision::PreferOffload => {
                    offload.push(id);
                    if decision == Decision::MustOffload {
                        must_offload.push(graph.value(id).name.clone());
                    }
                    true
                }
                Decision::PreferRecompute => by_region.contains(id),
                Decision::MustRecompute => {
                    if !Kept::can_recompute(graph, id, producer) {
                        refused.push(graph.value(id).name.clone());
                    }
                    false
                }
            };
        }
        if refused.is_empty() {
            let kept = Kept::from_fn(graph, |id| keep[id.index()]);
            Ok(Chosen { choice: Choice { kept, offload }, must_offload })
        } else {
            Err(Error::Policy(format!(
                "must_recompute names {}, which cannot be computed again: an output of the graph, an update, or the \
                 result of an op that is not deterministic; keep it",
                refused.join(", ")
            )))
        }
    }

    fn decide(&self, value: &Candidate<'_>) -> Result<Decision, Error> {
        match &self.kind {
            Kind::Named(_) => Ok(Decision::PreferSave),
            Kind::Predicate(_, decide) => Ok(decide(value)),
            Kind::Rules(rules) => rules.decide(value),
        }
    }
}

fn prefer(save: bool) -> Decision {
    if save { Decision::PreferSave } else { Decision::PreferRecompute }
}
