//! What a rank other than 0 does: it computes its micro-batches and makes every update, and writes nothing.
//!
//! Invariant: parameters are on every rank what they are on rank 0, which alone evaluates, samples, saves and decides when the run
//! ends; of moments each rank has those of the elements that it updates.

use crate::folder::saved_states::{held_names, saved_states};
use crate::ranks::rounds::{Next, Ranks};
use crate::run::checks::finite_number;
use crate::run::finite;
use crate::run::gradient_watch::GradientWatch;
use crate::run::prepare::Prepared;
use crate::run::report::{Outcome, Summary};
use crate::run::session::Session;
use crate::{Checks, TrainError};
use remat_comm::Engine;
use remat_model::NEXT_TOKEN;

/// Follows rank 0 to the end of its run.
pub(crate) fn follow(prepared: Prepared, engine: &dyn Engine, checks: Checks) -> Result<Summary, TrainError> {
    let phases = prepared.phases();
    let mut session = prepared.load()?;
    let saved = saved_states(&session.parameters, &session.config, session.world);
    let states = held_names(&saved, session.step.loaded.device());
    let mut ranks = Ranks::new(engine, &session, &saved, checks)?;
    let mut watch = GradientWatch::new(&session.parameters, session.gradient_sum);
    let (mut batch, mut losses, mut tokens) = (session.loader.update_buffer(), Vec::new(), 0);
    if session.step.longest() > 0 && session.made_updates < session.total_updates {
        session.step.rehearse()?;
    }
    ranks.begin(&session)?;
    let outcome = loop {
        match ranks.decide(Next::Stop)? {
            Next::GoOn => {}
            Next::Stop => break Outcome::Finished,
            Next::SendStates => {
                let device = session.step.loaded.device();
                finite::check(&states, device, session.made_updates, None)?;
                ranks.send_states(&saved, device)?;
                continue;
            }
        }
        session.loader.next_update(&mut batch)?;
        let Session { step, loader, made_updates, .. } = &mut session;
        let sum = ranks.run_micro_batches((step, &*loader), &batch, *made_updates, &mut watch, &|| false)?;
        // Rank 0 was interrupted: it saves, and stops.
        let Some(sum) = sum else { continue };
        let (made, number) = (session.made_updates, session.made_updates + 1);
        losses.push(finite_number(number, "loss", NEXT_TOKEN.metrics(sum, batch.trained).loss)?);
        let lr = session.schedule.rate(made);
        watch.check(number, lr, session.step.loaded.device(), Some(engine))?;
        ranks.compare_parameters(session.step.loaded.device(), made)?;
        finite_number(number, "gradient norm", session.step.run_update(lr, made)?)?;
        session.made_updates = number;
        ranks.compare(&session)?;
        tokens += batch.tokens as u64;
    };
    Ok(Summary {
        outcome,
        out: session.config.out,
        updates: session.made_updates,
        first_loss: losses.first().copied(),
        last_loss: losses.last().copied(),
        last_val_loss: None,
        best: None,
        stopped_after: None,
        seconds: 0.0,
        tokens,
        peak_bytes: None,
        planned_peak_bytes: session.planned_peak_bytes,
        phases: Vec::new(),
        planned_phases: phases,
        record: None,
    })
}
