//! The folder of a run, with one of its files changed (the first byte says which): a save that is taken for complete is
//! as it was saved, and logs are read as far as they are whole.

use crate::fixtures;
use remat_train::{Saves, StepMetrics, TrainConfig, read_metrics, read_run_settings, read_samples};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Files of a run, by the byte that chooses one.
const FILES: &[&str] = &[
    "config.toml",
    "metrics.jsonl",
    "samples.jsonl",
    "checkpoint-2/config.toml",
    "checkpoint-2/state.safetensors",
    "checkpoint-2/manifest.json",
];
/// From here on, files of the save that its manifest vouches for; the last is the manifest.
const FIRST_SAVED: usize = 3;

/// The files of a whole run, with their contents.
static WHOLE: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    let out = fixtures::folder(&[("metrics.jsonl", metrics().as_bytes()), ("samples.jsonl", SAMPLE.as_bytes())]);
    let settings = TrainConfig { steps: Some(2), ..TrainConfig::default() }.to_toml();
    fs::write(out.path().join("config.toml"), &settings).expect("written");
    let state: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let save = &mut |folder: &Path| {
        fs::write(folder.join("config.toml"), &settings).expect("written");
        fs::write(folder.join("state.safetensors"), &state).expect("written");
        Ok(())
    };
    Saves::new(out.path()).write(2, save).expect("a save");
    FILES
        .iter()
        .map(|name| (PathBuf::from(name), fs::read(out.path().join(name)).expect("a file of the run")))
        .collect()
});

const SAMPLE: &str = "{\"step\":1,\"epoch\":0.5,\"prompt\":\"a\",\"text\":\"b\",\"tokens\":1,\"is_whole\":true}\n";

fn metrics() -> String {
    let line = |step| StepMetrics {
        step,
        epoch: 0.5,
        loss: 2.5,
        val_loss: (step == 2).then_some(2.25),
        lr: 1e-4,
        grad_norm: 0.5,
        tokens: 64,
        tokens_per_s: 100.0,
        step_seconds: 0.64,
        peak_bytes: 1 << 20,
        planned_peak_bytes: 1 << 20,
    };
    [1, 2].map(|step| serde_json::to_string(&line(step)).expect("numbers") + "\n").concat()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    WHOLE.iter().enumerate().map(|(index, (_, bytes))| fixtures::chosen(index, bytes)).collect()
}

pub(crate) fn examine(input: &[u8]) {
    let Some((changed, bytes)) = fixtures::choose(input, FILES) else { return };
    let out = fixtures::folder(&[]);
    fs::create_dir(out.path().join("checkpoint-2")).expect("a folder");
    for (name, whole) in WHOLE.iter() {
        let content = if name == Path::new(changed) { bytes } else { whole };
        fs::write(out.path().join(name), content).expect("written");
    }
    match read_run_settings(out.path()) {
        Err(error) => crate::refusal::refused(&error),
        Ok(text) => {
            let read = TrainConfig::default().overlaid(&out.path().join("config.toml"), &text, &|_| false);
            read.map_or_else(|error| crate::refusal::refused(&error), |_| ());
        }
    }
    match read_metrics(out.path(), 2) {
        Err(error) => crate::refusal::refused(&error),
        Ok(lines) => assert!(lines.len() <= 2 && lines.is_sorted_by(|a, b| a.step < b.step), "{lines:?}"),
    }
    read_samples(out.path(), 2).map_or_else(|error| crate::refusal::refused(&error), |_| ());
    match Saves::new(out.path()).latest_complete() {
        Err(error) => crate::refusal::refused(&error),
        Ok(_) => assert_saved(changed, bytes),
    }
}

/// A save was taken for complete: then its files are those that were saved.
fn assert_saved(changed: &str, bytes: &[u8]) {
    let index = FILES.iter().position(|name| *name == changed).expect("a file of the run");
    let is_content = (FIRST_SAVED..FILES.len() - 1).contains(&index);
    assert!(!is_content || WHOLE[index].1 == bytes, "a save with a changed {changed} is taken for complete");
}
