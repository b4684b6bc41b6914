//! Rule 1: the plan's graph computes the source graph.
//!
//! Method: map every value of the plan's graph to the source value it is congruent to. Originals map by name; results of
//! a recomputed node map to what the repeated node computes, provided its operands do. One pass, linear in the nodes.

use super::CheckError;
use crate::Plan;
use remat_ir::{Graph, Node, ValueId, verify};
use std::collections::HashMap;

pub(super) fn check(plan: &Plan, source: &Graph) -> Result<(), CheckError> {
    let graph = &plan.graph;
    verify(graph).map_err(|error| CheckError::Graph(error.to_string()))?;
    let source_nodes: HashMap<&str, &Node> = source.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let source_values = source.names();
    let mut congruent: Vec<Option<ValueId>> = vec![None; graph.values.len()];
    for (index, value) in graph.values.iter().enumerate().filter(|(_, value)| value.producer.is_none()) {
        let id = source_values.get(value.name.as_str()).copied();
        let same = id.is_some_and(|id| {
            let original = source.value(id);
            original.producer.is_none() && original.ty == value.ty && original.storage == value.storage
        });
        if !same {
            return wrong(format!("source value \"{}\" is not one of the source graph's", value.name));
        }
        congruent[index] = id;
    }
    let mut originals = 0;
    for node in &graph.nodes {
        let original = match node.recompute_of {
            Some(origin) => &graph.node(origin).name,
            None => &node.name,
        };
        let Some(original) = source_nodes.get(original.as_str()) else {
            return wrong(format!("node \"{}\" is not in the source graph", node.name));
        };
        originals += usize::from(node.recompute_of.is_none());
        compare(source, node, original, &mut congruent)?;
    }
    if originals != source.nodes.len() {
        let present: std::collections::HashSet<&str> =
            graph.nodes.iter().filter(|n| n.recompute_of.is_none()).map(|n| n.name.as_str()).collect();
        let missing = source.nodes.iter().find(|node| !present.contains(node.name.as_str()));
        let name = missing.map_or("?", |node| node.name.as_str());
        return wrong(format!("node \"{name}\" of the source graph is missing"));
    }
    let outputs: Vec<Option<ValueId>> = graph.outputs.iter().map(|&id| congruent[id.index()]).collect();
    let expected: Vec<Option<ValueId>> = source.outputs.iter().copied().map(Some).collect();
    if outputs != expected {
        return wrong("the outputs differ".to_string());
    }
    Ok(())
}

fn compare(source: &Graph, node: &Node, original: &Node, congruent: &mut [Option<ValueId>]) -> Result<(), CheckError> {
    if node.op != original.op || node.outputs.len() != original.outputs.len() {
        return wrong(format!("node \"{}\" is not the op that \"{}\" is", node.name, original.name));
    }
    let operands: Vec<Option<ValueId>> = node.inputs.iter().map(|&id| congruent[id.index()]).collect();
    for (index, (&operand, &expected)) in operands.iter().zip(&original.inputs).enumerate() {
        if operand != Some(expected) {
            let name = &source.value(expected).name;
            return wrong(format!("operand {index} of \"{}\" is not \"{name}\"", node.name));
        }
    }
    if operands.len() != original.inputs.len() {
        return wrong(format!("node \"{}\" has another number of operands", node.name));
    }
    for (&output, &expected) in node.outputs.iter().zip(&original.outputs) {
        congruent[output.index()] = Some(expected);
    }
    Ok(())
}

fn wrong<T>(message: String) -> Result<T, CheckError> {
    Err(CheckError::NotEquivalent(message))
}
