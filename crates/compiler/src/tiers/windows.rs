//! When weights and states that are not resident stay in the arena: from before their first reader to their last, once or
//! several times.
//!
//! Method: readers of a weight that follow each other share one stay where nothing of another block comes in between: the
//! tiles of a block, or its recomputation and backward. So a block is fetched once for forward and once for backward where
//! these meet. A table whose rows are looked up comes by those rows. Each stay begins as early as the bandwidth asks for, but
//! with no more bytes fetched ahead of their reader than it is allowed. A state that is updated in its stay is written back
//! behind it, and stays until that is done. What a node streams has no stay. Look next at `copies` for the steps.

use remat_ir::{Graph, Node, OpDef, OpId, Phase, Storage, ValueId};
use remat_plan::{Prices, SpillPrices, can_stream};
use remat_tensor::DType;
use std::collections::HashMap;

/// A stay of a weight or a state in the arena, in nodes of the graph's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// The weight, or the root of the state.
    pub weight: ValueId,
    /// The ids whose rows are fetched; all rows if `None`.
    pub rows: Option<ValueId>,
    pub bytes: usize,
    /// The node before which the fetch may begin.
    pub from: u32,
    /// The nodes that read it here, in order.
    pub readers: Vec<u32>,
    /// Whether they update it, so that it goes back where it lies.
    pub written: bool,
    /// The last node of the stay.
    pub until: u32,
    /// Behind the last node that updated it before.
    pub not_before: u32,
}

impl Window {
    /// Of a node.
    fn at(weight: ValueId, rows: Option<ValueId>, bytes: usize, node: u32) -> Window {
        let readers = vec![node];
        Window { weight, rows, bytes, from: node, readers, written: false, until: node, not_before: 0 }
    }

    /// The same with one reader more.
    fn extend(&mut self, node: u32) {
        self.readers.push(node);
        self.until = node;
    }

    /// The first reader.
    pub(crate) fn first(&self) -> u32 {
        self.readers[0]
    }

    /// The last reader.
    pub(crate) fn last(&self) -> u32 {
        self.readers[self.readers.len() - 1]
    }
}

/// Whether a node runs behind the forward, as backward or again for it.
fn is_late(node: &Node) -> bool {
    node.phase == Phase::Backward || node.recompute_of.is_some()
}

/// The ids by whose rows a node reads a weight, where it only looks rows up.
fn looked_up(graph: &Graph, node: &Node, weight: ValueId) -> Option<ValueId> {
    let (table, ids) = node.op.looks_up()?;
    let ids = node.inputs[ids];
    let fetchable = graph.value(ids).storage == Storage::Input && graph.ty(ids).dtype == DType::I32;
    (fetchable && node.inputs[table] == weight).then_some(ids)
}

/// The stays of weights in the order of their first readers; each begins at its reader.
pub(crate) fn windows(graph: &Graph, is_spilled: &dyn Fn(ValueId) -> bool) -> Vec<Window> {
    let mut open: Vec<Option<usize>> = vec![None; graph.values.len()];
    let mut windows: Vec<Window> = Vec::new();
    // Of each run of readers with one block and one side of the turn: its number.
    let (mut visit, mut visited) = (0, None);
    let mut visit_of: Vec<u32> = Vec::new();
    // By the root of a state, the last node that updated it.
    let mut updated: HashMap<ValueId, u32> = HashMap::new();
    for (id, node) in graph.nodes_with_ids() {
        let behind = |root: ValueId| updated.get(&root).map_or(0, |last| last + 1);
        let updates = |root: ValueId| node.outputs.iter().any(|&output| graph.storage_root(output) == root);
        for (at, &input) in node.inputs.iter().enumerate() {
            let weight = graph.storage_root(input);
            let again = || node.inputs[..at].iter().any(|&other| graph.storage_root(other) == weight);
            if !is_fetched(graph, node, at, is_spilled) || again() {
                continue;
            }
            if let Some(ids) = looked_up(graph, node, input).filter(|_| !updates(weight)) {
                let row_bytes = graph.ty(weight).bytes() / graph.ty(weight).shape.rows().max(1);
                let bytes = graph.ty(ids).shape.numel() * row_bytes;
                windows.push(Window { not_before: behind(weight), ..Window::at(weight, Some(ids), bytes, id.0) });
                visit_of.push(visit);
                continue;
            }
            let here = (block_of(graph, id), is_late(node));
            let last = open[weight.index()];
            // The head is read by the loss and at once by backward: nothing else came in between.
            let undisturbed = last.is_some() && last == latest_whole(&windows);
            if visited != Some(here) && !undisturbed {
                (visit, visited) = (visit + 1, Some(here));
            }
            match last.filter(|&last| undisturbed || visit_of[last] == visit) {
                Some(last) => windows[last].extend(id.0),
                None => {
                    open[weight.index()] = Some(windows.len());
                    let bytes = graph.ty(weight).bytes();
                    windows.push(Window { not_before: behind(weight), ..Window::at(weight, None, bytes, id.0) });
                    visit_of.push(visit);
                }
            }
            if let Some(index) = open[weight.index()] {
                windows[index].written |= updates(weight);
            }
        }
        let states = node.outputs.iter().filter(|output| graph.value(**output).storage == Storage::State);
        updated.extend(states.map(|&output| (graph.storage_root(output), id.0)));
    }
    windows
}

/// Whether a node finds an operand in a stay: a weight or a state off memory that it does not stream.
fn is_fetched(graph: &Graph, node: &Node, operand: usize, is_spilled: &dyn Fn(ValueId) -> bool) -> bool {
    let root = graph.storage_root(node.inputs[operand]);
    match graph.value(root).storage {
        Storage::Weight => is_spilled(root),
        Storage::State => is_spilled(root) && !can_stream(node, operand),
        Storage::Input | Storage::Arena => false,
    }
}

/// The last stay of a whole weight.
fn latest_whole(windows: &[Window]) -> Option<usize> {
    windows.iter().rposition(|window| window.rows.is_none())
}

/// The outermost region of a node: of a repeated one and of backward, that of the forward that it belongs to.
fn block_of(graph: &Graph, id: OpId) -> Option<u32> {
    graph.outermost_region(graph.node(id).region).map(|region| region.0)
}

/// When each node begins if nothing waits, in seconds.
pub(crate) fn starts(graph: &Graph, prices: &Prices) -> Vec<f64> {
    let mut now = 0.0;
    let mut starts: Vec<f64> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        starts.push(now);
        now += prices.seconds(graph, node);
    }
    starts
}

/// Lets each stay begin as early as its bytes take to come, with at most `ahead_bytes` of others' and its own bytes there
/// before their reader. `starts` says when each node begins.
pub(crate) fn begin_ahead(starts: &[f64], windows: &mut [Window], prices: &Prices, ahead_bytes: usize) {
    let bytes_per_second = prices.weight_reads();
    let mut end = f64::INFINITY;
    let mut begins = vec![0; windows.len()];
    for (window, begin) in windows.iter().zip(&mut begins).rev() {
        end = f64::min(end, starts[window.first() as usize]) - window.bytes as f64 / bytes_per_second;
        *begin = starts.partition_point(|&start| start <= end).saturating_sub(1) as u32;
    }
    let (mut oldest, mut ahead) = (0, 0);
    let mut soonest = 0;
    for index in 0..windows.len() {
        ahead += windows[index].bytes;
        while ahead > ahead_bytes && oldest < index {
            ahead -= windows[oldest].bytes;
            soonest = windows[oldest].first();
            oldest += 1;
        }
        let first = windows[index].first();
        let alone = ahead > ahead_bytes;
        let earliest = if alone { first } else { soonest };
        windows[index].from = begins[index].max(earliest).max(windows[index].not_before).min(first);
    }
}

/// Lets each stay that is written back last until that is predicted to be done, if no more than `behind_bytes` wait for it;
/// else whoever takes its bytes waits.
pub(crate) fn end_behind(starts: &[f64], windows: &mut [Window], prices: &Prices, behind_bytes: usize) {
    let bytes_per_second = prices.spill.unwrap_or_else(SpillPrices::nominal).write_bytes_per_second;
    let mut order: Vec<usize> = (0..windows.len()).filter(|&index| windows[index].written).collect();
    order.sort_by_key(|&index| windows[index].last());
    let mut free_from = 0.0;
    for (at, &index) in order.iter().enumerate() {
        let last = windows[index].last();
        let Some(&made) = starts.get(last as usize + 1) else { break };
        free_from = f64::max(free_from, made) + windows[index].bytes as f64 / bytes_per_second;
        let done = (starts.partition_point(|&start| start < free_from) as u32).saturating_sub(1).max(last);
        let waiting = order[..at].iter().filter(|&&other| windows[other].until >= last);
        let waiting: usize = waiting.map(|&other| windows[other].bytes).sum();
        windows[index].until = if waiting + windows[index].bytes > behind_bytes { last } else { done };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(at: u32, bytes: usize) -> Window {
        Window::at(ValueId(at), None, bytes, at)
    }

    fn graph() -> Graph {
        let node = |n: usize| format!("  #{n} %{} \"y{n}\": f32[64] = gelu(%{n}) \"y{n}\"\n", n + 1);
        let nodes: String = (0..6).map(node).collect();
        let text = format!("graph {{\n  input %0 \"x\": f32[64]\n{nodes}  outputs(%6)\n}}\n");
        remat_ir::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn no_more_is_ahead_than_allowed() {
        let graph = graph();
        let mut prices = Prices::nominal(1);
        prices.spill = Some(SpillPrices { write_bytes_per_second: 1e3, read_bytes_per_second: 1e3 });
        let mut some: Vec<Window> = (1..6).map(|at| window(at, 100)).collect();
        let starts = starts(&graph, &prices);
        begin_ahead(&starts, &mut some, &prices, 200);
        assert_eq!(some.iter().map(|w| w.from).collect::<Vec<_>>(), [0, 0, 1, 2, 3]);
        begin_ahead(&starts, &mut some, &prices, 0);
        assert!(some.iter().all(|w| w.from == w.first()));
    }
}
