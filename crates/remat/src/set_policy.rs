//! Switching the policy of a step that is under way.
//!
//! Invariant: two arenas never exist at once. The new plans are made first; then the states leave the device, the old one
//! goes, the new one comes, and the states go back. Look next at `recipe` for what is planned.

use crate::step::Step;
use crate::{CheckpointPolicy, Error};
use remat_ir::{Storage, Value};
use remat_step::{LoadedStep, StepPlans};
use std::collections::BTreeSet;

/// A source's bytes, while no device holds them.
struct Carried {
    storage: Storage,
    name: String,
    bytes: Vec<u8>,
}

impl Step {
    /// Compiles anew under another policy. Parameters, gradients, moments, buffers, inputs and counters stay as they are. What
    /// is held at most is the larger of both arenas, and weights, states and inputs twice: once on the device, once on their way.
    ///
    /// # Errors
    /// A policy that cannot be met, memory for its arena that cannot be had: the step stays as it was.
    pub fn set_policy(&mut self, policy: CheckpointPolicy) -> Result<(), Error> {
        let plans = self.recipe().plans(&policy)?;
        let present = self.present_plans();
        let carried = self.carried()?;
        *self.loaded_mut() = self.recipe().load(StepPlans::none())?;
        let loaded = match self.recipe().load(plans) {
            Ok(loaded) => loaded,
            Err(error) => {
                // What fitted a moment ago does so again.
                let mut loaded = self.recipe().load(present)?;
                put(&carried, &mut loaded)?;
                *self.loaded_mut() = loaded;
                return Err(error);
            }
        };
        *self.loaded_mut() = loaded;
        put(&carried, self.loaded_mut())?;
        self.policy = policy;
        Ok(())
    }

    /// The plans that are loaded.
    fn present_plans(&self) -> StepPlans {
        let loaded = self.loaded();
        let forwards = loaded.forward_plans().cloned().collect();
        StepPlans { forwards, ..StepPlans::of(self.plan().clone(), loaded.update_plan().cloned()) }
    }

    /// The bytes of all sources.
    fn carried(&self) -> Result<Vec<Carried>, Error> {
        let is_source = |value: &&Value| value.producer.is_none();
        let values = self.plans().flat_map(|plan| &*plan.graph.values).filter(is_source);
        let mut seen = BTreeSet::new();
        let values = values.filter(|value| seen.insert(value.name.as_str()));
        let device = self.device();
        values
            .map(|value| {
                let bytes = device.read_all(device.known(value.storage, &value.name)?)?;
                Ok(Carried { storage: value.storage, name: value.name.clone(), bytes })
            })
            .collect()
    }
}

fn put(carried: &[Carried], loaded: &mut LoadedStep) -> Result<(), Error> {
    let device = loaded.device_mut();
    for Carried { storage, name, bytes } in carried {
        device.write_all(device.known(*storage, name)?, bytes)?;
    }
    Ok(())
}
