//! Reads a lab record. Invariant: only an object of schema 1 that says what was run is a record; nothing else is guessed at,
//! and what is read is bounded.

use remat_formats::open_file;
use remat_train::{RECORD_FILE, TrainError};
use serde_json::Value;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// A record is a few KiB; anything much larger is none.
const MOST_BYTES: u64 = 4 << 20;

/// A record and where it was.
pub(super) struct RecordFile {
    pub(super) path: PathBuf,
    pub(super) record: Value,
}

impl RecordFile {
    /// What was run and when, in words.
    pub(super) fn heading(&self) -> String {
        let text = |key: &str| self.record[key].as_str();
        format!("{} of {}", text("kind").unwrap_or("train"), text("started_at").unwrap_or("an unknown time"))
    }
}

/// The record of a file or folder.
///
/// # Errors
/// Nothing there, or something that is no record.
pub(super) fn record(path: &Path) -> Result<RecordFile, TrainError> {
    let path = if path.is_dir() { path.join(RECORD_FILE) } else { path.to_path_buf() };
    let unreadable = |source| TrainError::Io { path: path.clone(), what: "read", source };
    let refuse = |problem: String| {
        let problem = format!("{problem}; give a {RECORD_FILE} that remat wrote, or the folder it is in");
        TrainError::BadSave { path: path.clone(), problem }
    };
    let (file, _) = open_file(&path).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => refuse("not a file".to_string()),
        _ => unreadable(error),
    })?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(refuse(format!("larger than {} MiB, so not a lab record", MOST_BYTES >> 20)));
    }
    let record: Value =
        serde_json::from_slice(&bytes).map_err(|error| refuse(format!("not a lab record: not JSON: {error}")))?;
    match &record["schema"] {
        Value::Null => return Err(refuse("not a lab record: it names no schema".to_string())),
        schema if *schema != 1 => {
            return Err(refuse(format!("schema {schema:.20} is not known to this version of remat, which reads 1")));
        }
        _ => {}
    }
    let missing =
        ["remat_version", "machine", "config", "plan", "observed"].into_iter().find(|key| record[*key].is_null());
    match missing {
        Some(key) => Err(refuse(format!("not a lab record: `{key}` is missing"))),
        None => Ok(RecordFile { path, record }),
    }
}

#[cfg(test)]
mod tests {
    use super::record;
    use remat_train::ErrorKind;

    const GOOD: &str = r#"{"schema":1,"remat_version":"0","machine":{},"config":{},"plan":{},"observed":{}}"#;

    #[test]
    fn what_is_no_record_is_refused_as_bad_input() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("record.json");
        std::fs::write(&path, GOOD).expect("written");
        assert!(record(folder.path()).is_ok() && record(&path).is_ok(), "a folder or the file in it");
        let deep = "[".repeat(1 << 16);
        let large = format!("{GOOD}{}", " ".repeat(5 << 20));
        let no_plan = GOOD.replace("\"plan\"", "\"plans\"");
        let texts =
            ["", "{", "null", "[]", "\"\"", "1e999", "{\"schema\":2}", "{\"schema\":1}", &deep, &large, &no_plan];
        for text in texts {
            std::fs::write(&path, text).expect("written");
            let error = record(&path).map(|_| ()).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Input, "{error}");
            assert!(error.to_string().contains("record.json"), "{error}");
        }
        std::fs::write(&path, [0xff, 0xfe, 0]).expect("written");
        assert!(record(&path).is_err(), "not UTF-8");
        assert!(record(&folder.path().join("absent")).is_err());
        assert!(record(std::path::Path::new("/dev/zero")).is_err(), "never ends");
    }
}
