//! What a plan keeps from forward to backward, in the arena or beside it, and what recomputing the rest takes.
//!
//! Invariant: re-derived from the plan's own steps and graph, never from what a solver claims.

use crate::{Action, Place, Plan, Prices, Queue, Step, StepId};
use remat_ir::{Node, OpId, Phase, Storage, Type, ValueId};
use std::collections::HashSet;

/// A value that lives from forward to backward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residual {
    /// Its name.
    pub name: String,
    /// Element type and shape.
    pub ty: Type,
    /// Its size.
    pub bytes: usize,
    /// The outermost region that makes it, by name.
    pub region: Option<String>,
    /// The first step behind the forward that reads it, by the name of its op.
    pub read_by: &'static str,
    /// Whether it is copied out of the arena and back, and so takes no room there in between.
    pub offloaded: bool,
}

impl Plan {
    /// Nodes in the order of their steps.
    fn computed(&self) -> impl Iterator<Item = (StepId, OpId, &Node)> {
        self.steps.iter().enumerate().filter_map(|(at, step)| match step.action {
            Action::Compute(op) => Some((StepId(at as u32), op, self.graph.node(op))),
            Action::Evict { .. } | Action::Fetch { .. } => None,
        })
    }

    /// The last step of the forward: the last that is neither backward nor a repetition. `None` without a forward.
    fn end_of_forward(&self) -> Option<StepId> {
        let forward = |node: &Node| node.phase == Phase::Forward && node.recompute_of.is_none();
        self.computed().filter(|(_, _, node)| forward(node)).last().map(|(at, _, _)| at)
    }

    /// The arena values made by the forward and read after it has ended, in the order they are made. A cotangent that
    /// the loss makes in its own step is one of them; weights, states and temporaries are not.
    pub fn saved_residuals(&self) -> Vec<Residual> {
        let away = self.away();
        let residual = |(value, reader): (ValueId, OpId)| self.residual(value, reader, away[value.index()]);
        self.residuals().into_iter().map(residual).collect()
    }

    /// Bytes of the arena alive between forward and backward: the sum over [`Plan::saved_residuals`] without what is
    /// offloaded.
    pub fn activation_bytes(&self) -> usize {
        let away = self.away();
        let kept = self.residuals().into_iter().filter(|(value, _)| !away[value.index()]);
        kept.map(|(value, _)| self.graph.ty(value).bytes()).sum()
    }

    /// Bytes that one run copies out of the arena, and back.
    pub fn offloaded_bytes(&self) -> usize {
        let bytes = |step: &Step| match step.action {
            Action::Evict { value, .. } if self.is_kept(value) => self.graph.ty(value).bytes(),
            Action::Evict { .. } | Action::Compute(_) | Action::Fetch { .. } => 0,
        };
        self.steps.iter().map(bytes).sum()
    }

    /// Bytes of the file that they are copied to: every value has a place of its own there.
    pub fn spill_file_bytes(&self) -> usize {
        let mut placed = HashSet::new();
        let bytes = |step: &Step| match (step.action, step.reads.first()) {
            (Action::Evict { value, .. }, Some(Place::Arena(buffer)))
                if self.is_kept(value) && placed.insert(value) =>
            {
                self.buffers[buffer.index()].slot.bytes
            }
            _ => 0,
        };
        self.steps.iter().map(bytes).sum()
    }

    /// Whether what is copied out is a value of the arena: a state goes to a place of its own.
    fn is_kept(&self, value: ValueId) -> bool {
        self.graph.value(value).storage == Storage::Arena
    }

    /// Steps of the copy queue.
    pub fn copy_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.queue == Queue::Copy)
    }

    /// By value, whether it is out of the arena when the forward has ended: evicted, and no buffer holds it over the turn.
    fn away(&self) -> Vec<bool> {
        let mut away = vec![false; self.graph.values.len()];
        let Some(end) = self.end_of_forward() else { return away };
        for step in &self.steps {
            if let Action::Evict { value, .. } = step.action {
                away[value.index()] = true;
            }
        }
        for buffer in self.buffers.iter().filter(|buffer| buffer.first <= end && buffer.last > end) {
            away[buffer.value.index()] = false;
        }
        away
    }

    /// Predicted seconds of the repeated steps alone.
    pub fn recompute_seconds(&self, prices: &Prices) -> f64 {
        let repeated = self.computed().filter(|(_, _, node)| node.recompute_of.is_some());
        repeated.fold(0.0, |sum, (_, _, node)| sum + prices.seconds(&self.graph, node))
    }

    /// How often the node that is repeated most is repeated. Tiles of it make one repetition together.
    pub fn most_repetitions(&self) -> usize {
        let graph = &self.graph;
        let elements = |node: &Node| node.outputs.first().map_or(1, |&output| graph.ty(output).shape.numel());
        let mut repeated = vec![0; graph.nodes.len()];
        for (_, _, node) in self.computed() {
            if let Some(origin) = node.recompute_of {
                repeated[origin.index()] += elements(node);
            }
        }
        let times = graph.nodes.iter().zip(repeated).map(|(node, repeated)| repeated.div_ceil(elements(node).max(1)));
        times.max().unwrap_or(0)
    }

    /// Values kept, each with its first reader behind the forward.
    fn residuals(&self) -> Vec<(ValueId, OpId)> {
        let Some(end) = self.end_of_forward() else { return Vec::new() };
        let mut kept = Vec::new();
        let mut made = vec![false; self.graph.values.len()];
        let mut reader: Vec<Option<OpId>> = vec![None; self.graph.values.len()];
        for (at, op, node) in self.computed() {
            for &output in node.outputs.iter().filter(|&&output| at <= end && self.is_residual(node, output)) {
                made[output.index()] = true;
                kept.push(output);
            }
            for &input in node.inputs.iter().filter(|input| at > end && made[input.index()]) {
                reader[input.index()].get_or_insert(op);
            }
        }
        kept.into_iter().filter_map(|value| Some((value, reader[value.index()]?))).collect()
    }

    fn is_residual(&self, producer: &Node, value: ValueId) -> bool {
        producer.phase == Phase::Forward && self.graph.value(value).storage == Storage::Arena
    }

    fn residual(&self, value: ValueId, reader: OpId, offloaded: bool) -> Residual {
        let graph = &self.graph;
        let region = graph.value(value).producer.and_then(|(op, _)| graph.node(op).region);
        let outermost = graph.outermost_region(region);
        Residual {
            name: graph.value(value).name.clone(),
            ty: graph.ty(value).clone(),
            bytes: graph.ty(value).bytes(),
            region: outermost.map(|id| graph.regions[id.index()].name.clone()),
            read_by: graph.node(reader).op.name(),
            offloaded,
        }
    }
}
