//! `--trace FILE`: every step of one update with its time, in Chrome's trace format (chrome://tracing, Perfetto).
//!
//! The second update is traced: the first touches fresh pages. Invariant: a run without `--trace` does none of this.

use crate::TrainError;
use remat_formats::{FormatsError, OutputFile};
use remat_ir::{OpDef, Phase};
use remat_plan::{Action, OpClass, Plan, StepId};
use remat_step::{LoadedStep, Ran, StepTrace};
use serde_json::{Value, json};
use std::io::Write;

/// The update that is traced, unless it is the only one.
const TRACED_UPDATE: u64 = 2;

/// Whether the update after `made` others of this process is the one, with `left` still to make.
pub(crate) fn is_due(made: u64, left: u64) -> bool {
    made + 1 == TRACED_UPDATE || (made == 0 && left == 1)
}

/// Writes the file, one event after the other, and says where the time went.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write(file: OutputFile, trace: &StepTrace, step: &LoadedStep) -> Result<String, TrainError> {
    let (update, accumulation) = (step.update_program(), step.accumulation_program());
    let whole = |program| match Some(program) {
        program if program == update => Some("update"),
        program if program == accumulation => Some("accumulation"),
        _ => None,
    };
    let mut classes: Vec<(&'static str, f64)> = Vec::new();
    let plan_of = |ran: &Ran| step.device().plan(ran.program);
    for ran in trace.ran() {
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
            let events = trace.ran().iter().filter_map(|ran| event(plan_of(ran), ran, whole(ran.program)));
            for (index, event) in events.enumerate() {
                write(format!("{}{event}", if index > 0 { ",\n" } else { "\n" }))?;
            }
            write("]}\n".to_string())
        };
        events().map_err(|source| FormatsError::NotWritten { path: path.clone(), action: "write the trace", source })
    })?;
    let share = |(class, seconds): &(&str, f64)| format!("{class} {:.1} %", 100.0 * seconds / total.max(1e-12));
    let shares: Vec<String> = classes.iter().map(share).collect();
    Ok(format!("{} has the steps of one update, {total:.3} s: {}", path.display(), shares.join(", ")))
}

fn class_of(plan: &Plan, step: StepId) -> Option<&'static str> {
    match plan.steps[step.index()].action {
        Action::Compute(op) => Some(OpClass::of(&plan.graph, plan.graph.node(op)).name()),
        _ => None,
    }
}

/// A step as Chrome's trace format has it. `whole` is the phase of all steps of its plan, if they have one.
fn event(plan: &Plan, ran: &Ran, whole: Option<&str>) -> Option<Value> {
    let Action::Compute(op) = plan.steps[ran.step.index()].action else { return None };
    let graph = &plan.graph;
    let node = graph.node(op);
    let (inputs, outputs) = graph.node_types(node);
    let cost = node.op.cost(&inputs, &outputs);
    let phase = match (whole, node.phase, node.recompute_of) {
        (Some(phase), _, _) => phase,
        (None, _, Some(_)) => "recompute",
        (None, Phase::Forward, None) => "forward",
        (None, Phase::Backward, None) => "backward",
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
    use super::is_due;

    #[test]
    fn the_second_update_is_traced_or_the_only_one() {
        let due = |of: u64| (0..of).filter(|&made| is_due(made, of - made)).collect::<Vec<_>>();
        assert_eq!((due(1), due(2), due(9)), (vec![0], vec![1], vec![1]));
    }
}
