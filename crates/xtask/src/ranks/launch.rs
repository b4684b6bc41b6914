//! How a run on several ranks is built, started, watched and found among the processes of this machine.
//!
//! Invariant: whatever is started ends with the chore, and writes to a folder of its own that goes with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Kinds of MPI, as Debian's alternatives name them.
pub(crate) const KNOWN: [&str; 2] = ["openmpi", "mpich"];

/// The models that are trained.
const MODELS: [&str; 3] = ["llama-gqa-tied", "gpt2", "llama-f16"];

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// No run of this chore is longer.
const LONGEST: Duration = Duration::from_secs(240);

/// One MPI of this machine, and the binary that was built for it.
pub(crate) struct Launcher<'a> {
    root: &'a Path,
    name: &'static str,
    /// The binary with the feature `mpi`.
    pub(crate) binary: PathBuf,
    /// The default binary.
    pub(crate) alone: PathBuf,
    folder: PathBuf,
}

/// What a run ended with.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Standard error.
    pub(crate) said: String,
}

impl Drop for Launcher<'_> {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl<'a> Launcher<'a> {
    /// Builds the default binary, and that for an MPI: what does not know of ranks is compiled once for all.
    pub(crate) fn built(root: &'a Path, name: &str) -> Outcome<Self> {
        let name = KNOWN.into_iter().find(|known| *known == name).ok_or("no such MPI")?;
        build(root, &[])?;
        let target = root.join(format!("target/ranks-{name}"));
        // MPI's headers are read by a build that does not look whose they are; an optimization of its own keeps each apart.
        let apart = format!("profile.ci.package.mpi-sys.codegen-units={}", 1 + name.len());
        let folder = target.to_string_lossy().into_owned();
        build(root, &["--features", "remat-cli/mpi", "--target-dir", &folder, "--config", &apart, name])?;
        let folder = std::env::temp_dir().join(format!("remat-ranks-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder)?;
        for model in MODELS {
            let rows = fs::read_to_string(root.join("fixtures/parity").join(model).join("rows.jsonl"))?;
            for (name, count) in [("rows", 13), ("whole-rows", 12)] {
                let some: String = rows.lines().take(count).flat_map(|line| [line, "\n"]).collect();
                fs::write(folder.join(format!("{model}-{name}.jsonl")), some)?;
            }
        }
        Ok(Launcher { root, name, binary: target.join("ci/remat"), alone: root.join("target/ci/remat"), folder })
    }

    /// The MPI.
    pub(crate) fn name(&self) -> &str {
        self.name
    }

    /// The repository.
    pub(crate) fn root(&self) -> &Path {
        self.root
    }

    /// A path of this chore.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The name of the other kind of MPI, if it is here.
    pub(crate) fn other(&self) -> Option<&'static str> {
        let other = KNOWN.into_iter().find(|known| *known != self.name)?;
        let found = Command::new(format!("mpirun.{other}")).arg("--version").stdout(Stdio::null()).status();
        found.is_ok_and(|status| status.success()).then_some(other)
    }

    /// A model and thirteen rows for it, or twelve where all updates are to be `whole`, as flags.
    pub(crate) fn model(&self, model: &str, whole: bool) -> String {
        let rows = self.path(&format!("{model}-{}rows.jsonl", if whole { "whole-" } else { "" }));
        format!("--model fixtures/parity/{model} --data {}", rows.display())
    }

    /// `remat train` on so many ranks; on none, by the default build alone.
    pub(crate) fn train(&self, ranks: usize, out: &str, flags: &str) -> Command {
        match ranks {
            0 => self.settings(Command::new(&self.alone), out, flags),
            _ => self.settings(self.mpirun(self.name, ranks, &self.binary), out, flags),
        }
    }

    /// A program on so many ranks of an MPI.
    pub(crate) fn mpirun(&self, mpi: &str, ranks: usize, program: &Path) -> Command {
        let mut command = Command::new(format!("mpirun.{mpi}"));
        command.args(["-n", &ranks.to_string()]);
        if mpi == "openmpi" {
            command.args(["--bind-to", "none", "--oversubscribe"]);
        }
        command.arg(program);
        command
    }

    /// The rest of a command that trains.
    pub(crate) fn settings(&self, mut command: Command, out: &str, flags: &str) -> Command {
        command.args("train --rank 4 --batch-size 1 --grad-accum 4 --threads 1 --quiet".split(' '));
        command.args(flags.split_whitespace()).arg("--out").arg(self.path(out));
        command.current_dir(self.root).env("XDG_CACHE_HOME", &self.folder).stdin(Stdio::null());
        for allowed in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
            command.env(allowed, "1");
        }
        command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
        command
    }

    /// Runs a command that has to succeed.
    pub(crate) fn succeeds(&self, command: Command) -> Outcome<()> {
        let shown = format!("{command:?}");
        let Ended { status, said } = self.ends(self.start(command)?, LONGEST)?;
        status.success().then_some(()).ok_or_else(|| format!("{shown}: {status}: {said}").into())
    }

    /// Starts a command, what it says on standard error kept.
    pub(crate) fn start(&self, mut command: Command) -> Outcome<Started> {
        let said = self.path(&format!("said-{}", fs::read_dir(&self.folder)?.count()));
        let file = fs::File::create(&said)?;
        let process = command.stdout(file.try_clone()?).stderr(file).spawn()?;
        Ok(Started { process, said })
    }

    /// How it ended, within a time.
    pub(crate) fn ends(&self, mut started: Started, within: Duration) -> Outcome<Ended> {
        let began = Instant::now();
        loop {
            if let Some(status) = started.process.try_wait()? {
                return Ok(Ended { status, said: fs::read_to_string(&started.said)? });
            }
            if began.elapsed() > within {
                let rest = fs::read_to_string(&started.said)?;
                return Err(format!("it has not ended within {} s: {rest}", within.as_secs()).into());
            }
            sleep(LOOK);
        }
    }

    /// The result, the state of the optimizer in the last save, and the numbers of every update.
    pub(crate) fn bytes_of(&self, out: &str) -> Outcome<BTreeMap<String, Vec<u8>>> {
        let (folder, mut files) = (self.path(out), BTreeMap::new());
        let saves: Vec<String> = fs::read_dir(&folder)?
            .flatten()
            .filter_map(|entry| Some(entry.file_name().to_str()?.to_string()))
            .filter(|name| name.starts_with("checkpoint-"))
            .collect();
        let number = |name: &String| name["checkpoint-".len()..].parse::<u64>().unwrap_or(0);
        let last = saves.iter().max_by_key(|name| number(name)).ok_or("no save")?;
        files.insert("the optimizer's state".to_string(), fs::read(folder.join(last).join("optimizer.safetensors"))?);
        for name in ["adapter_model.safetensors", "model.safetensors"] {
            if let Ok(bytes) = fs::read(folder.join(name)) {
                files.insert(name.to_string(), bytes);
            }
        }
        for line in fs::read_to_string(folder.join("metrics.jsonl"))?.lines() {
            let line: serde_json::Value = serde_json::from_str(line)?;
            let keys = ["step", "epoch", "loss", "val_loss", "lr", "grad_norm", "tokens"];
            let numbers = keys.map(|key| line[key].to_string()).join(" ");
            files.insert(format!("the line of update {:>6}", line["step"].to_string()), numbers.into_bytes());
        }
        Ok(files)
    }

    /// The process of a rank of what runs now, by what its launcher has set for it.
    pub(crate) fn rank_of_run(&self, rank: usize) -> Outcome<u32> {
        let marks = ["OMPI_COMM_WORLD_RANK", "PMI_RANK"].map(|name| format!("{name}={rank}"));
        let folder = self.folder.to_string_lossy();
        for entry in fs::read_dir("/proc")?.flatten() {
            let (Ok(process), Ok(line)) =
                (entry.file_name().to_string_lossy().parse::<u32>(), fs::read(entry.path().join("cmdline")))
            else {
                continue;
            };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let has = |text: &str| environment.split(|&byte| byte == 0).any(|part| part == text.as_bytes());
            let is_ours = line.starts_with(self.binary.to_string_lossy().as_bytes())
                && String::from_utf8_lossy(&line).contains(&*folder);
            if is_ours && marks.iter().any(|mark| has(mark)) {
                return Ok(process);
            }
        }
        Err(format!("rank {rank} is not to be found").into())
    }

    /// Waits until a path is there, while something runs.
    pub(crate) fn wait_for(&self, started: &mut Started, path: &Path) -> Outcome<()> {
        while !path.exists() {
            if let Some(status) = started.process.try_wait()? {
                let said = fs::read_to_string(&started.said)?;
                return Err(format!("it ended before {} was there: {status}: {said}", path.display()).into());
            }
            sleep(LOOK);
        }
        Ok(())
    }
}

/// A process under way; it ends with this.
pub(crate) struct Started {
    process: Child,
    said: PathBuf,
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Builds the binary. The last argument, if there are any, names the MPI.
fn build(root: &Path, arguments: &[&str]) -> Outcome<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--profile", "ci", "--workspace", "--bin", "remat"]).current_dir(root);
    if let Some((name, arguments)) = arguments.split_last() {
        cargo.args(arguments).env("MPICC", format!("mpicc.{name}")).env("CARGO_BUILD_BUILD_DIR", root.join("target"));
    }
    let built = cargo.status()?;
    built.success().then_some(()).ok_or_else(|| format!("{cargo:?} failed").into())
}

/// Sends a signal to a process.
pub(crate) fn signal(process: u32, name: &str) -> Outcome<()> {
    let sent = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status()?;
    sent.success().then_some(()).ok_or_else(|| format!("process {process} cannot be sent {name}").into())
}

/// Refuses files that are not the same, by name.
pub(crate) fn same(
    what: &str,
    one: &BTreeMap<String, Vec<u8>>,
    other: &BTreeMap<String, Vec<u8>>,
) -> Result<(), String> {
    let names = one.keys().chain(other.keys());
    let differs: Vec<&String> = names.filter(|name| one.get(*name) != other.get(*name)).collect();
    differs.first().map_or(Ok(()), |first| Err(format!("{what}: {first} is another, and {} more", differs.len() - 1)))
}
