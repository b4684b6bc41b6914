//! Runs the binary and reads what it left. Invariant: every run has its own folder, gone after the test,
//! and no cache.

use crate::prices::NO_CACHE;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The fixtures of the repository.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// A parity case's folder.
pub fn case(name: &str) -> PathBuf {
    fixtures().join("parity").join(name)
}

/// A copy of a case's model folder, to be changed.
pub fn copied(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("temporary folder");
    for entry in std::fs::read_dir(case(name)).expect("a case").flatten().filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copied");
    }
    copy
}

/// `remat` with these arguments, not yet run.
pub fn remat<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
    command.args(arguments).env("NO_COLOR", "1").env("XDG_CACHE_HOME", NO_CACHE);
    command
}

/// A training run in the making.
pub struct Train {
    pub folder: tempfile::TempDir,
    model: PathBuf,
    data: PathBuf,
    more: Vec<String>,
}

impl Train {
    /// On a parity case and its rows; `flags` are split at blanks.
    pub fn on(name: &str, flags: &str) -> Train {
        Train {
            folder: tempfile::tempdir().expect("temporary folder"),
            model: case(name),
            data: case(name).join("rows.jsonl"),
            more: flags.split_whitespace().map(str::to_string).collect(),
        }
    }

    /// With another model folder.
    pub fn model(self, model: &Path) -> Train {
        Train { model: model.to_path_buf(), ..self }
    }

    /// With other rows.
    pub fn data(self, data: &Path) -> Train {
        Train { data: data.to_path_buf(), ..self }
    }

    /// Where the run writes.
    pub fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// The command, with more flags.
    pub fn command(&self, flags: &str) -> Command {
        let mut command = remat(["train"]);
        command.arg("--model").arg(&self.model).arg("--data").arg(&self.data).arg("--out").arg(self.out());
        command.args(&self.more).args(flags.split_whitespace());
        command
    }

    /// Runs to the end, which has to be good.
    pub fn finish(self) -> Finished {
        let output = self.command("").output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        Finished { stdout: text(&output.stdout), stderr: text(&output.stderr), train: self }
    }

    /// Runs `remat train --resume` in the same folder.
    pub fn resume(&self, flags: &str) -> Output {
        let mut command = remat(["train", "--resume", "--out"]);
        command.arg(self.out()).args(flags.split_whitespace()).output().expect("the binary runs")
    }

    /// A file of the run folder.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.out().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Values of one key of metrics.jsonl.
    pub fn metrics(&self, key: &str) -> Vec<f64> {
        let text = text(&self.bytes("metrics.jsonl"));
        let number = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")[key].as_f64().expect("a number");
        text.lines().map(number).collect()
    }
}

/// A run that ended well.
pub struct Finished {
    pub train: Train,
    pub stdout: String,
    pub stderr: String,
}

/// Output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
