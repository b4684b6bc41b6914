//! What people see of a run: a header, its progress, an end; all on stderr, plain text that survives a pipe.
//!
//! Invariants: `--quiet` leaves only notes and errors; nothing is coloured off a terminal or with `NO_COLOR` set.

use crate::progress::{self, Progress};
use crate::run_header::header;
use crate::units::{bytes, count, counted, duration};
use remat_model::Model;
use remat_train::{Event, Outcome, Reporter, Summary, TrainError};
use std::io::{IsTerminal, Write};
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

/// An error, on stderr, whatever else is switched off.
pub(crate) fn error(message: &str) {
    line(&format!("{}: {}", painted("1;31", "error"), harmless(message)));
}

/// Longest text of a message that is shown, in characters.
const MOST_SHOWN_CHARS: usize = 4000;

/// Whether a terminal would act on a character, or show what is behind it in another order.
pub(crate) fn steers(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && c != '\n') || turns
}

/// A text as a terminal may be given it, whatever files or names it holds: what would steer the terminal is shown as an
/// escape; line ends stay.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// As [`visible`], and cut where it is too long for a message.
fn harmless(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN_CHARS) {
        Some((end, _)) => visible(&text[..end]) + "…",
        None => visible(text),
    }
}

/// The text in bold on a terminal, for stdout.
pub(crate) fn bold(text: &str) -> String {
    painted_on(std::io::stdout().is_terminal(), "1", text)
}

/// The text in a colour of the terminal (an SGR code), for stderr.
fn painted(code: &str, text: &str) -> String {
    painted_on(std::io::stderr().is_terminal(), code, text)
}

/// As it is where there is no terminal or `NO_COLOR` is set.
fn painted_on(terminal: bool, code: &str, text: &str) -> String {
    let coloured = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
}

/// One line on stderr. A closed stderr is no reason to stop a run.
pub(crate) fn line(text: &str) {
    progress::end();
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Something that is not as it looks.
pub(crate) fn note(text: &str) {
    line(&format!("{}: {}", painted("1;33", "note"), harmless(text)));
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
