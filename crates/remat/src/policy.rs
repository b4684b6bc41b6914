//! Checkpointing policies: which values live from forward to backward.
//!
//! A policy is a name (`none`, `full`, `every:N`, `budget:BYTES`, `auto`), a predicate on each value, or rules by name and
//! op (`rules`). Invariant: a policy changes memory and time, never a bit of loss or gradients. Under a predicate or rules, what
//! lies outside regions, what regions hand on, and the last region (backward starts there) is kept unless the decision
//! is a `must`. Look next at `jax_policies` for
//! those with names of JAX and at `recipe`, where decisions become the compiler's set of kept values.

use crate::decision::{Candidate, Decision, Known, NO_VALUE, candidate, forward_producer};
use crate::{Error, Rules};
use remat_compiler::{Choice, Kept};
use remat_ir::Graph;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What a policy makes of a graph.
pub(crate) struct Chosen {
    pub choice: Choice,
    /// The names of what has to be offloaded.
    pub must_offload: Vec<String>,
}

/// A function that decides each value.
#[derive(Clone)]
pub(crate) struct Predicate {
    pub name: &'static str,
    /// Names that it asks for: each has to be some value's own, or one that `checkpoint_name` gave.
    pub names: Vec<String>,
    /// Ops that it asks for.
    pub ops: Vec<String>,
    pub decide: Decide,
}

pub(crate) type Decide = Arc<dyn Fn(&Candidate<'_>) -> Decision + Send + Sync>;

/// Which values live from forward to backward.
#[derive(Clone)]
pub struct CheckpointPolicy {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Named(remat_plan::Policy),
    Predicate(Predicate),
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
            Kind::Predicate(predicate) => f.write_str(predicate.name),
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

    /// `none`, `full`, `every:N`, `budget:BYTES` or `auto`, and JAX's names of policies without arguments.
    fn from_str(text: &str) -> Result<Self, Error> {
        match CheckpointPolicy::in_jax(text) {
            Some(policy) => Ok(policy),
            None => text.parse::<remat_plan::Policy>().map(Into::into).map_err(Error::Policy),
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
        let (names, ops, decide) = (Vec::new(), Vec::new(), Arc::new(decide));
        CheckpointPolicy::of_predicate(Predicate { name: "predicate", names, ops, decide })
    }

    pub(crate) fn of_predicate(predicate: Predicate) -> Self {
        CheckpointPolicy { kind: Kind::Predicate(predicate) }
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

    pub(crate) fn as_predicate(&self) -> Option<&Predicate> {
        if let Kind::Predicate(predicate) = &self.kind { Some(predicate) } else { None }
    }

    /// What a predicate or rules make of a graph.
    pub(crate) fn choice(&self, graph: &Graph) -> Result<Chosen, Error> {
        let by_region = Kept::segments(graph, 1);
        match &self.kind {
            Kind::Named(_) => {}
            Kind::Predicate(predicate) => predicate.all_match(graph)?,
            Kind::Rules(rules) => rules.all_match(graph)?,
        }
        let mut refused = Vec::new();
        let (mut offload, mut must_offload) = (Vec::new(), Vec::new());
        let mut keep = vec![true; graph.values.len()];
        for id in graph.value_ids() {
            let Some((producer, node)) = forward_producer(graph, id) else { continue };
            let decision = self.decide(&candidate(graph, id, node))?;
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
            Kind::Predicate(predicate) => Ok((predicate.decide)(value)),
            Kind::Rules(rules) => rules.decide(value),
        }
    }
}

impl Predicate {
    /// A name that no value has is a mistake, never a policy that keeps less than was asked for.
    fn all_match(&self, graph: &Graph) -> Result<(), Error> {
        let (name, known) = (self.name, Known::of(graph));
        let stranger = self.names.iter().find(|name| !known.has_value(name));
        let message = match (stranger, self.ops.iter().find(|op| !known.has_op(op))) {
            (Some(asked), _) => format!("{name} asks for \"{asked}\", {}", NO_VALUE),
            (None, Some(op)) => format!("{name} asks for the op \"{op}\", {}", known.no_op()),
            (None, None) => return Ok(()),
        };
        Err(Error::Policy(message))
    }
}
