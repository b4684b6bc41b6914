//! Rules of the code base that the compiler does not check. Run as a test and by `cargo xtask tidy`.
//!
//! - *floors*: a crate depends only on crates of lower floors (dev-dependencies are free);
//! - *file heads*: every source file opens with a `//!` sentence;
//! - *circles*: no files of a crate use each other in a circle (`ONE_DEFINITION` aside);
//! - *sizes*: no source file above 600 lines;
//! - *closed ops*: no `_ =>` in a match on `Op::` variants in an executor's dispatch;
//! - *open ends*: no `todo!`, `unimplemented!` or marker comments;
//! - *one stem per op*: every op of the table has its file in `ir/src/ops` and under `cpu/src/kernels`, its line in the list of
//!   kernels and its arm in dispatch; there is no other file of an op;
//! - *facts at home*: outside `ir` single ops are named only where that is what the file is about (`SPEAK_OF_OPS`): what
//!   all else asks of an op is on `OpDef`;
//! - *unsafe*: only in `cpu`;
//! - *one door*: outside `cpu`, that crate is named in one file of `step`, and in testkit; outside `compiler` and `step`,
//!   nothing is differentiated (tests aside).

use crate::circles::circles;
use crate::new_op;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates by floor, lowest first.
pub const FLOORS: &[(&str, u32)] = &[
    ("tensor", 0),
    ("jinja", 0),
    ("ptx", 0),
    ("formats", 1),
    ("ir", 1),
    ("report", 1),
    ("comm", 1),
    ("hub", 1),
    ("plan", 2),
    ("model", 3),
    ("data", 2),
    ("compiler", 3),
    ("cpu", 3),
    ("step", 4),
    ("train", 5),
    ("remat", 5),
    ("testkit", 6),
    ("hostile", 6),
    ("cli", 6),
    ("xtask", 6),
];

const MOST_LINES: usize = 600;

/// Files and folders outside `ir` that speak of single ops, and why.
const SPEAK_OF_OPS: &[&str] = &[
    // Which kernel runs, what this device's kernels can take, and kernels that a user registers.
    "crates/cpu/src/executor/dispatch.rs",
    "crates/cpu/src/executor/support.rs",
    "crates/cpu/src/executor/resolve.rs",
    // Rows are taken and put together by two ops, into zeros.
    "crates/plan/src/check/equivalence.rs",
    "crates/plan/src/tiles.rs",
    // The name of a user's op in a message.
    "crates/plan/src/validate/mod.rs",
    // Which vectors a random model multiplies by follows from who reads them.
    "crates/model/src/source.rs",
    // Rules of rewriting are about pairs of ops.
    "crates/compiler/src/simplify/",
];

/// The one circle there is: a node of the graph holds an op, an op's derivative emits nodes, and a user's op is both.
const ONE_DEFINITION: &[&str] = &[
    "crates/ir/src/build.rs",
    "crates/ir/src/custom.rs",
    "crates/ir/src/graph.rs",
    "crates/ir/src/ops/mod.rs",
    "crates/ir/src/sample.rs",
];

/// Every violation, as one line that names the file.
pub fn faults(root: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let crates = root.join("crates");
    faults.extend(op_faults(root));
    let ops = fs::read_to_string(root.join(new_op::TABLE)).unwrap_or_default();
    let variants: Vec<&str> = new_op::table(&ops).iter().map(|(variant, _)| *variant).chain(["Custom"]).collect();
    for entry in sorted(&crates) {
        let name = entry.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        match FLOORS.iter().find(|(known, _)| *known == name) {
            Some(&(_, floor)) => floor_faults(&entry, &name, floor, &mut faults),
            None => faults.push(format!("crates/{name}: is on no floor; add it to FLOORS in xtask/src/tidy.rs")),
        }
        for circle in ["lib.rs", "main.rs"].iter().flat_map(|root| circles(&entry.join("src").join(root))) {
            let shown = |file: &Path| file.strip_prefix(root).unwrap_or(file).display().to_string();
            let files: Vec<_> = circle.files.iter().map(|file| shown(file)).collect();
            if files.iter().all(|file| ONE_DEFINITION.contains(&file.as_str())) {
                continue;
            }
            let ties =
                circle.ties.iter().map(|(from, to, path)| format!("\n  {} uses {path} of {}", shown(from), shown(to)));
            let remedy = "use each other in a circle; move what they share into a file below them";
            faults.push(format!("{}: {remedy}{}", files.join(", "), ties.collect::<String>()));
        }
        for file in rust_files(&entry) {
            let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            let text = fs::read_to_string(&file).unwrap_or_default();
            source_faults(&shown, &text, &name, &mut faults);
            let listed = text.lines().enumerate().filter(|(_, line)| list_of_ops(&shown, line, &variants));
            faults.extend(listed.map(|(index, _)| {
                format!("{shown}:{}: asks which op it is; ask `OpDef`, or add the file to SPEAK_OF_OPS", index + 1)
            }));
        }
    }
    faults
}

/// Ops that lack one of their places, and files of no op.
pub fn op_faults(root: &Path) -> Vec<String> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let (ops, kernels, dispatch) = (read(new_op::TABLE), read(new_op::KERNELS), read(new_op::DISPATCH));
    let table = new_op::table(&ops);
    let mut faults = Vec::new();
    for path in table.iter().flat_map(|(_, name)| [(name, new_op::definition(name)), (name, new_op::kernel(name))]) {
        let (name, path) = path;
        if !root.join(&path).exists() {
            faults.push(format!("{path}: op {name} has no such file"));
        }
    }
    for (variant, name) in &table {
        if !kernels.contains(&format!("\npub mod {name};\n")) {
            faults.push(format!("{}: op {name} has no `pub mod {name};`", new_op::KERNELS));
        }
        if !dispatch.contains(&format!("\n        Op::{variant}(")) {
            faults.push(format!("{}: op {name} has no arm `Op::{variant}(..)`", new_op::DISPATCH));
        }
    }
    let listed = |path: &PathBuf| {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        stem == "mod" || table.iter().any(|(_, name)| *name == stem)
    };
    let files = sorted(&root.join("crates/ir/src/ops")).into_iter().filter(|path| !listed(path));
    faults.extend(
        files.map(|path| format!("{}: is not in the table of ops", path.strip_prefix(root).unwrap_or(&path).display())),
    );
    if table.is_empty() {
        faults.push(format!("{}: has no table of ops", new_op::TABLE));
    }
    faults
}

/// Whether a line of a file that must not do so asks which op it has.
pub fn list_of_ops(shown: &str, line: &str, variants: &[&str]) -> bool {
    let exempt = shown.contains("/tests/") || shown.contains("tests.rs") || shown.starts_with("crates/ir/");
    let exempt = exempt || shown.starts_with("crates/testkit/") || shown.contains("xtask/");
    if exempt || SPEAK_OF_OPS.iter().any(|path| shown.starts_with(path)) || line.trim_start().starts_with("//") {
        return false;
    }
    let by_name = line.contains("op.name() == \"") || line.contains("op.name().starts_with(");
    let whole = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let variant = |at: usize| {
        let rest = &line[at + "Op::".len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        variants.contains(&&rest[..end])
    };
    by_name || line.match_indices("Op::").any(|(at, _)| whole(at) && variant(at))
}

fn floor_faults(folder: &Path, name: &str, floor: u32, faults: &mut Vec<String>) {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let Ok(manifest) = manifest.parse::<toml::Table>() else {
        faults.push(format!("crates/{name}/Cargo.toml: does not parse"));
        return;
    };
    let Some(dependencies) = manifest.get("dependencies").and_then(|d| d.as_table()) else { return };
    for dependency in dependencies.keys() {
        let short = if dependency == "remat" { "remat" } else { dependency.strip_prefix("remat-").unwrap_or("") };
        if let Some(&(_, other)) = FLOORS.iter().find(|(known, _)| *known == short)
            && other >= floor
        {
            faults.push(format!("crates/{name} (floor {floor}) depends on {short} (floor {other})"));
        }
    }
}

fn source_faults(shown: &str, text: &str, crate_name: &str, faults: &mut Vec<String>) {
    if !text.starts_with("//!") {
        faults.push(format!("{shown}: must open with a `//!` sentence that says what it is"));
    }
    let lines = text.lines().count();
    if lines > MOST_LINES {
        faults.push(format!("{shown}: {lines} lines; split it (at most {MOST_LINES})"));
    }
    if shown.contains("xtask/") {
        return;
    }
    let is_test = shown.contains("/tests/") || crate_name == "testkit";
    for (number, line) in text.lines().enumerate() {
        let at = number + 1;
        let is_code = !line.trim_start().starts_with("//");
        let opens_device = shown.ends_with("step/src/device.rs") || crate_name == "cpu" || is_test;
        if is_code && !opens_device && line.contains("remat_cpu") {
            faults.push(format!("{shown}:{at}: names a concrete device; ask for one in step/src/device.rs"));
        }
        let differentiates = ["compiler", "step"].contains(&crate_name) || is_test;
        if is_code
            && !differentiates
            && ["differentiate(", "differentiate,", "differentiate}"].iter().any(|call| line.contains(call))
        {
            faults.push(format!("{shown}:{at}: differentiates a graph; make a remat_step::TrainingStep of it"));
        }
        if ["todo!(", "unimplemented!(", "TODO", "FIXME"].iter().any(|marker| line.contains(marker)) {
            faults.push(format!("{shown}:{at}: an open end"));
        }
        if is_code && crate_name != "cpu" && (line.contains("unsafe {") || line.contains("unsafe fn")) {
            faults.push(format!("{shown}:{at}: unsafe code outside kernels"));
        }
    }
    if shown.ends_with("dispatch.rs") {
        faults.extend(catch_all_of_ops(text).map(|at| format!("{shown}:{at}: a catch-all arm hides a missing kernel")));
    }
}

/// Lines with a `_ =>` whose match has arms that begin with `Op::`: the arm above at the same depth tells.
fn catch_all_of_ops(text: &str) -> impl Iterator<Item = usize> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = text.lines().collect();
    let hides = move |at: &usize| {
        let line = lines[*at - 1];
        let above = lines[..*at - 1].iter().rev().find(|other| depth(other) == depth(line) && other.contains("=>"));
        line.trim_start().starts_with("_ =>") && above.is_some_and(|arm| arm.trim_start().starts_with("Op::"))
    };
    (1..=text.lines().count()).filter(hides)
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(folder) = pending.pop() {
        for entry in sorted(&folder) {
            if entry.is_dir() {
                if entry.file_name().is_some_and(|name| name != "target") {
                    pending.push(entry);
                }
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                files.push(entry);
            }
        }
    }
    files
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().map(|e| e.path()).collect());
    let mut entries: Vec<PathBuf> = entries.unwrap_or_default();
    entries.sort();
    entries
}
