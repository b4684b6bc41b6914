//! A plan as a page to read: the verdict, memory by phase, the frontier, alternatives.

use super::chart::chart;
use crate::memory_rows::memory_rows;
use crate::units::{bytes, count, counted, in_tiles, seconds};
use remat_train::{Fit, FrontierRow, MethodKind, RanksPlan, RunPlan};
use std::fmt::Write;

/// The whole page.
pub(super) fn page(plan: &RunPlan) -> String {
    let mut page = verdict(plan);
    page.push_str(&phases(plan));
    page.push_str(&buckets(plan));
    page.push_str(&frontier(plan));
    page.push_str(&alternatives(plan));
    page
}

/// Whether it fits, and into what.
fn headline(plan: &RunPlan) -> String {
    let peak = bytes(plan.account.peak_bytes(plan.domain) as u64);
    let least = bytes(plan.smallest_memory_bytes as u64);
    let limit = plan.limit.map(|limit| (bytes(limit.bytes as u64), limit.whose));
    match (plan.fit, limit) {
        (Fit::Fits, Some((limit, whose))) => format!("fits: peak {peak}, {whose} {limit}"),
        (Fit::Tight, Some((limit, whose))) => format!("tight: peak {peak}, {whose} {limit}; the least is {least}"),
        (Fit::DoesNotFit, Some((limit, whose))) if plan.smallest_memory_bytes > plan.limit.map_or(0, |l| l.bytes) => {
            format!(
                "does not fit: {whose} {limit}, and the least is {least} ({} bytes); what follows is that plan",
                plan.smallest_memory_bytes
            )
        }
        (Fit::DoesNotFit, _) => format!(
            "does not fit: checkpointing {}, and the least that can be kept is {} (budget:{}); what follows is that plan",
            plan.config.checkpointing,
            bytes(plan.smallest_activation_bytes as u64),
            plan.smallest_activation_bytes
        ),
        (_, None) => format!("peak {peak}; how much memory there is, this system does not tell"),
    }
}

fn verdict(plan: &RunPlan) -> String {
    let RunPlan { config, shape, micro, .. } = plan;
    let method = match config.method {
        MethodKind::Full => config.method_name(),
        MethodKind::Lora | MethodKind::Qlora => {
            format!("{}, rank {}, {}{}", config.method_name(), config.rank, config.targets, config.adapter.words())
        }
    };
    let share = 100.0 * plan.trained_parameters as f64 / plan.total_parameters.max(1) as f64;
    let prices = match &config.prices {
        Some(file) => format!("of {}", file.display()),
        None if config.device.is_published() => "estimated from the card's published rates".to_string(),
        None if plan.profile.prices.measured => "measured here".to_string(),
        None => "by arithmetic; remat doctor measures this machine's".to_string(),
    };
    let tiles = in_tiles(micro.tiles());
    let recompute = match plan.rounds() as f64 * micro.recompute_seconds(&plan.profile.prices) {
        0.0 => "none".to_string(),
        again => seconds(again),
    };
    let mut lines = vec![
        headline(plan),
        format!(
            "model     {} ({}), {} parameters, {}",
            plan.model,
            plan.family,
            count(plan.total_parameters),
            plan.number_format
        ),
        format!("method    {method} · trains {} ({share:.2} %)", counted(plan.trained_parameters, "parameter")),
        format!("batches   {} × {} tokens, {} accumulated", shape.batch, shape.seq_len, config.grad_accum),
        format!(
            "plan      checkpointing {}: {}, {} recomputed{tiles} · {} kept for backward · arena {}, {:.4} of its lower bound",
            config.checkpointing,
            counted(micro.steps.len(), "step"),
            count(micro.recomputed_steps().count()),
            bytes(micro.activation_bytes() as u64),
            bytes(micro.arena_bytes as u64),
            plan.arena_over_lower_bound
        ),
        format!(
            "time      {} for an update{}, {recompute} of it to recompute · {}, {} · prices {prices}",
            seconds(plan.step_seconds),
            mean_update(plan),
            plan.profile.name,
            counted(plan.profile.threads, "thread")
        ),
    ];
    lines.extend(plan.ranks.iter().flat_map(ranks));
    lines.extend(levels(micro));
    lines.extend(dearer_than_a_larger_budget(plan));
    lines.extend(offload(plan));
    lines.join("\n") + "\n"
}

/// What several ranks come to; the rest of the page is of one of them.
fn ranks(ranks: &RanksPlan) -> Vec<String> {
    let [hosts, per_host] = [counted(ranks.hosts, "host"), count(ranks.ranks_of_host)];
    let mut lines = vec![
        format!(
            "ranks     {} on {hosts}, up to {per_host} on one, which holds {} at its peak · {} in {}",
            ranks.ranks,
            bytes(ranks.host_peak_bytes as u64),
            counted(ranks.rounds, "round"),
            "an update",
        ),
        format!(
            "exchange  {} of an update's {} to exchange gradients and parameters · a rank sends up to {}, a host's link carries \
             {} · {:.2} times the speed of one rank",
            seconds(ranks.exchange_seconds),
            seconds(ranks.compute_seconds + ranks.exchange_seconds),
            bytes(ranks.sent_bytes),
            bytes(ranks.link_bytes),
            ranks.speedup
        ),
    ];
    lines.extend(ranks.advice.iter().map(|advice| format!("better    {advice}")));
    lines
}

/// How often steps run again, where boundaries between blocks are made again from each other.
fn levels(micro: &remat_plan::Plan) -> Option<String> {
    let most = micro.most_repetitions();
    (most > 1).then(|| {
        format!(
            "levels    fewer boundaries are kept than there are blocks: some steps run {most} times again, not once"
        )
    })
}

/// That the budget costs memory, where a plan that keeps more takes less of it and no more time.
fn dearer_than_a_larger_budget(plan: &RunPlan) -> Option<String> {
    let (peak_bytes, kept_bytes) = (plan.account.peak_bytes(plan.domain), plan.micro.activation_bytes());
    let is_better = |row: &&FrontierRow| {
        row.activation_bytes > kept_bytes && row.peak_bytes <= peak_bytes && row.step_seconds < plan.step_seconds
    };
    let better = plan.frontier.iter().filter(is_better).min_by(|a, b| a.step_seconds.total_cmp(&b.step_seconds))?;
    let is_budget = matches!(plan.micro.policy, remat_plan::Policy::Budget(_));
    is_budget.then(|| {
        let less = match peak_bytes - better.peak_bytes {
            0 => "no more memory at the peak".to_string(),
            less => format!("{} less memory at the peak", bytes(less as u64)),
        };
        format!(
            "budget    keeping so little costs transient memory and time: budget:{} takes {less} and {} for an update",
            remat_plan::ByteSize(better.activation_bytes),
            seconds(better.step_seconds)
        )
    })
}

/// Where batches differ in length: that the time is of the longest, and what an update takes on average.
fn mean_update(plan: &RunPlan) -> String {
    let [.., longest] = plan.buckets.as_slice() else { return String::new() };
    if plan.buckets.len() < 2 {
        return String::new();
    }
    let shorter = longest.micro_step_seconds - mean_micro_step(plan);
    let mean = seconds(plan.step_seconds - plan.rounds() as f64 * shorter);
    format!(" of the longest batches, {mean} on average")
}

/// Seconds of a micro-step by the shares of the lengths.
fn mean_micro_step(plan: &RunPlan) -> f64 {
    plan.buckets.iter().map(|bucket| bucket.share * bucket.micro_step_seconds).sum()
}

/// What goes out of the arena and back, if the settings name a folder for it.
fn offload(plan: &RunPlan) -> Option<String> {
    let Some(folder) = plan.config.offload.as_ref().map(|folder| folder.display()) else {
        return from_files(plan);
    };
    let spill = plan.profile.prices.spill?;
    let rate = |rate: f64| format!("{}/s", bytes(rate as u64));
    let (out, back) = (rate(spill.write_bytes_per_second), rate(spill.read_bytes_per_second));
    let copies = plan.micro.copy_steps().count();
    let what = match plan.micro.offloaded_bytes() {
        0 => "nothing".to_string(),
        away => format!("{} in {}", bytes(away as u64), counted(copies, "copy step")),
    };
    let source = if plan.config.prices.is_some() { "as given" } else { "measured now" };
    let weights = match plan.micro.spilled_weight_bytes() {
        0 => String::new(),
        away => {
            let read = bytes(plan.micro.fetched_weight_bytes() as u64);
            format!(" · {} of weights stay there, {read} read a micro-step", bytes(away as u64))
        }
    };
    Some(format!("offload   {what} to and from {folder}{weights} · {out} out, {back} back, {source}"))
}

/// What is read from the model's own files, where there is no folder.
fn from_files(plan: &RunPlan) -> Option<String> {
    let rate = bytes(plan.profile.prices.file_reads? as u64);
    let away = bytes(plan.micro.spilled_weight_bytes() as u64);
    let read = bytes(plan.micro.fetched_weight_bytes() as u64);
    Some(format!("weights   {away} stay in the model's files, {read} read a micro-step · {rate}/s, measured now"))
}

fn phases(plan: &RunPlan) -> String {
    let phases = plan.phases();
    let mut page = format!("\n{:<16}", "memory");
    phases.iter().for_each(|phase| page.push_str(&format!("{:>12}", phase.phase.name())));
    page.push('\n');
    for row in memory_rows(&phases, "peak") {
        page.push_str(&format!("{:<16}", row.name));
        for held in row.bytes {
            let shown = if held == 0 { "-".to_string() } else { bytes(held as u64) };
            page.push_str(&format!("{shown:>12}"));
        }
        page.push('\n');
    }
    page
}

/// The plans by length, where rows differ in it.
fn buckets(plan: &RunPlan) -> String {
    if plan.buckets.len() < 2 {
        return String::new();
    }
    let mut page =
        format!("\n{:>12}{:>12}{:>12}{:>12}{:>12}\n", "tokens", "batches", "recomputed", "kept", "micro-step");
    for bucket in &plan.buckets {
        let (share, again) = (format!("{:.1} %", 100.0 * bucket.share), count(bucket.recomputed_steps));
        let _ = writeln!(
            page,
            "{:>12}{share:>12}{again:>12}{:>12}{:>12}",
            format!("≤ {}", bucket.seq_len),
            bytes(bucket.activation_bytes as u64),
            seconds(bucket.micro_step_seconds)
        );
    }
    let mean = mean_micro_step(plan);
    let longest = plan.buckets.last().map_or(0.0, |bucket| bucket.micro_step_seconds);
    let less = 100.0 * (1.0 - mean / longest.max(f64::MIN_POSITIVE));
    let _ = writeln!(page, "{:>12}{:>48}   {less:.0} % below the longest alone", "mean", seconds(mean));
    page
}

fn frontier(plan: &RunPlan) -> String {
    let rows = &plan.frontier;
    let fastest = rows.iter().map(|row| row.step_seconds).fold(f64::INFINITY, f64::min);
    let mut page = format!("\n{:>12}{:>12}{:>12}{:>9}   what memory buys\n", "peak", "kept", "update", "more");
    for FrontierRow { peak_bytes, activation_bytes, step_seconds } in rows {
        let more = 100.0 * (step_seconds / fastest - 1.0);
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "{:>12}{:>12}{:>12}{more:>8.1}%",
            bytes(*peak_bytes as u64),
            bytes(*activation_bytes as u64),
            seconds(*step_seconds)
        );
    }
    page + &chart(rows, plan.account.peak_bytes(plan.domain), plan.step_seconds)
}

fn alternatives(plan: &RunPlan) -> String {
    if plan.alternatives.is_empty() {
        return String::new();
    }
    let mut page = String::from("\nalternatives, cheapest first\n");
    for alternative in &plan.alternatives {
        let saves = bytes(alternative.saves_bytes as u64);
        let _ = writeln!(
            page,
            "  {:<36} saves {saves:>10}   {:+6.1} % time per token",
            alternative.change, alternative.costs_percent
        );
    }
    page
}
