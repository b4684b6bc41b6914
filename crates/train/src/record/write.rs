//! A lab record as files: where they go, and what may not stand in them.

use crate::TrainError;
use crate::folder::file_names::{RECORD_FILE, RECORD_TEXT_FILE};
use crate::record::lab_record::Record;
use crate::record::page::{page, turns};
use remat_formats::write_atomic;
use std::path::{Path, PathBuf};

/// Where records go that no folder was given for; `None` where there is no place for such.
pub fn record_folder(kind: &str, started_at: &str) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let time: String = started_at.chars().filter(char::is_ascii_alphanumeric).collect();
    Some(state.join("remat/records").join(format!("{time}-{kind}-{}", std::process::id())))
}

impl Record {
    /// Writes `record.json` and `record.md` into a folder that exists.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), TrainError> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| TrainError::not_saved(format!("{RECORD_FILE}: {error}")))?;
        let write = |name: &str, text: &str| {
            let written = write_atomic(&folder.join(name), text.as_bytes());
            written.map_err(TrainError::not_saved)
        };
        write(RECORD_FILE, &format!("{}\n", without_turns(&json)))?;
        write(RECORD_TEXT_FILE, &page(self))
    }
}

/// The same JSON with characters that turn the reading direction as escapes: outside texts there are none.
fn without_turns(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        match turns(c) {
            true => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::without_turns;

    #[test]
    fn json_means_the_same_without_turns() {
        let name = "a\u{202e}gnp.exe \u{200f}\u{2066}ä\\";
        let json = serde_json::to_string(name).expect("a text");
        let shown = without_turns(&json);
        assert!(shown.contains("\\u202egnp") && !shown.contains('\u{202e}'), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).expect("JSON"), name);
    }
}
