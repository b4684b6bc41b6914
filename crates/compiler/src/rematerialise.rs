//! Rematerialisation: duplicates the producers of values that are not kept where backward reads them.
//!
//! Method: anything that backward reads and that is not kept is computed again on demand, immediately before the first
//! backward node that needs it. What nothing in backward reads is never computed again. How long a copy is there for later
//! readers is said by `scopes`: with one scope for all, each node runs again at most once; with levels, what a scope makes
//! for itself alone is made again once per level. Linear in the runs and their operands. Look next at [`Kept`] for who
//! decides and at `solve` for how.

use crate::Kept;
use crate::scopes::Scope;
use crate::sequence::{Instance, Sequence};
use remat_ir::{Graph, Phase, RegionId, ValueId};

/// The graph with whatever is not kept recomputed for backward.
pub fn rematerialise(graph: &Graph, kept: &Kept) -> Graph {
    sequence(graph, kept).graph(graph)
}

/// The same, by index.
pub(crate) fn sequence(graph: &Graph, kept: &Kept) -> Sequence {
    sequence_behind(&Sequence::of_forward(graph), graph, kept)
}

/// The same behind the runs that it begins with, [`Sequence::of_forward`]: a search makes these once.
pub(crate) fn sequence_behind(forward: &Sequence, graph: &Graph, kept: &Kept) -> Sequence {
    let mut pass = Pass {
        graph,
        kept,
        sequence: Sequence::beginning_with(forward, graph),
        held: vec![NONE; graph.values.len()],
        passing: Vec::new(),
        passed: Vec::new(),
        stack: Vec::new(),
    };
    let mut region: Option<RegionId> = None;
    for (id, node) in graph.nodes_with_ids().skip(forward.len()) {
        match node.phase {
            Phase::Forward => pass.sequence.first(id, node.inputs.iter().map(|input| input.0)),
            Phase::Backward => {
                if node.region != region {
                    pass.forget();
                    region = node.region;
                }
                node.inputs.iter().filter(|&&input| !kept.contains(input)).for_each(|&input| pass.demand(input));
                let (held, passing) = (&pass.held, &pass.passing);
                pass.sequence.first(id, node.inputs.iter().map(|&input| present(kept, held, passing, input)));
            }
        }
    }
    pass.sequence
}

/// No instance.
const NONE: Instance = Instance::MAX;

struct Pass<'a> {
    graph: &'a Graph,
    kept: &'a Kept,
    sequence: Sequence,
    /// Copies that stay, by value.
    held: Vec<Instance>,
    /// Copies that are there while backward is in one region, by value; empty until there is one.
    passing: Vec<Instance>,
    /// The values that have one.
    passed: Vec<ValueId>,
    stack: Vec<ValueId>,
}

/// What a backward or recomputed node reads for a value that is there.
fn present(kept: &Kept, held: &[Instance], passing: &[Instance], value: ValueId) -> Instance {
    match (held[value.index()], passing.get(value.index())) {
        _ if kept.contains(value) => value.0,
        (NONE, Some(&passing)) => passing,
        (held, _) => held,
    }
}

impl Pass<'_> {
    /// Whether a copy is there, or the value itself. A copy that was made in passing stays from now on if it is wanted on
    /// behalf of something in its home.
    fn is_there(&mut self, value: ValueId, behalf: Scope) -> bool {
        let instance = present(self.kept, &self.held, &self.passing, value);
        let scopes = self.kept.scopes();
        if instance != NONE && !self.kept.contains(value) && scopes.is_within(behalf, scopes.home(value)) {
            self.held[value.index()] = instance;
        }
        instance != NONE
    }

    /// Forgets copies that were made in passing.
    fn forget(&mut self) {
        self.passed.drain(..).for_each(|value| self.passing[value.index()] = NONE);
    }

    /// Runs the producer of a value again if no copy of it is there, after whatever that needs; iterative, since chains
    /// can be long.
    fn demand(&mut self, value: ValueId) {
        let (graph, kept) = (self.graph, self.kept);
        let behalf = kept.scopes().home(value);
        if self.is_there(value, behalf) {
            return;
        }
        self.stack.push(value);
        while let Some(&value) = self.stack.last() {
            let (producer, _) = graph.value(value).producer.expect("sources are kept");
            let node = graph.node(producer);
            let before = self.stack.len();
            for &input in node.inputs.iter().rev() {
                if !self.is_there(input, behalf) {
                    self.stack.push(input);
                }
            }
            if self.stack.len() > before {
                continue;
            }
            self.stack.pop();
            if self.is_there(value, behalf) {
                continue;
            }
            let (held, passing) = (&self.held, &self.passing);
            let operands = node.inputs.iter().map(|&input| present(kept, held, passing, input));
            let copies = self.sequence.again(graph, producer, operands);
            for (&output, copy) in node.outputs.iter().zip(copies..) {
                if !kept.contains(output) {
                    self.put(output, copy, behalf);
                }
            }
        }
    }

    /// Remembers a copy that was made on behalf of something at home in a scope.
    fn put(&mut self, value: ValueId, copy: Instance, behalf: Scope) {
        let scopes = self.kept.scopes();
        if scopes.is_within(behalf, scopes.home(value)) {
            self.held[value.index()] = copy;
            return;
        }
        if self.passing.is_empty() {
            self.passing = vec![NONE; self.graph.values.len()];
        }
        self.passing[value.index()] = copy;
        self.passed.push(value);
    }
}
