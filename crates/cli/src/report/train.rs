//! The report of a run: losses, memory and time, and the plan it ran.

use super::{REPORT_FILE, marks, memory_section, record_section, short_name, timeline_section};
use crate::units;
use remat_data::file_of;
use remat_report::{Mark, Page, Pair, Series, Unit, curves, frontier, pairs};
use remat_train::{
    BestRecord, CONFIG_FILE, METRICS_FILE, RECORD_TEXT_FILE, Record, RunPlan, SAMPLES_FILE, Sample, StepMetrics,
    Summary, TrainError, plan, read_metrics, read_samples,
};
use std::path::PathBuf;

/// Writes the report of a finished run into its folder.
///
/// # Errors
/// A file that cannot be read or written.
pub(crate) fn write(summary: &Summary) -> Result<(), TrainError> {
    let Some(record) = summary.record.as_deref() else { return Ok(()) };
    let metrics = read_metrics(&summary.out, summary.updates)?;
    let samples = match record.config.sample.is_empty() {
        true => Vec::new(),
        false => read_samples(&summary.out, summary.updates)?,
    };
    // Planned again from the same settings, now that the run's own memory is free; without it the page has no plan.
    // Rows from a pipe cannot be read again, and to open one may wait for ever.
    let again = |path: PathBuf| path.is_file() || path.is_dir();
    let readable = record.config.data.iter().all(|path| again(file_of(path)));
    let plan = readable.then(|| plan(record.config.clone()).ok()).flatten();
    super::write(&summary.out.join(REPORT_FILE), &html(summary, record, (&metrics, &samples), plan.as_ref()))
}

fn html(
    summary: &Summary,
    record: &Record,
    (metrics, samples): (&[StepMetrics], &[Sample]),
    plan: Option<&RunPlan>,
) -> String {
    let seen = &record.observed;
    let losses = match (metrics.first(), metrics.last()) {
        (Some(first), Some(last)) => format!("Loss {:.4} → {:.4} in ", first.loss, last.loss),
        _ => String::new(),
    };
    let peak = seen.peak_bytes.map_or("not measured".to_string(), units::bytes);
    let lead = format!(
        "{losses}{}; peak memory {peak}, {} planned; {:.0} tokens per second.",
        units::counted(seen.steps as usize, "update"),
        units::bytes(seen.planned_peak_bytes),
        seen.tokens_per_second
    );
    let mut page = Page::new(&format!("{}: a training run", short_name(&record.model.path)), &lead);
    page.section("Over the run");
    if let Some(best) = best(record) {
        page.text(&best);
    }
    page.charts(&run_charts(metrics));
    samples_section(&mut page, samples);
    page.section("Predicted and measured");
    page.legend_of_pairs();
    let step = median(metrics.iter().map(|m| m.step_seconds).collect());
    let pair = |name: &str, planned: f64, measured: Option<f64>| Pair { name: name.to_string(), planned, measured };
    let peak = pair("peak memory of the process", seen.planned_peak_bytes as f64, seen.peak_bytes.map(|b| b as f64));
    let mut charts = vec![("What the run held at most", pairs(&[peak], Unit::Bytes))];
    if let Some(plan) = plan {
        let time = pair("time of an update", plan.step_seconds, step);
        charts.push(("An update: the median of the run", pairs(&[time], Unit::Seconds)));
    }
    page.charts(&charts);
    match plan {
        Some(plan) => plan_sections(&mut page, record, plan, step),
        None => page.text("The plan could not be made again after the run, so it is not shown."),
    }
    memory_section(&mut page, &summary.planned_phases, &summary.phases);
    record_section(&mut page, record);
    page.text(&format!("Every update is in {METRICS_FILE}; settings are in {CONFIG_FILE} and {RECORD_TEXT_FILE}."));
    page.finish()
}

/// Which evaluation was the best, and whether the run stopped because none was better.
fn best(record: &Record) -> Option<String> {
    let seen = &record.observed;
    let BestRecord { path, evaluation } = seen.best.as_ref()?;
    let stopped = match seen.stopped_after {
        Some(count) => format!(
            " The run stopped after {} in a row that were no better.",
            units::counted(count as usize, "evaluation")
        ),
        None => String::new(),
    };
    let (loss, step) = (evaluation.val_loss, evaluation.step);
    Some(format!(
        "The lowest loss of the held-out rows is {loss:.4}, after update {step}; it is kept in {path}/.{stopped}"
    ))
}

/// What the model in training made of the same texts, time after time.
fn samples_section(page: &mut Page, samples: &[Sample]) {
    let Some(last) = samples.last() else { return };
    page.section("Samples");
    let of_last: Vec<&Sample> = samples.iter().filter(|sample| sample.step == last.step).collect();
    for prompt in of_last.iter().map(|sample| &sample.prompt) {
        page.text(&format!("The text: {}", shown(prompt)));
        let same: Vec<&Sample> = samples.iter().filter(|sample| sample.prompt == *prompt).collect();
        let rows: Vec<(String, String)> = spread(&same, MOST_SAMPLES)
            .map(|sample| (format!("update {}", sample.step), continuation(sample)))
            .collect();
        page.facts(&rows);
    }
    if samples.len() > of_last.len() * MOST_SAMPLES {
        page.text(&format!("{MOST_SAMPLES} of each, evenly; all are in {SAMPLES_FILE}."));
    }
}

/// What a text was continued with.
fn continuation(sample: &Sample) -> String {
    match (sample.text.trim(), sample.is_whole) {
        ("", true) => "(nothing: it ended at once)".to_string(),
        ("", false) => "(nothing but blanks) …".to_string(),
        (text, true) => shown(text),
        (text, false) => format!("{} …", shown(text)),
    }
}

/// Samples of a text that are shown.
const MOST_SAMPLES: usize = 12;
/// Characters of a sample that are shown.
const MOST_CHARS: usize = 1200;

/// At most so many, evenly, the first and the last among them.
fn spread<T>(all: &[T], most: usize) -> impl Iterator<Item = &T> {
    let shown = all.len().min(most);
    (0..shown).map(move |index| &all[index * (all.len() - 1) / (shown - 1).max(1)])
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

fn plan_sections(page: &mut Page, record: &Record, plan: &RunPlan, step_seconds: Option<f64>) {
    page.section("What memory buys");
    let ran = (record.plan.steps, record.plan.recomputed_steps);
    let (mut plans, mut chosen) = marks(plan);
    if ran == (plan.micro.steps.len(), plan.micro.recomputed_steps().count()) {
        // What the program itself holds has changed since the run; the plans have not.
        let since = record.observed.planned_peak_bytes as f64 - plan.account.planned_peak_bytes() as f64;
        plans.iter_mut().chain([&mut chosen]).for_each(|mark| mark.bytes += since);
    } else {
        page.text(
            "After the run, the same settings give another plan (memory of the machine or prices have changed): what \
             follows is that one.",
        );
    }
    let measured: Vec<Mark> = record
        .observed
        .peak_bytes
        .zip(step_seconds)
        .map(|(bytes, seconds)| Mark { name: "measured".to_string(), bytes: bytes as f64, seconds })
        .into_iter()
        .collect();
    let caption =
        "Each point is a plan of this run; the circle is the one that ran, the square what was measured of it.";
    page.charts(&[(caption, frontier(&plans, Some(&chosen), &measured))]);
    timeline_section(page, plan);
}

fn run_charts(metrics: &[StepMetrics]) -> Vec<(&'static str, String)> {
    let series = |name, of: &dyn Fn(&StepMetrics) -> Option<f64>| Series {
        name,
        points: metrics.iter().filter_map(|m| Some((m.step as f64, of(m)?))).collect(),
    };
    let mut losses = vec![series("training", &|m| Some(m.loss))];
    if metrics.iter().any(|m| m.val_loss.is_some()) {
        losses.push(series("held out", &|m| m.val_loss));
    }
    let memory = [
        series("measured", &|m| (m.peak_bytes > 0).then_some(m.peak_bytes as f64)),
        series("planned", &|m| Some(m.planned_peak_bytes as f64)),
    ];
    vec![
        ("Loss per trained token", curves(&losses, Unit::Number, "loss")),
        ("Learning rate", curves(&[series("", &|m| Some(m.lr))], Unit::Number, "learning rate")),
        (
            "Norm of the gradients, before clipping",
            curves(&[series("", &|m| Some(m.grad_norm))], Unit::Number, "gradient norm"),
        ),
        ("Peak memory of the process so far", curves(&memory, Unit::Bytes, "memory")),
    ]
}

fn median(mut seconds: Vec<f64>) -> Option<f64> {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied()
}
