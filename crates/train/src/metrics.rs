//! `metrics.jsonl`: one line of JSON per update, appended as the run goes.
//!
//! Invariant: after a resume from update N the file holds exactly the lines of updates 1 to N, byte for byte, whatever
//! came behind them. Writing a line allocates nothing once the buffer has grown to a line's size.

use crate::TrainError;
use crate::run_folder::METRICS_FILE;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What is known of one update.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The update, counted from 1.
    pub step: u64,
    /// Epochs done, with the current one's part.
    pub epoch: f64,
    /// Negative log-likelihood per trained token of this update's batch, before the update.
    pub loss: f64,
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
        let kept_bytes = prefix(&path, updates)?.iter().map(|line| line.len() as u64).sum();
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
    let lines = prefix(&folder.join(METRICS_FILE), updates)?;
    Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The whole lines, with their ends, before the first that is torn or of an update beyond `updates`.
fn prefix(path: &Path, updates: u64) -> Result<Vec<String>, TrainError> {
    if updates == 0 {
        return Ok(Vec::new());
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(TrainError::Io { path: path.to_path_buf(), what: "read", source }),
    };
    let text = String::from_utf8_lossy(&bytes);
    let belongs = |line: &&str| {
        let metrics = serde_json::from_str::<StepMetrics>(line);
        line.ends_with('\n') && metrics.is_ok_and(|metrics| metrics.step <= updates)
    };
    Ok(text.split_inclusive('\n').take_while(belongs).map(str::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(step: u64) -> StepMetrics {
        StepMetrics {
            step,
            epoch: step as f64 / 3.0,
            loss: 2.5,
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
