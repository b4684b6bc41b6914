//! `cargo xtask ranks [openmpi] [mpich]`: builds the binary with the feature `mpi` for each MPI named, in a target folder of its
//! own, and trains on one to four ranks by its `mpirun`: the same bytes at any number; a rank that is killed ends all, and the
//! run goes on with one.
//!
//! Invariant: nothing is measured, so the machine may be as small and busy as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// What may pass from the end of one rank to the end of all.
const END: Duration = Duration::from_secs(10);

const ROWS: &str = "fixtures/parity/llama-gqa-tied/rows.jsonl";
const SETTINGS: &str = "--model fixtures/parity/llama-gqa-tied --rank 4 --dropout 0.1 --batch-size 1 --grad-accum 4 \
                        --schedule constant --lr 1e-2 --quiet";

/// One MPI of this machine.
struct Mpi<'a> {
    root: &'a Path,
    name: &'a str,
    binary: PathBuf,
    folder: PathBuf,
}

/// Runs it all. Whether everything was as it should be; what was not is printed.
///
/// # Errors
/// A build or a run that fails.
pub fn run(root: &Path, names: &[String]) -> Outcome<bool> {
    let names = if names.is_empty() { vec!["openmpi".to_string()] } else { names.to_vec() };
    let mut good = true;
    for name in &names {
        let mpi = Mpi::built(root, name)?;
        for (what, holds) in [("any number of ranks", mpi.same_bytes()?), ("a killed rank", mpi.survives_a_kill()?)] {
            println!("{name}: {what}: {}", if holds { "good" } else { "NOT AS IT SHOULD BE" });
            good &= holds;
        }
        fs::remove_dir_all(&mpi.folder)?;
    }
    Ok(good)
}

impl<'a> Mpi<'a> {
    fn built(root: &'a Path, name: &'a str) -> Outcome<Self> {
        let target = root.join(format!("target/ranks-{name}"));
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--profile", "ci", "-p", "remat-cli", "--features", "mpi", "--target-dir"]).arg(&target);
        let built = cargo.current_dir(root).env("MPICC", format!("mpicc.{name}")).status()?;
        let folder = std::env::temp_dir().join(format!("remat-ranks-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let rows = fs::read_to_string(root.join(ROWS))?;
        let thirteen: String = rows.lines().take(13).flat_map(|line| [line, "\n"]).collect();
        fs::write(folder.join("rows.jsonl"), thirteen)?;
        let mpi = Mpi { root, name, binary: target.join("ci/remat"), folder };
        built.success().then_some(mpi).ok_or_else(|| format!("the build for {name} failed").into())
    }

    /// `remat train` on so many ranks.
    fn train(&self, ranks: usize, out: &str, flags: &str) -> Command {
        let mut command = Command::new(format!("mpirun.{}", self.name));
        command.args(["-n", &ranks.to_string()]);
        if self.name == "openmpi" {
            command.args(["--bind-to", "none", "--oversubscribe"]);
        }
        command.arg(&self.binary).arg("train").args(SETTINGS.split_whitespace()).args(flags.split_whitespace());
        command.arg("--data").arg(self.folder.join("rows.jsonl")).arg("--out").arg(self.folder.join(out));
        command.args(["--threads", "1"]).current_dir(self.root).env("XDG_CACHE_HOME", &self.folder);
        for allowed in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
            command.env(allowed, "1");
        }
        command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
        command
    }

    fn succeeds(&self, mut command: Command) -> Outcome<()> {
        let status = command.status()?;
        status.success().then_some(()).ok_or_else(|| format!("{}: {command:?}: {status}", self.name).into())
    }

    /// The result and the optimizer's state after update 5.
    fn bytes_of(&self, out: &str) -> Outcome<[Vec<u8>; 2]> {
        let read = |name: &str| fs::read(self.folder.join(out).join(name));
        Ok([read("adapter_model.safetensors")?, read("checkpoint-5/optimizer.safetensors")?])
    }

    fn same_bytes(&self) -> Outcome<bool> {
        let mut all = Vec::new();
        for ranks in 1..=4 {
            let out = format!("w{ranks}");
            self.succeeds(self.train(ranks, &out, "--steps 5 --save-every 5"))?;
            all.push(self.bytes_of(&out)?);
        }
        Ok(all.iter().all(|bytes| *bytes == all[0]))
    }

    /// A rank other than 0 is killed in the middle of a long run, which goes on alone from its last save.
    fn survives_a_kill(&self) -> Outcome<bool> {
        let mut killed = self.train(3, "killed", "--steps 100000 --save-every 5").stderr(Stdio::null()).spawn()?;
        let save = self.folder.join("killed/checkpoint-5");
        while !save.is_dir() {
            if let Some(status) = killed.try_wait()? {
                return Err(format!("{}: it ended before its first save: {status}", self.name).into());
            }
            sleep(Duration::from_millis(20));
        }
        let victim = self.rank_of_run(2)?;
        let began = Instant::now();
        Command::new("kill").args(["-9", &victim.to_string()]).status()?;
        let status = loop {
            match killed.try_wait()? {
                Some(status) => break status,
                None if began.elapsed() > END => {
                    killed.kill()?;
                    return Ok(false);
                }
                None => sleep(Duration::from_millis(20)),
            }
        };
        // The save of update 5 is what an uninterrupted run of five has.
        let saved = fs::read(save.join("optimizer.safetensors"))?;
        Ok(!status.success() && saved == self.bytes_of("w1")?[1])
    }

    /// The process of a rank, by what its launcher has set for it.
    fn rank_of_run(&self, rank: usize) -> Outcome<u32> {
        let marks = ["OMPI_COMM_WORLD_RANK", "PMI_RANK"].map(|name| format!("{name}={rank}"));
        for entry in fs::read_dir("/proc")?.flatten() {
            let (Ok(process), Ok(line)) =
                (entry.file_name().to_string_lossy().parse::<u32>(), fs::read(entry.path().join("cmdline")))
            else {
                continue;
            };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let has = |text: &str| environment.split(|&byte| byte == 0).any(|part| part == text.as_bytes());
            let is_ours = line.starts_with(self.binary.to_string_lossy().as_bytes());
            if is_ours && marks.iter().any(|mark| has(mark)) {
                return Ok(process);
            }
        }
        Err(format!("{}: rank {rank} is not to be found", self.name).into())
    }
}
