//! The settings of a run that is gone on with, from its folder. Invariant: settings that lost a part are never taken for whole.

use crate::TrainError;
use crate::folder::file_names::CONFIG_FILE;
use crate::folder::saves::Saves;
use crate::settings::config_file::{END, read};
use std::path::Path;
use toml::Table;

/// The text of the settings of the run in `out`, which is gone on with, and so has to be whole. A run of an earlier version
/// wrote no end; then no key may be missing that its newest save has.
///
/// # Errors
/// A file that cannot be read, or was cut.
pub fn read_run_settings(out: &Path) -> Result<String, TrainError> {
    let path = out.join(CONFIG_FILE);
    let text = read(&path)?;
    let has_end = |text: &str| text.lines().any(|line| line.trim() == END);
    let saved = Saves::new(out).newest_file(CONFIG_FILE);
    let missing = match &saved {
        _ if has_end(&text) => None,
        Some((_, saved)) if has_end(saved) => Some(format!("its last line, \"{END}\", is missing")),
        Some((_, saved)) => missing_key(&text, saved).map(|key| format!("`{key}` is missing")),
        None => None,
    };
    match (missing, saved) {
        (Some(missing), Some((saved, _))) => {
            let problem = format!("was cut: {missing}. {} is whole: copy it here", saved.display());
            Err(TrainError::BadSave { path, problem })
        }
        _ => Ok(text),
    }
}

/// A key of the first text, but for the length of a run, that the second has not; of texts that are TOML.
fn missing_key(text: &str, saved: &str) -> Option<String> {
    let (text, saved) = (toml::from_str::<Table>(text).ok()?, toml::from_str::<Table>(saved).ok()?);
    let has = |key: &str| match key {
        "epochs" | "steps" => text.contains_key("epochs") || text.contains_key("steps"),
        _ => text.contains_key(key),
    };
    saved.into_iter().map(|(key, _)| key).find(|key| !has(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrainConfig;

    #[test]
    fn a_file_that_was_cut_is_noticed() {
        let out = tempfile::tempdir().expect("folder");
        let path = out.path().join(CONFIG_FILE);
        let text = TrainConfig { save_every: Some(3), ..TrainConfig::default() }.to_toml();
        let earlier = text.replace(END, "");
        let save = |text: &str| {
            std::fs::create_dir_all(out.path().join("checkpoint-3")).expect("created");
            std::fs::write(out.path().join("checkpoint-3").join(CONFIG_FILE), text).expect("written");
        };
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            read_run_settings(out.path())
        };
        save(&text);
        assert_eq!(read(&text).expect("whole"), text);
        for end in 0..text.len() - 1 {
            let message = read(&text[..end]).expect_err("cut").to_string();
            assert!(message.contains("was cut") && message.contains("checkpoint-3/config.toml is whole"), "{message}");
        }
        // A run of a version that wrote no end: it is whole as long as no key is missing.
        save(&earlier);
        assert_eq!(read(&earlier).expect("whole"), earlier);
        let lines: Vec<&str> = earlier.lines().collect();
        for kept in 0..lines.len() - 1 {
            let message = read(&lines[..kept].join("\n")).expect_err("cut").to_string();
            assert!(message.contains("` is missing"), "{kept}: {message}");
        }
        // Keys that a person took out on purpose, in a file with an end, are unset.
        let without = text.replace("save-every = 3\n", "");
        assert_eq!(read(&without).expect("whole"), without);
    }
}
