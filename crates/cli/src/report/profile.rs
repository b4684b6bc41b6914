//! The report of a profile: policies side by side, predicted and measured.

use super::{marks, record_section, short_name, timeline_section};
use crate::units;
use remat_report::{Mark, Page, Pair, Unit, frontier, pairs};
use remat_train::{ProfileRow, Profiled, Record, RunPlan};

/// The page. `plan` is of the policy that the verdict is for, where it could be made again.
pub(crate) fn html(profiled: &Profiled, record: &Record, plan: Option<&RunPlan>) -> String {
    let title = format!("{}: checkpointing policies side by side", short_name(&record.model.path));
    let mut page = Page::new(&title, &profiled.verdict);
    let rows = &profiled.rows;
    let same = rows.iter().all(|row| row.trained_hash == rows[0].trained_hash);
    let equal = if same { "equal in every bit" } else { "NOT equal, which must never be" };
    page.text(&format!("After two updates, what was trained is {equal} under all policies."));
    for refused in &profiled.refused {
        page.text(&format!("{} was not measured: {}.", refused.policy, refused.reason));
    }
    charts_section(&mut page, profiled, plan);
    figures_section(&mut page, rows);
    page.text(&format!(
        "Parameters and buffers take {} bytes, with checkpointing as without: it drops activations, never parameters.",
        units::count(profiled.footprint_bytes)
    ));
    if let Some(plan) = plan {
        timeline_section(&mut page, plan);
        page.text(&format!("The plan shown is of checkpointing {}.", plan.config.checkpointing));
    }
    record_section(&mut page, record);
    page.finish()
}

/// Peaks, times and activations, planned and measured, and the frontier behind them.
fn charts_section(page: &mut Page, profiled: &Profiled, plan: Option<&RunPlan>) {
    let rows = &profiled.rows;
    page.section("Predicted and measured");
    page.legend_of_pairs();
    let pair = |name: &str, planned: f64, measured: Option<f64>| Pair { name: name.to_string(), planned, measured };
    let peaks: Vec<Pair> = rows
        .iter()
        .map(|row| pair(&row.policy, row.planned_peak_bytes as f64, row.measured_peak_bytes.map(|bytes| bytes as f64)))
        .collect();
    let kept: Vec<Pair> = rows
        .iter()
        .map(|row| {
            pair(&row.policy, row.activation_bytes as f64, row.measured_activation_bytes.map(|bytes| bytes as f64))
        })
        .collect();
    let times: Vec<Pair> =
        rows.iter().map(|row| pair(&row.policy, row.planned_step_seconds, Some(row.step_seconds))).collect();
    page.charts(&[
        ("Peak memory of the process", pairs(&peaks, Unit::Bytes)),
        ("Time of a step", pairs(&times, Unit::Seconds)),
        ("Activations kept from forward to backward", pairs(&kept, Unit::Bytes)),
        (
            "Time against memory. Squares: the policies, as measured. Points: plans that are possible, by prediction; the \
             circle is the one the verdict is for",
            chart(profiled, plan),
        ),
    ]);
}

/// The table of all policies.
fn figures_section(page: &mut Page, rows: &[ProfileRow]) {
    page.section("All figures");
    let head = [
        "policy",
        "activations",
        "logits (a chunk)",
        "weights, states",
        "peak, measured",
        "step, measured",
        "more time",
        "more FLOPs",
        "tokens/s",
    ];
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.policy.clone(),
                units::bytes(row.activation_bytes as u64),
                units::bytes(row.head_bytes as u64),
                units::bytes(row.model_bytes as u64),
                units::bytes(row.measured_peak_bytes.unwrap_or(row.planned_peak_bytes)),
                Unit::Seconds.text(row.step_seconds),
                format!("{:+.1} %", row.extra_percent),
                format!("{:+.1} %", row.extra_flops_percent),
                units::count(row.tokens_per_second.round() as usize),
            ]
        })
        .collect();
    page.table(&head.map(str::to_string), &cells);
}

fn chart(profiled: &Profiled, plan: Option<&RunPlan>) -> String {
    let measured: Vec<Mark> = profiled
        .rows
        .iter()
        .map(|row| Mark {
            name: row.policy.clone(),
            bytes: row.measured_peak_bytes.unwrap_or(row.planned_peak_bytes) as f64,
            seconds: row.step_seconds,
        })
        .collect();
    let (mut plans, mut chosen) = plan.map(marks).map_or((Vec::new(), None), |(plans, chosen)| (plans, Some(chosen)));
    if let Some(chosen) = &mut chosen {
        // What the program itself holds has changed since the row was planned; the plans have not.
        let since = profiled.rows[profiled.chosen].planned_peak_bytes as f64 - chosen.bytes;
        plans.iter_mut().chain([chosen]).for_each(|mark| mark.bytes += since);
    }
    frontier(&plans, chosen.as_ref(), &measured)
}
