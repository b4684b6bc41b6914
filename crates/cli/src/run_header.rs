//! What people see of a run before its first step: model, method, rows, batches, plan, memory. Invariant: a line begins with
//! the word that says what it is about.

use crate::units::{bytes, count, counted, in_tiles};
use crate::{file_notes, names};
use remat_data::SampleStats;
use remat_train::{BucketPlan, MemoryAccount, MemoryPart, MethodKind, PlacedStates, PlannedRun};

/// The lines.
pub(crate) fn header(plan: &PlannedRun<'_>) -> Vec<String> {
    let mut lines = vec![model(plan), method(plan)];
    lines.extend(plan.data.iter().map(|file| rows("data     ", file)));
    lines.extend(plan.eval_data.iter().map(|file| rows("held out ", file)));
    lines.push(batches(plan));
    lines.push(planned(plan));
    lines.extend(lengths(plan.buckets));
    lines.extend(memory_table(plan.memory));
    if let Some(step) = plan.resumed_from {
        lines.push(format!("resumed   after update {step}"));
    }
    lines
}

fn model(plan: &PlannedRun<'_>) -> String {
    let (family, format) = (plan.family, &plan.number_format);
    match &plan.config.preset {
        Some(name) => format!("model     {name} ({family}), its shape with random weights, {format}"),
        None => format!("model     {} ({family}), {format}", names::shown(&plan.config.model)),
    }
}

fn method(plan: &PlannedRun<'_>) -> String {
    let config = plan.config;
    let name = config.method_name();
    let method = match config.method {
        MethodKind::Full => name,
        MethodKind::Lora | MethodKind::Qlora => {
            let start = config.init_adapter.as_ref().map_or(String::new(), |from| format!(", from {}", from.display()));
            let (rank, alpha, targets) = (config.rank, config.alpha.unwrap_or_default(), &config.targets);
            format!("{name}, rank {rank}, alpha {alpha}, {targets}{}{start}", config.adapter.words())
        }
    };
    let share = 100.0 * plan.trained_parameters as f64 / plan.total_parameters.max(1) as f64;
    let trained = format!("{} of {} parameters", count(plan.trained_parameters), count(plan.total_parameters));
    format!("method    {method} · trains {trained} ({share:.2} %)")
}

/// A file of rows, and what of it is not as it looks.
fn rows(label: &str, file: &SampleStats) -> String {
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
    for (label, note) in file_notes::notes(file) {
        text.push_str(&format!("; {label}: {note}"));
    }
    text
}

fn batches(plan: &PlannedRun<'_>) -> String {
    let packed = if plan.config.packing { ", packed" } else { "" };
    format!(
        "batches   {} × {} tokens{packed}, {} accumulated · {}, {} in an epoch",
        plan.shape.batch,
        plan.shape.seq_len,
        plan.config.grad_accum,
        counted(plan.total_updates as usize, "update"),
        plan.updates_per_epoch
    )
}

fn planned(plan: &PlannedRun<'_>) -> String {
    let away = match plan.offloaded_bytes {
        0 => String::new(),
        away => format!(", {} offloaded", bytes(away as u64)),
    };
    let weights = match plan.off_memory_weight_bytes {
        0 => String::new(),
        off => {
            let read = bytes(plan.read_weight_bytes as u64);
            format!(", {} of weights off memory ({read} read a micro-step)", bytes(off as u64))
        }
    };
    let sum = |of: fn(&PlacedStates) -> usize| bytes(plan.states.iter().map(of).sum::<usize>() as u64);
    let states = match plan.states.is_empty() {
        true => String::new(),
        false => format!(
            ", {} of training state off memory ({} read and {} written an update)",
            sum(|states| states.disk_bytes),
            sum(|states| states.read_bytes),
            sum(|states| states.written_bytes)
        ),
    };
    format!(
        "plan      checkpointing {}: {}, {} recomputed{}{away}{weights}{states}, arena {} · {}, {}",
        plan.config.checkpointing,
        counted(plan.plan_steps, "step"),
        plan.recomputed_steps,
        in_tiles(plan.tiles),
        bytes(plan.arena_bytes as u64),
        plan.device,
        counted(plan.threads, "thread")
    )
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
        let on_disk = if part.is_file() { ", on disk" } else { "" };
        format!("          {:>11}  {}{bits}{on_disk}", bytes(held as u64), part.words())
    }));
    lines
}
