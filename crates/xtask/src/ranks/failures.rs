//! Whatever ends one rank ends all in time, with an exit code and an error that name it; the run goes on from its last save.

use super::launch::{Ended, Launcher, Outcome, same, signal};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// What may pass from the end of one rank to the end of all.
const END: Duration = Duration::from_secs(10);

/// What a process that was started wrongly may take to say so.
const REFUSAL: Duration = Duration::from_secs(5);

/// A run that is long enough to be ended in its middle.
fn long(launcher: &Launcher<'_>) -> String {
    let flags = "--dropout 0.1 --lr 1e-2 --schedule constant --steps 150 --save-every 5 --resume";
    format!("{} {flags}", launcher.model("llama-gqa-tied", false))
}

/// Refuses what does not hold.
fn expect(holds: bool, problem: impl Into<String>) -> Outcome<()> {
    if holds { Ok(()) } else { Err(problem.into().into()) }
}

/// The errors that ranks left behind in this folder, as text.
fn errors(folder: &Path) -> String {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
}

pub(crate) fn default_build_is_alone(launcher: &Launcher<'_>) -> Outcome<()> {
    let loaded = Command::new("ldd").arg(&launcher.alone).output()?;
    let loaded = String::from_utf8_lossy(&loaded.stdout).to_lowercase();
    expect(loaded.contains("libc.so"), format!("ldd says nothing of it: {loaded}"))?;
    expect(!["mpi", "pmix", "hwloc"].iter().any(|name| loaded.contains(name)), loaded)?;
    for mpi in super::launch::KNOWN.into_iter().filter(|mpi| Some(*mpi) != launcher.other()) {
        let refused = launcher.settings(launcher.mpirun(mpi, 2, &launcher.alone), "alone", "--model nowhere");
        let Ended { status, said } = launcher.ends(launcher.start(refused)?, REFUSAL)?;
        expect(status.code() == Some(2) && said.contains("--features mpi"), format!("{status}: {said}"))?;
    }
    expect(!launcher.path("alone").exists(), "a refused run leaves nothing behind")
}

pub(crate) fn another_launcher_is_refused(launcher: &Launcher<'_>) -> Outcome<()> {
    let Some(other) = launcher.other() else { return Ok(()) };
    let refused = launcher.settings(launcher.mpirun(other, 2, &launcher.binary), "other", "--model nowhere");
    let Ended { status, said } = launcher.ends(launcher.start(refused)?, REFUSAL)?;
    expect(!status.success() && said.contains("another MPI"), format!("{status}: {said}"))
}

/// A rank of three is killed after the first save; the run goes on alone, and with two.
pub(crate) fn killed(launcher: &Launcher<'_>, victim: usize) -> Outcome<()> {
    let long = long(launcher);
    if !launcher.path("never-stopped").exists() {
        launcher.succeeds(launcher.train(0, "never-stopped", &long))?;
    }
    let out = format!("killed-{victim}");
    let report = launcher.path(&format!("{out}-torchelastic.json"));
    let mut command = launcher.train(3, &out, &long);
    command.env("TORCHELASTIC_ERROR_FILE", &report);
    let mut run = launcher.start(command)?;
    launcher.wait_for(&mut run, &launcher.path(&out).join("checkpoint-5"))?;
    // In an update for one, in a save for another.
    sleep(Duration::from_millis(37 * victim as u64));
    signal(launcher.rank_of_run(victim)?, "KILL")?;
    let Ended { status, said } = launcher.ends(run, END)?;
    expect(!status.success(), "it ends as if all were well")?;
    let (left, named) = (errors(&launcher.path(&out).join("errors")), format!("rank {victim} has ended"));
    // MPICH's launcher kills the others at once: where it was faster than a rank's word to a file, there is none.
    if left.is_empty() && launcher.name() == "mpich" {
        println!("mpich: the launcher was faster than the error of rank {victim}'s end");
        return resumes(launcher, victim, &out, &long);
    }
    expect(left.contains(&named), format!("{named}? {left} {said}"))?;
    let report = fs::read_to_string(&report)?;
    let report: serde_json::Value = serde_json::from_str(&report)?;
    let message = report["message"]["message"].as_str().unwrap_or_default();
    expect(message.contains(&named) && report["message"]["extraInfo"]["timestamp"].is_string(), report.to_string())?;
    resumes(launcher, victim, &out, &long)
}

/// The run goes on: alone, or with two or four ranks.
fn resumes(launcher: &Launcher<'_>, victim: usize, out: &str, flags: &str) -> Outcome<()> {
    launcher.succeeds(launcher.train([0, 2, 4][victim], out, flags))?;
    same("resumed", &launcher.bytes_of("never-stopped")?, &launcher.bytes_of(out)?)?;
    expect(!launcher.path(out).join("errors").exists(), "errors of before are let go")
}

/// A stopped rank says nothing; the others wait as long as they were told to.
pub(crate) fn stopped(launcher: &Launcher<'_>) -> Outcome<()> {
    let flags = format!("{} --rank-timeout 3", long(launcher));
    let mut run = launcher.start(launcher.train(3, "stopped", &flags))?;
    launcher.wait_for(&mut run, &launcher.path("stopped/checkpoint-5"))?;
    signal(launcher.rank_of_run(1)?, "STOP")?;
    let Ended { status, said } = launcher.ends(run, END)?;
    let left = errors(&launcher.path("stopped/errors"));
    let named = "rank 1 has given no sign of life for 3 s";
    expect(!status.success() && left.contains(named), format!("{status}: {left} {said}"))?;
    let gone = launcher.rank_of_run(1).is_err();
    expect(gone, "the stopped process is still there")
}

/// A disk with room for a save or two, in a mount namespace of its own.
pub(crate) fn full_disk(launcher: &Launcher<'_>) -> Outcome<()> {
    let (small, kept) = (launcher.path("small"), launcher.path("small-errors"));
    fs::create_dir(&small)?;
    let train = launcher.train(2, "small/out", &long(launcher));
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=400k none \"$0\" || exit 99; kept=$1; shift; \"$@\"; code=$?; \
                  cp -r \"$0\"/out/errors \"$kept\"; exit $code";
    command
        .args(["--mount", "sh", "-c", script])
        .arg(&small)
        .arg(&kept)
        .arg(train.get_program())
        .args(train.get_args());
    for (name, value) in train.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.current_dir(train.get_current_dir().ok_or("a folder to start in")?);
    let Ended { status, said } = launcher.ends(launcher.start(command)?, 6 * END)?;
    let left = errors(&kept);
    let problem = format!("{status}: {said}; left: {left}");
    expect(!status.success() && said.contains("rank 0 on") && said.contains("No space left"), problem.clone())?;
    expect(left.contains("No space left"), problem)
}

/// All ranks read the same rows, so the error is an input's.
pub(crate) fn bad_row(launcher: &Launcher<'_>) -> Outcome<()> {
    let rows = fs::read_to_string(launcher.path("llama-gqa-tied-rows.jsonl"))?;
    let mut lines: Vec<&str> = rows.lines().collect();
    lines[4] = "{\"text\": 7}";
    let bad = launcher.path("bad.jsonl");
    fs::write(&bad, lines.join("\n"))?;
    let flags = format!("--model fixtures/parity/llama-gqa-tied --steps 2 --data {}", bad.display());
    let Ended { status, said } = launcher.ends(launcher.start(launcher.train(3, "bad", &flags))?, END)?;
    expect(!status.success() && said.contains("bad.jsonl:5"), format!("{status}: {said}"))?;
    expect(!launcher.path("bad").exists(), "a refused run leaves nothing behind")
}
