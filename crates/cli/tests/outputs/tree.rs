//! A folder with one of every input, and how it looks. Invariant: what is compared is every byte and every link in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Small copies of a model, an adapter, rows and settings, each in a folder of its own.
pub struct Tree {
    pub root: tempfile::TempDir,
}

impl Tree {
    pub fn new() -> Tree {
        let root = tempfile::tempdir().expect("a folder");
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity/llama-gqa-tied");
        for name in ["m/model", "a/adapter", "d", "e", "c", "o/offload"] {
            fs::create_dir_all(root.path().join(name)).expect("made");
        }
        let copy = |from: PathBuf, to: &str| {
            for entry in fs::read_dir(from).expect("a folder").flatten().filter(|entry| entry.path().is_file()) {
                fs::copy(entry.path(), root.path().join(to).join(entry.file_name())).expect("copied");
            }
        };
        copy(case.clone(), "m/model");
        copy(case.join("adapter"), "a/adapter");
        for rows in ["d/rows.jsonl", "e/held-out.jsonl"] {
            fs::copy(case.join("rows.jsonl"), root.path().join(rows)).expect("copied");
        }
        fs::write(root.path().join("c/settings.toml"), "lr = 1e-4\n").expect("written");
        fs::write(root.path().join("o/offload/theirs"), "theirs").expect("written");
        Tree { root }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// `remat` with flags that are split at blanks, in the folder.
    pub fn command(&self, flags: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
        command.args(flags.split_whitespace()).current_dir(self.root.path()).env("NO_COLOR", "1");
        command
    }

    pub fn run(&self, flags: &str) -> Output {
        self.command(flags).output().expect("the binary runs")
    }

    /// Runs, and expects this exit code and all of these in the message.
    pub fn expect(&self, flags: &str, code: i32, parts: &[&str]) -> String {
        let output = self.run(flags);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "remat {flags}\n{said}");
        for part in parts {
            assert!(said.contains(part), "remat {flags}\n'{part}' is not in: {said}");
        }
        said
    }

    /// Every file with its bytes and every link with where it leads.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut left = vec![self.root.path().to_path_buf()];
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                let (kind, path) = (entry.file_type().expect("known"), entry.path());
                if kind.is_symlink() {
                    found.insert(
                        path.clone(),
                        fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes(),
                    );
                } else if kind.is_dir() {
                    found.insert(path.clone(), Vec::new());
                    left.push(path);
                } else {
                    found.insert(path.clone(), fs::read(&path).expect("readable"));
                }
            }
        }
        found
    }
}

/// Names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().into_string().expect("UTF-8")).collect();
    names.sort_unstable();
    names
}

/// Waits for what another process is to make.
pub fn wait_for(path: &Path, is_there: impl Fn(&Path) -> bool) {
    for _ in 0..6000 {
        if is_there(path) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{} does not come", path.display());
}
