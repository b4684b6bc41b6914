//! Outputs that a flag names: written through links, devices and pipes, and refused before the work where they cannot be
//! written. And results whose record finds no room.

use crate::tree::{Tree, wait_for};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

const TRAIN: &str = "train --model m/model --data d/rows.jsonl --batch-size 2 --quiet";

#[test]
fn a_device_stays_one_and_a_link_stays_one() {
    let tree = Tree::new();
    fs::write(tree.at("old.svg"), "old").expect("written");
    symlink("old.svg", tree.at("link.svg")).expect("linked");
    tree.expect("plan --model m/model --memory 1GiB --report /dev/null --timeline link.svg", 0, &[]);
    assert!(fs::symlink_metadata("/dev/null").expect("there").file_type().is_char_device());
    assert!(tree.at("link.svg").symlink_metadata().expect("there").is_symlink());
    assert!(tree.read("old.svg").starts_with(b"<svg"), "the target has the timeline");
    // Standard output may be named; here it is a pipe.
    let output = tree.run("plan --model m/model --memory 1GiB --report /dev/stdout");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("<!"), "the page comes first");
    tree.expect("plan --model m/model --memory 1GiB --report /dev/full", 1, &["/dev/full: cannot write "]);
}

#[test]
fn what_cannot_be_written_is_refused_before_the_work() {
    let tree = Tree::new();
    let before = tree.contents();
    let plan = "plan --model m/model --memory 1GiB";
    tree.expect(
        &format!("{plan} --report absent/r.html"),
        2,
        &["--report absent/r.html: cannot be written", "make its folder"],
    );
    tree.expect(&format!("{plan} --timeline d"), 2, &["--timeline d: is a folder"]);
    tree.expect(&format!("{plan} --timeline x --report ./x"), 2, &["--report ./x: is --timeline x, too"]);
    tree.expect(&format!("{TRAIN} --out run --trace absent/t.json"), 2, &["--trace absent/t.json: cannot be written"]);
    tree.expect(
        &format!("{TRAIN} --out run --trace run/metrics.jsonl"),
        2,
        &["is a name that --out run is written under"],
    );
    tree.expect(&format!("{TRAIN} --out run --trace run/a/t.json"), 2, &["--trace run/a/t.json: "]);
    tree.expect("profile --model m/model --out d/rows.jsonl/x", 2, &["--out d/rows.jsonl/x"]);
    tree.expect("quantize --model m/model --out /proc/x", 2, &["--out /proc/x: cannot be written"]);
    assert!(tree.contents() == before);
}

#[test]
fn a_trace_may_go_into_the_run_folder_that_is_still_to_be_made() {
    let tree = Tree::new();
    tree.expect(&format!("{TRAIN} --steps 1 --out run --trace run/trace.json"), 0, &["run/trace.json has the steps"]);
    serde_json::from_slice::<serde_json::Value>(&tree.read("run/trace.json")).expect("JSON");
    // It is the person's, who named it: the next run leaves it.
    tree.expect(&format!("{TRAIN} --steps 1 --out run --force"), 0, &[]);
    assert!(tree.at("run/trace.json").exists());
}

/// The trace goes to a pipe that is not read before the folder has been prepared, so the run waits for the test.
fn with_a_folder_in_the_way(name: &str) {
    let tree = Tree::new();
    assert!(Command::new("mkfifo").arg(tree.at("pipe")).status().expect("mkfifo runs").success());
    let reader = std::thread::spawn({
        let path = tree.at("pipe");
        move || File::open(path).expect("opened")
    });
    // Opening waits until both ends are there; a writer that finds no reader is refused.
    let flags = format!("{TRAIN} --steps 2 --out run --trace pipe");
    let holder = File::options().read(true).write(true).open(tree.at("pipe")).expect("opened");
    let mut pipe = reader.join().expect("opened");
    let child = tree.command(&flags).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("runs");
    wait_for(&tree.at("run/config.toml"), Path::exists);
    fs::create_dir(tree.at("run").join(name)).expect("made");
    drop(holder);
    let mut trace = String::new();
    pipe.read_to_string(&mut trace).expect("read");
    assert!(trace.len() > 1 << 16, "a pipe would have held it: {} bytes", trace.len());
    let output = child.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("the result in run is complete, only its {name} is not written")), "{said}");
    assert!(tree.at("run/adapter_model.safetensors").exists() && tree.at("run/adapter_config.json").exists());
    serde_json::from_str::<serde_json::Value>(&trace).expect("the whole trace");
}

#[test]
fn a_record_that_finds_no_room_takes_nothing_from_the_result() {
    with_a_folder_in_the_way("record.json");
}

#[test]
fn a_report_that_finds_no_room_takes_nothing_from_the_result() {
    with_a_folder_in_the_way("report.html");
}
