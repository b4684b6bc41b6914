//! What of a run is checked while it goes: its numbers always, its recomputed values and its memory where that is asked for.
//!
//! Invariant: nothing that is not finite is logged, and nothing is saved before the states were looked at. Look next at
//! `finite` for the states and at `gradient_watch` for gradients that are zero.

use crate::TrainError;
use crate::run::finite;
use crate::run::under_way::Run;
use remat_ir::Storage;
use remat_plan::has_reference;
use remat_tensor::NotFinite;

/// Updates that are held to the interpreter: in the first, adapters that start at zero have no gradient yet.
pub(crate) const REFERENCE_UPDATES: u64 = 2;

/// Gradients that are read before each update: at the speed of memory, a few thousandths of any update's time.
const MOST_GRADIENT_BYTES: usize = 64 << 20;

impl Run<'_> {
    /// What `--validate` found, which is that nothing differs.
    pub(crate) fn validated(&self) -> Option<String> {
        let step = &self.session.step;
        let compared = step.loaded.validated()?;
        let replayed = format!("validated: {} recomputed values had the forward's bits", compared.replayed_values);
        let updates = REFERENCE_UPDATES.min(self.updates_here);
        let (values, follows) =
            (compared.reference_values, has_reference(&step.loaded.micro_plan(step.longest()).graph));
        let reference = match (follows, values) {
            (true, _) => format!("{values} values of the first {updates} updates agree with the f64 reference"),
            (false, 0) => {
                "the step is too large, or its weights in too few bits, for the f64 reference to follow".to_string()
            }
            (false, _) => format!(
                "{values} values of the first optimizer steps agree with the f64 reference, which cannot follow \
                 the larger forward and backward"
            ),
        };
        Some(format!("{replayed}; {reference}"))
    }

    /// Refuses gradients of the update `step` that are no numbers, before it is made: the states in which they are added up. Those
    /// of adapters are small and always looked at; of more than [`MOST_GRADIENT_BYTES`], their norm tells, and on several ranks
    /// it tells of those that others own.
    pub(crate) fn check_gradients(&self, step: u64) -> Result<(), TrainError> {
        let device = self.session.step.loaded.device();
        let sum = self.session.gradient_sum;
        let names = self.session.parameters.iter().map(|parameter| sum.name(&parameter.name));
        let held: Vec<_> = names.filter_map(|name| Some((device.source(Storage::State, &name)?, name))).collect();
        let bytes: usize = held.iter().map(|(state, _)| device.source_type(*state).bytes()).sum();
        if bytes > MOST_GRADIENT_BYTES {
            return Ok(());
        }
        for (_, name) in held {
            if let Some(NotFinite { index, value }) = finite::first_in_state(device, &name)? {
                let last_save = self.saves.newest_known();
                return Err(TrainError::BadGradient { step, name, index, value, last_save });
            }
        }
        Ok(())
    }

    /// Refuses parameters and moments that are no numbers, unless they were looked at since the last update.
    pub(crate) fn check_states(&mut self) -> Result<(), TrainError> {
        let made = self.session.made_updates;
        if self.checked != Some(made) {
            finite::check(&self.states, self.session.step.loaded.device(), made, self.saves.newest_known())?;
            self.checked = Some(made);
        }
        Ok(())
    }
}

/// A number of the update `step`, or the refusal of one that is not finite.
pub(crate) fn finite_number(step: u64, what: &'static str, value: f64) -> Result<f64, TrainError> {
    if value.is_finite() { Ok(value) } else { Err(TrainError::NotFinite { step, what, value }) }
}
