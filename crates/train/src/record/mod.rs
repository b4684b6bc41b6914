//! The lab record: which program on which machine computed what from which files, and what came out.
//!
//! Invariant: everything in it was read, measured or computed in this run; what is not known is null, never guessed.

pub(crate) mod record_page;

use crate::plan::memory;
use crate::record::record_page::{page, turns};
use crate::{Limit, MemoryAccount, MemoryPart, ProfileRow, RefusedPolicy, TrainConfig, TrainError};
use remat_data::{Day, SampleStats};
use remat_formats::write_atomic;
use remat_model::Model;
use remat_plan::{Plan, Policy};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
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
    /// What ran the plan.
    pub backend: &'static str,
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
            backend: "cpu",
        }
    }
}

/// The model folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct ModelRecord {
    pub path: PathBuf,
    /// Of each weight file, in the order of their names, joined by `+`; null if they could not be read once more.
    pub sha256: Option<String>,
    /// Why there is no hash, if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256_missing: Option<String>,
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
    pub offloaded_bytes: usize,
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

/// What was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum RecordKind {
    Train,
    Profile,
    Quickstart,
}

/// What a profile found, beside the plan that it would take.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct ProfileRecord {
    pub footprint_bytes: usize,
    pub footprint_bytes_with_checkpointing: usize,
    pub footprint_16_bit_bytes: usize,
    /// Counted steps of each policy.
    pub repeats: usize,
    pub rows: Vec<ProfileRow>,
    pub refused: Vec<RefusedPolicy>,
    pub verdict: String,
}

/// Held-out questions before and after the training of a quickstart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct AnswersRecord {
    pub questions: usize,
    pub loss_before: f64,
    pub loss_after: f64,
    pub right_before: usize,
    pub right_after: usize,
}

/// The record of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Record {
    pub schema: u32,
    pub kind: RecordKind,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswersRecord>,
}

/// The commit that the binary was built from, once it has said so.
static COMMIT: OnceLock<&'static str> = OnceLock::new();

/// Says which commit this program was built from. Only the binary knows it: a library that did would be built anew for
/// every commit.
pub fn name_commit(commit: &'static str) {
    // The first one stays: there is one program in a process.
    let _ = COMMIT.set(commit);
}

/// What made this program, for records.
pub fn build() -> (&'static str, Option<&'static str>, &'static str) {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    (env!("CARGO_PKG_VERSION"), COMMIT.get().copied(), profile)
}

impl ModelRecord {
    /// Of a folder, or of a preset's shape. What was trained is there by now, so weights that cannot be read once more are
    /// no failure: the record says so.
    pub(crate) fn of(model: &Model, preset: Option<&str>, parameters: usize) -> Self {
        let (path, hash) = match preset {
            Some(name) => (PathBuf::from(name), Ok("none: random weights".to_string())),
            None => (model.folder().to_path_buf(), model.weights_sha256()),
        };
        let (sha256, sha256_missing) = match hash {
            Ok(sha256) => (Some(sha256), None),
            Err(error) => (None, Some(error.to_string())),
        };
        ModelRecord { path, sha256, sha256_missing, family: model.config().family.to_string(), parameters }
    }

    /// The hash, or why there is none.
    pub fn sha256_or_why(&self) -> String {
        match (&self.sha256, &self.sha256_missing) {
            (Some(sha256), _) => sha256.clone(),
            (None, why) => format!("unknown: {}", why.as_deref().unwrap_or("not recorded")),
        }
    }
}

/// The records of data files, with the hashes of what was read of them.
pub(crate) fn data_records(stats: &[SampleStats]) -> Vec<DataRecord> {
    let record = |stats: &SampleStats| DataRecord {
        path: stats.path.clone(),
        sha256: stats.file.sha256.clone().unwrap_or_else(|| "none: made for this run".to_string()),
        samples: stats.kept as u64,
    };
    stats.iter().map(record).collect()
}

/// What bound the result: the limit, where the plan recomputes because of it, and the largest part of the memory that the
/// user can change. What bounds the time is always the backend.
pub(crate) fn bound_by(account: &MemoryAccount, limited_to: Option<(Limit, &str)>) -> String {
    let chosen = |(domain, part, bytes)| Some((constraint(part)?, domain, part, bytes));
    let rows = account.rows.iter().filter_map(chosen);
    let Some((constraint, domain, part, bytes)) = rows.max_by_key(|(.., bytes)| *bytes) else {
        return "nothing".to_string();
    };
    let share = 100.0 * bytes as f64 / account.peak_bytes(domain).max(1) as f64;
    let largest = format!("{constraint}: {} ({share:.0} % of the planned peak)", part.words());
    match limited_to {
        Some((limit, what)) => {
            format!("memory: {} {} bytes, so the plan {what}; then {largest}", limit.whose, limit.bytes)
        }
        None => largest,
    }
}

/// What a user would change to change a part of the memory.
fn constraint(part: MemoryPart) -> Option<&'static str> {
    match part {
        MemoryPart::Weights | MemoryPart::QuantisedWeights => Some("model size"),
        MemoryPart::TrainedParameters | MemoryPart::Gradients | MemoryPart::Optimizer => Some("method"),
        MemoryPart::KeptActivations | MemoryPart::HeadWorkspace | MemoryPart::Transient | MemoryPart::Inputs => {
            Some("batch")
        }
        MemoryPart::Data => Some("data"),
        // What the program itself takes is nothing to choose, and a file is no memory.
        MemoryPart::KernelScratch
        | MemoryPart::ResolvedPlans
        | MemoryPart::Trace
        | MemoryPart::ProgramAndTokenizer
        | MemoryPart::Reserve
        | MemoryPart::SpillFile => None,
    }
}

/// The limit, if it is why a plan recomputes or offloads, and which of them it does.
pub(crate) fn limiting(limit: Option<Limit>, micro: &Plan) -> Option<(Limit, &'static str)> {
    let recomputes = micro.policy == Policy::Auto && micro.recomputed_steps().next().is_some();
    let what = match (recomputes, micro.copy_steps().next().is_some()) {
        (true, false) => "recomputes",
        (true, true) => "recomputes and offloads",
        (false, true) => "offloads",
        (false, false) => return None,
    };
    limit.map(|limit| (limit, what))
}

/// Where records go that no folder was given for; `None` where there is no place for such.
pub fn record_folder(kind: &str, started_at: &str) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let time: String = started_at.chars().filter(char::is_ascii_alphanumeric).collect();
    Some(state.join("remat/records").join(format!("{time}-{kind}-{}", std::process::id())))
}

impl Record {
    /// Writes `record.json` and `record.md` into a folder that exists.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), TrainError> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| TrainError::NotSaved { problem: format!("{RECORD_FILE}: {error}") })?;
        let write = |name: &str, text: &str| {
            let written = write_atomic(&folder.join(name), text.as_bytes());
            written.map_err(|error| TrainError::NotSaved { problem: error.to_string() })
        };
        write(RECORD_FILE, &format!("{}\n", without_turns(&json)))?;
        write(RECORD_TEXT_FILE, &page(self))
    }
}

/// The same JSON with characters that turn the reading direction as escapes: outside texts there are none.
fn without_turns(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        match turns(c) {
            true => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => shown.push(c),
        }
    }
    shown
}

/// Now, in UTC, as `2026-01-31T12:00:00Z`.
pub fn now_utc() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    utc(seconds)
}

/// Today, in UTC.
pub fn today() -> Day {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    Day::since_1970(seconds / 86_400)
}

/// A time since 1970 as a date and time in UTC.
fn utc(seconds: u64) -> String {
    let (day, rest) = (Day::since_1970(seconds / 86_400), seconds % 86_400);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{day}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::{utc, without_turns};

    #[test]
    fn json_means_the_same_without_turns() {
        let name = "a\u{202e}gnp.exe \u{200f}\u{2066}ä\\";
        let json = serde_json::to_string(name).expect("a text");
        let shown = without_turns(&json);
        assert!(shown.contains("\\u202egnp") && !shown.contains('\u{202e}'), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).expect("JSON"), name);
    }

    #[test]
    fn dates_are_right_around_leap_days_and_centuries() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
