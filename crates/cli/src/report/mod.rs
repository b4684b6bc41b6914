//! `report.html`: what a verb found, as one page to look at and pass on. From plans, rows and metrics to the charts of
//! `remat_report`; one file per verb.
//!
//! Invariant: every number on a page is one that the verb printed or recorded, or of the plan that is named beside it.

pub(crate) mod plan;
pub(crate) mod profile;
pub(crate) mod train;

use crate::memory_rows::{MemoryRow, memory_rows};
use crate::units;
use remat_ir::Phase;
use remat_plan::Action;
use remat_report::{Bar, Kind, Mark, Page, Timeline};
use remat_train::{PhaseMemory, PhasePeak, Record, RunPlan, TrainError};
use std::path::Path;

/// Its name in an output folder.
pub(crate) use remat_train::REPORT_FILE;

/// Writes a page into a folder that a verb owns.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write(path: &Path, html: &str) -> Result<(), TrainError> {
    Ok(remat_formats::write_atomic(path, html.as_bytes())?)
}

/// The arena of a plan's micro-step over its predicted time.
pub(crate) fn timeline(plan: &RunPlan) -> Timeline {
    let micro = &plan.micro;
    let times = micro.timetable(&plan.profile.prices);
    let kept: std::collections::HashSet<String> = micro.saved_residuals().into_iter().map(|r| r.name).collect();
    let mut bars = Vec::with_capacity(micro.buffers.len());
    let mut bar = |first: usize, last: usize, slot: remat_plan::Slot, kind, name: String| {
        bars.push(Bar {
            start: times[first].start,
            end: times[last].end,
            offset: slot.offset,
            bytes: slot.bytes,
            kind,
            name,
        });
    };
    for buffer in &micro.buffers {
        let value = micro.graph.value(buffer.value);
        let kind = match value.producer.map(|(op, _)| micro.graph.node(op)) {
            Some(node) if node.recompute_of.is_some() => Kind::Recomputed,
            _ if kept.contains(&value.name) => Kind::Kept,
            Some(node) if node.phase == Phase::Backward => Kind::Backward,
            _ => Kind::Forward,
        };
        bar(buffer.first.index(), buffer.last.index(), buffer.slot, kind, value.name.clone());
    }
    for (at, step) in micro.steps.iter().enumerate() {
        if let (Some(slot), Action::Compute(op)) = (step.workspace, step.action) {
            bar(at, at, slot, Kind::Workspace, format!("workspace of {}", micro.graph.node(op).name));
        }
    }
    let seconds = micro.step_seconds(&plan.profile.prices);
    Timeline { bars, seconds, arena_bytes: micro.arena_bytes }
}

/// What a page calls a model: a path's last part, or a preset's name. The whole path stands among the facts.
fn short_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The frontier and the plan itself, as points of a chart: both as a step needs, which phases beside it may exceed.
fn marks(plan: &RunPlan) -> (Vec<Mark>, Mark) {
    let mark = |name: &str, bytes: usize, seconds| Mark { name: name.to_string(), bytes: bytes as f64, seconds };
    let frontier = plan.frontier.iter().map(|row| mark("", row.peak_bytes, row.step_seconds)).collect();
    let of_a_step = plan.account.running_bytes(plan.domain).max(plan.account.earlier_bytes(plan.domain));
    (frontier, mark("this plan:", of_a_step, plan.step_seconds))
}

/// A section with the timeline of a plan.
fn timeline_section(page: &mut Page, plan: &RunPlan) {
    page.section("Memory over one step");
    let caption = format!(
        "The arena of {} while one micro-step runs: forward first, then backward. Each rectangle is a buffer at the bytes \
         where it lies; hover to see its name. Workspace is a kernel's own, the largest the head's: logits of a chunk of \
         tokens, and their gradients.",
        units::bytes(plan.micro.arena_bytes as u64)
    );
    page.timeline(&timeline(plan), &caption);
}

/// A section with the memory of every phase, as planned and, of phases that a run went through, as measured.
fn memory_section(page: &mut Page, phases: &[PhaseMemory], measured: &[PhasePeak]) {
    page.section("Memory by phase");
    let head: Vec<String> =
        std::iter::once(String::new()).chain(phases.iter().map(|phase| phase.phase.name().to_string())).collect();
    let cell = |bytes: usize| if bytes == 0 { "-".to_string() } else { units::bytes(bytes as u64) };
    let peak = if measured.is_empty() { "peak" } else { "peak, planned" };
    let of_row = |row: MemoryRow| std::iter::once(row.name).chain(row.bytes.into_iter().map(cell)).collect();
    let mut rows: Vec<Vec<String>> = memory_rows(phases, peak).into_iter().map(of_row).collect();
    if !measured.is_empty() {
        let of = |phase| measured.iter().find(|peak| peak.phase == phase).and_then(|peak| peak.peak_bytes);
        let peaks = std::iter::once("peak so far, measured".to_string());
        rows.push(peaks.chain(phases.iter().map(|phase| cell(of(phase.phase).unwrap_or(0) as usize))).collect());
    }
    page.table(&head, &rows);
}

/// A section with what a lab record says of program, machine and files.
fn record_section(page: &mut Page, record: &Record) {
    page.section("Program, machine, files");
    let mut facts = vec![
        (
            "remat".to_string(),
            format!("{} ({}, {} build)", record.remat_version, record.commit.unwrap_or("unknown commit"), record.build),
        ),
        ("started".to_string(), record.started_at.clone()),
        (
            "machine".to_string(),
            format!(
                "{}, {}, {}, {}",
                record.machine.cpu.as_deref().unwrap_or("unknown CPU"),
                record.machine.isa,
                units::counted(record.machine.threads, "thread"),
                record.machine.memory_bytes.map_or("memory unknown".to_string(), units::bytes)
            ),
        ),
        (
            "model".to_string(),
            format!(
                "{} ({}, {} parameters), sha256 {}",
                record.model.path.display(),
                record.model.family,
                units::count(record.model.parameters),
                record.model.sha256_or_why()
            ),
        ),
    ];
    facts.extend(record.data.iter().map(|data| {
        let samples = units::counted(data.samples as usize, "sample");
        ("data".to_string(), format!("{} ({samples}), sha256 {}", data.path.display(), data.sha256))
    }));
    facts.push(("bound by".to_string(), record.bound_by.clone()));
    page.facts(&facts);
}
