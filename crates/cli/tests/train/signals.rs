//! Signals: which of them save, and which a run leaves alone.

use crate::command::{Train, text};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const FLAGS: &str = "--steps 1000000 --batch-size 2 --grad-accum 1 --seq-len 24 --quiet --schedule constant";
const PATIENCE: Duration = Duration::from_secs(60);

fn send(signal: &str, child: &Child) {
    let sent = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", child.id())).status().expect("a shell");
    assert!(sent.success());
}

fn wait_for_updates(train: &Train, least: usize) {
    let start = Instant::now();
    let logged = || std::fs::read_to_string(train.out().join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    while logged() < least {
        assert!(start.elapsed() < PATIENCE, "still no update {least}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a run in a shell that did `before`, in the shell's own process. These tests may run where a signal is ignored (under
/// `nohup`, say), which a run would leave so: there it is as by default again.
fn start(train: &Train, before: &str) -> Child {
    let command = train.command("");
    let mut shell = Command::new("env");
    shell.args(["--default-signal=HUP,INT,TERM", "sh"]);
    shell.arg("-c").arg(format!("{before} exec \"$@\"")).arg("sh").arg(command.get_program()).args(command.get_args());
    shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell")
}

#[test]
fn each_of_the_three_saves() {
    for signal in ["HUP", "TERM"] {
        let train = Train::on("llama-gqa-tied", FLAGS);
        let child = start(&train, "");
        wait_for_updates(&train, 1);
        send(signal, &child);
        let output = child.wait_with_output().expect("ends");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{signal}: {stderr}");
        assert!(stderr.contains("go on with"), "{signal}: {stderr}");
    }
}

#[test]
fn a_hang_up_that_was_ignored_stays_ignored() {
    let train = Train::on("llama-gqa-tied", FLAGS);
    let child = start(&train, "trap '' HUP;");
    wait_for_updates(&train, 1);
    send("HUP", &child);
    let logged = std::fs::read_to_string(train.out().join("metrics.jsonl")).expect("a log").lines().count();
    // The run goes on: it makes more updates than those that may have been under way.
    wait_for_updates(&train, logged + 5);
    send("TERM", &child);
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
}

#[test]
fn without_a_thread_to_tell_of_it_a_signal_saves_all_the_same() {
    let train = Train::on("llama-gqa-tied", &format!("{FLAGS} --threads 1"));
    let child = start(&train, "export RUST_MIN_STACK=281474976710656;");
    wait_for_updates(&train, 1);
    send("INT", &child);
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("go on with"));
}
