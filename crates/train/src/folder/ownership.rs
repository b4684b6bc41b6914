//! What of a folder remat wrote: by the folder's listing, or, where an older version wrote no listing, by what a run or a
//! record of remat's leaves and only beside its settings or its record.
//!
//! Invariant: looking changes nothing; in doubt a file is somebody else's. Look next at `remat_formats::OwnFiles`.

use crate::TrainConfig;
use crate::folder::file_names::{
    BEST_FILE, BEST_FOLDER, CONFIG_FILE, DATA_STATE_FILE, MANIFEST, OPTIMIZER_FILE, RECORD_FILE, RECORD_FILES,
    SAVE_PREFIX, STATE_FILES, TRAINER_STATE_FILE,
};
use crate::settings::kinds::MethodKind;
use remat_formats::{FormatsError, OwnFiles, SETTINGS_LIMIT_BYTES, files_below, read_text_file};
use remat_model::{ADAPTER_FILES, MODEL_FILES, is_model_file};
use std::fs;
use std::path::Path;

/// A record is some kilobytes; what is much larger is none.
const MOST_RECORD_BYTES: u64 = 16 << 20;

/// The files of a run's result.
pub(crate) fn result_files(method: MethodKind) -> &'static [&'static str] {
    match method {
        MethodKind::Lora | MethodKind::Qlora => ADAPTER_FILES,
        MethodKind::Full => MODEL_FILES,
    }
}

/// Every name that a run may write under, by whatever method, beside checkpoint-N and hidden files.
pub(crate) fn run_files() -> impl Iterator<Item = &'static str> {
    STATE_FILES.iter().chain(RECORD_FILES).chain(ADAPTER_FILES).chain(MODEL_FILES).chain([&BEST_FOLDER]).copied()
}

/// The names that a run of this method writes under.
pub(crate) fn files_of_run(method: MethodKind) -> impl Iterator<Item = &'static str> {
    STATE_FILES.iter().chain(RECORD_FILES).chain(result_files(method)).copied()
}

/// What remat wrote to a folder, which may not be there.
///
/// # Errors
/// A listing that cannot be read.
pub fn own_files(folder: &Path) -> Result<OwnFiles, FormatsError> {
    if let Some(listed) = OwnFiles::read(folder)? {
        return Ok(listed);
    }
    // Settings that a run wrote have every key; a file of settings made by hand hardly ever has.
    let text = read_text_file(&folder.join(CONFIG_FILE), SETTINGS_LIMIT_BYTES).unwrap_or_default();
    let mut names: Vec<&str> = match toml::from_str::<TrainConfig>(&text) {
        Ok(config) => files_of_run(config.method).collect(),
        Err(_) if record_kind(folder).is_some() => RECORD_FILES.to_vec(),
        Err(_) => Vec::new(),
    };
    names.retain(|name| folder.join(name).symlink_metadata().is_ok());
    Ok(OwnFiles::of(folder, names))
}

/// What a folder's `record.json` is a lab record of, if it is one.
pub fn record_kind(folder: &Path) -> Option<String> {
    let text = read_text_file(&folder.join(RECORD_FILE), MOST_RECORD_BYTES).ok()?;
    let record: serde_json::Value = serde_json::from_str(&text).ok()?;
    let is_remats = record["schema"] == 1 && record["remat_version"].is_string();
    record["kind"].as_str().filter(|_| is_remats).map(str::to_string)
}

/// Whether it is the name of a save, or of the best of them.
pub(crate) fn is_save(name: &str) -> bool {
    let step = name.strip_prefix(SAVE_PREFIX);
    name == BEST_FOLDER || step.is_some_and(|digits| digits.parse::<u64>().is_ok_and(|step| step.to_string() == digits))
}

/// The first thing among a folder's saves that remat did not write: a save as a whole, or a file inside one.
pub(crate) fn foreign_save(folder: &Path) -> Option<String> {
    let saves = fs::read_dir(folder).into_iter().flatten().flatten();
    let saves = saves.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_save(name));
    saves.filter_map(|name| foreign_inside(folder, name)).min()
}

fn foreign_inside(folder: &Path, name: String) -> Option<String> {
    let save = folder.join(&name);
    if !save.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        return Some(name);
    }
    let fixed = [MANIFEST, OPTIMIZER_FILE, TRAINER_STATE_FILE, DATA_STATE_FILE, CONFIG_FILE, BEST_FILE];
    let is_known = |file: &str| {
        fixed.contains(&file) || ADAPTER_FILES.contains(&file) || is_model_file(file) || file.starts_with(".remat-")
    };
    let files = files_below(&save).unwrap_or_default();
    // Both names are in every save; others write adapters under the same names as remat does.
    let is_save_of_remat = files.is_empty() || files.iter().any(|file| file == DATA_STATE_FILE || file == MANIFEST);
    match files.iter().find(|file| !is_known(file)) {
        Some(file) => Some(format!("{name}/{file}")),
        None => (!is_save_of_remat).then_some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::file_names::{METRICS_FILE, RECORD_TEXT_FILE};

    #[test]
    fn without_a_listing_only_what_lies_beside_settings_or_a_record_is_remats() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
        let own = || own_files(folder.path()).expect("readable");
        for name in ["config.json", "adapter_config.json", METRICS_FILE, RECORD_TEXT_FILE] {
            write(name, "somebody's");
        }
        assert!(!own().holds("adapter_config.json") && !own().holds(METRICS_FILE) && !own().holds(RECORD_TEXT_FILE));
        write(RECORD_FILE, r#"{"schema": 1, "kind": "a disc"}"#);
        assert!(!own().holds(RECORD_FILE), "another program's record");
        write(RECORD_FILE, r#"{"schema": 1, "kind": "profile", "remat_version": "0.1.0"}"#);
        assert!(own().holds(RECORD_FILE) && own().holds(RECORD_TEXT_FILE) && !own().holds(METRICS_FILE));
        write(CONFIG_FILE, "model = \"m\"\nlr = 1e-4\n");
        assert!(!own().holds(CONFIG_FILE), "settings made by hand");
        write(CONFIG_FILE, &TrainConfig::default().to_toml());
        assert!(own().holds(CONFIG_FILE) && own().holds("adapter_config.json") && own().holds(METRICS_FILE));
        assert!(!own().holds("config.json"), "a run with an adapter writes no config.json");
    }

    #[test]
    fn folders_that_only_look_like_saves_are_somebodys() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let file = |name: &str| fs::write(at(name), "x").expect("written");
        fs::create_dir(at("checkpoint-7")).expect("made");
        for name in [MANIFEST, DATA_STATE_FILE, "adapter_config.json"] {
            file(&format!("checkpoint-7/{name}"));
        }
        fs::create_dir(at("checkpoint-best")).expect("made");
        assert_eq!(foreign_save(folder.path()), None);
        file("checkpoint-7/notes.txt");
        assert_eq!(foreign_save(folder.path()).as_deref(), Some("checkpoint-7/notes.txt"));
        fs::create_dir(at("checkpoint-5")).expect("made");
        file("checkpoint-5/adapter_config.json");
        assert_eq!(foreign_save(folder.path()).as_deref(), Some("checkpoint-5"), "nothing there is remat's alone");
        std::os::unix::fs::symlink(at("checkpoint-7"), at("checkpoint-4")).expect("linked");
        assert_eq!(foreign_save(folder.path()).as_deref(), Some("checkpoint-4"), "a link");
    }
}
