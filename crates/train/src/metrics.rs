//! `metrics.jsonl`: one line of JSON per update, appended as the run goes.
//!
//! Invariant: after a resume from update N the file holds exactly the lines of updates 1 to N, byte for byte, whatever
//! came behind them. Writing a line allocates nothing once the buffer has grown to a line's size.

use crate::TrainError;
use crate::run_folder::METRICS_FILE;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Longer than any line can be.
const MOST_LINE_BYTES: u64 = 1 << 16;

/// What is known of one update.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The update, counted from 1.
    pub step: u64,
    /// Epochs done, with the current one's part.
    pub epoch: f64,
    /// Negative log-likelihood per trained token of this update's batch, before the update.
    pub loss: f64,
    /// Negative log-likelihood per token of the held-out rows after this update, where it was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// The learning rate used.
    pub lr: f64,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Tokens of this update's batch, padding not counted.
    pub tokens: u64,
    /// Tokens per second.
    pub tokens_per_s: f64,
    /// Seconds that the update took.
    pub step_seconds: f64,
    /// The process's peak resident memory so far.
    pub peak_bytes: u64,
    /// The peak that was planned.
    pub planned_peak_bytes: u64,
}

/// Appends to the file.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    line: Vec<u8>,
}

impl MetricsLog {
    /// Opens the log of a run folder and keeps the lines of the first `updates` updates.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn open(folder: &Path, updates: u64) -> Result<Self, TrainError> {
        let path = folder.join(METRICS_FILE);
        let failed = |source| TrainError::Io { path: path.clone(), what: "write", source };
        let mut kept_bytes = 0;
        scan(&path, updates, &mut |line, _| kept_bytes += line.len() as u64)?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        file.set_len(kept_bytes).map_err(failed)?;
        Ok(MetricsLog { path, file, line: Vec::with_capacity(512) })
    }

    /// Appends one update.
    ///
    /// # Errors
    /// A full disk and the like.
    pub fn append(&mut self, metrics: &StepMetrics) -> Result<(), TrainError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, metrics).expect("numbers have a JSON form");
        self.line.push(b'\n');
        let failed = |source| TrainError::Io { path: self.path.clone(), what: "write", source };
        self.file.write_all(&self.line).map_err(failed)
    }
}

/// The updates logged in a run folder, up to `updates`.
///
/// # Errors
/// A file that cannot be read.
pub fn read_metrics(folder: &Path, updates: u64) -> Result<Vec<StepMetrics>, TrainError> {
    let mut found = Vec::new();
    scan(&folder.join(METRICS_FILE), updates, &mut |_, metrics| found.push(metrics))?;
    Ok(found)
}

/// Gives the whole lines, with their ends, up to the first that is torn or of an update beyond `updates`. Holds one line
/// at a time: a long run's log is larger than many an arena.
fn scan(path: &Path, updates: u64, sink: &mut dyn FnMut(&[u8], StepMetrics)) -> Result<(), TrainError> {
    let failed = |source| TrainError::Io { path: path.to_path_buf(), what: "read", source };
    let mut reader = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(source)),
    };
    let mut line = Vec::new();
    for _ in 0..updates {
        line.clear();
        (&mut reader).take(MOST_LINE_BYTES).read_until(b'\n', &mut line).map_err(failed)?;
        let metrics = serde_json::from_slice::<StepMetrics>(&line);
        match metrics {
            Ok(metrics) if line.ends_with(b"\n") && metrics.step <= updates => sink(&line, metrics),
            _ => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn metrics(step: u64) -> StepMetrics {
        StepMetrics {
            step,
            epoch: step as f64 / 3.0,
            loss: 2.5,
            val_loss: step.is_multiple_of(2).then_some(2.25),
            lr: 1e-4,
            grad_norm: 0.7,
            tokens: 100,
            tokens_per_s: 1234.5,
            step_seconds: 0.081,
            peak_bytes: 1 << 40,
            planned_peak_bytes: 1 << 41,
        }
    }

    fn log(folder: &Path, from: u64, to: u64) {
        let mut log = MetricsLog::open(folder, from).expect("opens");
        for step in from + 1..=to {
            log.append(&metrics(step)).expect("appends");
        }
    }

    #[test]
    fn a_resumed_log_is_the_uninterrupted_one() {
        let (whole, resumed) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
        log(whole.path(), 0, 6);
        log(resumed.path(), 0, 5);
        let path = resumed.path().join(METRICS_FILE);
        let torn = fs::read_to_string(&path).expect("readable") + "{\"step\":6,\"epo";
        fs::write(&path, torn).expect("written");
        log(resumed.path(), 3, 6);
        let read = |folder: &Path| fs::read(folder.join(METRICS_FILE)).expect("readable");
        assert_eq!(read(resumed.path()), read(whole.path()));
        assert_eq!(read_metrics(whole.path(), 4).expect("readable"), (1..=4).map(metrics).collect::<Vec<_>>());
    }

    #[test]
    fn a_new_log_replaces_what_is_there() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join(METRICS_FILE), "something else\n").expect("written");
        log(folder.path(), 0, 1);
        let text = fs::read_to_string(folder.path().join(METRICS_FILE)).expect("readable");
        assert_eq!(text.lines().count(), 1);
        assert_eq!(serde_json::from_str::<StepMetrics>(&text).expect("one object"), metrics(1));
    }
}
