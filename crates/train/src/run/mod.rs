//! The training run: prepare, load, update after update, saves, the result.
//!
//! Invariants: nothing is written before all input was accepted and loaded, and no output is an input; a save holds the
//! state between two updates, so an interrupted accumulation is done again by the run that resumes; a loss, gradient,
//! parameter or moment that is not finite stops the run before anything is saved.

pub(crate) mod batched_step;
pub(crate) mod checks;
pub(crate) mod evaluate;
pub(crate) mod events;
pub(crate) mod finite;
pub(crate) mod gradient_watch;
pub(crate) mod metrics;
pub(crate) mod phase_peaks;
pub(crate) mod prepare;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod save;
pub(crate) mod trace;

use crate::folder::kept_rows::{self, ROWS_FILE};
use crate::folder::replaced_run::{kept, naming_the_kept};
use crate::folder::run_folder::{Existing, METRICS_FILE, RunFolder};
use crate::folder::saves::Saves;
use crate::folder::snapshot::{self, Snapshot};
use crate::record::now_utc;
use crate::run::checks::finite_number;
use crate::run::gradient_watch::GradientWatch;
use crate::run::phase_peaks::PhasePeaks;
use crate::run::prepare::{Prepared, Resumed, Session, prepare};
use crate::run::report::{Event, Outcome, Reporter, Summary};
use crate::run::save::write_result;
use crate::{MetricsLog, PrecisionChoice, RunPhase, StepMetrics, TrainConfig, TrainError};
use remat_data::{SamplerState, UpdateBatch};
use remat_formats::OutputFile;
use remat_model::{ADAPTER_FILES, MODEL_FILES, NEXT_TOKEN};
use remat_step::StepTrace;
use remat_step::device::Opener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub use checks::Checks;

/// How a run is started and stopped, beside its settings.
#[derive(Debug, Clone, Copy)]
pub struct RunControl<'a> {
    /// What to do with a run folder that is there already.
    pub existing: Existing,
    /// Set by whoever wants the run to save and stop.
    pub interrupt: &'a AtomicBool,
    /// Where the trace of one update goes, if it is wanted.
    pub trace: Option<&'a Path>,
    /// The file that the settings came from, if a person named one: it is not to be written over.
    pub config_file: Option<&'a Path>,
    /// What is checked while it goes.
    pub checks: Checks,
    /// What opens the device in place of the CPU, for a device of one's own.
    pub device: Option<Opener>,
    /// Whether the peak of each phase is measured by itself. The process's high-water mark is set back for it, so that
    /// whoever reads that mark from outside sees the last phase's only.
    pub phases_apart: bool,
}

/// Trains.
///
/// # Errors
/// Bad input, before anything is written; a guard on the numbers; a disk or machine that fails.
pub fn train(config: TrainConfig, control: RunControl<'_>, reporter: &mut dyn Reporter) -> Result<Summary, TrainError> {
    let config = config.resolved()?;
    let mut trace = config.trace_file(control.config_file, control.trace)?;
    let mut folder = RunFolder::inspect(&config, control.existing)?;
    let mut saves = Saves::new(&config.out);
    let (config, resumed) = match control.existing {
        Existing::Resume => resume(config, &mut saves, reporter)?,
        Existing::Refuse | Existing::Replace => (config, None),
    };
    let is_resumed = resumed.is_some();
    let unevaluated = resumed.as_ref().and_then(|resumed| resumed.data.unevaluated);
    let prepared: Prepared = prepare(config, resumed, control)?;
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
    session.step.loaded.device_mut().set_poison(control.checks.poison);
    if control.checks.validate {
        session.step.loaded.validate(true);
    }
    peaks.end(if is_resumed { RunPhase::Resume } else { RunPhase::Load });
    if let Some(note) = folder.create(&session.config)? {
        reporter.report(Event::Note(&note));
    }
    saves.sweep();
    let held_out = session.evaluation.as_ref().map(|evaluation| evaluation.rows.dataset());
    kept_rows::keep(folder.path(), session.loader.dataset(), held_out)?;
    if let (None, Some(path)) = (&trace, control.trace) {
        trace = Some(OutputFile::open("--trace", path)?);
    }
    Run::new(session, Outputs { folder, saves, trace }, unevaluated, control, peaks, reporter)?.go()
}

/// Finds the save to go on from and checks that these settings go on with it.
fn resume(
    mut config: TrainConfig,
    saves: &mut Saves,
    reporter: &mut dyn Reporter,
) -> Result<(TrainConfig, Option<Resumed>), TrainError> {
    let (save, notes) = match saves.latest_complete() {
        // Nothing whole is lost: the run ended before its first save.
        Err(TrainError::NothingToResume { out, notes }) if has_nothing_whole(&out) => {
            let out = out.display();
            let note = format!("{out} holds no complete checkpoint-N{notes}: the run starts from the beginning");
            reporter.report(Event::Note(&note));
            return Ok((config, None));
        }
        found => found.map_err(naming_the_kept)?,
    };
    for note in notes {
        reporter.report(Event::Note(&note));
    }
    let Snapshot { config: saved, data, total_updates } = snapshot::read(&save)?;
    // What a run derives from its model is part of its settings from then on.
    config.seq_len = config.seq_len.or(saved.seq_len);
    config.chat_date = config.chat_date.or(saved.chat_date);
    config.chat_template = config.chat_template.or_else(|| saved.chat_template.clone());
    config.chat_template_kwargs = config.chat_template_kwargs.or_else(|| saved.chat_template_kwargs.clone());
    if config.precision == PrecisionChoice::Auto {
        config.precision = saved.precision;
    }
    config.check_resumes(&saved)?;
    Ok((config, Some(Resumed { save, data, total_updates })))
}

/// Whether a folder holds neither a result nor the state of a run that was to be replaced.
fn has_nothing_whole(out: &Path) -> bool {
    let mut weights = ADAPTER_FILES.iter().chain(MODEL_FILES).filter(|name| name.ends_with(".safetensors"));
    kept(out).is_none() && !weights.any(|name| out.join(name).exists())
}

/// What becomes of the learning rate where a run goes on to another number of updates than it was begun with.
fn changed_length(prepared: &Prepared) -> Option<String> {
    let (resumed, total) = (prepared.resumed.as_ref()?, prepared.total_updates);
    let before = resumed.total_updates.filter(|&before| before != total)?;
    let made = resumed.save.step;
    let rate = |total_updates, update| prepared.config.lr_schedule(total_updates).rate(update);
    let (last, next) = (rate(before, made.saturating_sub(1)), rate(total, made));
    Some(format!(
        "the run was begun with {before} updates and now has {total}: its learning rates are those of the {} schedule \
         over {total} from here on: {last:.3e} at update {made}, then {next:.3e} at update {}",
        prepared.config.schedule,
        made + 1,
    ))
}

/// What became of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Evaluated {
    NotDue,
    Interrupted,
    Loss(f64),
}

/// Where a run writes.
struct Outputs {
    folder: RunFolder,
    saves: Saves,
    trace: Option<OutputFile>,
}

/// A run under way.
struct Run<'a> {
    session: Session,
    folder: RunFolder,
    saves: Saves,
    log: MetricsLog,
    watch: GradientWatch,
    /// Names of the parameters and moments: what saves hold.
    states: Vec<String>,
    /// The update after which all of the states were numbers.
    checked: Option<u64>,
    /// The last update, if the evaluation after it was interrupted.
    unevaluated: Option<StepMetrics>,
    interrupt: &'a AtomicBool,
    trace: Option<OutputFile>,
    peaks: PhasePeaks,
    reporter: &'a mut dyn Reporter,
    /// Position of the next update in the data.
    position: SamplerState,
    epoch: f64,
    first_loss: Option<f64>,
    last_loss: Option<f64>,
    last_val_loss: Option<f64>,
    seconds: f64,
    tokens: u64,
    updates_here: u64,
    started_at: String,
}

impl<'a> Run<'a> {
    fn new(
        session: Session,
        Outputs { folder, saves, trace }: Outputs,
        unevaluated: Option<StepMetrics>,
        control: RunControl<'a>,
        peaks: PhasePeaks,
        reporter: &'a mut dyn Reporter,
    ) -> Result<Self, TrainError> {
        Ok(Run {
            saves,
            // The line of an update whose evaluation is still to come is written again, with its result.
            log: MetricsLog::open(&session.config.out, before(session.made_updates, unevaluated))?,
            watch: GradientWatch::new(&session.parameters),
            states: snapshot::saved_states(&session.parameters, &session.config),
            checked: None,
            unevaluated,
            interrupt: control.interrupt,
            trace,
            folder,
            peaks,
            reporter,
            position: session.loader.state(),
            epoch: 0.0,
            first_loss: None,
            last_loss: None,
            last_val_loss: None,
            seconds: 0.0,
            tokens: 0,
            updates_here: 0,
            started_at: now_utc(),
            session,
        })
    }

    fn go(mut self) -> Result<Summary, TrainError> {
        let mut batch = self.session.loader.update_buffer();
        if self.session.step.longest() > 0 && self.session.made_updates < self.session.total_updates {
            self.peaks.begin();
            self.session.step.rehearse()?;
            self.peaks.end(RunPhase::Step);
        }
        self.note_missing_lines();
        if let Some(metrics) = self.unevaluated.take() {
            self.log_update(metrics)?;
        }
        while self.unevaluated.is_some() || self.session.made_updates < self.session.total_updates {
            if self.unevaluated.is_some() || !self.update(&mut batch)? {
                let save = self.save()?;
                return Ok(self.summary(Outcome::Interrupted { save }));
            }
            if self.unevaluated.is_none()
                && self.session.config.save_every.is_some()
                && self.is_written(self.session.made_updates)
            {
                self.save()?;
            }
        }
        self.check_states()?;
        self.log.sync()?;
        self.peaks.begin();
        let (folder, session) = (&mut self.folder, &self.session);
        folder.install(&mut |folder| write_result(session, folder))?;
        self.replaces();
        self.let_rows_go();
        self.peaks.end(RunPhase::Save);
        self.save_to_extend();
        if let Some(note) = self.validated() {
            self.reporter.report(Event::Note(&note));
        }
        let record = self.write_record()?;
        Ok(Summary { record: Some(Box::new(record)), ..self.summary(Outcome::Finished) })
    }

    /// Makes one update; false if the run was interrupted before it could be made.
    fn update(&mut self, batch: &mut UpdateBatch) -> Result<bool, TrainError> {
        self.peaks.begin();
        let start = Instant::now();
        let session = &mut self.session;
        let made = session.made_updates;
        let step = made + 1;
        session.loader.next_update(batch)?;
        let traced = self.trace.as_ref().filter(|_| trace::is_due(self.updates_here, session.total_updates - made));
        if traced.is_some() {
            let (steps, longest) = session.step.loaded.steps_of_update(batch.micro_batches());
            session.step.loaded.begin_trace(StepTrace::new(steps, longest));
        }
        if session.step.loaded.validated().is_some() {
            session.step.loaded.validate(self.updates_here < checks::REFERENCE_UPDATES);
        }
        let paced =
            traced.is_none() && session.step.loaded.validated().is_none() && session.pace.is_due(self.updates_here);
        let mut sum = 0.0;
        for micro in 0..batch.micro_batches() {
            if self.interrupt.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if paced && micro == 0 {
                session.pace.begin(&mut session.step.loaded);
            }
            sum += session.step.run_micro(&session.loader, batch, micro, made)?;
            if paced && micro == 0 {
                session.pace.pause(&mut session.step.loaded);
            }
            self.watch.see(session.step.batch());
        }
        let loss = finite_number(step, "loss", NEXT_TOKEN.metrics(sum, batch.trained).loss)?;
        let lr = session.schedule.rate(made);
        self.watch.check(step, lr, session.step.loaded.device())?;
        if paced {
            session.pace.begin(&mut session.step.loaded);
        }
        let grad_norm = finite_number(step, "gradient norm", session.step.run_update(lr, made)?)?;
        session.made_updates = step;
        self.position = session.loader.state();
        self.epoch = batch.epoch;

        let step_seconds = start.elapsed().as_secs_f64();
        if paced && let Some(note) = session.pace.end(&mut session.step.loaded) {
            self.reporter.report(Event::Note(&note));
        }
        if let Some(trace) = session.step.loaded.end_trace()
            && let Some(file) = self.trace.take()
        {
            self.reporter.report(Event::Note(&trace::write(file, &trace, &session.step.loaded)?));
        }
        self.peaks.end(RunPhase::Step);
        if self.is_written(step) {
            self.check_states()?;
        }
        self.count(loss, batch.tokens as u64, step_seconds);
        self.log_update(StepMetrics {
            step,
            epoch: batch.epoch,
            loss,
            val_loss: None,
            lr,
            grad_norm,
            tokens: batch.tokens as u64,
            tokens_per_s: batch.tokens as f64 / step_seconds,
            step_seconds,
            peak_bytes: 0,
            planned_peak_bytes: self.session.planned_peak_bytes,
        })?;
        Ok(true)
    }

    /// Evaluates, if it is time for it, and logs an update with what was found. If that is interrupted, the update is logged
    /// without, and remembered.
    fn log_update(&mut self, metrics: StepMetrics) -> Result<(), TrainError> {
        let evaluated = self.evaluate()?;
        let val_loss = if let Evaluated::Loss(loss) = evaluated { Some(loss) } else { None };
        let metrics = StepMetrics { val_loss, peak_bytes: self.peaks.highest().unwrap_or(0), ..metrics };
        self.unevaluated = (evaluated == Evaluated::Interrupted).then_some(metrics);
        self.log.append(&metrics)?;
        let total_updates = self.session.total_updates;
        let pace = if self.updates_here > 0 { self.seconds / self.updates_here as f64 } else { metrics.step_seconds };
        let remaining_seconds = pace * total_updates.saturating_sub(metrics.step) as f64;
        self.reporter.report(Event::Updated { metrics: &metrics, total_updates, remaining_seconds });
        Ok(())
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

    /// Whether a save or the result follows an update that was not interrupted.
    fn is_written(&self, step: u64) -> bool {
        let Session { config, total_updates, .. } = &self.session;
        step == *total_updates || config.save_every.is_some_and(|every| step.is_multiple_of(every))
    }

    /// Loss of the held-out rows, if it is time for it.
    fn evaluate(&mut self) -> Result<Evaluated, TrainError> {
        let Session { evaluation, made_updates, total_updates, step, .. } = &mut self.session;
        let Some(evaluation) = evaluation else { return Ok(Evaluated::NotDue) };
        if !made_updates.is_multiple_of(evaluation.every) && made_updates != total_updates {
            return Ok(Evaluated::NotDue);
        }
        self.peaks.begin();
        let metrics = evaluation.rows.metrics(&mut step.loaded, self.interrupt)?;
        self.peaks.end(RunPhase::Evaluation);
        let Some(metrics) = metrics else { return Ok(Evaluated::Interrupted) };
        let loss = finite_number(*made_updates, "loss of the held-out rows", metrics.loss)?;
        self.last_val_loss = Some(loss);
        Ok(Evaluated::Loss(loss))
    }

    fn count(&mut self, loss: f64, tokens: u64, seconds: f64) {
        self.first_loss.get_or_insert(loss);
        self.last_loss = Some(loss);
        self.seconds += seconds;
        self.tokens += tokens;
        self.updates_here += 1;
    }

    fn summary(self, outcome: Outcome) -> Summary {
        let peak_bytes = self.peaks.highest();
        let (phases, planned_phases) = self.peaks.into_phases();
        Summary {
            outcome,
            out: self.session.config.out,
            updates: self.session.made_updates,
            first_loss: self.first_loss,
            last_loss: self.last_loss,
            last_val_loss: self.last_val_loss,
            seconds: self.seconds,
            tokens: self.tokens,
            peak_bytes,
            planned_peak_bytes: self.session.planned_peak_bytes,
            phases,
            planned_phases,
            record: None,
        }
    }
}

/// Updates whose lines in the log are final: all that were made, but for one that is still to be evaluated.
fn before(made: u64, unevaluated: Option<StepMetrics>) -> u64 {
    made.saturating_sub(u64::from(unevaluated.is_some()))
}
