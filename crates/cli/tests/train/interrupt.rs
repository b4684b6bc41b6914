//! Ctrl-C: the first saves and says how to go on, and going on gives the uninterrupted run; the second aborts.

use crate::command::{Train, text};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const FLAGS: &str =
    "--method lora --rank 4 --dropout 0.1 --schedule constant --batch-size 2 --grad-accum 2 --seq-len 24";

fn start(train: &Train, flags: &str) -> Child {
    let mut command = train.command(flags);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
}

fn interrupt(child: &Child) {
    let sent = Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status().expect("a shell");
    assert!(sent.success());
}

/// Waits as long as the run goes on, however slowly.
fn wait_until(child: &mut Child, what: &str, mut reached: impl FnMut() -> bool) {
    while !reached() {
        assert!(child.try_wait().expect("a child").is_none(), "the run ended without {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn logged_updates(train: &Train) -> usize {
    std::fs::read_to_string(train.out().join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

#[test]
fn the_first_saves_and_the_resumed_run_is_the_uninterrupted_one() {
    let stopped = Train::on("llama-gqa-tied", FLAGS);
    let mut child = start(&stopped, "--steps 1000000 --quiet");
    wait_until(&mut child, "three updates", || logged_updates(&stopped) >= 3);
    interrupt(&child);
    let output = child.wait_with_output().expect("ends");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("go on with: remat train --resume --out"), "{stderr}");
    let made = logged_updates(&stopped);
    assert!(stopped.out().join(format!("checkpoint-{made}/manifest.json")).exists(), "{stderr}");
    assert!(!stopped.out().join("adapter_model.safetensors").exists(), "an unfinished run has no result");

    let steps = format!("--steps {}", made + 3);
    let resumed = stopped.resume(&steps);
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    let whole = Train::on("llama-gqa-tied", &format!("{FLAGS} --quiet {steps}")).finish().train;
    for key in ["step", "epoch", "loss", "lr", "grad_norm", "tokens"] {
        assert_eq!(whole.metrics(key), stopped.metrics(key), "{key}");
    }
    let adapter = "adapter_model.safetensors";
    assert!(whole.bytes(adapter) == stopped.bytes(adapter));
}

#[test]
fn the_second_aborts_at_once() {
    // Rows from a pipe that says nothing hold the run in one place, with its signals caught.
    let train = Train::on("llama-gqa-tied", "--steps 1");
    let rows = train.folder.path().join("rows.jsonl");
    assert!(Command::new("mkfifo").arg(&rows).status().expect("mkfifo").success());
    let train = train.data(&rows);
    let mut child = start(&train, "");
    let silent = std::fs::OpenOptions::new().write(true).open(&rows).expect("the run opens its rows");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut next_line = || stderr.next().expect("a line").expect("text");
    interrupt(&child);
    let first = next_line();
    assert!(first.contains("once more to abort"), "{first}");
    interrupt(&child);
    assert_eq!(next_line(), "aborted without saving");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert!(!train.out().exists());
    drop(silent);
}
