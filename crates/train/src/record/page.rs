//! The lab record as a page of Markdown. Invariant: what a user or a file named (paths, settings) is shown as it is: it
//! breaks no table, starts no markup (an image would be loaded by whoever looks at the page), steers no terminal, and is cut
//! where it is too long to be looked at. `record.json` has it whole.

use crate::record::lab_record::Record;
use crate::record::machine::Machine;
use crate::run::held_out::Best;
use serde_json::Value;
use std::fmt::Write;

/// Most of a text that is shown.
const MOST_CHARS: usize = 1000;

/// The page.
pub(crate) fn page(record: &Record) -> String {
    let mut page = String::from("# Lab record\n\n| what | value |\n|---|---|\n");
    program_and_files(record, &mut |what, value| row(&mut page, &[what, &value]));
    outcome(record, &mut |what, value| row(&mut page, &[what, &value]));
    page.push_str(&policies(record));
    page.push_str("\n## Settings\n\n| setting | value |\n|---|---|\n");
    if let Ok(Value::Object(settings)) = serde_json::to_value(&record.config) {
        for (name, value) in settings.iter().filter(|(_, value)| !value.is_null()) {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            row(&mut page, &[&format!("--{name}"), &shown]);
        }
    }
    page
}

fn row(page: &mut String, cells: &[&str]) {
    for cell in cells {
        page.push_str(&format!("| {} ", plain(cell)));
    }
    page.push_str("|\n");
}

/// A text as Markdown that shows it.
fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let chars: Vec<char> = text.chars().take(MOST_CHARS + 1).collect();
    for (index, &c) in chars.iter().enumerate().take(MOST_CHARS) {
        let is_word = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(|c| c.is_alphanumeric());
        match c {
            '<' => shown.push_str("&lt;"),
            '&' => shown.push_str("&amp;"),
            '\\' | '|' | '`' | '*' | '[' | ']' | '~' | '$' => shown.extend(['\\', c]),
            // Within a word it starts nothing.
            '_' if !(is_word(index.checked_sub(1)) && is_word(Some(index + 1))) => shown.push_str("\\_"),
            c if c.is_control() => shown.push(' '),
            c if turns(c) => shown.push('\u{fffd}'),
            c => shown.push(c),
        }
    }
    if chars.len() > MOST_CHARS {
        shown.push('…');
    }
    shown
}

/// Whether it turns the reading direction of what follows.
pub(super) fn turns(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn program_and_files(record: &Record, row: &mut dyn FnMut(&str, String)) {
    let commit = record.commit.unwrap_or("unknown commit");
    row("remat", format!("{} ({commit}, {} build)", record.remat_version, record.build));
    row("started", record.started_at.clone());
    let Machine { cpu, isa, threads, memory_bytes, gpu, backend } = &record.machine;
    row("machine", format!("{}, {isa}, {threads} threads", cpu.as_deref().unwrap_or("unknown CPU")));
    row("memory of the machine", memory_bytes.map_or("unknown".to_string(), size));
    row("backend", (*backend).to_string());
    row("GPU", gpu.clone().unwrap_or_else(|| "none used".to_string()));
    if !record.ranks.is_empty() {
        let hosts: Vec<&str> = record.ranks.iter().map(|rank| rank.host.as_str()).collect();
        row("ranks", format!("{}, on {}", hosts.len(), hosts.join(", ")));
    }
    let model = &record.model;
    row("model", format!("{} ({}, {} parameters)", model.path.display(), model.family, model.parameters));
    row("model sha256", model.sha256_or_why());
    for data in &record.data {
        row("data", format!("{} ({} samples), sha256 {}", data.path.display(), data.samples, data.sha256));
    }
}

fn outcome(record: &Record, row: &mut dyn FnMut(&str, String)) {
    let plan = &record.plan;
    let again = plan.recomputed_steps;
    let away = match plan.offloaded_bytes {
        0 => String::new(),
        bytes => format!(", {} offloaded", size(bytes as u64)),
    };
    row("plan", format!("checkpointing {}: {} steps, {again} recomputed{away}", plan.policy, plan.steps));
    let (arena, kept) = (size(plan.arena_bytes as u64), size(plan.activation_bytes as u64));
    row("arena", format!("{arena}, of which {kept} live from forward to backward"));
    let seen = &record.observed;
    if let (Some(first), Some(last)) = (seen.first_loss, seen.last_loss) {
        row("loss", format!("{first:.6} → {last:.6} in {} updates", seen.steps));
    }
    if let Some(val_loss) = seen.last_val_loss {
        row("loss of held-out rows", format!("{val_loss:.6} at last"));
    }
    if let Some(best) = &seen.best {
        let Best { step, val_loss, .. } = best.evaluation;
        row("best on held-out rows", format!("{val_loss:.6} after update {step}, in {}", best.path));
    }
    if let Some(evaluations) = seen.stopped_after {
        row("stopped early", format!("after {evaluations} evaluations in a row that were no better"));
    }
    if let Some(answers) = &record.answers {
        let (before, after) = (answers.loss_before, answers.loss_after);
        row("loss of held-out answers", format!("{before:.6} before, {after:.6} after"));
        let (before, after) = (answers.right_before, answers.right_after);
        row("answered word for word", format!("{before} before, {after} after, of {}", answers.questions));
    }
    row("time", format!("{:.2} s in updates, {:.0} tokens per second", seen.seconds, seen.tokens_per_second));
    let measured = seen.peak_bytes.map_or("unknown".to_string(), size);
    row("peak memory of the process", format!("{measured} measured, {} planned", size(seen.planned_peak_bytes)));
    row("bound by", record.bound_by.clone());
}

/// What a profile measured.
fn policies(record: &Record) -> String {
    let Some(profile) = &record.profile else { return String::new() };
    let mut page = format!(
        "\n## Policies\n\nParameters and buffers take {}, and {} with checkpointing: it drops activations, never \
         parameters.\n\n| policy | activations planned | measured | peak planned | measured | step planned | measured | \
         more FLOPs | more time | tokens/s |\n|---|---|---|---|---|---|---|---|---|---|\n",
        size(profile.footprint_bytes as u64),
        size(profile.footprint_bytes_with_checkpointing as u64)
    );
    let known = |bytes: Option<u64>| bytes.map_or("unknown".to_string(), size);
    for policy in &profile.rows {
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {:.4} s | {:.4} s | {:+.1} % | {:+.1} % | {:.0} |",
            policy.policy,
            size(policy.activation_bytes as u64),
            known(policy.measured_activation_bytes),
            size(policy.planned_peak_bytes),
            known(policy.measured_peak_bytes),
            policy.planned_step_seconds,
            policy.step_seconds,
            policy.extra_flops_percent,
            policy.extra_percent,
            policy.tokens_per_second
        );
    }
    for refused in &profile.refused {
        let _ = writeln!(page, "\n{} was not measured: {}", refused.policy, plain(&refused.reason));
    }
    let _ = writeln!(page, "\n{}", plain(&profile.verdict));
    page
}

/// Bytes in the largest binary unit; record.json has them exactly.
fn size(bytes: u64) -> String {
    match bytes {
        0..=0x3ff => format!("{bytes} B"),
        0x400..=0xf_ffff => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..=0x3fff_ffff => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_and_nothing_else() {
        for (name, shown) in [
            ("runs/q_proj-16", "runs/q_proj-16"),
            ("![x](http://a/b.png)", "!\\[x\\](http://a/b.png)"),
            ("<img src=x> &lt; a|b", "&lt;img src=x> &amp;lt; a\\|b"),
            ("_a_ `b` *c* ~~d~~ \\", "\\_a\\_ \\`b\\` \\*c\\* \\~\\~d\\~\\~ \\\\"),
            ("a\nb\u{1b}[2J\u{202e}c", "a b \\[2J\u{fffd}c"),
        ] {
            assert_eq!(plain(name), shown);
        }
        assert_eq!(plain(&"ä".repeat(5000)), "ä".repeat(MOST_CHARS) + "…");
        assert_eq!(plain(&"ä".repeat(MOST_CHARS)), "ä".repeat(MOST_CHARS));
    }
}
