//! What is run within its promise: every method, every phase, and rows of every shape.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A training run and what is done with it after.
pub(super) struct Job {
    pub(super) name: &'static str,
    /// Flags; `MODEL`, `ROWS`, `LAST`, `HUGE`, `MANY` and `TMP` stand for paths.
    flags: &'static str,
    /// Whether it is gone on with from its save.
    pub(super) is_resumed: bool,
}

const fn job(name: &'static str, flags: &'static str) -> Job {
    Job { name, flags, is_resumed: false }
}

/// All runs. Each is also planned, which is where its promise comes from.
pub(super) const JOBS: &[Job] = &[
    job("lora", "--method lora --rank 4 --data ROWS"),
    job("dora", "--method lora --dora --rank 4 --data ROWS"),
    job("qlora in NF4", "--method qlora --rank 4 --data ROWS"),
    job("qlora in int8", "--method qlora --quant int8 --rank 4 --data ROWS"),
    job("full", "--method full --data ROWS"),
    job("full, moments in 8 bits", "--method full --optimizer adamw8bit --data ROWS"),
    job("full, checkpointed", "--method full --checkpointing full --data ROWS"),
    job("in bf16", "--method lora --rank 4 --precision bf16 --data ROWS"),
    job("packed", "--method lora --rank 4 --packing --data ROWS"),
    job("accumulated", "--method lora --rank 4 --grad-accum 4 --data ROWS"),
    job("offloaded", "--method lora --rank 4 --checkpointing none --offload TMP --data ROWS"),
    // Larger than what the limit leaves of slack, so that what the page cache holds of it shows.
    job("weights on the disk", "--preset gpt2 --method lora --rank 4 --precision bf16 --memory 240MiB --offload TMP"),
    job("training state on the disk", "--preset gpt2 --method full --memory 900MiB --offload TMP --save-every 2"),
    job("sampled", "--method lora --rank 4 --sample the --sample-every 1 --data ROWS"),
    Job { name: "saved", flags: "--method full --save-every 1 --data ROWS", is_resumed: true },
    Job {
        name: "evaluated",
        flags: "--method lora --rank 4 --eval-data ROWS --eval-every 1 --save-every 1 --data ROWS",
        is_resumed: true,
    },
    job("the longest row last", "--method lora --rank 4 --no-shuffle --steps 21 --data LAST"),
    job("huge rows", "--method lora --rank 4 --data HUGE"),
    job("many rows", "--method lora --rank 4 --data MANY"),
    job("many rows held out", "--method lora --rank 4 --eval-data MANY --eval-every 3 --data ROWS"),
];

/// Names of the runs that are made again with no prices measured.
pub(super) const COLD: &[&str] = &["lora", "full", "evaluated"];

/// The paths that flags speak of.
pub(super) struct Paths {
    pub(super) model: PathBuf,
    folder: PathBuf,
}

impl Paths {
    /// Writes the rows.
    ///
    /// # Errors
    /// A disk that fails.
    pub(super) fn new(root: &Path, folder: &Path) -> io::Result<Self> {
        let row = |ids: Vec<usize>| format!("{{\"input_ids\": {ids:?}}}\n");
        let ids = |from: usize, count: usize| (from..from + count).map(|id| 3 + id % 150).collect::<Vec<_>>();
        let last = row(ids(0, 9)).repeat(40) + &row(ids(0, 64));
        let many: String = (0..200_000).map(|index| row(ids(index, 5 + index % 50))).collect();
        let huge = format!("{{\"text\": {:?}}}\n", "the cat sat on the mat ".repeat(300_000)).repeat(2);
        for (name, text) in [("last.jsonl", last), ("many.jsonl", many), ("huge.jsonl", huge)] {
            fs::write(folder.join(name), text)?;
        }
        Ok(Paths { model: root.join("fixtures/parity/llama-gqa-tied"), folder: folder.to_path_buf() })
    }

    /// The path that a word stands for, or the word.
    pub(super) fn of(&self, word: &str) -> PathBuf {
        match word {
            "MODEL" => self.model.clone(),
            "ROWS" => self.model.join("rows.jsonl"),
            "LAST" => self.folder.join("last.jsonl"),
            "MANY" => self.folder.join("many.jsonl"),
            "HUGE" => self.folder.join("huge.jsonl"),
            "TMP" => self.folder.clone(),
            word => PathBuf::from(word),
        }
    }

    /// A job's flags.
    pub(super) fn flags(&self, job: &Job) -> Vec<PathBuf> {
        let model = if job.flags.contains("--preset") { "" } else { "--model MODEL " };
        let mut flags = format!("{model}--batch-size 2 --seq-len 64 {}", job.flags);
        for (flag, value) in [("--steps", "3"), ("--grad-accum", "1")] {
            if !job.flags.contains(flag) {
                flags = format!("{flags} {flag} {value}");
            }
        }
        flags.split(' ').map(|word| self.of(word)).collect()
    }
}
