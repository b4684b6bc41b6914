//! The text form of a graph, for people, snapshots and `parse`.
//!
//! Invariant: `parse(&graph.to_string()) == graph`.

use crate::{Graph, Phase, SourceRole, Value, ValueId};
use std::fmt;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {{")?;
        for (index, region) in self.regions.iter().enumerate() {
            write!(f, "  region @{index} {:?}", region.name)?;
            match region.parent {
                Some(parent) => writeln!(f, " in @{}", parent.0)?,
                None => writeln!(f)?,
            }
        }
        for (index, value) in self.values.iter().enumerate().filter(|(_, v)| v.producer.is_none()) {
            write!(f, "  {} %{index} ", value.storage.name())?;
            typed(f, value)?;
            match value.role.filter(|&role| role != SourceRole::usual(value.storage)) {
                Some(role) => writeln!(f, " {role}")?,
                None => writeln!(f)?,
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            write!(f, "  #{index} ")?;
            for (i, &output) in node.outputs.iter().enumerate() {
                let comma = if i > 0 { ", " } else { "" };
                write!(f, "{comma}%{} ", output.0)?;
                typed(f, self.value(output))?;
            }
            let phase = match node.phase {
                Phase::Forward => "",
                Phase::Backward => " backward",
            };
            let attributes = node.op.attributes();
            write!(f, " = {}{attributes}({}) {:?}{phase}", node.op.name(), list(&node.inputs), node.name)?;
            if let Some(region) = node.region {
                write!(f, " @{}", region.0)?;
            }
            if let Some(origin) = node.recompute_of {
                write!(f, " recompute #{}", origin.0)?;
            }
            writeln!(f)?;
        }
        writeln!(f, "  outputs({})", list(&self.outputs))?;
        write!(f, "}}")
    }
}

/// A value's name, type, and the name that policies know it by.
fn typed(f: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    write!(f, "{:?}: {}", value.name, value.ty)?;
    value.checkpoint_name.as_ref().map_or(Ok(()), |name| write!(f, " as {name:?}"))
}

fn list(ids: &[ValueId]) -> String {
    ids.iter().map(|id| format!("%{}", id.0)).collect::<Vec<_>>().join(", ")
}
