//! The lab record of a profile: what the plan that it would take did, and all policies beside it.

use crate::plan::setup::RANDOM_TOKENS;
use crate::record::lab_record::{
    DataRecord, ModelRecord, Observed, PlanRecord, ProfileRecord, Record, RecordKind, data_records,
};
use crate::record::program::build;
use crate::{ProfileRow, ProfileSetup, RefusedPolicy, TrainError};
use remat_ir::Storage;

/// A profile that was made.
#[derive(Debug)]
pub struct Profiled {
    /// Bytes of parameters and buffers, as transformers counts them.
    pub footprint_bytes: usize,
    /// The same in 16 bit, whatever this profile computes in.
    pub footprint_16_bit_bytes: usize,
    /// Counted steps of each policy.
    pub repeats: usize,
    /// The policies.
    pub rows: Vec<ProfileRow>,
    /// The policies that do not fit.
    pub refused: Vec<RefusedPolicy>,
    /// Index of the row that the verdict is for.
    pub chosen: usize,
    /// Whether checkpointing pays here, and what would change that.
    pub verdict: String,
}

impl Profiled {
    /// The record, with the hashes of the model's files.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn record(&self, setup: &ProfileSetup, started_at: String) -> Result<Record, TrainError> {
        let row = &self.rows[self.chosen];
        let (remat_version, commit, build) = build();
        let graph = setup.model.training(&setup.method, setup.shape)?;
        let trained: usize = graph.parameters.iter().map(|parameter| parameter.ty.shape.numel()).sum();
        let weights = graph.graph.values.iter().filter(|value| value.storage == Storage::Weight);
        let parameters = trained + weights.map(|value| value.ty.shape.numel()).sum::<usize>();
        Ok(Record {
            schema: 1,
            kind: RecordKind::Profile,
            remat_version,
            commit,
            build,
            started_at,
            machine: setup.machine.clone(),
            model: ModelRecord::of(&setup.model, setup.config.preset.as_deref(), parameters),
            data: match &setup.rows {
                Some(rows) => data_records(&rows.data),
                None => vec![DataRecord {
                    path: RANDOM_TOKENS.into(),
                    sha256: "none: made for this run".to_string(),
                    samples: setup.shape.batch as u64,
                }],
            },
            config: setup.config.clone(),
            plan: PlanRecord {
                policy: row.policy.clone(),
                steps: row.plan_steps,
                recomputed_steps: row.recomputed_steps,
                offloaded_bytes: row.offloaded_bytes,
                arena_bytes: row.arena_bytes,
                activation_bytes: row.activation_bytes,
                placement: Vec::new(),
                states: Vec::new(),
            },
            observed: Observed {
                steps: self.repeats as u64,
                first_loss: None,
                last_loss: None,
                last_val_loss: None,
                best: None,
                stopped_after: None,
                peak_bytes: row.measured_peak_bytes,
                planned_peak_bytes: row.planned_peak_bytes,
                seconds: row.step_seconds * self.repeats as f64,
                tokens_per_second: row.tokens_per_second,
            },
            bound_by: row.bound_by.clone(),
            profile: Some(ProfileRecord {
                footprint_bytes: self.footprint_bytes,
                footprint_bytes_with_checkpointing: self.footprint_bytes,
                footprint_16_bit_bytes: self.footprint_16_bit_bytes,
                repeats: self.repeats,
                rows: self.rows.clone(),
                refused: self.refused.clone(),
                verdict: self.verdict.clone(),
            }),
            answers: None,
            ranks: Vec::new(),
        })
    }
}
