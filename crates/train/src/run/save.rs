//! What a run writes: saves between two updates, and the adapter or model of each save and of its end.
//!
//! Invariant: a save holds what is needed to go on, and is either whole or not there. Look next at `folder::saves` and
//! `folder::snapshot`.

use crate::folder::kept_rows;
use crate::folder::snapshot::{self, DataState, LogEntry, TrainerState};
use crate::ranks::whole_states::WholeStates;
use crate::run::held_out::Best;
use crate::run::report::Event;
use crate::run::sample_log::SampleLog;
use crate::run::session::Session;
use crate::run::under_way::Run;
use crate::settings::config_file;
use crate::{RunPhase, TrainError};
use remat_formats::SettingName;
use std::path::{Path, PathBuf};

/// Where a folder has its chat template.
const TEMPLATE_FILE: &str = "chat_template.jinja";

impl Run<'_> {
    /// Saves the state between two updates, then lets the oldest saves go. Waits where the disk is full.
    pub(crate) fn save(&mut self) -> Result<PathBuf, TrainError> {
        self.with_room(&mut Run::save_once)
    }

    fn save_once(&mut self) -> Result<PathBuf, TrainError> {
        self.peaks.begin();
        self.check_states()?;
        self.log.sync()?;
        self.samples.as_ref().map_or(Ok(()), SampleLog::sync)?;
        let trainer = self.trainer_state();
        let session = &self.session;
        let data = DataState {
            schema: 1,
            seed: session.config.seed,
            sampler: self.position.clone(),
            unevaluated: self.unevaluated,
            held_out: self.held_out.clone(),
        };
        let (states, ranks, device) = (&self.saved, self.ranks.as_ref(), session.step.loaded.device());
        let (path, note) = self.saves.write(session.made_updates, &mut |folder| {
            write_result(session, folder)?;
            let mut whole = match ranks {
                Some(ranks) => ranks.whole_states(states, device)?,
                None => WholeStates::new(states, device, None),
            };
            let written = snapshot::write(folder, states, &mut whole, &trainer, &data, &session.config);
            whole.finish()?;
            written
        })?;
        let mut notes = Vec::from_iter(note);
        if let Some(limit) = session.config.save_total_limit {
            notes.extend(self.saves.prune(limit, session.made_updates)?);
        }
        self.replaces();
        self.peaks.end(RunPhase::Save);
        self.reporter.report(Event::Saved { path: &path });
        notes.iter().for_each(|note| self.reporter.report(Event::Note(note)));
        Ok(path)
    }

    /// Takes an evaluation into account, and keeps the adapter or model apart if it is the best so far.
    pub(crate) fn judge(&mut self, seen: Best) -> Result<(), TrainError> {
        if !self.held_out.as_mut().is_some_and(|held_out| held_out.see(seen)) {
            return Ok(());
        }
        self.peaks.begin();
        self.check_states()?;
        let note = self.with_room(&mut |run| {
            let session = &run.session;
            run.best.write(&seen, &mut |folder| write_result(session, folder))
        })?;
        self.peaks.end(RunPhase::Save);
        self.reporter.report(Event::Improved { best: &seen, path: &self.best.path() });
        note.iter().for_each(|note| self.reporter.report(Event::Note(note)));
        Ok(())
    }

    /// Saves the end of a run with adapters, whose state is small, so that it can be made longer. The result is written
    /// already: what goes wrong here is said, and no failure.
    pub(crate) fn save_to_extend(&mut self) {
        let Session { config, method, .. } = &self.session;
        if config.save_every.is_some() || method.adapter().is_none() {
            return;
        }
        if let Err(error) = self.save_once() {
            let note =
                format!("{error}; the result is complete, but {} cannot make this run longer", SettingName("resume"));
            self.reporter.report(Event::Note(&note));
        }
    }

    /// Something of this run is whole, so that the one which it replaces may go.
    pub(crate) fn replaces(&mut self) {
        if let Some(note) = self.folder.retire_replaced() {
            self.reporter.report(Event::Note(&note));
        }
    }

    /// The run is done; without a save, none goes on with its rows.
    pub(crate) fn let_rows_go(&mut self) {
        if !self.saves.exist()
            && let Err(error) = kept_rows::forget(self.folder.path())
        {
            self.reporter.report(Event::Note(&format!("{error}; the rows stay in the folder")));
        }
    }

    fn trainer_state(&self) -> TrainerState {
        let session = &self.session;
        let per_epoch = session.loader.updates_per_epoch() as u64;
        let best = self.held_out.as_ref().and_then(|held_out| held_out.best);
        TrainerState {
            best_global_step: best.map(|best| best.step),
            best_metric: best.map(|best| best.val_loss),
            epoch: self.log.recent().next_back().map_or(self.epoch, |last| last.epoch),
            global_step: session.made_updates,
            is_local_process_zero: true,
            is_world_process_zero: true,
            logging_steps: 1,
            max_steps: session.total_updates,
            num_input_tokens_seen: self.log.tokens(),
            num_train_epochs: session.total_updates.div_ceil(per_epoch),
            save_steps: session.config.save_every.unwrap_or(0),
            train_batch_size: session.config.batch_size,
            log_history: self.log.recent().map(LogEntry::of).collect(),
        }
    }
}

/// Writes the adapter or the model.
pub(crate) fn write_result(session: &Session, folder: &Path) -> Result<(), TrainError> {
    let Session { model, method, parameters, step, .. } = session;
    let written = match method.adapter() {
        None => model.save_full(folder, parameters, step.loaded.device()),
        Some(lora) => model.save_adapter(folder, lora, parameters, step.loaded.device()),
    };
    written.map_err(TrainError::not_saved)?;
    match &session.config.chat_template {
        // What the rows were rendered by is the template of what came of them.
        Some(template) => {
            let text = config_file::read(template).map_err(TrainError::not_saved)?;
            std::fs::write(folder.join(TEMPLATE_FILE), text).map_err(TrainError::not_saved)
        }
        None => Ok(()),
    }
}
