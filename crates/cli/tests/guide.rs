//! The guide under `docs/`: its commands work, and its links lead somewhere.
//!
//! Blocks fenced as `sh` are run by a shell, page after page, in one folder that has what `remat quickstart` leaves. In
//! blocks fenced as `sh check`, for what is large, each command of remat is parsed only: with `--help` behind its flags the
//! parser refuses an unknown flag or a bad value, and runs nothing. The Rust of `own-model.md` is a doctest of the library.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The pages, in the order of the guide.
const PAGES: [&str; 15] = [
    "README.md",
    "checkpointing.md",
    "placement.md",
    "own-model.md",
    "qlora.md",
    "data.md",
    "model-folders.md",
    "troubleshooting.md",
    "asking.md",
    "hub.md",
    "watching.md",
    "merge-and-export.md",
    "methods.md",
    "clusters.md",
    "cuda.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The lines of all blocks with this fence, each with its page.
fn lines_of(fence: &str) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for name in PAGES {
        let mut inside = false;
        for line in page(name).lines() {
            match line.strip_prefix("```") {
                Some(info) => inside = !inside && info == fence,
                None if inside => lines.push((name, line.to_string())),
                None => {}
            }
        }
    }
    lines
}

/// A folder with what the quickstart leaves.
fn after_the_quickstart() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/quickstart");
    let copy = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("assets").flatten().filter(|entry| entry.path().is_file()) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    };
    copy(&assets, &folder.path().join("tour"));
    copy(&assets.join("model"), &folder.path().join("tour/model"));
    folder
}

fn shell(folder: &Path, line: &str) -> Output {
    let mut path = Path::new(env!("CARGO_BIN_EXE_remat")).parent().expect("a folder").as_os_str().to_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command.args(["-e", "-c", line]).current_dir(folder).env("PATH", path).env("NO_COLOR", "1");
    command.env("XDG_STATE_HOME", folder).env("XDG_CACHE_HOME", folder).output().expect("there is a shell")
}

#[cfg(unix)]
#[test]
fn its_commands_work_one_after_the_other() {
    let folder = after_the_quickstart();
    let lines = lines_of("sh");
    assert!(lines.len() >= 10, "only {} commands were found", lines.len());
    let mut said = String::new();
    for (name, line) in &lines {
        let output = shell(folder.path(), line);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docs/{name}: {line}\n{error}");
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        said.push_str(&error);
    }
    // What the guide says of their output.
    for part in ["The last losses are equal in every digit.", "alternatives, cheapest first", "validated: "] {
        assert!(said.contains(part), "{part}");
    }
    for part in [
        "columns   completion=antwort, prompt=frage",
        "ignored   votes: they say nothing that is learnt",
        "bad       1 row dropped: line 2: `text` is a number (`5`), but must be a string",
        "story.txt · a text · 1 row",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for file in ["profile-tour/report.html", "plan.html", "run-full/report.html", "run-none/record.md"] {
        assert!(folder.path().join(file).is_file(), "{file}");
    }
}

#[cfg(unix)]
#[test]
fn commands_that_are_too_large_to_run_have_known_flags_and_values() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let lines = lines_of("sh check");
    let commands: Vec<_> = lines.iter().filter(|(_, line)| line.starts_with("remat ")).collect();
    assert!(commands.len() >= 4, "only {} commands were found", commands.len());
    for (name, line) in commands {
        let output = shell(folder.path(), &format!("{line} --help"));
        assert!(output.status.success(), "docs/{name}: {line}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    for wrong in ["remat plan --preset gpt2 --sequence 5 --help", "remat plan --batch-size none --help"] {
        assert_eq!(shell(folder.path(), wrong).status.code(), Some(2), "{wrong} has to be refused");
    }
    for (name, line) in lines.iter().filter(|(_, line)| line.starts_with("cargo run -p remat --example ")) {
        let example = line.split_whitespace().nth(5).expect("a name");
        let file = root().join("crates/remat/examples").join(format!("{example}.rs"));
        assert!(file.is_file(), "docs/{name}: no example {example}");
    }
}

#[test]
fn its_links_lead_to_files_and_its_flags_exist() {
    for name in PAGES {
        let text = page(name);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target) {
            let file = target.split('#').next().unwrap_or_default();
            assert!(
                target.starts_with("https://") || root().join("docs").join(file).is_file(),
                "docs/{name}: {target}"
            );
        }
    }
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    assert!(readme.contains("(docs/README.md)"), "the README leads to the guide");
}
