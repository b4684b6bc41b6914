//! Every value that backward reads: what it takes, whether it is kept, offloaded or computed again, and why.
//!
//! Invariant: derived from the plan's own steps, so it says what will run and not what a solver meant.

use crate::units::bytes;
use remat_ir::{NameMap, OpId, ValueId};
use remat_plan::{Action, OpClass, whole_name};
use remat_train::RunPlan;
use std::collections::HashMap;
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
    /// What computing it again takes: the op that makes it and, if it is not computed again now, whatever that needs and
    /// backward does not have.
    pub(super) seconds: f64,
    /// How many pieces it is computed again in.
    pub(super) tiles: usize,
    /// How many times it is computed again.
    pub(super) times: usize,
    /// Who reads it behind the forward.
    reader: &'static str,
    /// The kinds of ops that would run, the last one first.
    classes: Vec<&'static str>,
}

impl Value {
    /// Why it is treated so: who needs it, and the trade.
    pub(super) fn why(&self) -> String {
        let reader = self.reader;
        let per_gibibyte = self.seconds / (self.bytes.max(1) as f64 / (1u64 << 30) as f64);
        let time =
            if self.seconds < 1.0 { format!("{:.2} ms", 1e3 * self.seconds) } else { format!("{:.2} s", self.seconds) };
        let trade = format!("{time} of {}, {per_gibibyte:.2} s per GiB", self.classes.join(" + "));
        match self.treatment {
            Treatment::Kept => format!("{reader} reads it; again would take {trade}"),
            Treatment::Recomputed => {
                let tiles = if self.tiles > 1 { format!(", in {} tiles", self.tiles) } else { String::new() };
                let times = if self.times > 1 { format!(", {} times", self.times) } else { String::new() };
                format!("for {reader}{tiles}{times}; takes {trade}")
            }
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
    let names = graph.names();
    let again = Again::of(plan, &names);
    for residual in micro.saved_residuals() {
        let (classes, seconds) = again.of_value(names[residual.name.as_str()]);
        found.push(Value {
            name: residual.name,
            layer: residual.region.unwrap_or_default(),
            bytes: residual.bytes,
            treatment: if residual.offloaded { Treatment::Offloaded } else { Treatment::Kept },
            seconds,
            tiles: 1,
            times: 1,
            reader: residual.read_by,
            classes,
        });
    }
    // Where a value that is computed again stands in the list: its tiles, and its copies at several levels, are one row.
    let mut rows: HashMap<&str, usize> = HashMap::new();
    let mut copies: HashMap<&str, HashMap<&str, usize>> = HashMap::new();
    for step in micro.recomputed_steps() {
        let Action::Compute(op) = step.action else { continue };
        let node = graph.node(op);
        let Some(origin) = node.recompute_of.map(|origin| graph.node(origin)) else { continue };
        let layer = graph.outermost_region(node.region);
        for (&output, &first) in node.outputs.iter().zip(&origin.outputs) {
            let Some(&reader) = readers[output.index()].first() else { continue };
            let whole = |id: ValueId| whole_name(&graph.value(id).name).unwrap_or(&graph.value(id).name);
            let (bytes, seconds) = (graph.ty(output).bytes(), prices.seconds(graph, node));
            // The tiles of one copy share its name.
            let pieces = copies.entry(whole(first)).or_default();
            *pieces.entry(whole(output)).or_insert(0) += 1;
            let (times, tiles) = (pieces.len(), pieces.values().copied().max().unwrap_or(1));
            if let Some(&row) = rows.get(whole(first)) {
                let earlier: &mut Value = &mut found[row];
                let more = if times == 1 { bytes } else { 0 };
                (earlier.bytes, earlier.seconds) = (earlier.bytes + more, earlier.seconds + seconds);
                (earlier.tiles, earlier.times) = (tiles, times);
                continue;
            }
            rows.insert(whole(first), found.len());
            found.push(Value {
                name: whole(first).to_string(),
                layer: layer.map_or(String::new(), |id| graph.regions[id.index()].name.clone()),
                bytes,
                treatment: Treatment::Recomputed,
                seconds,
                tiles,
                times,
                reader: graph.node(reader).op.name(),
                classes: vec![OpClass::of(graph, node).name()],
            });
        }
    }
    found
}

/// What backward has of the forward, to tell what one more recomputation would take.
struct Again<'a> {
    plan: &'a RunPlan,
    /// By value, whether it is kept or computed again already.
    there: Vec<bool>,
}

impl<'a> Again<'a> {
    fn of(plan: &'a RunPlan, names: &NameMap<&str, ValueId>) -> Self {
        let graph = &plan.micro.graph;
        let mut there: Vec<bool> = graph.values.iter().map(|value| value.producer.is_none()).collect();
        for residual in plan.micro.saved_residuals() {
            there[names[residual.name.as_str()].index()] = true;
        }
        for origin in graph.nodes.iter().filter_map(|node| node.recompute_of) {
            graph.node(origin).outputs.iter().for_each(|output| there[output.index()] = true);
        }
        Again { plan, there }
    }

    /// The kinds of ops that would run if this value were not kept, and their seconds.
    fn of_value(&self, value: ValueId) -> (Vec<&'static str>, f64) {
        let (graph, prices) = (&self.plan.micro.graph, &self.plan.profile.prices);
        let (mut classes, mut seconds) = (Vec::new(), 0.0);
        let mut pending: Vec<OpId> = graph.value(value).producer.map(|(op, _)| op).into_iter().collect();
        let mut seen = pending.clone();
        while let Some(op) = pending.pop() {
            let node = graph.node(op);
            seconds += prices.seconds(graph, node);
            let class = OpClass::of(graph, node).name();
            if !classes.contains(&class) {
                classes.push(class);
            }
            for input in node.inputs.iter().filter(|input| !self.there[input.index()]) {
                let maker = graph.value(*input).producer.map(|(op, _)| op);
                if let Some(maker) = maker.filter(|maker| !seen.contains(maker)) {
                    seen.push(maker);
                    pending.push(maker);
                }
            }
        }
        (classes, seconds)
    }
}

/// The values as a table, layer by layer in the order backward meets them last; layers that are treated alike, one after
/// the other, are shown once.
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
    let tables: Vec<(&str, String)> = layers.into_iter().map(|layer| (layer, of_layer(&all, layer))).collect();
    for alike in tables.chunk_by(|a, b| a.1 == b.1) {
        let ((first, table), (last, _)) = (&alike[0], &alike[alike.len() - 1]);
        match alike.len() {
            1 if first.is_empty() => page.push_str("outside the layers"),
            1 => page.push_str(first),
            // Writing to a string cannot fail.
            count => drop(write!(page, "{first} to {last}, each of {count}")),
        }
        page.push_str(table);
    }
    page
}

/// What is behind the name of a layer: its sums, then its values.
fn of_layer(all: &[Value], layer: &str) -> String {
    let of_layer = || all.iter().filter(|value| value.layer == layer);
    let total = |treatment| of_layer().filter(|v| v.treatment == treatment).map(|v| v.bytes as u64).sum::<u64>();
    let (kept, again) = (bytes(total(Treatment::Kept)), bytes(total(Treatment::Recomputed)));
    let away = match total(Treatment::Offloaded) {
        0 => String::new(),
        away => format!(", {} offloaded", bytes(away)),
    };
    let mut page = format!(": {kept} kept, {again} recomputed{away}\n");
    for value in of_layer() {
        let word = value.treatment.as_str();
        let name = value.name.strip_prefix(layer).unwrap_or(&value.name).trim_start_matches('.');
        let size = bytes(value.bytes as u64);
        // Writing to a string cannot fail.
        let _ = writeln!(page, "  {size:>10}  {word:<10}  {name:<34} {}", value.why());
    }
    page
}
