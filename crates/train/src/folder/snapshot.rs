//! What is inside a save: everything a run needs to go on as if it had never stopped.
//!
//! | file | holds |
//! |---|---|
//! | the model's own files | the adapter or the model, ready to be used |
//! | `optimizer.safetensors` | each parameter in f32, and its moments `.m` and `.v`; of 8 bits also their scales, `.m_absmax` and `.v_absmax` |
//! | `trainer_state.json` | counts and the newest of the log, under Hugging Face's names |
//! | `data_state.json` | the position in the data, and the seed of dropout |
//! | `config.toml` | the settings |
//!
//! Invariant: gradients are not saved, because saves happen between updates, where they are zero.

use crate::folder::file_names::{CONFIG_FILE, DATA_STATE_FILE, OPTIMIZER_FILE, TRAINER_STATE_FILE};
use crate::folder::saved_states::{SavedState, specs};
use crate::folder::saves::Save;
use crate::ranks::whole_states::WholeStates;
use crate::run::held_out::HeldOut;
use crate::run::step_metrics::StepMetrics;
use crate::settings::config_file;
use crate::{AccumulationKind, TrainConfig, TrainError};
use remat_data::SamplerState;
use remat_formats::{SafetensorsFile, write_safetensors_from};
use remat_ir::Storage;
use remat_plan::{Device, SourceWriter};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;

/// Where the run stands in its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DataState {
    /// Version of this file.
    pub(crate) schema: u32,
    /// Key of all random numbers of the run.
    pub(crate) seed: u64,
    /// Position of the next update.
    pub(crate) sampler: SamplerState,
    /// The last update, if the evaluation after it was interrupted: it is made again by the run that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unevaluated: Option<StepMetrics>,
    /// What the evaluations have come to, of a run that has held-out rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_out: Option<HeldOut>,
}

/// `trainer_state.json`, as far as it says anything here; the names are those of transformers' `TrainerState`. Of the log it
/// has the newest updates; all of them are in `metrics.jsonl`, and a copy of that in every save would grow with the run.
#[derive(Debug, Serialize)]
pub(crate) struct TrainerState {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) best_global_step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) best_metric: Option<f64>,
    pub(crate) epoch: f64,
    pub(crate) global_step: u64,
    pub(crate) is_local_process_zero: bool,
    pub(crate) is_world_process_zero: bool,
    pub(crate) log_history: Vec<LogEntry>,
    pub(crate) logging_steps: u64,
    pub(crate) max_steps: u64,
    pub(crate) num_input_tokens_seen: u64,
    pub(crate) num_train_epochs: u64,
    pub(crate) save_steps: u64,
    pub(crate) train_batch_size: usize,
}

/// One update in the log history.
#[derive(Debug, Serialize)]
pub(crate) struct LogEntry {
    epoch: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    eval_loss: Option<f64>,
    grad_norm: f64,
    learning_rate: f64,
    loss: f64,
    step: u64,
}

impl LogEntry {
    pub(crate) fn of(metrics: &StepMetrics) -> Self {
        let StepMetrics { epoch, grad_norm, lr, loss, val_loss, step, .. } = *metrics;
        LogEntry { epoch, eval_loss: val_loss, grad_norm, learning_rate: lr, loss, step }
    }
}

/// Writes everything but the model's own files. `states` are what `saved_states` gives, and `whole` reads them.
pub(crate) fn write(
    folder: &Path,
    states: &[SavedState],
    whole: &mut WholeStates<'_>,
    trainer: &TrainerState,
    data: &DataState,
    config: &TrainConfig,
) -> Result<(), TrainError> {
    let written = write_safetensors_from(&folder.join(OPTIMIZER_FILE), &specs(states), &[], &mut |index, sink| {
        whole.read(index, &mut |piece| Ok::<(), TrainError>(sink(piece)?))
    });
    written.map_err(|error: TrainError| TrainError::not_saved(error))?;
    write_json(&folder.join(TRAINER_STATE_FILE), trainer)?;
    write_json(&folder.join(DATA_STATE_FILE), data)?;
    write_text(&folder.join(CONFIG_FILE), &config.to_toml())
}

/// What a run that goes on asks of a save, its tensors aside.
pub(crate) struct Snapshot {
    pub(crate) config: TrainConfig,
    pub(crate) data: DataState,
    /// Updates that the run was to have then.
    pub(crate) total_updates: Option<u64>,
}

/// A save that a run goes on from.
pub(crate) struct Resumed {
    pub(crate) save: Save,
    pub(crate) data: DataState,
    /// Updates that the run was to have when it saved, if the save says so.
    pub(crate) total_updates: Option<u64>,
}

/// The settings and the position of a save.
pub(crate) fn read(save: &Save) -> Result<Snapshot, TrainError> {
    let mut config = TrainConfig::from_file(&save.path.join(CONFIG_FILE))?;
    // Runs that were begun before this was recorded added up so.
    config.accumulation.get_or_insert(AccumulationKind::Running);
    let path = save.path.join(DATA_STATE_FILE);
    let text = config_file::read(&path)?;
    let state: DataState = serde_json::from_str(&text)
        .map_err(|error| TrainError::BadSave { path: path.clone(), problem: format!("not a data state: {error}") })?;
    if state.schema != 1 {
        let problem =
            format!("schema {} is not known to this version of remat; use the one that saved it", state.schema);
        return Err(TrainError::BadSave { path, problem });
    }
    Ok(Snapshot { config, data: state, total_updates: planned_updates(save) })
}

/// `max_steps` of a save. Nothing depends on it but a note, so a file without it is as good.
fn planned_updates(save: &Save) -> Option<u64> {
    let text = config_file::read(&save.path.join(TRAINER_STATE_FILE)).ok()?;
    serde_json::from_str::<serde_json::Value>(&text).ok()?.get("max_steps")?.as_u64()
}

/// Puts parameters and moments back, of those that ranks have in parts what this one has.
pub(crate) fn restore(
    save: &Save,
    states: &[SavedState],
    rank: usize,
    device: &mut dyn Device,
) -> Result<(), TrainError> {
    let path = save.path.join(OPTIMIZER_FILE);
    let file = SafetensorsFile::open(&path)?;
    for state in states {
        let (SavedState { name, ty, .. }, held) = (state, state.held(rank));
        let fits = file.tensor_info(name).is_some_and(|info| info.shape.dims() == ty.shape.dims());
        if !fits {
            let problem = format!("has no tensor \"{name}\" of shape {}: it was saved by another run", ty.shape);
            return Err(TrainError::BadSave { path, problem });
        }
        let stored = file.tensor_info(name).and_then(|info| info.dtype);
        if ty.dtype != DType::F32 && stored != Some(ty.dtype) {
            let problem = format!("\"{name}\" is not {}: it was saved by another run", ty.dtype);
            return Err(TrainError::BadSave { path, problem });
        }
        if held.is_empty() {
            continue;
        }
        let source = device.known(Storage::State, name)?;
        let mut writer = PartWriter { writer: SourceWriter::new(device, source), held, at: 0 };
        match ty.dtype {
            DType::F32 => file.read_chunks_as_f32(name, &mut |piece| {
                writer.push(bytemuck::cast_slice(piece));
                Ok(())
            })?,
            _ => file.read_chunks(name, &mut |piece| {
                writer.push(piece);
                Ok(())
            })?,
        }
        writer.writer.finish()?;
    }
    Ok(())
}

/// Writes some bytes of a state, of which all pass by.
struct PartWriter<'d> {
    writer: SourceWriter<'d>,
    held: Range<usize>,
    /// How many have passed.
    at: usize,
}

impl PartWriter<'_> {
    fn push(&mut self, piece: &[u8]) {
        let within = |at: usize| at.clamp(self.at, self.at + piece.len()) - self.at;
        self.writer.push(&piece[within(self.held.start)..within(self.held.end)]);
        self.at += piece.len();
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let write = |mut file: BufWriter<fs::File>| {
        serde_json::to_writer_pretty(&mut file, value)?;
        file.write_all(b"\n").and_then(|()| file.flush())
    };
    let written = fs::File::create(path).map(BufWriter::new).and_then(write);
    written.map_err(|source| TrainError::Io { path: path.to_path_buf(), what: "write", source })
}

/// Saves are flushed and put in place as a whole, so their files need no care of their own.
fn write_text(path: &Path, text: &str) -> Result<(), TrainError> {
    fs::write(path, text).map_err(|source| TrainError::Io { path: path.to_path_buf(), what: "write", source })
}
