//! The error that ended a rank, as a file: in the run's folder, and where torchelastic looks for it.
//!
//! Invariant: what cannot be written is no error of its own, since the first one is the one to report. The form is that of
//! `torch.distributed.elastic.multiprocessing.errors`: `{"message": {"message", "extraInfo": {"py_callstack", "timestamp"}}}`.

use crate::TrainError;
use crate::record::time::seconds_since_1970;
use serde_json::json;
use std::fs;
use std::path::Path;

/// The folder of the run's folder that has a file per rank.
const ERRORS_FOLDER: &str = "errors";

/// The variable that names torchelastic's file.
const TORCHELASTIC_VARIABLE: &str = "TORCHELASTIC_ERROR_FILE";

/// Writes down what ended a process: as that of its rank in the run's folder `out`, if it is one of several and the folder
/// is there, and in the file that torchelastic names.
pub(crate) fn write(error: &TrainError, rank: Option<usize>, out: &Path) {
    let text = text(error, rank.unwrap_or(0));
    if let (Some(rank), true) = (rank, out.is_dir()) {
        let folder = out.join(ERRORS_FOLDER);
        drop(fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(format!("rank-{rank}.json")), &text)));
    }
    if let Some(path) = std::env::var_os(TORCHELASTIC_VARIABLE) {
        drop(fs::write(path, &text));
    }
}

fn text(error: &TrainError, rank: usize) -> String {
    let timestamp = seconds_since_1970().to_string();
    let extra = json!({ "py_callstack": "", "timestamp": timestamp, "rank": rank });
    json!({ "message": { "message": error.to_string(), "extraInfo": extra } }).to_string() + "\n"
}
