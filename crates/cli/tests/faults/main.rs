//! The binary on files that fail: at every call of a short run (a few of them in the suite, all of them by
//! `cargo xtask faults`) the call fails, the disk is full from there on, or the process dies. What must hold then: no panic,
//! an exit code that is said, nothing half-written under a final name, and the same command afterwards gives the same bytes.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod job;
mod kills;
mod layer;
mod outcome;
#[path = "../prices/mod.rs"]
mod prices;
mod room;

use job::{JOBS, Job};
use layer::{Fault, Layer};
use outcome::{Tree, tree};

/// Calls tried of each job in the suite with each kind of fault, spread over all; `REMAT_FAULTS=all` tries every one.
const TRIED: usize = 1;

struct Counts {
    calls: usize,
    tried: usize,
    failed: usize,
    survived: usize,
}

fn run(job: &Job, counts: &mut Counts) {
    let reference = Layer::new();
    let prepared = reference.path().to_path_buf();
    job.prepare(&prepared);
    let before = tree(&prepared);
    let log = reference.log();
    let output =
        reference.command(&job.arguments(&prepared), Fault::None, Some(&log)).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}: {}", job.name, String::from_utf8_lossy(&output.stderr));
    let whole = job.result(&prepared);
    assert!(!whole.is_empty(), "{} leaves nothing", job.name);
    let calls = layer::calls(&log);
    counts.calls += calls.len();
    let all = std::env::var("REMAT_FAULTS").is_ok_and(|asked| asked == "all");
    let stride = if all { 1 } else { calls.len().div_ceil(TRIED) };
    for (offset, kind) in [Fault::fail, Fault::full, Fault::kill].into_iter().enumerate() {
        for number in (1 + (2 * offset + 1) * stride / 6..=calls.len()).step_by(stride) {
            let place = format!("{}: {:?} at {}", job.name, kind(number), calls[number - 1]);
            counts.tried += 1;
            match one(job, kind(number), &place, &before, &whole) {
                true => counts.survived += 1,
                false => counts.failed += 1,
            }
        }
    }
}

/// One run with a fault, then the same command without. Whether the first ended well all the same.
fn one(job: &Job, fault: Fault, place: &str, before: &Tree, whole: &Tree) -> bool {
    let layer = Layer::new();
    job.prepare(layer.path());
    let output = layer.command(&job.arguments(layer.path()), fault, None).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked") && !said.contains("internal error"), "{place}: {said}");
    match output.status.code() {
        None => assert!(fault.kills(), "{place}: killed by a signal: {said}"),
        Some(code) => assert!((0..=3).contains(&code), "{place}: exit {code}: {said}"),
    }
    let ended_well = output.status.code() == Some(0);
    if ended_well {
        outcome::assert_same(&job.result(layer.path()), whole, &said, &format!("{place}, exit 0"));
    } else {
        assert!(fault.kills() || said.contains("error"), "{place}: no word of what failed: {said}");
        outcome::assert_inputs_unchanged(layer.path(), before, place);
        again(job, layer.path(), &format!("{place}: {said}"), whole);
    }
    outcome::assert_no_litter(layer.path(), before, &job.left(), place);
    ended_well
}

/// The command that a person gives next, which has to end well with the same bytes.
fn again(job: &Job, folder: &std::path::Path, place: &str, whole: &Tree) {
    // One that writes a file or folder and had done so refuses to do it again.
    if !job.is_training() && job.result(folder) == *whole {
        return;
    }
    let output = layer::plain(&job.arguments_again(folder)).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{place}, then again: {said}");
    outcome::assert_same(&job.result(folder), whole, &format!("{place}\n{said}"), &format!("{place}, then again"));
}

macro_rules! jobs {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let job = JOBS.iter().find(|job| job.name == stringify!($name)).expect("a job");
                let mut counts = Counts { calls: 0, tried: 0, failed: 0, survived: 0 };
                run(job, &mut counts);
                let Counts { calls, tried, failed, survived } = counts;
                println!("{}: {calls} calls, {tried} faults: {failed} ended the run, {survived} did not", job.name);
                assert!(failed > 0, "no fault did anything");
            }
        )*

        #[test]
        fn every_job_is_run() {
            assert_eq!([$(stringify!($name)),*], JOBS.iter().map(|job| job.name).collect::<Vec<_>>()[..]);
        }
    };
}

jobs! { lora full offload states evaluated quantize merge gguf }
