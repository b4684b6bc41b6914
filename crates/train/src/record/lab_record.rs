//! The lab record: which program on which machine computed what from which files, and what came out.
//!
//! Invariant: everything in it was read, measured or computed in this run; what is not known is null, never guessed.

use crate::plan::placed_states::PlacedStates;
use crate::plan::placed_weights::PlacedWeights;
use crate::profile::row::{ProfileRow, RefusedPolicy};
use crate::record::machine::Machine;
use crate::run::held_out::Best;
use crate::settings::config::TrainConfig;
use remat_data::SampleStats;
use remat_model::Model;
use serde::Serialize;
use std::path::PathBuf;

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
    /// Where frozen weights lie, where some are off memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub placement: Vec<PlacedWeights>,
    /// Where training states lie, where some are off memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<PlacedStates>,
}

/// What is kept of a run's best evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct BestRecord {
    /// In the run's folder.
    pub path: &'static str,
    #[serde(flatten)]
    pub evaluation: Best,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Observed {
    pub steps: u64,
    pub first_loss: Option<f64>,
    pub last_loss: Option<f64>,
    pub last_val_loss: Option<f64>,
    /// The lowest loss of the held-out rows, and where the adapter or model is that gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<BestRecord>,
    /// Evaluations in a row that were no better, of a run that stopped because of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_after: Option<u64>,
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

/// One of the ranks that trained together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct RankRecord {
    pub rank: usize,
    pub host: String,
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
    /// The host of each rank, of a run on several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<RankRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswersRecord>,
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
