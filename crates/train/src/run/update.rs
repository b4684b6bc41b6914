//! One update of a run: micro-batches, the optimizer, and the line that says what came of it.
//!
//! Invariant: an update that was interrupted has changed nothing that a save holds.

use crate::ranks::rounds::{Next, Ranks};
use crate::run::checks::{self, finite_number};
use crate::run::held_out::Best;
use crate::run::report::Event;
use crate::run::session::Session;
use crate::run::trace;
use crate::run::under_way::Run;
use crate::{RunPhase, StepMetrics, TrainError};
use remat_data::UpdateBatch;
use remat_model::NEXT_TOKEN;
use remat_step::StepTrace;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What became of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Evaluated {
    NotDue,
    Interrupted,
    Loss(f64),
}

/// The numbers that an update computes.
struct Computed {
    loss: f64,
    lr: f64,
    grad_norm: f64,
}

impl Run<'_> {
    /// Makes one update; false if the run was interrupted before it could be made.
    pub(crate) fn update(&mut self, batch: &mut UpdateBatch) -> Result<bool, TrainError> {
        self.tell_ranks(Next::GoOn)?;
        self.peaks.begin();
        let start = Instant::now();
        self.session.loader.next_update(batch)?;
        let paced = self.begin_timing(batch.micro_batches());
        let Some(sum) = self.run_micro_batches(batch, paced)? else { return Ok(false) };
        let Computed { loss, lr, grad_norm } = self.run_optimizer(sum, batch, paced)?;
        self.position = self.session.loader.state();
        self.epoch = batch.epoch;
        let step_seconds = start.elapsed().as_secs_f64();
        self.end_timing(paced)?;
        self.peaks.end(RunPhase::Step);
        let step = self.session.made_updates;
        if let Some(ranks) = &self.ranks {
            ranks.compare(&self.session)?;
        }
        if self.session.is_written(step) {
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

    /// Begins the trace of this update, if it is the one, and says what of it is validated. Whether its first micro-batch
    /// and its optimizer step are timed, to hold them to the prices.
    fn begin_timing(&mut self, micro_batches: usize) -> bool {
        let session = &mut self.session;
        let left = session.total_updates - session.made_updates;
        let traced = self.trace.as_ref().filter(|_| trace::is_due(self.updates_here, left));
        if traced.is_some() {
            let (steps, longest) = session.step.loaded.steps_of_update(micro_batches);
            session.step.loaded.begin_trace(StepTrace::new(steps, longest));
        }
        if session.step.loaded.validated().is_some() {
            session.step.loaded.validate(self.updates_here < checks::REFERENCE_UPDATES);
        }
        self.ranks.is_none()
            && traced.is_none()
            && session.step.loaded.validated().is_none()
            && session.pace.is_due(self.updates_here)
    }

    /// The sum of the negative log-likelihoods of all micro-batches, whose gradients are added up; `None` if the run was
    /// interrupted between two of them.
    fn run_micro_batches(&mut self, batch: &UpdateBatch, paced: bool) -> Result<Option<f64>, TrainError> {
        let session = &mut self.session;
        if let Some(ranks) = &mut self.ranks {
            let (step, made, interrupt) = ((&mut session.step, &session.loader), session.made_updates, self.interrupt);
            return ranks.run_micro_batches(step, batch, made, &mut self.watch, &|| interrupt.load(Ordering::Relaxed));
        }
        let mut sum = 0.0;
        for micro in 0..batch.micro_batches() {
            if self.interrupt.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let is_timed = paced && micro == 0;
            if is_timed {
                session.pace.begin(&mut session.step.loaded);
            }
            sum += session.step.run_micro(&session.loader, batch, micro, session.made_updates)?;
            session.step.accumulate(session.made_updates)?;
            if is_timed {
                session.pace.pause(&mut session.step.loaded);
            }
            self.watch.see(session.step.batch());
        }
        Ok(Some(sum))
    }

    /// Updates all parameters by the gradients of an update, whose tokens' losses add up to `sum`.
    fn run_optimizer(&mut self, sum: f64, batch: &UpdateBatch, paced: bool) -> Result<Computed, TrainError> {
        let step = self.session.made_updates + 1;
        let loss = NEXT_TOKEN.metrics(sum, batch.trained).loss;
        if !loss.is_finite() {
            return Err(self.blamed(batch, step, loss));
        }
        self.check_gradients(step)?;
        let session = &mut self.session;
        let made = session.made_updates;
        let lr = session.schedule.rate(made);
        let engine = self.ranks.as_ref().map(Ranks::engine);
        self.watch.check(step, lr, session.step.loaded.device(), engine)?;
        if let Some(ranks) = &self.ranks {
            ranks.compare_parameters(session.step.loaded.device(), made)?;
        }
        if paced {
            session.pace.begin(&mut session.step.loaded);
        }
        let grad_norm = finite_number(step, "gradient norm", session.step.run_update(lr, made)?)?;
        session.made_updates = step;
        Ok(Computed { loss, lr, grad_norm })
    }

    /// What the times of this update say of the prices is noted, and a trace that is whole is written.
    fn end_timing(&mut self, paced: bool) -> Result<(), TrainError> {
        let session = &mut self.session;
        if paced && let Some(note) = session.pace.end(&mut session.step.loaded) {
            self.reporter.report(Event::Note(&note));
        }
        if let Some(trace) = session.step.loaded.end_trace()
            && let Some(file) = self.trace.take()
        {
            self.reporter.report(Event::Note(&trace::write(file, &trace, &session.step.loaded)?));
        }
        Ok(())
    }

    /// Evaluates and samples, if it is time for it, and logs an update with what was found. If the evaluation is interrupted,
    /// the update is logged without, and remembered.
    pub(crate) fn log_update(&mut self, metrics: StepMetrics) -> Result<(), TrainError> {
        let evaluated = self.evaluate()?;
        let val_loss = if let Evaluated::Loss(loss) = evaluated { Some(loss) } else { None };
        let metrics = StepMetrics { val_loss, peak_bytes: self.peaks.highest().unwrap_or(0), ..metrics };
        self.unevaluated = (evaluated == Evaluated::Interrupted).then_some(metrics);
        if let Some(val_loss) = val_loss {
            self.judge(Best { step: metrics.step, epoch: metrics.epoch, val_loss })?;
        }
        self.with_room(&mut |run| run.log.append(&metrics))?;
        let total_updates = self.session.total_updates;
        let pace = if self.updates_here > 0 { self.seconds / self.updates_here as f64 } else { metrics.step_seconds };
        let remaining_seconds = pace * total_updates.saturating_sub(metrics.step) as f64;
        self.reporter.report(Event::Updated { metrics: &metrics, total_updates, remaining_seconds });
        if self.unevaluated.is_none() { self.sample(metrics.epoch) } else { Ok(()) }
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
}
