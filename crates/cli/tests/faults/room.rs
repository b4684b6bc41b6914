//! A disk that is full at a save: the run waits, says so, and goes on when there is room.

use crate::job::JOBS;
use crate::layer::{Fault, Layer};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// The first call of a save, of all calls of the job on its files.
fn first_of_save(calls: &[String], folder: &str) -> usize {
    let place = calls.iter().position(|call| call.starts_with("mkdir ") && call.contains(folder));
    1 + place.expect("a save is a folder")
}

#[test]
fn a_run_waits_for_room_and_goes_on() {
    let job = JOBS.iter().find(|job| job.name == "lora").expect("a job");
    let reference = Layer::new();
    job.prepare(reference.path());
    let output = reference.command(&job.arguments(reference.path()), Fault::None, Some(&reference.log())).output();
    assert_eq!(output.expect("the binary runs").status.code(), Some(0));
    let calls = crate::layer::calls(&reference.log());
    let whole = job.result(reference.path());

    // In the middle of a save, where the line of an update is appended, and at the result.
    let line = calls.iter().rposition(|call| call.starts_with("write ") && call.ends_with("metrics.jsonl"));
    let line = 1 + line.expect("the log is written");
    for number in [first_of_save(&calls, "checkpoint-2") + 9, line, first_of_save(&calls, ".remat-new")] {
        let layer = Layer::new();
        job.prepare(layer.path());
        let mut arguments = job.arguments(layer.path());
        let wait = arguments.iter().position(|flag| flag == "--disk-wait").expect("a flag");
        arguments[wait + 1] = "60".into();
        let mut command = layer.command(&arguments, Fault::Full(number), None);
        let mut run = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
        let lines = BufReader::new(run.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let mut said = Vec::new();
        for line in lines {
            if line.contains("the disk is full") {
                std::fs::write(layer.room(), "").expect("written");
            }
            said.push(line);
        }
        let (place, said) = (&calls[number - 1], said.join("\n"));
        assert_eq!(run.wait().expect("it ends").code(), Some(0), "{place}: {said}");
        assert!(said.contains("the disk is full") && said.contains("there is room"), "{place}: {said}");
        assert_eq!(job.result(layer.path()), whole, "{place}: {said}");
    }
}
