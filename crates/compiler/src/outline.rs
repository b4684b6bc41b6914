//! A plan in outline: what a choice of kept values takes, without a graph or a plan being written.
//!
//! Invariant: the figures are those of the plan that is written of the same choice.

use crate::facts::Facts;
use crate::footprint::Footprint;
use crate::place::Allocations;
use crate::rematerialise::sequence_behind;
use crate::sequence::{Sequence, seconds_of_nodes};
use crate::{FrontierPoint, Kept};
use remat_ir::Graph;
use remat_plan::DeviceProfile;

/// What is asked of a graph for every choice.
pub(crate) struct Outline {
    pub(crate) seconds: Vec<f64>,
    slot_alignment_bytes: usize,
    facts: Facts,
    /// What every plan begins with.
    forward: Sequence,
}

impl Outline {
    pub(crate) fn of(graph: &Graph, profile: &DeviceProfile) -> Outline {
        let seconds = seconds_of_nodes(graph, &profile.prices);
        Outline {
            seconds,
            slot_alignment_bytes: profile.rules.slot_alignment_bytes,
            facts: Facts::of(graph, &profile.rules),
            forward: Sequence::of_forward(graph),
        }
    }

    /// Bytes that are kept and may still be made after the forward: what sinks to its first reader.
    pub(crate) fn sinking_bytes(&self, graph: &Graph) -> usize {
        let sinking =
            graph.nodes_with_ids().filter(|(id, _)| self.facts.sinks(*id)).flat_map(|(_, node)| &node.outputs);
        sinking.map(|&value| self.facts.arena_bytes(value)).sum()
    }

    /// What runs, in which order.
    pub(crate) fn sequence(&self, graph: &Graph, kept: &Kept) -> Sequence {
        sequence_behind(&self.forward, graph, kept).scheduled(graph, &self.facts)
    }

    /// The footprint, and the most bytes of the arena that are alive at once.
    pub(crate) fn weighed(&self, graph: &Graph, kept: &Kept) -> (Footprint, usize) {
        let sequence = sequence_behind(&self.forward, graph, kept);
        let footprint = Footprint::of(graph, &sequence, &self.seconds);
        let scheduled = sequence.scheduled(graph, &self.facts);
        (footprint, Allocations::of(graph, &self.facts, &scheduled).most_alive_bytes())
    }

    /// The most bytes of the arena that are alive at once.
    pub(crate) fn alive_bytes(&self, graph: &Graph, kept: &Kept) -> usize {
        Allocations::of(graph, &self.facts, &self.sequence(graph, kept)).most_alive_bytes()
    }

    /// The size of the arena.
    pub(crate) fn arena_bytes(&self, graph: &Graph, kept: &Kept) -> usize {
        Allocations::of(graph, &self.facts, &self.sequence(graph, kept)).arena_bytes(self.slot_alignment_bytes)
    }

    /// All figures.
    pub(crate) fn figures(&self, graph: &Graph, kept: &Kept) -> FrontierPoint {
        let sequence = self.sequence(graph, kept);
        FrontierPoint {
            activation_bytes: sequence.activation_bytes(graph),
            arena_bytes: Allocations::of(graph, &self.facts, &sequence).arena_bytes(self.slot_alignment_bytes),
            step_seconds: sequence.seconds(&self.seconds),
            recompute_seconds: sequence.recompute_seconds(&self.seconds),
        }
    }
}
