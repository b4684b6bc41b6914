//! What a choice of kept values comes to, without building its plan.
//!
//! Method: what runs is written down by index and summed up. Where each node runs again at most once, which is what a
//! solver asks thousands of times, the closure of what backward demands is enough, in one reverse walk over the forward.
//! [`Forward`] is the graph as that walk sees it, made once: O(forward nodes and operands) for each choice. Invariant: the
//! figures are those of the plan of the same choice. Look next at [`Kept`] and at `solve`.

use crate::Kept;
use crate::rematerialise::sequence;
use crate::sequence::{Sequence, seconds_of_nodes};
use remat_ir::{Graph, Phase, Storage};
use remat_plan::Prices;

/// What a choice of kept values comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Footprint {
    /// Bytes of forward values that backward, or a recomputation for it, reads.
    pub activation_bytes: usize,
    /// Predicted seconds of all recomputation in one step.
    pub recompute_seconds: f64,
}

impl Footprint {
    /// Nothing kept, nothing repeated.
    pub(crate) const NOTHING: Footprint = Footprint { activation_bytes: 0, recompute_seconds: 0.0 };

    /// Of what runs, by the seconds of each node.
    pub(crate) fn of(graph: &Graph, sequence: &Sequence, seconds: &[f64]) -> Footprint {
        Footprint {
            activation_bytes: sequence.activation_bytes(graph),
            recompute_seconds: sequence.recompute_seconds(seconds),
        }
    }
}

impl Kept {
    /// Bytes and seconds of this choice, without building the plan. Linear in what runs.
    pub fn footprint(&self, graph: &Graph, prices: &Prices) -> Footprint {
        Footprint::of(graph, &sequence(graph, self), &seconds_of_nodes(graph, prices))
    }
}

/// The forward of a graph, by index: its nodes and their results in execution order.
pub(crate) struct Forward {
    nodes: Vec<ForwardNode>,
    outputs: Vec<ForwardOutput>,
    /// Indices of outputs; sources and what backward makes are left out.
    operands: Vec<u32>,
    /// Per output, whether a backward node reads it.
    demanded: Vec<bool>,
    /// Per node of the graph, its index in `nodes`.
    index_of: Vec<Option<u32>>,
}

struct ForwardNode {
    seconds: f64,
    /// Where its outputs and its operands begin; those of the next node follow.
    outputs_from: u32,
    operands_from: u32,
}

struct ForwardOutput {
    /// Its bytes in the arena.
    bytes: usize,
    /// Whether it can be read after the run, and so is kept whatever runs again.
    is_output: bool,
}

impl Forward {
    /// The forward of a graph; `seconds` are the prices of all nodes.
    pub(crate) fn new(graph: &Graph, seconds: &[f64]) -> Forward {
        let mut forward = Forward {
            nodes: Vec::new(),
            outputs: Vec::new(),
            operands: Vec::new(),
            demanded: Vec::new(),
            index_of: vec![None; graph.nodes.len()],
        };
        let mut output_of: Vec<Option<u32>> = vec![None; graph.values.len()];
        for (id, node) in graph.nodes_with_ids().filter(|(_, node)| node.phase == Phase::Forward) {
            forward.index_of[id.index()] = Some(forward.nodes.len() as u32);
            forward.nodes.push(ForwardNode {
                seconds: seconds[id.index()],
                outputs_from: forward.outputs.len() as u32,
                operands_from: forward.operands.len() as u32,
            });
            forward.operands.extend(node.inputs.iter().filter_map(|input| output_of[input.index()]));
            for &value in &node.outputs {
                output_of[value.index()] = Some(forward.outputs.len() as u32);
                let in_arena = graph.value(value).storage == Storage::Arena;
                let bytes = if in_arena { graph.ty(value).bytes() } else { 0 };
                forward.outputs.push(ForwardOutput { bytes, is_output: graph.outputs.contains(&value) });
            }
        }
        forward.demanded = vec![false; forward.outputs.len()];
        for node in graph.nodes.iter().filter(|node| node.phase == Phase::Backward) {
            for output in node.inputs.iter().filter_map(|input| output_of[input.index()]) {
                forward.demanded[output as usize] = true;
            }
        }
        forward
    }

    /// Number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The index of a forward node.
    pub(crate) fn index_of(&self, id: remat_ir::OpId) -> usize {
        self.index_of[id.index()].expect("a forward node") as usize
    }

    /// The footprint of keeping everything but the results of some nodes, given by index. They may all run again.
    pub(crate) fn footprint_without(&self, rerun: &[bool]) -> Footprint {
        let kept = |node: usize, output: &ForwardOutput| !rerun[node] || output.is_output;
        let mut demanded = self.demanded.clone();
        let mut result = Footprint { activation_bytes: 0, recompute_seconds: 0.0 };
        let (mut outputs_to, mut operands_to) = (self.outputs.len(), self.operands.len());
        for (index, node) in self.nodes.iter().enumerate().rev() {
            let (outputs_from, operands_from) = (node.outputs_from as usize, node.operands_from as usize);
            let mut runs_again = false;
            for at in (outputs_from..outputs_to).filter(|&at| demanded[at]) {
                let output = &self.outputs[at];
                if kept(index, output) {
                    result.activation_bytes += output.bytes;
                } else {
                    runs_again = true;
                }
            }
            if runs_again {
                result.recompute_seconds += node.seconds;
                self.operands[operands_from..operands_to].iter().for_each(|&at| demanded[at as usize] = true);
            }
            (outputs_to, operands_to) = (outputs_from, operands_from);
        }
        result
    }
}
