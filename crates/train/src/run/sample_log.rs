//! `samples.jsonl`: one line of JSON per text and time, appended as the run goes.
//!
//! Invariant: after a resume from update N the file holds exactly the samples up to update N, byte for byte, whatever came
//! behind them: nothing in it depends on the time or the machine's speed.

use crate::TrainError;
use crate::folder::file_names::SAMPLES_FILE;
use crate::folder::ownership::own_files;
use crate::run::json_lines::{append_whole, whole_lines};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// Longer than any line can be that was written here.
const MOST_LINE_BYTES: u64 = 1 << 24;

/// A text that the model in training continued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Updates made before it.
    pub step: u64,
    /// Epochs done, with the current one's part.
    pub epoch: f64,
    /// The text.
    pub prompt: String,
    /// What the model made of it.
    pub text: String,
    /// Tokens of that.
    pub tokens: usize,
    /// Whether the model ended it; else it is as long as was asked for.
    pub is_whole: bool,
}

/// Appends to the file.
#[derive(Debug)]
pub(crate) struct SampleLog {
    path: PathBuf,
    file: File,
    /// The update of the newest line.
    newest: Option<u64>,
}

impl SampleLog {
    /// Opens the file of a run folder and keeps the samples up to update `last`; none of a run that begins.
    pub(crate) fn open(folder: &Path, last: Option<u64>) -> Result<Self, TrainError> {
        own_files(folder)?.add([SAMPLES_FILE])?;
        let path = folder.join(SAMPLES_FILE);
        let failed = |source| TrainError::Io { path: path.clone(), what: "write", source };
        let (mut kept_bytes, mut newest) = (0, None);
        if let Some(last) = last {
            scan(&path, last, &mut |line, sample| {
                kept_bytes += line.len() as u64;
                newest = Some(sample.step);
            })?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        file.set_len(kept_bytes).map_err(failed)?;
        Ok(SampleLog { path, file, newest })
    }

    /// Whether the samples after this update are made.
    pub(crate) fn has(&self, step: u64) -> bool {
        self.newest == Some(step)
    }

    /// Appends what was made of all texts after one update; nothing where that fails.
    pub(crate) fn append(&mut self, samples: &[Sample]) -> Result<(), TrainError> {
        let mut lines = Vec::new();
        for sample in samples {
            serde_json::to_writer(&mut lines, sample).expect("numbers and texts have a JSON form");
            lines.push(b'\n');
        }
        let failed = |source| TrainError::Io { path: self.path.clone(), what: "write", source };
        append_whole(&mut self.file, &lines).map_err(failed)?;
        self.newest = samples.last().map_or(self.newest, |sample| Some(sample.step));
        Ok(())
    }

    /// Brings what was appended to the disk.
    pub(crate) fn sync(&self) -> Result<(), TrainError> {
        self.file.sync_data().map_err(|source| TrainError::Io { path: self.path.clone(), what: "write", source })
    }
}

/// The samples of a run folder, up to those after update `last`; none where the run made none.
///
/// # Errors
/// A file that cannot be read.
pub fn read_samples(folder: &Path, last: u64) -> Result<Vec<Sample>, TrainError> {
    let mut found = Vec::new();
    scan(&folder.join(SAMPLES_FILE), last, &mut |_, sample| found.push(sample))?;
    Ok(found)
}

/// Gives the whole lines, with their ends, up to the first that is torn or of an update beyond `last`.
fn scan(path: &Path, last: u64, sink: &mut dyn FnMut(&[u8], Sample)) -> Result<(), TrainError> {
    whole_lines(path, MOST_LINE_BYTES, &mut |line, sample: Sample| {
        let is_kept = sample.step <= last;
        if is_kept {
            sink(line, sample);
        }
        is_kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn sample(step: u64) -> Sample {
        let (prompt, text) = ("Once \"upon\"".to_string(), format!("a time\n{step} \u{1f600}"));
        Sample { step, epoch: step as f64 / 3.0, prompt, text, tokens: 5, is_whole: step > 2 }
    }

    #[test]
    fn a_resumed_file_is_the_uninterrupted_one() {
        let (whole, resumed) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
        let log = |folder: &Path, last: Option<u64>, steps: &[u64]| {
            let mut log = SampleLog::open(folder, last).expect("opens");
            for &step in steps.iter().filter(|step| Some(**step) != last) {
                assert!(!log.has(step));
                log.append(&[sample(step), sample(step)]).expect("appends");
                assert!(log.has(step));
            }
        };
        log(whole.path(), None, &[0, 2, 4, 6]);
        log(resumed.path(), None, &[0, 2, 4]);
        let path = resumed.path().join(SAMPLES_FILE);
        let torn = fs::read_to_string(&path).expect("readable") + "{\"step\":6,\"epo";
        fs::write(&path, torn).expect("written");
        log(resumed.path(), Some(2), &[2, 4, 6]);
        let read = |folder: &Path| fs::read(folder.join(SAMPLES_FILE)).expect("readable");
        assert_eq!(read(resumed.path()), read(whole.path()));
        let expected: Vec<Sample> = [0, 0, 2, 2].map(sample).into();
        assert_eq!(read_samples(whole.path(), 3).expect("readable"), expected);
        log(resumed.path(), None, &[0]);
        assert_eq!(read_samples(resumed.path(), 9).expect("readable").len(), 2, "a run that begins keeps none");
    }
}
