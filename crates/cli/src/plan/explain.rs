//! Every value that backward reads: what it takes, whether it is kept, offloaded or computed again, and why.
//!
//! Invariant: derived from the plan's own steps, so it says what will run and not what a solver meant.

use crate::units::bytes;
use remat_plan::{Action, OpClass};
use remat_train::RunPlan;
use std::fmt::Write;

/// What the plan does with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It lives from forward to backward.
    Kept,
    /// It is computed again for backward.
    Recomputed,
    /// It is copied out of the arena and back.
    Offloaded,
}

impl Treatment {
    /// In a word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Treatment::Kept => "kept",
            Treatment::Recomputed => "recomputed",
            Treatment::Offloaded => "offloaded",
        }
    }
}

/// One value.
pub(super) struct Value {
    pub(super) name: String,
    pub(super) layer: String,
    pub(super) bytes: usize,
    pub(super) treatment: Treatment,
    /// What computing it again takes, alone.
    pub(super) seconds: f64,
    /// Who reads it behind the forward.
    reader: &'static str,
    /// The kind of op that makes it.
    class: &'static str,
}

impl Value {
    /// Why it is treated so: who needs it, and the trade.
    pub(super) fn why(&self) -> String {
        let Value { reader, class, .. } = self;
        let per_gibibyte = self.seconds / (self.bytes.max(1) as f64 / (1u64 << 30) as f64);
        let trade = format!("{:.2} ms of {class}, {per_gibibyte:.2} s per GiB", 1e3 * self.seconds);
        match self.treatment {
            Treatment::Kept => format!("{reader} reads it; again would take {trade}"),
            Treatment::Recomputed => format!("for {reader}; takes {trade}"),
            Treatment::Offloaded => {
                format!("{reader} reads it; out and back by the copy queue; again would take {trade}")
            }
        }
    }
}

/// All of them, in the order they are made.
pub(super) fn values(plan: &RunPlan) -> Vec<Value> {
    let (micro, prices) = (&plan.micro, &plan.profile.prices);
    let graph = &micro.graph;
    let readers = graph.users();
    let mut found = Vec::new();
    let layer = |region| graph.region_path(region).first().map_or("", |id| graph.regions[id.index()].name.as_str());
    for residual in micro.saved_residuals() {
        let made_by = graph.values.iter().find(|value| value.name == residual.name).and_then(|value| value.producer);
        let node = made_by.map(|(op, _)| graph.node(op));
        found.push(Value {
            name: residual.name,
            layer: residual.region.unwrap_or_default(),
            bytes: residual.bytes,
            treatment: if residual.offloaded { Treatment::Offloaded } else { Treatment::Kept },
            seconds: node.map_or(0.0, |node| prices.seconds(graph, node)),
            reader: residual.read_by,
            class: node.map_or("", |node| OpClass::of(graph, node).name()),
        });
    }
    for step in micro.recomputed_steps() {
        let Action::Compute(op) = step.action else { continue };
        let node = graph.node(op);
        for &output in &node.outputs {
            let Some(&reader) = readers[output.index()].first() else { continue };
            found.push(Value {
                name: graph.value(output).name.trim_end_matches('~').to_string(),
                layer: layer(node.region).to_string(),
                bytes: graph.ty(output).bytes(),
                treatment: Treatment::Recomputed,
                seconds: prices.seconds(graph, node),
                reader: graph.node(reader).op.name(),
                class: OpClass::of(graph, node).name(),
            });
        }
    }
    found
}

/// The values as a table, layer by layer in the order backward meets them last.
pub(super) fn table(plan: &RunPlan) -> String {
    let mut page = String::from("\nwhat backward reads of each layer\n");
    let all = values(plan);
    let mut layers: Vec<&str> = Vec::new();
    for value in &all {
        if !layers.contains(&value.layer.as_str()) {
            layers.push(&value.layer);
        }
    }
    let in_graph = |layer: &&str| plan.micro.graph.regions.iter().position(|region| region.name == **layer);
    layers.sort_by_key(in_graph);
    for layer in layers {
        let of_layer = || all.iter().filter(|value| value.layer == layer);
        let total = |treatment| of_layer().filter(|v| v.treatment == treatment).map(|v| v.bytes as u64).sum::<u64>();
        let (kept, again) = (bytes(total(Treatment::Kept)), bytes(total(Treatment::Recomputed)));
        let away = match total(Treatment::Offloaded) {
            0 => String::new(),
            away => format!(", {} offloaded", bytes(away)),
        };
        let shown = if layer.is_empty() { "outside the layers" } else { layer };
        // Writing to a string cannot fail.
        let _ = writeln!(page, "{shown}: {kept} kept, {again} recomputed{away}");
        for value in of_layer() {
            let word = value.treatment.as_str();
            let name = value.name.strip_prefix(layer).unwrap_or(&value.name).trim_start_matches('.');
            let size = bytes(value.bytes as u64);
            let _ = writeln!(page, "  {size:>10}  {word:<10}  {name:<34} {}", value.why());
        }
    }
    page
}
