//! What people see of a run: a header, its progress, an end; all on stderr, plain text that survives a pipe.
//!
//! Invariants: `--quiet` leaves only notes and errors; nothing is coloured off a terminal or with `NO_COLOR` set.

use crate::progress::Progress;
use crate::run_header::header;
use crate::terminal::{harmless, line, note, painted};
use crate::units::{bytes, count, counted, duration};
use remat_model::Model;
use remat_train::{BEST_FOLDER, Event, Outcome, Reporter, Sample, Summary, TrainError};
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
        if let Some(best) = &summary.best {
            let folder = summary.out.join(BEST_FOLDER);
            line(&harmless(&format!(
                "best on held-out rows: {:.4} after update {}, in {}",
                best.val_loss,
                best.step,
                folder.display()
            )));
        }
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
            // The update's line has the loss, and the end says which was the best.
            Event::Improved { .. } => {}
            Event::Sampled(sample) => line(&sampled(sample)),
            Event::Saved { path } => line(&harmless(&format!("saved {}", path.display()))),
        }
    }
}

/// A text that the model in training continued, on one line.
fn sampled(sample: &Sample) -> String {
    let whole =
        |text: &str| text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ⏎ ");
    let (prompt, text) = (harmless(&whole(&sample.prompt)), harmless(&whole(&sample.text)));
    let text = match (text.as_str(), sample.is_whole) {
        ("", true) => "(nothing: it ended at once)".to_string(),
        ("", false) => "(nothing but blanks) …".to_string(),
        (text, true) => text.to_string(),
        (text, false) => format!("{text} …"),
    };
    format!("sample after update {}: {} {text}", sample.step, painted("1", &prompt))
}

/// A header line with its first word, which says what it is about, in bold.
fn labelled(text: &str) -> String {
    match text.split_once(' ') {
        Some((label, rest)) if !label.is_empty() => format!("{} {rest}", painted("1", label)),
        _ => text.to_string(),
    }
}
