//! Curves in a folder of their own.

use crate::command::{Train, text};
use std::fs;

const EVENTS: &str = "events.out.tfevents.remat";
const RUN: &str = "--method lora --rank 4 --steps 4 --batch-size 2 --grad-accum 1 --save-every 2 --seq-len 24 --quiet";

/// Curves with the tags that TensorBoard shows; times differ from run to run.
fn tags(events: &[u8]) -> usize {
    events.windows(10).filter(|window| window == b"train/loss").count()
}

#[test]
fn events_go_where_they_are_wanted_and_once() {
    let curves = tempfile::tempdir().expect("folder");
    let folder = curves.path().join("logs/first");
    let flags = format!("{RUN} --tensorboard {}", folder.display());
    let train = Train::on("llama-gqa-tied", &flags).finish().train;
    assert!(!train.out().join(EVENTS).exists());
    let read = || fs::read(folder.join(EVENTS)).expect("the curves");
    assert_eq!(tags(&read()), 4);

    // A run that goes on writes them again up to where it is, and goes on behind.
    fs::remove_dir_all(train.out().join("checkpoint-4")).expect("removed");
    let resumed = train.resume("");
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    assert_eq!(tags(&read()), 4);

    let before = read();
    let other = Train::on("llama-gqa-tied", &flags).command("").output().expect("runs");
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("has the curves of another run"), "{}", text(&other.stderr));
    assert!(read() == before);
    fs::write(curves.path().join(EVENTS), "mine").expect("written");
    let foreign = Train::on("llama-gqa-tied", &format!("{RUN} --force --tensorboard {}", curves.path().display()));
    let foreign = foreign.command("").output().expect("runs");
    assert_eq!(foreign.status.code(), Some(2));
    assert!(text(&foreign.stderr).contains("was not written by remat"), "{}", text(&foreign.stderr));
    assert_eq!(fs::read(curves.path().join(EVENTS)).expect("there"), b"mine");
}
