//! `--trace FILE`: every step of one update with its time, in Chrome's trace format (chrome://tracing, Perfetto).
//!
//! The second update is traced: the first touches fresh pages. Invariant: a run without `--trace` does none of this.

use crate::TrainError;
use remat_formats::write_atomic;
use remat_ir::{OpDef, Phase};
use remat_plan::{Action, OpClass, Plan, RunObserver, Step, StepId};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The update that is traced, unless it is the only one.
const TRACED_UPDATE: u64 = 2;

/// Collects the steps of one update.
pub(crate) struct Trace {
    path: PathBuf,
    started: Instant,
    last: Instant,
    events: Vec<Value>,
    /// Seconds by class of op.
    seconds: Vec<(&'static str, f64)>,
}

impl Trace {
    pub(crate) fn new(path: &Path) -> Self {
        let now = Instant::now();
        Trace { path: path.to_path_buf(), started: now, last: now, events: Vec::new(), seconds: Vec::new() }
    }

    /// Whether the update after `made` others of this process is the one, with `left` still to make.
    pub(crate) fn is_due(made: u64, left: u64) -> bool {
        made + 1 == TRACED_UPDATE || (made == 0 && left == 1)
    }

    /// Time from here on belongs to the step that comes next.
    pub(crate) fn begin(&mut self) {
        self.last = Instant::now();
    }

    /// Writes the file and says where the time went.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn write(mut self) -> Result<String, TrainError> {
        self.seconds.sort_by(|a, b| b.1.total_cmp(&a.1));
        let total: f64 = self.seconds.iter().map(|(_, seconds)| seconds).sum();
        let shares: Vec<String> = self
            .seconds
            .iter()
            .map(|(class, seconds)| format!("{class} {:.1} %", 100.0 * seconds / total.max(f64::MIN_POSITIVE)))
            .collect();
        let by_class: serde_json::Map<String, Value> =
            self.seconds.iter().map(|(class, seconds)| ((*class).to_string(), json!(seconds))).collect();
        let trace = json!({
            "traceEvents": self.events,
            "displayTimeUnit": "ms",
            "otherData": { "schema": 1, "seconds": total, "seconds_by_class": by_class },
        });
        write_atomic(&self.path, trace.to_string().as_bytes())?;
        Ok(format!("{} has the steps of one update, {total:.3} s: {}", self.path.display(), shares.join(", ")))
    }
}

impl RunObserver for Trace {
    fn after_step(&mut self, plan: &Plan, id: StepId, step: &Step, _arena: &[u8]) {
        let now = Instant::now();
        let (start, duration) = (self.last.duration_since(self.started), now.duration_since(self.last));
        let Action::Compute(op) = step.action else { return };
        let graph = &plan.graph;
        let node = graph.node(op);
        let (inputs, outputs) = graph.node_types(node);
        let cost = node.op.cost(&inputs, &outputs);
        let class = OpClass::of(graph, node).name();
        let seconds = duration.as_secs_f64();
        match self.seconds.iter_mut().find(|(known, _)| *known == class) {
            Some((_, sum)) => *sum += seconds,
            None => self.seconds.push((class, seconds)),
        }
        let phase = match (node.phase, node.recompute_of) {
            (_, Some(_)) => "recompute",
            (Phase::Forward, None) if plan.graph.nodes.iter().all(|node| node.phase == Phase::Forward) => "update",
            (Phase::Forward, None) => "forward",
            (Phase::Backward, None) => "backward",
        };
        let layer = node.region.map(|region| graph.regions[region.index()].name.as_str());
        self.events.push(json!({
            "name": node.name,
            "cat": node.op.name(),
            "ph": "X",
            "ts": start.as_secs_f64() * 1e6,
            "dur": seconds * 1e6,
            "pid": 1,
            "tid": 1,
            "args": {
                "step": id.index(),
                "class": class,
                "phase": phase,
                "layer": layer,
                "flops": cost.flops,
                "bytes": cost.bytes,
                "gflops_per_second": cost.flops / seconds.max(1e-9) / 1e9,
            },
        }));
        // What writing this down took belongs to no step.
        self.last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::Trace;

    #[test]
    fn the_second_update_is_traced_or_the_only_one() {
        let due = |of: u64| (0..of).filter(|&made| Trace::is_due(made, of - made)).collect::<Vec<_>>();
        assert_eq!((due(1), due(2), due(9)), (vec![0], vec![1], vec![1]));
    }
}
