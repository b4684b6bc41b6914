//! `metrics.jsonl`: one line of JSON per update, appended as the run goes; and beside it the same for TensorBoard.
//!
//! Invariants: after a resume from update N the file holds exactly the lines of updates 1 to N, byte for byte, whatever
//! came behind them. Writing a line allocates nothing once the buffer has grown to a line's size. The file is read once, when
//! it is opened; what saves tell of the run is kept since, so a save costs the same however long the run is.

use crate::folder::file_names::{EVENTS_FILE, METRICS_FILE};
use crate::run::events::Events;
use crate::run::json_lines::{append_whole, whole_lines};
use crate::{StepMetrics, TrainError};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longer than any line can be.
const MOST_LINE_BYTES: u64 = 1 << 16;

/// Records that are gathered before they are written.
const RECORDS_BYTES: usize = 1 << 16;

/// Updates that are kept in memory, for saves to tell of.
const RECENT_UPDATES: usize = 512;

/// Appends to the file.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    line: Vec<u8>,
    /// The newest, oldest first.
    recent: VecDeque<StepMetrics>,
    tokens: u64,
    lines: u64,
    events: Events,
    events_file: File,
    records: Vec<u8>,
}

impl MetricsLog {
    /// Opens the log of a run folder and keeps the lines of the first `updates` updates. The same for TensorBoard goes into the
    /// folder `events`.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn open(folder: &Path, events: &Path, updates: u64) -> Result<Self, TrainError> {
        let path = folder.join(METRICS_FILE);
        let failed = |source| TrainError::Io { path: path.clone(), what: "write", source };
        let (mut kept_bytes, mut tokens, mut lines) = (0, 0, 0);
        let mut recent = VecDeque::with_capacity(RECENT_UPDATES);
        let events_path = events.join(EVENTS_FILE);
        let no_events = |source| TrainError::Io { path: events_path.clone(), what: "write", source };
        let mut events_file = appended(&events_path).map_err(no_events)?;
        events_file.set_len(0).map_err(no_events)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        let (mut events, mut records) = (Events::beginning_at(now), Vec::with_capacity(1024));
        events.head(&mut records);
        let mut written = Ok(());
        scan(&path, updates, &mut |line, metrics| {
            kept_bytes += line.len() as u64;
            tokens += metrics.tokens;
            lines += 1;
            events.update(&metrics, &mut records);
            if written.is_ok() && records.len() > RECORDS_BYTES {
                written = events_file.write_all(&records);
                records.clear();
            }
            push(&mut recent, metrics);
        })?;
        written.and_then(|()| events_file.write_all(&records)).map_err(no_events)?;
        let file = appended(&path).map_err(failed)?;
        file.set_len(kept_bytes).map_err(failed)?;
        let line = Vec::with_capacity(512);
        Ok(MetricsLog { path, file, line, recent, tokens, lines, events, events_file, records })
    }

    /// The newest updates, oldest first: so many that a save can tell how the run went lately, and no more.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &StepMetrics> {
        self.recent.iter()
    }

    /// Tokens of all updates in the file.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Updates in the file.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Brings what was appended to the disk.
    ///
    /// # Errors
    /// A disk that fails.
    pub fn sync(&self) -> Result<(), TrainError> {
        self.file.sync_data().map_err(|source| TrainError::Io { path: self.path.clone(), what: "write", source })
    }

    /// Appends one update; nothing where that fails.
    ///
    /// # Errors
    /// A full disk and the like.
    pub fn append(&mut self, metrics: &StepMetrics) -> Result<(), TrainError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, metrics).expect("numbers have a JSON form");
        self.line.push(b'\n');
        self.records.clear();
        let time = self.events.time;
        self.events.update(metrics, &mut self.records);
        let mut append = || -> io::Result<()> {
            let length = self.file.metadata()?.len();
            append_whole(&mut self.file, &self.line)?;
            append_whole(&mut self.events_file, &self.records).inspect_err(|_| drop(self.file.set_len(length)))
        };
        if let Err(source) = append() {
            self.events.time = time;
            return Err(TrainError::Io { path: self.path.clone(), what: "write", source });
        }
        push(&mut self.recent, *metrics);
        self.tokens += metrics.tokens;
        self.lines += 1;
        Ok(())
    }
}

/// A file that is written at its end, made if it is not there.
fn appended(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Adds an update within the capacity that the ring was made with.
fn push(recent: &mut VecDeque<StepMetrics>, metrics: StepMetrics) {
    if recent.len() == RECENT_UPDATES {
        recent.pop_front();
    }
    recent.push_back(metrics);
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

/// Gives the whole lines, with their ends, up to the first that is torn or of an update beyond `updates`, and no more than
/// there are updates.
fn scan(path: &Path, updates: u64, sink: &mut dyn FnMut(&[u8], StepMetrics)) -> Result<(), TrainError> {
    let mut left = updates;
    whole_lines(path, MOST_LINE_BYTES, &mut |line, metrics: StepMetrics| {
        let is_kept = left > 0 && metrics.step <= updates;
        if is_kept {
            left -= 1;
            sink(line, metrics);
        }
        is_kept
    })
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
        let mut log = MetricsLog::open(folder, folder, from).expect("opens");
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
    fn what_saves_tell_is_bounded_and_the_same_after_a_resume() {
        let (whole, resumed) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
        let last = 3 * RECENT_UPDATES as u64;
        let mut log = MetricsLog::open(whole.path(), whole.path(), 0).expect("opens");
        let capacity = log.recent.capacity();
        (1..=last).for_each(|step| log.append(&metrics(step)).expect("appends"));
        assert_eq!((log.recent.len(), log.recent.capacity()), (RECENT_UPDATES, capacity));
        assert!(log.recent().map(|m| m.step).eq(last - RECENT_UPDATES as u64 + 1..=last));
        assert_eq!((log.tokens(), log.lines()), (100 * last, last));

        let mut again = MetricsLog::open(resumed.path(), resumed.path(), 0).expect("opens");
        (1..=last).for_each(|step| again.append(&metrics(step)).expect("appends"));
        let again = MetricsLog::open(resumed.path(), resumed.path(), last).expect("opens");
        assert!(again.recent().eq(log.recent()) && (again.tokens(), again.lines()) == (log.tokens(), log.lines()));
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
