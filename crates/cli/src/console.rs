//! What people see of a run: a header, its progress, an end; all on stderr, plain text that survives a pipe.
//!
//! Invariants: `--quiet` leaves only notes and errors; nothing is coloured off a terminal or with `NO_COLOR` set.

use crate::progress::Progress;
use crate::terminal::{harmless, line, note, painted};
use crate::units::{bytes, count, counted, duration, in_tiles};
use remat_model::Model;
use remat_train::{
    BucketPlan, Event, MemoryAccount, MemoryPart, MethodKind, Outcome, PlannedRun, Reporter, Summary, TrainError,
};
use std::path::Path;

/// Prints to stderr.
#[derive(Debug)]
pub(crate) struct Console {
    quiet: bool,
    progress: Progress,
}

impl Console {
    pub(crate) fn new(quiet: bool) -> Self {
        Console { quiet, progress: Progress::new() }
    }

    /// How the run ended.
    pub(crate) fn summary(&self, summary: &Summary) {
        if self.quiet {
            return;
        }
        let pace = summary.tokens as f64 / summary.seconds.max(f64::MIN_POSITIVE);
        let losses = match (summary.first_loss, summary.last_loss) {
            (Some(first), Some(last)) => {
                let val = summary.last_val_loss.map_or(String::new(), |loss| format!(", held out {loss:.4}"));
                format!(" · loss {first:.4} → {last:.4}{val} · {} tok/s", count(pace as u64))
            }
            _ => String::new(),
        };
        let measured =
            summary.peak_bytes.map_or("not measured".to_string(), |peak| format!("{} measured", bytes(peak)));
        let planned = bytes(summary.planned_peak_bytes);
        let (updates, seconds) = (counted(summary.updates as usize, "update"), duration(summary.seconds));
        line(&format!("{updates} made, this run in {seconds}{losses}"));
        line(&format!("peak memory {measured}, {planned} planned"));
        if summary.outcome == Outcome::Finished {
            line(&harmless(&format!("written to {}", summary.out.display())));
        }
    }
}

/// Tells what is not as it looks in an adapter's settings.
pub(crate) fn adapter_notes(model: &Model, adapter: Option<&Path>) -> Result<(), TrainError> {
    let Some(folder) = adapter else { return Ok(()) };
    model.adapter_settings(folder)?.notes.iter().for_each(|text| note(text));
    Ok(())
}

impl Reporter for Console {
    fn report(&mut self, event: Event<'_>) {
        match event {
            Event::Note(text) => note(text),
            _ if self.quiet => {}
            Event::Planned(plan) => header(plan).iter().for_each(|text| line(&labelled(&harmless(text)))),
            Event::Updated { metrics, total_updates, remaining_seconds } => {
                self.progress.update(metrics, total_updates, remaining_seconds);
            }
            Event::Saved { path } => line(&harmless(&format!("saved {}", path.display()))),
        }
    }
}

/// A header line with its first word, which says what it is about, in bold.
fn labelled(text: &str) -> String {
    match text.split_once(' ') {
        Some((label, rest)) if !label.is_empty() => format!("{} {rest}", painted("1", label)),
        _ => text.to_string(),
    }
}

fn header(plan: &PlannedRun<'_>) -> Vec<String> {
    let config = plan.config;
    let method = match config.method {
        MethodKind::Full => config.method_name(),
        MethodKind::Lora | MethodKind::Qlora => {
            let start = config.init_adapter.as_ref().map_or(String::new(), |from| format!(", from {}", from.display()));
            format!(
                "{}, rank {}, alpha {}, {}{start}",
                config.method_name(),
                config.rank,
                config.alpha.unwrap_or_default(),
                config.targets
            )
        }
    };
    let share = 100.0 * plan.trained_parameters as f64 / plan.total_parameters.max(1) as f64;
    let trained = format!("{} of {} parameters", count(plan.trained_parameters), count(plan.total_parameters));
    let mut lines = vec![
        match &config.preset {
            Some(name) => {
                let (family, format) = (plan.family, &plan.number_format);
                format!("model     {name} ({family}), its shape with random weights, {format}")
            }
            None => {
                format!("model     {} ({}), {}", crate::names::shown(&config.model), plan.family, plan.number_format)
            }
        },
        format!("method    {method} · trains {trained} ({share:.2} %)"),
    ];
    let of = |label, files| std::iter::repeat(label).zip(files);
    for (label, file) in of("data     ", plan.data).chain(of("held out ", plan.eval_data)) {
        let mut text = format!(
            "{label} {}: {}, {}, {} trained",
            file.path.display(),
            counted(file.rows, "row"),
            counted(file.tokens, "token"),
            count(file.trained_tokens)
        );
        for (number, what) in [
            (file.truncated, "cut to the sequence length"),
            (file.dropped, "left out without a trained token"),
            (file.unterminated, "without a token that ends the answer"),
            (file.incomplete, "with a message that the chat template leaves out"),
        ] {
            if number > 0 {
                text.push_str(&format!("; {} {what}", counted(number, "row")));
            }
        }
        for (label, note) in crate::file_notes::notes(file) {
            text.push_str(&format!("; {label}: {note}"));
        }
        lines.push(text);
    }
    let shape = plan.shape;
    let packed = if config.packing { ", packed" } else { "" };
    lines.push(format!(
        "batches   {} × {} tokens{packed}, {} accumulated · {}, {} in an epoch",
        shape.batch,
        shape.seq_len,
        config.grad_accum,
        counted(plan.total_updates as usize, "update"),
        plan.updates_per_epoch
    ));
    let away = match plan.offloaded_bytes {
        0 => String::new(),
        away => format!(", {} offloaded", bytes(away as u64)),
    };
    let tiles = in_tiles(plan.tiles);
    lines.push(format!(
        "plan      checkpointing {}: {}, {} recomputed{tiles}{away}, arena {} · {}, {}",
        config.checkpointing,
        counted(plan.plan_steps, "step"),
        plan.recomputed_steps,
        bytes(plan.arena_bytes as u64),
        plan.device,
        counted(plan.threads, "thread")
    ));
    lines.extend(lengths(plan.buckets));
    lines.extend(memory_table(plan.memory));
    if let Some(step) = plan.resumed_from {
        lines.push(format!("resumed   after update {step}"));
    }
    lines
}

/// Which part of the micro-batches runs in which plan, where they differ in length.
fn lengths(buckets: &[BucketPlan]) -> Option<String> {
    let part = |bucket: &BucketPlan| {
        let recomputed = match bucket.recomputed_steps {
            0 => String::new(),
            steps => format!(" ({steps} recomputed)"),
        };
        format!("≤ {} tokens{recomputed} {:.0} %", bucket.seq_len, 100.0 * bucket.share)
    };
    let parts: Vec<String> = buckets.iter().map(part).collect();
    (parts.len() > 1)
        .then(|| format!("lengths   {}; the longest runs once, on padding, before step 1", parts.join(", ")))
}

fn memory_table(account: &MemoryAccount) -> Vec<String> {
    let mut lines = vec![format!("memory    {} planned peak", bytes(account.planned_peak_bytes() as u64))];
    let held = MemoryPart::ALL.iter().map(|&part| (part, account.bytes_of(part)));
    lines.extend(held.filter(|(_, held)| *held > 0).map(|(part, held)| {
        let bits = account.bits_per_quantised_parameter().filter(|_| part == MemoryPart::QuantisedWeights);
        let bits = bits.map_or(String::new(), |bits| format!(", {bits:.3} bits per parameter"));
        let on_disk = if part == MemoryPart::SpillFile { ", on disk" } else { "" };
        format!("          {:>11}  {}{bits}{on_disk}", bytes(held as u64), part.words())
    }));
    lines
}
