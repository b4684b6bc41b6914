//! Progress for programs: one JSON object per line on stdout, `"schema": 1` and `"event"` in each.
//!
//! Invariant: keys are only ever added; an update has the keys of a line of `metrics.jsonl`.

use crate::terminal;
use remat_data::SampleStats;
use remat_train::{Event, MemoryPart, Outcome, PhasePeak, PlannedRun, Reporter, Summary};
use serde_json::{Map, Value, json};

/// Prints to stdout.
#[derive(Debug)]
pub(crate) struct JsonLines;

impl JsonLines {
    /// How the run ended.
    pub(crate) fn summary(&self, summary: &Summary) {
        let (event, save) = match &summary.outcome {
            Outcome::Finished => ("finished", Value::Null),
            Outcome::Interrupted { save } => ("interrupted", json!(save.display().to_string())),
        };
        let phase = |phase: &PhasePeak| {
            let measured = json!({ "planned_bytes": phase.planned_bytes, "peak_bytes": phase.peak_bytes });
            (phase.phase.name().to_string(), measured)
        };
        let phases: Map<String, Value> = summary.phases.iter().map(phase).collect();
        emit(
            event,
            json!({
                "out": summary.out.display().to_string(),
                "save": save,
                "steps": summary.updates,
                "first_loss": summary.first_loss,
                "last_loss": summary.last_loss,
                "last_val_loss": summary.last_val_loss,
                "best": summary.best,
                "stopped_after": summary.stopped_after,
                "seconds": summary.seconds,
                "tokens": summary.tokens,
                "peak_bytes": summary.peak_bytes,
                "planned_peak_bytes": summary.planned_peak_bytes,
                "phases": phases,
            }),
        );
    }

    /// Why the run failed.
    pub(crate) fn error(message: &str, exit_code: u8) {
        emit("error", json!({ "message": message, "exit_code": exit_code }));
    }
}

impl Reporter for JsonLines {
    fn report(&mut self, event: Event<'_>) {
        match event {
            Event::Note(note) => emit("note", json!({ "message": note })),
            Event::Planned(plan) => emit("planned", planned(plan)),
            Event::Updated { metrics, total_updates, remaining_seconds } => {
                let mut fields = json!(metrics);
                fields["total_steps"] = json!(total_updates);
                fields["remaining_seconds"] = json!(remaining_seconds);
                emit("updated", fields);
            }
            Event::Improved { best, path } => {
                let mut fields = json!(best);
                fields["path"] = json!(path.display().to_string());
                emit("improved", fields);
            }
            Event::Sampled(sample) => emit("sampled", json!(sample)),
            Event::Saved { path } => emit("saved", json!({ "path": path.display().to_string() })),
        }
    }
}

fn planned(plan: &PlannedRun<'_>) -> Value {
    let in_memory = MemoryPart::ALL.iter().filter(|part| !part.is_file());
    let row = |&part: &MemoryPart| (part.json_name().to_string(), json!(plan.memory.bytes_of(part)));
    let rows: Map<String, Value> = in_memory.map(row).collect();
    let files = |files: &[SampleStats]| files.iter().map(file).collect::<Vec<Value>>();
    json!({
        "config": plan.config,
        "family": plan.family,
        "trained_parameters": plan.trained_parameters,
        "total_parameters": plan.total_parameters,
        "data": files(plan.data),
        "eval_data": files(plan.eval_data),
        "batch_size": plan.shape.batch,
        "seq_len": plan.shape.seq_len,
        "total_steps": plan.total_updates,
        "resumed_from": plan.resumed_from,
        "device": plan.device,
        "threads": plan.threads,
        "plan_steps": plan.plan_steps,
        "recomputed_steps": plan.recomputed_steps,
        "tiles": plan.tiles,
        "offloaded_bytes": plan.offloaded_bytes,
        "off_memory_weight_bytes": plan.off_memory_weight_bytes,
        "read_weight_bytes": plan.read_weight_bytes,
        "states": plan.states,
        "arena_bytes": plan.arena_bytes,
        "buckets": plan.buckets,
        "planned_peak_bytes": plan.memory.planned_peak_bytes(),
        "parts": rows,
    })
}

fn file(stats: &SampleStats) -> Value {
    json!({
        "path": stats.path.display().to_string(),
        "rows": stats.rows,
        "truncated": stats.truncated,
        "dropped": stats.dropped,
        "ignored": stats.file.ignored,
        "bad_rows": stats.file.bad_rows,
        "tokens": stats.tokens,
        "trained_tokens": stats.trained_tokens,
    })
}

/// One line. A reader that went away is no reason to stop a run.
fn emit(event: &str, mut fields: Value) {
    fields["schema"] = json!(1);
    fields["event"] = json!(event);
    terminal::say(&fields.to_string());
}
