//! `cargo xtask promise`: every job under a hard limit on memory, of the size that its plan promised and two hundredths.
//!
//! What must hold: it ends well, or is refused before its first step (exit code 3, and no line in the log); the kernel kills
//! nothing. Then each verb from a limit in which nothing can run up to one in which it does: refused or done at each.
//! It takes the rights to make a control group. Look next at `jobs` for what is run.

mod group;
mod jobs;

use group::Group;
use jobs::{COLD, JOBS, Job, Paths};
use serde_json::Value;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Pages that limits are counted in.
const PAGE_BYTES: u64 = 4096;
/// Limits of the second part, in MiB: below the first the program's own code and libraries find no room.
const SQUEEZED_MIB: std::ops::RangeInclusive<u64> = 6..=34;

/// A verb and its flags.
type Arguments = Vec<PathBuf>;

struct Promise {
    binary: PathBuf,
    group: Group,
    paths: Paths,
    folder: PathBuf,
    done: usize,
    refused: usize,
    broken: usize,
}

/// Runs all; whether every promise was kept.
///
/// # Errors
/// A binary that is not built, no right to make a control group, a plan that fails.
pub fn run(root: &Path, arguments: &[String]) -> Result<bool, Box<dyn Error>> {
    let binary = arguments.first().map_or_else(|| root.join("target/ci/remat"), PathBuf::from);
    if !binary.exists() {
        return Err(format!("{} is not built", binary.display()).into());
    }
    let folder = std::env::temp_dir().join(format!("remat-promise-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let paths = Paths::new(root, &folder)?;
    let mut promise = Promise { binary, group: Group::new()?, paths, folder, done: 0, refused: 0, broken: 0 };
    let result = promise.all();
    std::fs::remove_dir_all(&promise.folder)?;
    result?;
    let Promise { done, refused, broken, .. } = promise;
    println!("{done} done, {refused} refused before the first step, {broken} broken");
    Ok(broken == 0)
}

impl Promise {
    fn all(&mut self) -> Result<(), Box<dyn Error>> {
        for job in JOBS {
            self.train(job, false)?;
        }
        for job in JOBS.iter().filter(|job| COLD.contains(&job.name)) {
            self.train(job, true)?;
        }
        self.squeezed()
    }

    /// A run within the promise of its plan, and the run that goes on with it; `cold` is without a cache of prices.
    fn train(&mut self, job: &Job, cold: bool) -> Result<(), Box<dyn Error>> {
        let flags = self.paths.flags(job);
        let planned = self.command(&with(&["plan", "--json"], &flags)).output()?;
        let plan: Value = serde_json::from_slice(&planned.stdout)?;
        let peak = plan["peak_bytes"].as_u64().ok_or("a plan without peak_bytes")?;
        let limit = peak * 102 / 100 / PAGE_BYTES * PAGE_BYTES;
        if cold {
            self.forget()?;
        }
        let out = self.folder.join("out");
        let output = self.group.run(limit, &self.command(&with(&["train", "--out", "OUT"], &flags)))?;
        let has_begun = std::fs::read(out.join("metrics.jsonl")).is_ok_and(|lines| !lines.is_empty());
        let name = format!("train, {}{}", job.name, if cold { ", first run" } else { "" });
        self.judge(&name, limit, &output, has_begun);
        if job.is_resumed && output.status.success() {
            let resumed = self.command(&with(&["train", "--resume", "--steps", "5", "--out", "OUT"], &[]));
            let output = self.group.run(limit, &resumed)?;
            self.judge(&format!("{name}, resumed"), limit, &output, true);
        }
        self.clear()
    }

    /// Each verb at every limit.
    fn squeezed(&mut self) -> Result<(), Box<dyn Error>> {
        let lines = [
            "train --out OUT --model MODEL --data ROWS --method lora --rank 4 --batch-size 2 --seq-len 64 --steps 2",
            "train --out OUT --model MODEL --data ROWS --method full --batch-size 2 --seq-len 64 --steps 2",
            "plan --model MODEL --data ROWS --batch-size 2 --seq-len 64",
            "generate --model MODEL --prompt the --max-tokens 8",
            "eval --model MODEL --data ROWS",
            "merge --model MODEL --adapter MODEL/adapter --out OUT",
            "quantize --model MODEL --out OUT",
            "export gguf --merge --model MODEL --adapter MODEL/adapter --out OUT",
        ];
        for line in lines {
            let arguments: Vec<&str> = line.split(' ').collect();
            for mib in SQUEEZED_MIB {
                self.forget()?;
                let output = self.group.run(mib << 20, &self.command(&with(&arguments, &[])))?;
                self.judge(line, mib << 20, &output, false);
                self.clear()?;
            }
        }
        Ok(())
    }

    fn command(&self, arguments: &[PathBuf]) -> Command {
        let mut command = Command::new(&self.binary);
        for argument in arguments {
            let text = argument.to_string_lossy();
            let path = match text.strip_prefix("MODEL/") {
                Some(below) => self.paths.model.join(below),
                None if text == "OUT" => self.folder.join("out"),
                None => self.paths.of(&text),
            };
            command.arg(path);
        }
        command.env("NO_COLOR", "1").env("XDG_CACHE_HOME", self.folder.join("cache"));
        command
    }

    fn judge(&mut self, name: &str, limit_bytes: u64, output: &Output, has_begun: bool) {
        let place = || format!("{name}, within {:.1} MiB", limit_bytes as f64 / f64::from(1 << 20));
        match output.status.code() {
            Some(0) => self.done += 1,
            Some(3) if !has_begun => self.refused += 1,
            code => {
                self.broken += 1;
                println!("broken: {}: {code:?}: {}", place(), String::from_utf8_lossy(&output.stderr));
            }
        }
    }

    /// Takes the measured prices away.
    fn forget(&self) -> Result<(), Box<dyn Error>> {
        remove(&self.folder.join("cache"))
    }

    fn clear(&self) -> Result<(), Box<dyn Error>> {
        remove(&self.folder.join("out"))
    }
}

fn with(words: &[&str], flags: &[PathBuf]) -> Arguments {
    words.iter().map(PathBuf::from).chain(flags.iter().cloned()).collect()
}

/// Removes a file or folder, if it is there.
fn remove(path: &Path) -> Result<(), Box<dyn Error>> {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(std::fs::remove_dir_all(path)?),
        Ok(_) => Ok(std::fs::remove_file(path)?),
        Err(_) => Ok(()),
    }
}
