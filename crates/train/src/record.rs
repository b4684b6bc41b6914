//! The lab record: which program on which machine computed what from which files, and what came out.
//!
//! Invariant: everything in it was read, measured or computed in this run; what is not known is null, never guessed.

use crate::prepare::RANDOM_TOKENS;
use crate::{MemoryAccount, TrainConfig, TrainError, memory};
use remat_data::SampleStats;
use remat_formats::{sha256_file, write_atomic};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Its JSON form.
pub const RECORD_FILE: &str = "record.json";
/// Its form for people.
pub const RECORD_TEXT_FILE: &str = "record.md";

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Machine {
    pub cpu: Option<String>,
    pub isa: String,
    pub threads: usize,
    pub memory_bytes: Option<u64>,
    pub gpu: Option<String>,
}

impl Machine {
    /// This machine, with the instruction level and threads of the executor.
    pub fn this(isa: &str, threads: usize) -> Self {
        let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Machine {
            cpu: cpu.map(|(_, name)| name.trim().to_string()),
            isa: isa.to_string(),
            threads,
            memory_bytes: memory::total_bytes(),
            gpu: None,
        }
    }
}

/// The model folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct ModelRecord {
    pub path: PathBuf,
    /// Of each weight file, in the order of their names, joined by `+`.
    pub sha256: String,
    pub family: String,
    pub parameters: usize,
}

/// One data file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct DataRecord {
    pub path: PathBuf,
    pub sha256: String,
    pub samples: u64,
}

/// What the plan is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct PlanRecord {
    pub policy: String,
    pub steps: usize,
    pub recomputed_steps: usize,
    pub arena_bytes: usize,
    pub activation_bytes: usize,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Observed {
    pub steps: u64,
    pub first_loss: Option<f64>,
    pub last_loss: Option<f64>,
    pub last_val_loss: Option<f64>,
    pub peak_bytes: Option<u64>,
    pub planned_peak_bytes: u64,
    pub seconds: f64,
    pub tokens_per_second: f64,
}

/// The record of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Record {
    pub schema: u32,
    pub remat_version: &'static str,
    pub commit: Option<&'static str>,
    pub build: &'static str,
    pub started_at: String,
    pub machine: Machine,
    pub model: ModelRecord,
    pub data: Vec<DataRecord>,
    pub config: TrainConfig,
    pub plan: PlanRecord,
    pub observed: Observed,
    pub bound_by: String,
}

/// What made this program, for records.
pub fn build() -> (&'static str, Option<&'static str>, &'static str) {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    (env!("CARGO_PKG_VERSION"), option_env!("REMAT_COMMIT"), profile)
}

/// Hashes of weight files, joined.
pub(crate) fn hash_all(paths: impl Iterator<Item = PathBuf>) -> Result<String, TrainError> {
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort();
    let hashes: Result<Vec<String>, _> = paths.iter().map(|path| sha256_file(path)).collect();
    Ok(hashes?.join("+"))
}

/// The records of data files.
pub(crate) fn data_records(stats: &[SampleStats]) -> Result<Vec<DataRecord>, TrainError> {
    let record = |stats: &SampleStats| {
        let samples = (stats.rows - stats.dropped) as u64;
        let sha256 = if stats.path == Path::new(RANDOM_TOKENS) {
            "none: made for this run".to_string()
        } else {
            sha256_file(&stats.path)?
        };
        Ok(DataRecord { path: stats.path.clone(), sha256, samples })
    };
    stats.iter().map(record).collect()
}

/// What decided how much memory the run took: the largest row of the account that the user can change.
pub(crate) fn bound_by(account: &MemoryAccount) -> String {
    let fixed = ["reserve", "program and tokenizer", "kernel scratch"];
    let rows = account.rows.iter().filter(|row| !fixed.contains(&row.name));
    match rows.max_by_key(|row| row.bytes) {
        Some(row) => {
            let share = 100.0 * row.bytes as f64 / account.planned_peak_bytes().max(1) as f64;
            format!("{} ({share:.0} % of the planned peak)", row.name)
        }
        None => "nothing".to_string(),
    }
}

impl Record {
    /// Writes `record.json` and `record.md` into a folder.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), TrainError> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| TrainError::NotSaved { problem: format!("{RECORD_FILE}: {error}") })?;
        write_atomic(&folder.join(RECORD_FILE), format!("{json}\n").as_bytes())?;
        Ok(write_atomic(&folder.join(RECORD_TEXT_FILE), self.text().as_bytes())?)
    }

    /// The record as a page of Markdown.
    fn text(&self) -> String {
        let mut text = String::from("# Lab record\n\n| what | value |\n|---|---|\n");
        let mut row = |what: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {what} | {value} |");
        };
        let commit = self.commit.unwrap_or("unknown commit");
        row("remat", format!("{} ({commit}, {} build)", self.remat_version, self.build));
        row("started", self.started_at.clone());
        let Machine { cpu, isa, threads, memory_bytes, gpu } = &self.machine;
        row("machine", format!("{}, {isa}, {threads} threads", cpu.as_deref().unwrap_or("unknown CPU")));
        row("memory of the machine", memory_bytes.map_or("unknown".to_string(), |bytes| format!("{bytes} bytes")));
        row("GPU", gpu.clone().unwrap_or_else(|| "none used".to_string()));
        row(
            "model",
            format!("{} ({}, {} parameters)", self.model.path.display(), self.model.family, self.model.parameters),
        );
        row("model sha256", self.model.sha256.clone());
        for data in &self.data {
            row("data", format!("{} ({} samples), sha256 {}", data.path.display(), data.samples, data.sha256));
        }
        let plan = &self.plan;
        row(
            "plan",
            format!("checkpointing {}: {} steps, {} recomputed", plan.policy, plan.steps, plan.recomputed_steps),
        );
        row(
            "arena",
            format!("{} bytes, of which {} live from forward to backward", plan.arena_bytes, plan.activation_bytes),
        );
        let seen = &self.observed;
        let loss = |loss: Option<f64>| loss.map_or("none".to_string(), |loss| format!("{loss:.6}"));
        row("loss", format!("{} → {} in {} updates", loss(seen.first_loss), loss(seen.last_loss), seen.steps));
        if let Some(val_loss) = seen.last_val_loss {
            row("loss of held-out rows", format!("{val_loss:.6} at last"));
        }
        row("time", format!("{:.2} s in updates, {:.0} tokens per second", seen.seconds, seen.tokens_per_second));
        let measured = seen.peak_bytes.map_or("unknown".to_string(), |bytes| format!("{bytes} bytes"));
        row("peak memory of the process", format!("{measured} measured, {} bytes planned", seen.planned_peak_bytes));
        row("bound by", self.bound_by.clone());
        text
    }
}

/// Now, in UTC, as `2026-01-31T12:00:00Z`.
pub fn now_utc() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    utc(seconds)
}

/// A time since 1970 as a date and time in UTC. Howard Hinnant's `civil_from_days`.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_are_right_around_leap_days_and_centuries() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
