//! What runs, in which order, on what: a graph with some of its nodes run again, by index.
//!
//! A search looks at hundreds of such sequences; only the one that is chosen is written out as a graph. Invariant: the
//! graph, written out, has one node per run, in this order. Look next at `rematerialise` for what is run again, and at
//! `place` for what a sequence takes.

use crate::facts::Facts;
use crate::rebuild::Rebuild;
use remat_ir::{Graph, OpId, Phase, Storage, ValueId};
use remat_plan::Prices;

/// A value as the first run of its producer makes it, or as a later one does: a value of the graph, or behind those a copy.
pub(crate) type Instance = u32;

/// One run of a node.
#[derive(Debug, Clone, Copy)]
struct Run {
    node: OpId,
    /// Where its operands begin; those of the next run follow.
    operands_from: u32,
    /// The first of its results, which follow one another; `None` for the node's own.
    copies_from: Option<Instance>,
}

/// Runs of a graph's nodes.
#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    runs: Vec<Run>,
    operands: Vec<Instance>,
    /// Number of the graph's values: copies have instances from here on.
    values: u32,
    /// What each copy is a copy of.
    copied: Vec<ValueId>,
}

impl Sequence {
    /// An empty one.
    pub(crate) fn of(graph: &Graph) -> Sequence {
        let (runs, operands) = (Vec::with_capacity(graph.nodes.len()), Vec::with_capacity(2 * graph.nodes.len()));
        Sequence { runs, operands, values: graph.values.len() as u32, copied: Vec::new() }
    }

    /// The nodes before the first of backward, once each: whatever is kept, these run first.
    pub(crate) fn of_forward(graph: &Graph) -> Sequence {
        let mut sequence = Sequence::of(graph);
        let forward = graph.nodes_with_ids().take_while(|(_, node)| node.phase == Phase::Forward);
        forward.for_each(|(id, node)| sequence.first(id, node.inputs.iter().map(|input| input.0)));
        sequence
    }

    /// The runs of a sequence without copies, with room for what follows.
    pub(crate) fn beginning_with(forward: &Sequence, graph: &Graph) -> Sequence {
        debug_assert!(forward.copied.is_empty());
        let mut sequence = Sequence::of(graph);
        sequence.runs.extend_from_slice(&forward.runs);
        sequence.operands.extend_from_slice(&forward.operands);
        sequence
    }

    /// Every node once, in the graph's order.
    pub(crate) fn once(graph: &Graph) -> Sequence {
        let mut sequence = Sequence::of(graph);
        graph.nodes_with_ids().for_each(|(id, node)| sequence.first(id, node.inputs.iter().map(|input| input.0)));
        sequence
    }

    /// Adds the first run of a node.
    pub(crate) fn first(&mut self, node: OpId, operands: impl Iterator<Item = Instance>) {
        self.runs.push(Run { node, operands_from: self.operands.len() as u32, copies_from: None });
        self.operands.extend(operands);
    }

    /// Adds another run of a node; returns the first of its results.
    pub(crate) fn again(&mut self, graph: &Graph, node: OpId, operands: impl Iterator<Item = Instance>) -> Instance {
        let copies = self.values + self.copied.len() as u32;
        self.runs.push(Run { node, operands_from: self.operands.len() as u32, copies_from: Some(copies) });
        self.operands.extend(operands);
        self.copied.extend(&graph.node(node).outputs);
        copies
    }

    /// Number of runs.
    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Number of values and copies.
    pub(crate) fn instances(&self) -> usize {
        self.values as usize + self.copied.len()
    }

    /// The value that an instance is of.
    pub(crate) fn value(&self, instance: Instance) -> ValueId {
        match instance.checked_sub(self.values) {
            Some(copy) => self.copied[copy as usize],
            None => ValueId(instance),
        }
    }

    /// Whether an instance is made by a node's first run, or is a source.
    pub(crate) fn is_first(&self, instance: Instance) -> bool {
        instance < self.values
    }

    /// The node of a run.
    pub(crate) fn node(&self, run: usize) -> OpId {
        self.runs[run].node
    }

    /// Whether a run repeats its node.
    pub(crate) fn repeats(&self, run: usize) -> bool {
        self.runs[run].copies_from.is_some()
    }

    /// The operands of a run.
    pub(crate) fn operands(&self, run: usize) -> &[Instance] {
        let end = self.runs.get(run + 1).map_or(self.operands.len(), |next| next.operands_from as usize);
        &self.operands[self.runs[run].operands_from as usize..end]
    }

    /// The results of a run.
    pub(crate) fn results<'a>(&self, graph: &'a Graph, run: usize) -> impl Iterator<Item = Instance> + use<'a> {
        let Run { node, copies_from, .. } = self.runs[run];
        let outputs = &graph.node(node).outputs;
        outputs.iter().enumerate().map(move |(index, output)| copies_from.map_or(output.0, |from| from + index as u32))
    }

    /// The same runs in the order to run them. Construction order is already good (backward consumes what it makes at
    /// once); what is left is to sink runs that read no arena value to just before their first reader, so that what they
    /// make does not wait in memory. A run that is repeated, or repeats, stays where it is. Linear in runs and operands.
    pub(crate) fn scheduled(self, graph: &Graph, facts: &Facts) -> Sequence {
        if !facts.any_sinks() {
            return self;
        }
        let mut sinks: Vec<bool> = self.runs.iter().map(|run| facts.sinks(run.node)).collect();
        let mut first_run: Vec<u32> = vec![0; graph.nodes.len()];
        for (at, run) in self.runs.iter().enumerate().filter(|(_, run)| run.copies_from.is_none()) {
            first_run[run.node.index()] = at as u32;
        }
        for (at, run) in self.runs.iter().enumerate().filter(|(_, run)| run.copies_from.is_some()) {
            (sinks[at], sinks[first_run[run.node.index()] as usize]) = (false, false);
        }
        let mut done = vec![false; self.runs.len()];
        let mut order: Vec<usize> = Vec::with_capacity(self.runs.len());
        for at in (0..self.runs.len()).filter(|&at| !sinks[at]) {
            for &operand in self.operands(at).iter().filter(|&&operand| self.is_first(operand)) {
                let Some((producer, _)) = graph.value(ValueId(operand)).producer else { continue };
                let maker = first_run[producer.index()] as usize;
                if sinks[maker] && !done[maker] {
                    done[maker] = true;
                    order.push(maker);
                }
            }
            order.push(at);
        }
        order.extend((0..sinks.len()).filter(|&at| sinks[at] && !done[at]));
        if order.is_sorted() { self } else { self.in_order(&order) }
    }

    fn in_order(self, order: &[usize]) -> Sequence {
        let (mut runs, mut operands) = (Vec::with_capacity(order.len()), Vec::with_capacity(self.operands.len()));
        for &at in order {
            runs.push(Run { operands_from: operands.len() as u32, ..self.runs[at] });
            operands.extend_from_slice(self.operands(at));
        }
        Sequence { runs, operands, ..self }
    }

    /// Bytes that the forward keeps for what runs behind it, as [`remat_plan::Plan::activation_bytes`] counts them.
    pub(crate) fn activation_bytes(&self, graph: &Graph) -> usize {
        let is_forward = |run: &Run| run.copies_from.is_none() && graph.node(run.node).phase == Phase::Forward;
        let Some(end) = self.runs.iter().rposition(is_forward) else { return 0 };
        let mut made = vec![false; self.instances()];
        for run in (0..=end).filter(|&run| graph.node(self.node(run)).phase == Phase::Forward) {
            self.results(graph, run).for_each(|result| made[result as usize] = true);
        }
        let mut bytes = 0;
        let behind = self.runs.get(end + 1).map_or(self.operands.len(), |run| run.operands_from as usize);
        for &operand in &self.operands[behind..] {
            if std::mem::take(&mut made[operand as usize]) {
                let value = graph.value(self.value(operand));
                bytes += if value.storage == Storage::Arena { value.ty.bytes() } else { 0 };
            }
        }
        bytes
    }

    /// Predicted seconds of the runs that repeat a node, by the seconds of each node.
    pub(crate) fn recompute_seconds(&self, seconds: &[f64]) -> f64 {
        self.runs.iter().filter(|run| run.copies_from.is_some()).fold(0.0, |sum, run| sum + seconds[run.node.index()])
    }

    /// Predicted seconds of all runs.
    pub(crate) fn seconds(&self, seconds: &[f64]) -> f64 {
        self.runs.iter().fold(0.0, |sum, run| sum + seconds[run.node.index()])
    }

    /// Whether it is the graph as it stands: each node once, in order, and values numbered as a copy would number them,
    /// sources first, then results as they are made.
    pub(crate) fn is_all_of(&self, graph: &Graph) -> bool {
        let in_order =
            self.runs.iter().enumerate().all(|(at, run)| run.node.index() == at && run.copies_from.is_none());
        let made = graph.nodes.iter().flat_map(|node| &node.outputs).map(|output| output.index());
        let sources = graph.values.iter().take_while(|value| value.producer.is_none()).count();
        in_order && self.runs.len() == graph.nodes.len() && made.eq(sources..graph.values.len())
    }

    /// Written out: results of a first run keep their names, the copies' are those of [`Rebuild::recompute`].
    pub(crate) fn graph(&self, source: &Graph) -> Graph {
        let mut copy = Rebuild::new(source);
        let mut copies: Vec<ValueId> = Vec::with_capacity(self.copied.len());
        let mut times: Vec<u32> = if self.copied.is_empty() { Vec::new() } else { vec![0; source.nodes.len()] };
        for at in 0..self.runs.len() {
            let operand = |&operand: &Instance| match operand.checked_sub(self.values) {
                Some(index) => copies[index as usize],
                None => copy.get(ValueId(operand)),
            };
            let operands: Vec<ValueId> = self.operands(at).iter().map(operand).collect();
            let node = self.node(at);
            if self.repeats(at) {
                times[node.index()] += 1;
                copies.extend(copy.recompute(node, operands, times[node.index()]));
            } else {
                copy.copy_with(node, operands);
            }
        }
        copy.finish()
    }
}

/// Seconds of every node.
pub(crate) fn seconds_of_nodes(graph: &Graph, prices: &Prices) -> Vec<f64> {
    graph.nodes.iter().map(|node| prices.seconds(graph, node)).collect()
}
