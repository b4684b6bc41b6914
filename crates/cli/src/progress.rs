//! The progress of a run: one line that is written over itself on a terminal, now and then a plain line elsewhere.
//!
//! Invariant: whatever else is printed stands on a line of its own; the first and the last update, and those with an evaluation, are always shown, and a
//! line never wraps, so that overwriting it leaves nothing behind. `metrics.jsonl` has every update.

use crate::terminal;
use crate::units::{bytes, count, duration};
use remat_train::StepMetrics;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Off a terminal, a line at most this often.
const BETWEEN_LINES: Duration = Duration::from_secs(5);
/// On a terminal, the line is rewritten at most this often.
const BETWEEN_REWRITES: Duration = Duration::from_millis(80);
/// Width where the terminal does not tell.
const DEFAULT_WIDTH: usize = 100;
/// What is left out first where the terminal is narrow: indices of the fields.
const LEFT_OUT_FIRST: [usize; 5] = [3, 4, 1, 6, 5];

/// The line and when it was last written.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    written: Option<Instant>,
    /// The held-out rows' loss when they were last evaluated.
    val_loss: Option<f64>,
}

impl Progress {
    /// On stderr.
    pub(crate) fn new() -> Self {
        Progress { terminal: std::io::stderr().is_terminal(), written: None, val_loss: None }
    }

    /// Shows an update.
    pub(crate) fn update(&mut self, metrics: &StepMetrics, total_updates: u64, remaining_seconds: f64) {
        self.val_loss = metrics.val_loss.or(self.val_loss);
        let last = metrics.step >= total_updates || metrics.val_loss.is_some();
        let between = if self.terminal { BETWEEN_REWRITES } else { BETWEEN_LINES };
        if !last && self.written.is_some_and(|written| written.elapsed() < between) {
            return;
        }
        self.written = Some(Instant::now());
        let fields = fields(metrics, self.val_loss, total_updates, remaining_seconds);
        if self.terminal {
            let text = fitted(&fields, terminal_width().saturating_sub(1));
            // A closed stderr is no reason to stop a run.
            drop(write!(std::io::stderr(), "\r\x1b[2K{text}"));
            terminal::leave_open();
        } else {
            terminal::line(&fields.join(" · "));
        }
    }
}

impl Progress {
    /// Shows how far something is that is no update, as often as an update.
    pub(crate) fn at(&mut self, text: &str, last: bool) {
        let between = if self.terminal { BETWEEN_REWRITES } else { BETWEEN_LINES };
        if !last && self.written.is_some_and(|written| written.elapsed() < between) {
            return;
        }
        self.written = Some(Instant::now());
        if self.terminal {
            let text: String = text.chars().take(terminal_width().saturating_sub(1)).collect();
            drop(write!(std::io::stderr(), "\r\x1b[2K{text}"));
            terminal::leave_open();
        } else {
            terminal::line(text);
        }
    }
}

fn terminal_width() -> usize {
    terminal_size::terminal_size_of(std::io::stderr()).map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0))
}

fn fields(metrics: &StepMetrics, val_loss: Option<f64>, total_updates: u64, remaining_seconds: f64) -> Vec<String> {
    let StepMetrics { step, epoch, loss, lr, grad_norm, tokens_per_s, peak_bytes, planned_peak_bytes, .. } = *metrics;
    let val = val_loss.map_or(String::new(), |loss| format!(" · val {loss:.4}"));
    let width = total_updates.to_string().len();
    vec![
        format!("{step:>width$}/{total_updates}"),
        format!("epoch {epoch:.2}"),
        format!("loss {loss:.4}{val}"),
        format!("lr {lr:.2e}"),
        format!("grad norm {grad_norm:.3}"),
        format!("{} tok/s", count(tokens_per_s as u64)),
        format!("memory {} of {}", bytes(peak_bytes), bytes(planned_peak_bytes)),
        format!("ETA {}", duration(remaining_seconds)),
    ]
}

/// As many of the fields as fit, in their order.
fn fitted(fields: &[String], width: usize) -> String {
    let joined = |left_out: &[usize]| {
        let kept = fields.iter().enumerate().filter(|(index, _)| !left_out.contains(index));
        kept.map(|(_, field)| field.as_str()).collect::<Vec<_>>().join(" · ")
    };
    let texts = (0..=LEFT_OUT_FIRST.len()).map(|number| joined(&LEFT_OUT_FIRST[..number]));
    let shortest = joined(&LEFT_OUT_FIRST);
    let text = texts.into_iter().find(|text| text.chars().count() <= width).unwrap_or(shortest);
    text.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_gets_the_fields_that_matter_most() {
        let fields: Vec<String> =
            ["7/20", "epoch 1.00", "loss 1.5", "lr 1e-4", "grad norm 1", "9 tok/s", "memory 1 of 2", "ETA 3 s"]
                .map(String::from)
                .to_vec();
        let all = fields.join(" · ");
        assert_eq!(fitted(&fields, 200), all);
        assert_eq!(fitted(&fields, all.chars().count()), all);
        assert!(!fitted(&fields, all.chars().count() - 1).contains("lr"));
        assert_eq!(fitted(&fields, 30), "7/20 · loss 1.5 · ETA 3 s");
        for width in 0..60 {
            assert!(fitted(&fields, width).chars().count() <= width);
        }
    }
}
