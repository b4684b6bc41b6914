//! `--trace FILE`: every step of one update with its time, in Chrome's trace format (chrome://tracing, Perfetto).
//!
//! The second update is traced: the first touches fresh pages. Invariant: a run without `--trace` does none of this.

use crate::TrainError;
use remat_formats::{FormatsError, OutputFile};
use remat_ir::{OpDef, Phase};
use remat_plan::{Action, OpClass, Plan, ProgramId, RunObserver, Step, StepId};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Instant;

/// The update that is traced, unless it is the only one.
const TRACED_UPDATE: u64 = 2;

/// One step that ran.
#[derive(Debug, Clone, Copy)]
struct Ran {
    /// The update, or a micro-step.
    program: ProgramId,
    step: StepId,
    /// Seconds since the trace began.
    start: f64,
    seconds: f64,
}

/// Collects the times of one update's steps. What the steps are is read from their plans when the file is written.
pub(crate) struct Trace {
    started: Instant,
    last: Instant,
    program: ProgramId,
    ran: Vec<Ran>,
}

impl Trace {
    /// For so many steps.
    pub(crate) fn new(steps: usize) -> Self {
        let ran = Vec::with_capacity(steps);
        let now = Instant::now();
        Trace { started: now, last: now, program: ProgramId(0), ran }
    }

    /// What a trace of so many steps holds in memory.
    pub(crate) fn bytes(steps: usize) -> usize {
        steps * size_of::<Ran>()
    }

    /// Whether the update after `made` others of this process is the one, with `left` still to make.
    pub(crate) fn is_due(made: u64, left: u64) -> bool {
        made + 1 == TRACED_UPDATE || (made == 0 && left == 1)
    }

    /// Time from here on belongs to the step that comes next, of this program.
    pub(crate) fn begin(&mut self, program: ProgramId) {
        self.program = program;
        self.last = Instant::now();
    }

    /// Writes the file, one event after the other, and says where the time went.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn write<'p>(
        self,
        file: OutputFile,
        plan: impl Fn(ProgramId) -> &'p Plan,
        update: ProgramId,
    ) -> Result<String, TrainError> {
        let mut classes: Vec<(&'static str, f64)> = Vec::new();
        let plan_of = |ran: &Ran| plan(ran.program);
        for ran in &self.ran {
            let Some(class) = class_of(plan_of(ran), ran.step) else { continue };
            match classes.iter_mut().find(|(known, _)| *known == class) {
                Some((_, sum)) => *sum += ran.seconds,
                None => classes.push((class, ran.seconds)),
            }
        }
        classes.sort_by(|a, b| b.1.total_cmp(&a.1));
        let total: f64 = classes.iter().map(|(_, seconds)| seconds).sum();
        let by_class: serde_json::Map<String, Value> =
            classes.iter().map(|(class, seconds)| ((*class).to_string(), json!(seconds))).collect();
        let other = json!({ "schema": 1, "seconds": total, "seconds_by_class": by_class });
        let path = file.path().to_path_buf();
        file.write_with(|file| {
            let mut write = |text: String| file.write_all(text.as_bytes());
            let mut events = || {
                write(format!("{{\"displayTimeUnit\":\"ms\",\"otherData\":{other},\"traceEvents\":["))?;
                let events = self.ran.iter().filter_map(|ran| event(plan_of(ran), ran, ran.program == update));
                for (index, event) in events.enumerate() {
                    write(format!("{}{event}", if index > 0 { ",\n" } else { "\n" }))?;
                }
                write("]}\n".to_string())
            };
            events().map_err(|source| FormatsError::NotWritten {
                path: path.clone(),
                action: "write the trace",
                source,
            })
        })?;
        let share = |(class, seconds): &(&str, f64)| format!("{class} {:.1} %", 100.0 * seconds / total.max(1e-12));
        let shares: Vec<String> = classes.iter().map(share).collect();
        Ok(format!("{} has the steps of one update, {total:.3} s: {}", path.display(), shares.join(", ")))
    }
}

impl RunObserver for Trace {
    fn after_step(&mut self, _: &Plan, step: StepId, _: &Step, _: &[u8]) {
        let now = Instant::now();
        let start = self.last.duration_since(self.started).as_secs_f64();
        let seconds = now.duration_since(self.last).as_secs_f64();
        self.ran.push(Ran { program: self.program, step, start, seconds });
        // What writing this down took belongs to no step.
        self.last = Instant::now();
    }
}

fn class_of(plan: &Plan, step: StepId) -> Option<&'static str> {
    match plan.steps[step.index()].action {
        Action::Compute(op) => Some(OpClass::of(&plan.graph, plan.graph.node(op)).name()),
        _ => None,
    }
}

/// A step as Chrome's trace format has it.
fn event(plan: &Plan, ran: &Ran, of_update: bool) -> Option<Value> {
    let Action::Compute(op) = plan.steps[ran.step.index()].action else { return None };
    let graph = &plan.graph;
    let node = graph.node(op);
    let (inputs, outputs) = graph.node_types(node);
    let cost = node.op.cost(&inputs, &outputs);
    let phase = match (node.phase, node.recompute_of) {
        _ if of_update => "update",
        (_, Some(_)) => "recompute",
        (Phase::Forward, None) => "forward",
        (Phase::Backward, None) => "backward",
    };
    let layer = node.region.map(|region| graph.regions[region.index()].name.as_str());
    Some(json!({
        "name": node.name,
        "cat": node.op.name(),
        "ph": "X",
        "ts": ran.start * 1e6,
        "dur": ran.seconds * 1e6,
        "pid": 1,
        "tid": 1,
        "args": {
            "step": ran.step.index(),
            "class": OpClass::of(graph, node).name(),
            "phase": phase,
            "layer": layer,
            "flops": cost.flops,
            "bytes": cost.bytes,
            "gflops_per_second": cost.flops / ran.seconds.max(1e-9) / 1e9,
        },
    }))
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
