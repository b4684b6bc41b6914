//! What a run tells while it goes. Invariant: a report is data; how it looks is the command line's business.

use crate::{
    Best, BucketPlan, MemoryAccount, PhaseMemory, PhasePeak, PlacedStates, Record, Sample, StepMetrics, TrainConfig,
};
use remat_data::SampleStats;
use remat_model::BatchShape;
use std::path::{Path, PathBuf};

/// Receives events.
pub trait Reporter {
    /// Something happened.
    fn report(&mut self, event: Event<'_>);
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something the user should know.
    Note(&'a str),
    /// All input is read, the step is compiled, nothing is loaded yet.
    Planned(&'a PlannedRun<'a>),
    /// An update was made.
    Updated {
        /// Its numbers.
        metrics: &'a StepMetrics,
        /// Updates of the whole run.
        total_updates: u64,
        /// Seconds that are left at the present pace.
        remaining_seconds: f64,
    },
    /// A save is complete.
    Saved {
        /// Its folder.
        path: &'a Path,
    },
    /// The loss of the held-out rows is lower than ever before, and what gave it is kept apart.
    Improved {
        /// The evaluation.
        best: &'a Best,
        /// The folder.
        path: &'a Path,
    },
    /// A text was continued by the model in training.
    Sampled(&'a Sample),
}

/// A run before its first step.
#[derive(Debug)]
pub struct PlannedRun<'a> {
    /// The settings, as resolved.
    pub config: &'a TrainConfig,
    /// The model's architecture.
    pub family: &'static str,
    /// Number format of weights and activations, and what the model is stored in where that is another.
    pub number_format: String,
    /// Parameters that are trained, and all of them.
    pub trained_parameters: usize,
    /// Parameters of base and adapters together.
    pub total_parameters: usize,
    /// The data, file by file.
    pub data: &'a [SampleStats],
    /// The held-out data, file by file.
    pub eval_data: &'a [SampleStats],
    /// Shape of a micro-batch.
    pub shape: BatchShape,
    /// Updates of an epoch.
    pub updates_per_epoch: u64,
    /// Updates of the run.
    pub total_updates: u64,
    /// Updates made before this process.
    pub resumed_from: Option<u64>,
    /// What it runs on.
    pub device: &'a str,
    /// Threads.
    pub threads: usize,
    /// Steps of the micro-step's plan, and how many of them repeat forward work.
    pub plan_steps: usize,
    /// Steps that repeat forward work.
    pub recomputed_steps: usize,
    /// Into how many tiles wide values are cut, at most; 1 where they are whole.
    pub tiles: usize,
    /// Bytes that a micro-step copies out of the arena, and back.
    pub offloaded_bytes: usize,
    /// Bytes of frozen weights that are not in memory.
    pub off_memory_weight_bytes: usize,
    /// What of them a micro-step reads.
    pub read_weight_bytes: usize,
    /// Where training states lie, where some are off memory.
    pub states: Vec<PlacedStates>,
    /// Micro-batches by length, the shortest first, each with its plan; one where all are of one length.
    pub buckets: &'a [BucketPlan],
    /// Size of the arena.
    pub arena_bytes: usize,
    /// What the run will hold.
    pub memory: &'a MemoryAccount,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All updates are made and the result is written.
    Finished,
    /// It was interrupted; the save to resume from.
    Interrupted {
        /// The save's folder.
        save: PathBuf,
    },
}

/// A run after its last step.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// How it ended.
    pub outcome: Outcome,
    /// The run folder.
    pub out: PathBuf,
    /// Updates made in all.
    pub updates: u64,
    /// Loss of this process's first update.
    pub first_loss: Option<f64>,
    /// Loss of the last update.
    pub last_loss: Option<f64>,
    /// Loss of the held-out rows, when they were last evaluated.
    pub last_val_loss: Option<f64>,
    /// The lowest loss of the held-out rows, whose adapter or model is kept apart.
    pub best: Option<Best>,
    /// How many evaluations in a row were no better, of a run that stopped because of them.
    pub stopped_after: Option<u64>,
    /// Seconds spent in updates by this process.
    pub seconds: f64,
    /// Tokens of this process's updates.
    pub tokens: u64,
    /// The process's peak resident memory, where the system tells.
    pub peak_bytes: Option<u64>,
    /// The peak that was planned.
    pub planned_peak_bytes: u64,
    /// The same, phase by phase.
    pub phases: Vec<PhasePeak>,
    /// What was planned of every phase, part by part.
    pub planned_phases: Vec<PhaseMemory>,
    /// The lab record, of a run that finished.
    pub record: Option<Box<Record>>,
}
