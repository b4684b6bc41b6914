//! The training run: prepare, load, update after update, saves, the result.
//!
//! Invariants: nothing is written before all input was accepted and loaded, and no output is an input; a save holds the
//! state between two updates, so an interrupted accumulation is done again by the run that resumes; a loss, gradient,
//! parameter or moment that is not finite stops the run before anything is saved.

use crate::folder::existing::Existing;
use crate::folder::file_names::{METRICS_FILE, ROWS_FILE};
use crate::folder::kept_rows;
use crate::folder::run_folder::RunFolder;
use crate::folder::saves::Saves;
use crate::folder::snapshot::Resumed;
use crate::ranks::agreement::{agree, compare_prepared};
use crate::ranks::error_file;
use crate::ranks::follow::follow;
use crate::ranks::rounds::Next;
use crate::run::control::RunControl;
use crate::run::phase_peaks::PhasePeaks;
use crate::run::prepare::{Prepared, prepare};
use crate::run::report::{Event, Outcome, Reporter, Summary};
use crate::run::resume::{changed_length, resume};
use crate::run::save::write_result;
use crate::run::session::Session;
use crate::run::under_way::{Earlier, Outputs, Run, before};
use crate::{RunPhase, TrainConfig, TrainError};
use remat_comm::{CommError, Engine};
use remat_formats::OutputFile;
use remat_formats::SettingName;

/// Trains: alone, or as one of several ranks.
///
/// # Errors
/// Bad input, before anything is written; a guard on the numbers; a disk or machine that fails; another rank that does.
pub fn train(config: TrainConfig, control: RunControl<'_>, reporter: &mut dyn Reporter) -> Result<Summary, TrainError> {
    let out = config.out.clone();
    if let Some(engine) = control.ranks {
        let (rank, out) = (engine.rank(), out.clone());
        let write = move |error: &CommError| error_file::write(&TrainError::Ranks(error.clone()), Some(rank), &out);
        engine.on_failure(Box::new(write));
    }
    let trained = match control.ranks {
        None => config.resolved().and_then(|config| lead(config.clone(), &config, control, reporter)),
        Some(engine) => train_on_ranks(config, control, engine.as_ref(), reporter),
    };
    trained.inspect_err(|error| error_file::write(error, control.ranks.map(|engine| engine.rank()), &out))
}

/// Rank 0 leads: it alone writes the run's folder. The others follow.
fn train_on_ranks(
    config: TrainConfig,
    control: RunControl<'_>,
    engine: &dyn Engine,
    reporter: &mut dyn Reporter,
) -> Result<Summary, TrainError> {
    let given = config.resolved()?;
    let config = agree(given.clone(), control.checks, engine)?;
    if engine.rank() == 0 {
        return lead(config, &given, control, reporter);
    }
    let mut saves = Saves::new(&config.out);
    let (config, resumed) = begin(config, control, &mut saves, &mut Unheard)?;
    let prepared = prepare(config, resumed, control)?;
    compare_prepared(&prepared, engine)?;
    follow(prepared, engine, control.checks)
}

/// Says nothing: what there is to say, rank 0 says.
struct Unheard;

impl Reporter for Unheard {
    fn report(&mut self, _: Event<'_>) {}
}

/// The settings, and the save to go on from.
fn begin(
    config: TrainConfig,
    control: RunControl<'_>,
    saves: &mut Saves,
    reporter: &mut dyn Reporter,
) -> Result<(TrainConfig, Option<Resumed>), TrainError> {
    match control.existing {
        Existing::Resume => resume(config, saves, reporter),
        Existing::Refuse | Existing::Replace => Ok((config, None)),
    }
}

/// Trains, and writes the run's folder. What of threads and memory is this rank's is no setting of the run, which has those
/// that were given.
fn lead(
    config: TrainConfig,
    given: &TrainConfig,
    control: RunControl<'_>,
    reporter: &mut dyn Reporter,
) -> Result<Summary, TrainError> {
    let mut trace = config.trace_file(control.config_file, control.trace)?;
    let mut folder = RunFolder::inspect(&config, control.existing)?;
    let mut saves = Saves::new(&config.out);
    let (config, resumed) = begin(config, control, &mut saves, reporter)?;
    let is_resumed = resumed.is_some();
    let earlier = resumed.as_ref().map(Earlier::of);
    let prepared: Prepared = prepare(config, resumed, control)?;
    if let Some(engine) = control.ranks {
        compare_prepared(&prepared, engine.as_ref())?;
    }
    if prepared.loader.dataset().was_kept() {
        reporter.report(Event::Note(&format!(
            "the rows are as {ROWS_FILE} has them; the data is unchanged and not read again"
        )));
    }
    prepared.announce(reporter)?;
    if let Some(note) = changed_length(&prepared) {
        reporter.report(Event::Note(&note));
    }
    let mut peaks = PhasePeaks::new(control.phases_apart, prepared.phases());
    let mut session = prepared.load()?;
    (session.config.threads, session.config.memory) = (given.threads, given.memory);
    session.step.loaded.device_mut().set_poison(control.checks.poison);
    if control.checks.validate {
        session.step.loaded.validate(true);
    }
    peaks.end(if is_resumed { RunPhase::Resume } else { RunPhase::Load });
    if let Some(note) = folder.create(&session.config)? {
        reporter.report(Event::Note(&note));
    }
    saves.sweep();
    if is_resumed {
        let_surplus_go(&mut saves, &session, reporter)?;
    }
    let held_out = session.evaluation.as_ref().map(|evaluation| evaluation.rows.dataset());
    kept_rows::keep(folder.path(), session.loader.dataset(), held_out)?;
    if let (None, Some(path)) = (&trace, control.trace) {
        trace = Some(OutputFile::open(&SettingName("trace").to_string(), path)?);
    }
    Run::new(session, Outputs { folder, saves, trace }, earlier, control, peaks, reporter)?.go()
}

/// A run that ended between a save and the removal of an older one left both, and may have no more to save.
fn let_surplus_go(saves: &mut Saves, session: &Session, reporter: &mut dyn Reporter) -> Result<(), TrainError> {
    if let Some(limit) = session.config.save_total_limit {
        let notes = saves.prune(limit, session.made_updates)?;
        notes.iter().for_each(|note| reporter.report(Event::Note(note)));
    }
    Ok(())
}

impl Run<'_> {
    fn go(mut self) -> Result<Summary, TrainError> {
        let mut batch = self.session.loader.update_buffer();
        self.find_best();
        if self.session.step.longest() > 0 && self.goes_on() {
            self.peaks.begin();
            self.session.step.rehearse()?;
            self.peaks.end(RunPhase::Step);
        }
        if let Some(ranks) = &self.ranks {
            ranks.begin(&self.session)?;
        }
        self.note_missing_lines();
        match self.unevaluated.take() {
            Some(metrics) => self.log_update(metrics)?,
            None if self.session.made_updates == 0 => self.sample(0.0)?,
            None => {}
        }
        while self.unevaluated.is_some() || self.goes_on() {
            let is_interrupted = match self.unevaluated {
                Some(_) => true,
                None => !self.update(&mut batch)?,
            };
            if is_interrupted {
                let save = self.save()?;
                self.tell_ranks(Next::Stop)?;
                return Ok(self.summary(Outcome::Interrupted { save }));
            }
            if self.unevaluated.is_none()
                && self.session.config.save_every.is_some()
                && (self.session.is_written(self.session.made_updates) || !self.goes_on())
            {
                self.save()?;
            }
        }
        self.note_early_stop();
        self.check_states()?;
        self.log.sync()?;
        self.peaks.begin();
        self.with_room(&mut |run| {
            let (folder, session) = (&run.folder, &run.session);
            folder.install(&mut |folder| write_result(session, folder))
        })?;
        self.replaces();
        self.let_rows_go();
        self.peaks.end(RunPhase::Save);
        self.save_to_extend();
        self.tell_ranks(Next::Stop)?;
        if let Some(note) = self.validated() {
            self.reporter.report(Event::Note(&note));
        }
        self.settle_best();
        let record = self.write_record()?;
        Ok(Summary { record: Some(Box::new(record)), ..self.summary(Outcome::Finished) })
    }

    /// Says so if the log of a resumed run was cut or taken away.
    fn note_missing_lines(&mut self) {
        let expected = before(self.session.made_updates, self.unevaluated);
        if self.log.lines() < expected {
            let note = format!(
                "{METRICS_FILE} holds {} of the {expected} updates before this one; the others are missing in it",
                self.log.lines()
            );
            self.reporter.report(Event::Note(&note));
        }
    }
}
