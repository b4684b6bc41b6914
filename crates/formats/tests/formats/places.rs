//! Inputs and outputs: what meets is refused, through every kind of link, and what lies apart is not.

use crate::bytes::folder;
use remat_formats::{Places, resolve};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// `model/{config.json,sub}`, `rows.jsonl`, `blobs/weights` with a link to it in the model, and links to it all.
fn tree() -> TempDir {
    let dir = folder(&[("rows.jsonl", b"{}")]);
    let at = |name: &str| dir.path().join(name);
    for name in ["model/sub", "blobs", "empty", "hard"] {
        fs::create_dir_all(at(name)).expect("made");
    }
    fs::write(at("model/config.json"), "{}").expect("written");
    fs::write(at("blobs/weights"), "w").expect("written");
    symlink("../blobs/weights", at("model/model.safetensors")).expect("linked");
    symlink("model", at("to-model")).expect("linked");
    symlink("rows.jsonl", at("to-rows")).expect("linked");
    symlink("model/new.html", at("dangling")).expect("linked");
    symlink("../model/config.json", at("empty/metrics.jsonl")).expect("linked");
    fs::hard_link(at("rows.jsonl"), at("hard/rows-again")).expect("linked");
    dir
}

/// What is said of an output beside the model and the rows.
fn said(dir: &Path, output: &str, is_folder: bool) -> Option<String> {
    let places = Places::new().reads("--model", &dir.join("model")).reads("--data", &dir.join("to-rows"));
    let path = dir.join(output);
    let places = match is_folder {
        true => places.writes_folder("--out", &path, ["record.json"]),
        false => places.writes_file("--report", &path),
    };
    let error = places.and_then(|places| places.check()).err()?;
    Some(error.to_string().replace(&dir.display().to_string(), "DIR"))
}

#[test]
fn outputs_that_meet_an_input_are_refused() {
    let dir = tree();
    let is = "is what --model DIR/model reads; choose another folder";
    let inside = "lies inside --model DIR/model, which is read; choose a folder outside of it";
    for (output, problem) in [
        ("model", is),
        ("to-model", is),
        ("empty/../to-model/sub/..", is),
        ("absent/../model", is),
        ("model/sub", inside),
        ("model/absent/deeper", inside),
        ("to-model/sub", inside),
        ("", "holds DIR/model, which --model DIR/model reads; choose another folder"),
        ("blobs", "holds DIR/blobs/weights, which --model DIR/model reads; choose another folder"),
        ("rows.jsonl", "is what --data DIR/to-rows reads; choose another folder"),
        (
            "empty",
            "its metrics.jsonl is a link to what --model DIR/model reads; choose another folder, or move metrics.jsonl away",
        ),
        (
            "hard",
            "its rows-again is a link to what --data DIR/to-rows reads; choose another folder, or move rows-again away",
        ),
    ] {
        let said = said(dir.path(), output, true).unwrap_or_else(|| panic!("{output} is accepted"));
        assert_eq!(said, format!("--out {}: {problem}", Path::new("DIR").join(output).display()));
    }
    for (output, problem) in [
        ("model", "is what --model DIR/model reads; choose another file"),
        ("model/config.json", "lies inside --model DIR/model, which is read; choose a file outside of it"),
        ("to-model/model.safetensors", "is what --model DIR/model reads; choose another file"),
        ("blobs/weights", "is what --model DIR/model reads; choose another file"),
        ("dangling", "lies inside --model DIR/model, which is read; choose a file outside of it"),
        ("hard/rows-again", "is what --data DIR/to-rows reads; choose another file"),
        ("to-rows", "is what --data DIR/to-rows reads; choose another file"),
    ] {
        let said = said(dir.path(), output, false).unwrap_or_else(|| panic!("{output} is accepted"));
        assert_eq!(said, format!("--report DIR/{output}: {problem}"));
    }
}

#[test]
fn outputs_beside_the_inputs_are_accepted() {
    let dir = tree();
    fs::remove_file(dir.path().join("empty/metrics.jsonl")).expect("removed");
    for (output, is_folder) in [
        ("empty", true),
        ("absent/run", true),
        ("models", true),
        ("model.out", true),
        ("report.html", false),
        ("blobs/report.html", false),
        ("hard/report.html", false),
    ] {
        assert_eq!(said(dir.path(), output, is_folder), None, "{output}");
    }
    // What is not there is left to whoever reads it, and no path is none.
    let absent = Places::new().reads("--model", &dir.path().join("gone")).reads("--model", Path::new(""));
    let out = dir.path().join("empty");
    absent.writes_folder("--out", &out, []).expect("a path").check().expect("apart");
}

#[test]
fn outputs_are_apart_from_each_other() {
    let dir = tree();
    let check = |timeline: &str, report: &str| {
        let places = Places::new().writes_folder("--out", &dir.path().join("empty"), ["record.json"]);
        let places = places.and_then(|places| places.writes_file("--timeline", &dir.path().join(timeline)));
        let places = places.and_then(|places| places.writes_file("--report", &dir.path().join(report)));
        places.and_then(|places| places.check()).map_err(|error| error.to_string())
    };
    assert_eq!(check("a.svg", "empty/b.html"), Ok(()));
    assert_eq!(check("/dev/null", "/dev/null"), Ok(()), "a device takes two");
    let same = check("a.svg", "empty/../a.svg").expect_err("one file");
    assert!(same.contains("a.svg, too; give each a file of its own"), "{same}");
    for name in ["empty/record.json", "empty/.lock", "empty/checkpoint-1/x"] {
        let taken = check("a.svg", name).expect_err("taken");
        assert!(taken.contains("is written under; choose another"), "{name}: {taken}");
    }
}

#[test]
fn paths_are_followed_to_their_end() {
    let dir = tree();
    let root = dir.path().canonicalize().expect("there");
    for (path, end) in [
        ("to-model/./sub", "model/sub"),
        ("to-model/..", ""),
        ("dangling", "model/new.html"),
        ("absent/deeper/../x", "absent/x"),
        ("model/model.safetensors", "blobs/weights"),
    ] {
        let end: PathBuf = root.join(end).components().collect();
        assert_eq!(resolve(&dir.path().join(path)).expect("no circle"), end, "{path}");
    }
    assert_eq!(resolve(Path::new("x")).expect("resolved"), std::env::current_dir().expect("there").join("x"));
    symlink("b", dir.path().join("a")).expect("linked");
    symlink("a", dir.path().join("b")).expect("linked");
    resolve(&dir.path().join("a/x")).expect_err("a circle");
}
