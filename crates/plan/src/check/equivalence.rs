//! Rule 1: the plan's graph computes the source graph.
//!
//! Method: find out what each value of the plan's graph is, seen from the source graph. Originals are found by name; a
//! recomputed node gives what the repeated node computes, provided its operands are right; a tile gives those rows of the
//! results that its operands are rows of, if its op is one that can be cut. Rows become a value again, and sums over rows
//! are finished, tile after tile without a gap, interrupted where the device's rules allow it. One pass, linear in the nodes.

use super::CheckError;
use crate::{Plan, whole_name};
use remat_ir::{Graph, NameMap, Node, Op, OpDef, OpId, ValueId, verify};
use std::ops::Range;

pub(super) fn check(plan: &Plan, source: &Graph) -> Result<(), CheckError> {
    let graph = &plan.graph;
    verify(graph).map_err(|error| CheckError::Graph(error.to_string()))?;
    let source_values = source.names();
    let mut pass = Pass {
        graph,
        source,
        nodes: source.nodes_with_ids().map(|(id, node)| (node.name.as_str(), id)).collect(),
        meaning: vec![None; graph.values.len()],
        made: vec![Made::Rows(0); source.nodes.len()],
        token_block: plan.rules.token_block.max(1),
    };
    for (index, value) in graph.values.iter().enumerate().filter(|(_, value)| value.producer.is_none()) {
        let id = source_values.get(value.name.as_str()).copied();
        let same = |id: &ValueId| {
            let original = source.value(*id);
            original.producer.is_none() && original.ty == value.ty && original.storage == value.storage
        };
        let Some(id) = id.filter(same) else {
            return wrong(format!("source value \"{}\" is not one of the source graph's", value.name));
        };
        pass.meaning[index] = Some(Meaning::Whole(id));
    }
    for node in &graph.nodes {
        pass.node(node)?;
    }
    if let Some(index) = pass.made.iter().position(|made| *made != Made::All) {
        let name = &source.nodes[index].name;
        return wrong(format!("node \"{name}\" of the source graph is missing"));
    }
    let outputs = graph.outputs.iter().map(|&id| pass.meaning(id));
    if outputs.ne(source.outputs.iter().map(|&id| Some(Meaning::Whole(id)))) {
        return wrong("the outputs differ".to_string());
    }
    Ok(())
}

/// What a value of the plan's graph is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    /// A value of the source graph.
    Whole(ValueId),
    /// Some of its rows.
    Rows(ValueId, Range<usize>),
    /// The value as far as it is written, or the sum as far as it goes: so many rows from the first on.
    Begun(ValueId, usize),
    /// Zeros to write rows into.
    Blank,
}

/// How much of a source node has run, repetitions aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Rows(usize),
    All,
}

struct Pass<'a> {
    graph: &'a Graph,
    source: &'a Graph,
    nodes: NameMap<&'a str, OpId>,
    meaning: Vec<Option<Meaning>>,
    made: Vec<Made>,
    /// Sums over rows may be interrupted after multiples of this many.
    token_block: usize,
}

impl Pass<'_> {
    fn meaning(&self, id: ValueId) -> Option<Meaning> {
        self.meaning[id.index()].clone()
    }

    fn node(&mut self, node: &Node) -> Result<(), CheckError> {
        let name = match node.recompute_of {
            Some(origin) => &self.graph.node(origin).name,
            None => &node.name,
        };
        let named = |name: &str| self.nodes.get(name).copied();
        match named(name).or_else(|| named(whole_name(name)?)) {
            Some(original) => self.computed(node, original),
            None => self.moved(node),
        }
    }

    /// A node that computes a source node or a tile of it.
    fn computed(&mut self, node: &Node, original_id: OpId) -> Result<(), CheckError> {
        let source = self.source;
        let original = source.node(original_id);
        let by_row = original.op.row_operands().unwrap_or_default();
        let cut = by_row.first().and_then(|&index| match self.meaning(*node.inputs.get(index)?)? {
            Meaning::Rows(_, rows) => Some((rows, &source.ty(original.inputs[index]).shape)),
            _ => None,
        });
        let op = cut.as_ref().map(|(rows, shape)| original.op.of_rows(rows.start, shape.last()));
        if node.op != op.unwrap_or_else(|| original.op.clone()) || node.outputs.len() != original.outputs.len() {
            return wrong(format!("node \"{}\" is not the op that \"{}\" is", node.name, original.name));
        }
        if node.inputs.len() != original.inputs.len() {
            return wrong(format!("node \"{}\" has another number of operands", node.name));
        }
        let donations = original.op.donations();
        let block = self.token_block;
        if let Some((rows, _)) = cut.as_ref().filter(|(rows, _)| !donations.is_empty() && rows.start % block != 0) {
            let (name, start) = (&node.name, rows.start);
            return wrong(format!("the sum of \"{name}\" is interrupted at row {start}, not after a block of {block}"));
        }
        for (index, (&operand, &of)) in node.inputs.iter().zip(&original.inputs).enumerate() {
            let expected = match &cut {
                Some((rows, _)) if by_row.contains(&index) => Meaning::Rows(of, rows.clone()),
                Some((rows, _)) if rows.start > 0 => match donations.iter().find(|donation| donation.0 == index) {
                    Some(&(_, result)) => Meaning::Begun(original.outputs[result], rows.start),
                    None => Meaning::Whole(of),
                },
                _ => Meaning::Whole(of),
            };
            if self.meaning(operand) != Some(expected) {
                let name = &source.value(of).name;
                return wrong(format!("operand {index} of \"{}\" is not \"{name}\"", node.name));
            }
        }
        let rows = cut.map(|(rows, shape)| (rows, shape.rows()));
        for (&output, &of) in node.outputs.iter().zip(&original.outputs) {
            self.meaning[output.index()] = Some(match &rows {
                None => Meaning::Whole(of),
                Some((rows, _)) if donations.is_empty() => Meaning::Rows(of, rows.clone()),
                Some((rows, total)) => begun(of, rows.end, *total),
            });
        }
        if node.recompute_of.is_none() { self.count(node, original_id, rows) } else { Ok(()) }
    }

    /// Counts what ran for the first time: no row twice, none left out.
    fn count(&mut self, node: &Node, id: OpId, rows: Option<(Range<usize>, usize)>) -> Result<(), CheckError> {
        let made = &mut self.made[id.index()];
        let (rows, total) = rows.unwrap_or((0..1, 1));
        if *made != Made::Rows(rows.start) {
            return wrong(format!("node \"{}\" runs again, or after rows that are left out", node.name));
        }
        *made = if rows.end == total { Made::All } else { Made::Rows(rows.end) };
        Ok(())
    }

    /// A node without a counterpart: it may only take rows, or put them together.
    fn moved(&mut self, node: &Node) -> Result<(), CheckError> {
        let operand = |index: usize| self.meaning(node.inputs[index]);
        let misplaced = || wrong(format!("node \"{}\" moves rows that are not there or not next", node.name));
        let meaning = match &node.op {
            Op::Zeros(_) => Meaning::Blank,
            Op::SliceRows(op) => match operand(0) {
                Some(Meaning::Whole(of)) => Meaning::Rows(of, op.first..op.first + op.rows),
                _ => return misplaced(),
            },
            Op::WriteRows(op) => match (operand(0), operand(1)) {
                (Some(base), Some(Meaning::Rows(of, rows))) if op.first == rows.start => {
                    let ty = self.source.ty(of);
                    let next =
                        if rows.start == 0 { base == Meaning::Blank } else { base == Meaning::Begun(of, rows.start) };
                    if !next || self.graph.ty(node.outputs[0]) != ty {
                        return misplaced();
                    }
                    begun(of, rows.end, ty.shape.rows())
                }
                _ => return misplaced(),
            },
            _ => return wrong(format!("node \"{}\" is not in the source graph", node.name)),
        };
        self.meaning[node.outputs[0].index()] = Some(meaning);
        Ok(())
    }
}

/// The value, or what there is of it.
fn begun(of: ValueId, rows: usize, total: usize) -> Meaning {
    if rows == total { Meaning::Whole(of) } else { Meaning::Begun(of, rows) }
}

fn wrong<T>(message: String) -> Result<T, CheckError> {
    Err(CheckError::NotEquivalent(message))
}
