//! Proves the structural invariants of a graph; every later pass may rely on them.
//!
//! Checked: ids in range; nodes in execution order; one producer per value; unique names; result types equal to what
//! `infer` gives; donations as the op declares them, from a state, once, and with no reader of the old bytes after;
//! recomputed nodes repeat what they name; regions form a forest; outputs exist; quantised values are weights; sources
//! and nothing else have roles, which suit where they are stored.

use crate::{Graph, IrError, NameSet, Node, OpDef, OpId, Storage};

/// Checks every invariant of `graph`.
///
/// # Errors
/// The first fault found, naming the node or value.
pub fn verify(graph: &Graph) -> Result<(), IrError> {
    names_are_unique(graph)?;
    for (index, region) in graph.regions.iter().enumerate() {
        if region.parent.is_some_and(|parent| parent.index() >= index) {
            return invalid(format!("region \"{}\" stands before its parent", region.name));
        }
    }
    for value in &graph.values {
        if let Err(fault) = value.ty.check() {
            return invalid(format!("value \"{}\": {} {fault}", value.name, value.ty));
        }
        if value.ty.dtype.quant_format().is_some() && value.storage != Storage::Weight {
            let (name, ty, at) = (&value.name, &value.ty, value.storage.name());
            return invalid(format!("value \"{name}\": {ty} is quantised and cannot be {at}, only weight"));
        }
    }
    let mut defined: Vec<bool> = graph.values.iter().map(|v| v.producer.is_none()).collect();
    let mut overwritten: Vec<bool> = vec![false; graph.values.len()];
    for (id, node) in graph.nodes_with_ids() {
        operands_are_ready(graph, node, &defined, &overwritten)?;
        results_are_right(graph, id, node, &mut defined)?;
        donations_are_right(graph, node, &mut overwritten)?;
        if let Some(origin) = node.recompute_of {
            recomputation_is_right(graph, id, node, origin)?;
        }
    }
    if let Some(index) = defined.iter().position(|ready| !ready) {
        return invalid(format!("value \"{}\" has no producer among the nodes", graph.values[index].name));
    }
    for &output in &graph.outputs {
        let Some(value) = graph.values.get(output.index()) else {
            return invalid(format!("output %{} does not exist", output.0));
        };
        if overwritten[output.index()] {
            return invalid(format!("output \"{}\" is updated in place before the end", value.name));
        }
    }
    roles_are_right(graph)
}

fn invalid<T>(message: String) -> Result<T, IrError> {
    Err(IrError::Invalid(message))
}

fn roles_are_right(graph: &Graph) -> Result<(), IrError> {
    for value in &graph.values {
        let (name, at) = (&value.name, value.storage.name());
        match (value.role, value.producer) {
            (Some(role), None) if role.suits(value.storage) => {}
            (Some(role), None) => return invalid(format!("value \"{name}\": {role} cannot be {at}")),
            (None, None) => return invalid(format!("source \"{name}\" has no role")),
            (Some(role), Some(_)) => return invalid(format!("value \"{name}\" is a result and cannot be {role}")),
            (None, Some(_)) => {}
        }
    }
    Ok(())
}

fn names_are_unique(graph: &Graph) -> Result<(), IrError> {
    let mut seen = NameSet::with_capacity_and_hasher(graph.values.len(), Default::default());
    for value in &graph.values {
        if !seen.insert(value.name.as_str()) {
            return invalid(format!("two values are named \"{}\"", value.name));
        }
    }
    let mut seen = NameSet::with_capacity_and_hasher(graph.nodes.len(), Default::default());
    for node in &graph.nodes {
        if !seen.insert(node.name.as_str()) {
            return invalid(format!("two nodes are named \"{}\"", node.name));
        }
    }
    Ok(())
}

fn operands_are_ready(graph: &Graph, node: &Node, defined: &[bool], overwritten: &[bool]) -> Result<(), IrError> {
    for &input in &node.inputs {
        let Some(value) = graph.values.get(input.index()) else {
            return invalid(format!("node \"{}\" reads %{}, which does not exist", node.name, input.0));
        };
        if !defined[input.index()] {
            return invalid(format!("node \"{}\" reads \"{}\" before it is computed", node.name, value.name));
        }
        if overwritten[input.index()] {
            return invalid(format!("node \"{}\" reads \"{}\" after it was updated in place", node.name, value.name));
        }
    }
    if node.region.is_some_and(|region| region.index() >= graph.regions.len()) {
        return invalid(format!("node \"{}\" is in a region that does not exist", node.name));
    }
    Ok(())
}

fn results_are_right(graph: &Graph, id: OpId, node: &Node, defined: &mut [bool]) -> Result<(), IrError> {
    let types: Vec<_> = node.inputs.iter().map(|&input| graph.ty(input)).collect();
    let inferred = node.op.infer(&types).map_err(|message| IrError::Operands {
        op: node.op.name().to_string(),
        node: node.name.clone(),
        message,
    })?;
    if inferred.len() != node.outputs.len() {
        return invalid(format!("node \"{}\" has {} results, not {}", node.name, node.outputs.len(), inferred.len()));
    }
    for (index, (&output, ty)) in node.outputs.iter().zip(&inferred).enumerate() {
        let Some(value) = graph.values.get(output.index()) else {
            return invalid(format!("node \"{}\" writes %{}, which does not exist", node.name, output.0));
        };
        if value.producer != Some((id, index)) || defined[output.index()] {
            return invalid(format!("value \"{}\" is not produced by \"{}\" alone", value.name, node.name));
        }
        if value.ty != *ty {
            return invalid(format!("value \"{}\" is {}, but \"{}\" makes {ty}", value.name, value.ty, node.name));
        }
        defined[output.index()] = true;
    }
    Ok(())
}

fn donations_are_right(graph: &Graph, node: &Node, overwritten: &mut [bool]) -> Result<(), IrError> {
    let donations = node.op.donations();
    for (index, &output) in node.outputs.iter().enumerate() {
        let value = graph.value(output);
        let expected = donations.iter().find(|d| d.1 == index).map(|d| node.inputs[d.0]);
        if value.donated_from != expected {
            return invalid(format!("value \"{}\": its donation is not the one its op declares", value.name));
        }
        let storage = if expected.is_some() { Storage::State } else { Storage::Arena };
        if value.storage != storage {
            return invalid(format!("value \"{}\" must be stored as {}", value.name, storage.name()));
        }
        if let Some(from) = expected {
            let old = graph.value(from);
            if old.storage != Storage::State {
                let at = old.storage.name();
                return invalid(format!("\"{}\" updates \"{}\" in place, which is {at}", node.name, old.name));
            }
            if node.inputs.iter().filter(|&&input| input == from).count() > 1 {
                return invalid(format!("\"{}\" reads \"{}\" twice and updates it in place", node.name, old.name));
            }
            overwritten[from.index()] = true;
        }
    }
    Ok(())
}

fn recomputation_is_right(graph: &Graph, id: OpId, node: &Node, origin: OpId) -> Result<(), IrError> {
    let Some(first) = graph.nodes.get(origin.index()) else {
        return invalid(format!("node \"{}\" repeats a node that does not exist", node.name));
    };
    if origin >= id {
        return invalid(format!("node \"{}\" repeats \"{}\", which is not before it", node.name, first.name));
    }
    if !first.op.is_same_but_for_rows(&node.op)
        || first.recompute_of.is_some()
        || first.inputs.len() != node.inputs.len()
    {
        return invalid(format!("node \"{}\" does not repeat \"{}\"", node.name, first.name));
    }
    if !node.op.donations().is_empty() {
        return invalid(format!("node \"{}\" updates a state and cannot be repeated", first.name));
    }
    Ok(())
}
