//! `cargo xtask ranks [openmpi] [mpich]`: builds the binary with the feature `mpi` for each MPI named, and trains on one to four
//! ranks by its `mpirun`: the bytes of the default build alone, at any number of ranks; whatever ends a rank ends all, says so,
//! and the run goes on from its last save.
//!
//! Invariant: only what has to end within a time is timed, so the machine may be as small and busy as it is. Look next at
//! `launch` for how a run is started, at `same_bytes`, `failures` and `hosts` for what is held to.

mod failures;
mod hosts;
mod launch;
mod same_bytes;

use launch::{Launcher, Outcome};
use std::path::Path;
use std::time::Instant;

/// What is held to: its name, and whether it holds.
type Scenario = (&'static str, fn(&Launcher<'_>) -> Outcome<()>);

const SCENARIOS: [Scenario; 13] = [
    ("the default build has no trace of MPI, and refuses its launcher", failures::default_build_is_alone),
    ("another MPI's launcher is refused", failures::another_launcher_is_refused),
    ("lora with dropout and held-out rows, on 1 to 4 ranks", same_bytes::lora),
    ("qlora in bf16, packed and recomputed, on 1 to 4 ranks", same_bytes::qlora),
    ("full fine-tuning with moments of 8 bits, on 1 to 4 ranks", same_bytes::full),
    ("resumed on 1, 4, 2 and 3 ranks", same_bytes::resumed),
    ("rank 0 is killed", |launcher| failures::killed(launcher, 0)),
    ("rank 1 is killed", |launcher| failures::killed(launcher, 1)),
    ("rank 2 is killed", |launcher| failures::killed(launcher, 2)),
    ("a rank is stopped", failures::stopped),
    ("the disk is full", failures::full_disk),
    ("a row is bad", failures::bad_row),
    ("two hosts on a link of 1 Gbit/s carry what the plan says", hosts::joined_by_a_link),
];

/// Runs it all for the MPIs of these names, Open MPI if there are none; a name of a scenario in part runs only such. Whether
/// everything holds; what does not is printed.
///
/// # Errors
/// A build that fails.
pub fn run(root: &Path, arguments: &[String]) -> Outcome<bool> {
    let (names, wanted): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|name| launch::KNOWN.contains(name));
    let names = if names.is_empty() { vec![launch::KNOWN[0]] } else { names };
    let mut good = true;
    for name in names {
        let launcher = Launcher::built(root, name)?;
        for (what, holds) in SCENARIOS.iter().filter(|(what, _)| wanted.iter().all(|part| what.contains(part))) {
            let began = Instant::now();
            let held = holds(&launcher);
            good &= held.is_ok();
            let verdict = held.map_or_else(|error| format!("DOES NOT HOLD: {error}"), |()| "holds".to_string());
            println!("{name}: {what}: {verdict} ({:.1} s)", began.elapsed().as_secs_f64());
        }
    }
    Ok(good)
}
