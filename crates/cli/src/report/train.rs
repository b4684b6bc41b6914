//! The report of a run: losses, memory and time, and the plan it ran.

use super::{REPORT_FILE, marks, memory_section, record_section, short_name, timeline_section};
use crate::units;
use remat_data::file_of;
use remat_report::{Mark, Page, Pair, Series, Unit, curves, frontier, pairs};
use remat_train::{
    CONFIG_FILE, METRICS_FILE, RECORD_TEXT_FILE, Record, RunPlan, StepMetrics, Summary, TrainError, plan, read_metrics,
};
use std::path::PathBuf;

/// Writes the report of a finished run into its folder.
///
/// # Errors
/// A file that cannot be read or written.
pub(crate) fn write(summary: &Summary) -> Result<(), TrainError> {
    let Some(record) = summary.record.as_deref() else { return Ok(()) };
    let metrics = read_metrics(&summary.out, summary.updates)?;
    // Planned again from the same settings, now that the run's own memory is free; without it the page has no plan.
    // Rows from a pipe cannot be read again, and to open one may wait for ever.
    let again = |path: PathBuf| path.is_file() || path.is_dir();
    let readable = record.config.data.iter().all(|path| again(file_of(path)));
    let plan = readable.then(|| plan(record.config.clone()).ok()).flatten();
    super::write(&summary.out.join(REPORT_FILE), &html(summary, record, &metrics, plan.as_ref()))
}

fn html(summary: &Summary, record: &Record, metrics: &[StepMetrics], plan: Option<&RunPlan>) -> String {
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
    page.charts(&run_charts(metrics));
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
