//! A run under way: its session, its folder, and what it has seen so far.
//!
//! Look next at `train` for its course, at `update` for one update, and at `save` for what it writes.

use crate::folder::best::BestFolder;
use crate::folder::events_folder::events_folder;
use crate::folder::run_folder::RunFolder;
use crate::folder::saved_states::{SavedState, held_names, saved_states};
use crate::folder::saves::Saves;
use crate::folder::snapshot::{DataState, Resumed};
use crate::ranks::rounds::{Next, Ranks};
use crate::record::time::now_utc;
use crate::run::control::RunControl;
use crate::run::gradient_watch::GradientWatch;
use crate::run::held_out::HeldOut;
use crate::run::metrics::MetricsLog;
use crate::run::phase_peaks::PhasePeaks;
use crate::run::report::{Outcome, Reporter, Summary};
use crate::run::sample_log::SampleLog;
use crate::run::sampler::Sampler;
use crate::run::session::Session;
use crate::{StepMetrics, TrainError};
use remat_data::{SampleStats, SamplerState};
use remat_formats::OutputFile;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Where a run writes.
pub(crate) struct Outputs {
    pub(crate) folder: RunFolder,
    pub(crate) saves: Saves,
    pub(crate) trace: Option<OutputFile>,
}

/// What a run that goes on knows of the one before it.
#[derive(Default)]
pub(crate) struct Earlier {
    /// The last update, if the evaluation after it was interrupted.
    pub(crate) unevaluated: Option<StepMetrics>,
    pub(crate) held_out: Option<HeldOut>,
}

impl Earlier {
    /// Of a save.
    pub(crate) fn of(resumed: &Resumed) -> Self {
        let DataState { unevaluated, held_out, .. } = &resumed.data;
        Earlier { unevaluated: *unevaluated, held_out: held_out.clone() }
    }
}

/// A run under way.
pub(crate) struct Run<'a> {
    pub(crate) session: Session,
    pub(crate) folder: RunFolder,
    pub(crate) saves: Saves,
    pub(crate) log: MetricsLog,
    /// Of a run that samples.
    pub(crate) samples: Option<SampleLog>,
    /// Of a run that has held-out rows.
    pub(crate) held_out: Option<HeldOut>,
    pub(crate) best: BestFolder,
    pub(crate) watch: GradientWatch,
    /// The parameters and moments: what saves hold.
    pub(crate) saved: Vec<SavedState>,
    /// Names of those that this process has, or has some of.
    pub(crate) states: Vec<String>,
    /// The update after which all of the states were numbers.
    pub(crate) checked: Option<u64>,
    /// The last update, if the evaluation after it was interrupted.
    pub(crate) unevaluated: Option<StepMetrics>,
    /// Of a run that is on several.
    pub(crate) ranks: Option<Ranks<'a>>,
    pub(crate) interrupt: &'a AtomicBool,
    /// How long it waits for room on the disk.
    pub(crate) disk_wait: Duration,
    pub(crate) trace: Option<OutputFile>,
    pub(crate) peaks: PhasePeaks,
    pub(crate) reporter: &'a mut dyn Reporter,
    /// Position of the next update in the data.
    pub(crate) position: SamplerState,
    pub(crate) epoch: f64,
    pub(crate) first_loss: Option<f64>,
    pub(crate) last_loss: Option<f64>,
    pub(crate) last_val_loss: Option<f64>,
    pub(crate) seconds: f64,
    pub(crate) tokens: u64,
    pub(crate) updates_here: u64,
    pub(crate) started_at: String,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        session: Session,
        Outputs { folder, saves, trace }: Outputs,
        earlier: Option<Earlier>,
        control: RunControl<'a>,
        peaks: PhasePeaks,
        reporter: &'a mut dyn Reporter,
    ) -> Result<Self, TrainError> {
        let is_resumed = earlier.is_some();
        let Earlier { unevaluated, held_out } = earlier.unwrap_or_default();
        let out = &session.config.out;
        // The line of an update whose evaluation is still to come is written again, with its result.
        let logged = before(session.made_updates, unevaluated);
        let log_samples = |_: &Sampler| SampleLog::open(out, is_resumed.then_some(logged));
        let saved = saved_states(&session.parameters, &session.config, session.world);
        let states = held_names(&saved, session.step.loaded.device());
        let ranks = control.ranks.map(|engine| Ranks::new(engine.as_ref(), &session, &saved, control.checks));
        let hashes = session.evaluation.as_ref().map(|evaluation| hashes(evaluation.rows.dataset().stats()));
        Ok(Run {
            saves,
            log: MetricsLog::open(out, events_folder(&session.config), logged)?,
            samples: session.samples.as_ref().map(log_samples).transpose()?,
            held_out: hashes.map(|rows| match held_out {
                Some(held_out) if held_out.rows == rows => held_out,
                _ => HeldOut::of(rows),
            }),
            best: BestFolder::of(out),
            watch: GradientWatch::new(&session.parameters, session.gradient_sum),
            saved,
            states,
            checked: None,
            unevaluated,
            ranks: ranks.transpose()?,
            interrupt: control.interrupt,
            disk_wait: control.disk_wait,
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

    /// Tells the other ranks, if there are any, what is next.
    pub(crate) fn tell_ranks(&self, next: Next) -> Result<(), TrainError> {
        self.ranks.as_ref().map_or(Ok(()), |ranks| ranks.decide(next).map(drop))
    }

    /// Whether there are updates to make: not all are made, and the held-out rows are no reason to stop.
    pub(crate) fn goes_on(&self) -> bool {
        self.session.made_updates < self.session.total_updates && self.stopped_after().is_none()
    }

    /// How many evaluations in a row were no better than the best, if the settings say to stop because of them and there are
    /// updates left to stop before.
    pub(crate) fn stopped_after(&self) -> Option<u64> {
        let Session { config, made_updates, total_updates, .. } = &self.session;
        let held_out = self.held_out.as_ref()?;
        (made_updates < total_updates && held_out.stops(config.early_stop)).then_some(held_out.since)
    }

    pub(crate) fn count(&mut self, loss: f64, tokens: u64, seconds: f64) {
        self.first_loss.get_or_insert(loss);
        self.last_loss = Some(loss);
        self.seconds += seconds;
        self.tokens += tokens;
        self.updates_here += 1;
    }

    pub(crate) fn summary(self, outcome: Outcome) -> Summary {
        let (peak_bytes, stopped_after) = (self.peaks.highest(), self.stopped_after());
        let (phases, planned_phases) = self.peaks.into_phases();
        Summary {
            outcome,
            out: self.session.config.out,
            updates: self.session.made_updates,
            first_loss: self.first_loss,
            last_loss: self.last_loss,
            last_val_loss: self.last_val_loss,
            best: self.held_out.and_then(|held_out| held_out.best),
            stopped_after,
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

/// The hashes of files, in their order.
fn hashes(files: &[SampleStats]) -> String {
    let hash = |file: &SampleStats| file.file.sha256.clone().unwrap_or_else(|| "unknown".to_string());
    files.iter().map(hash).collect::<Vec<_>>().join("+")
}

/// Updates whose lines in the log are final: all that were made, but for one that is still to be evaluated.
pub(crate) fn before(made: u64, unevaluated: Option<StepMetrics>) -> u64 {
    made.saturating_sub(u64::from(unevaluated.is_some()))
}
