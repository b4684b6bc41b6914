//! What a [`Step`](crate::Step) is compiled from, and compiled anew under another policy: backward, policy, plans.
//!
//! Invariant: switching the policy changes the plans and nothing else; names, values and counters stay.

use crate::policy::Chosen;
use crate::{CheckpointPolicy, Error, Options};
use remat_compiler::{compile_keeping, compile_within};
use remat_plan::{DeviceProfile, Plan, Prices};
use remat_step::device::measure_spill;
use remat_step::{Group, LoadedForward, LoadedStep, StepPlans, Trained, UpdateRule};

/// What a step is compiled from, and compiled anew under another policy.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// Forward, and backward if there are gradients.
    pub graph: remat_ir::Graph,
    /// The output that is the loss, if there is one.
    pub loss: Option<String>,
    /// What it trains, and its update if there is an optimizer.
    pub trained: Trained,
    /// What [`crate::Step::evaluate`] or [`crate::Step::generate`] runs.
    pub forward: Option<remat_ir::Graph>,
    /// Whether frozen weights are in no file that they come from.
    pub weights_are_own: bool,
    pub options: Options,
}

impl Options {
    /// How an update is made, if there is an optimizer.
    pub(crate) fn rule(&self, groups: Vec<Group>) -> Option<UpdateRule> {
        self.optimizer.map(|optimizer| UpdateRule { clip: self.clip, groups, ..UpdateRule::of(optimizer) })
    }
}

impl Recipe {
    /// Compiles under a policy.
    pub(crate) fn plans(&self, policy: &CheckpointPolicy) -> Result<StepPlans, Error> {
        let profile = self.profile()?;
        let micro = self.micro(policy, &profile)?;
        let update = self.trained.update.is_some().then(|| self.trained.plan_update(&profile)).transpose()?;
        let forward = self.forward.clone().map(|graph| LoadedForward::plan(graph, &profile)).transpose()?;
        Ok(StepPlans { forwards: forward.into_iter().collect(), ..StepPlans::of(micro, update) })
    }

    /// Loads plans into a new device; all sources are zero.
    pub(crate) fn load(&self, plans: StepPlans) -> Result<LoadedStep, Error> {
        let mut device = self.options.device_options().open();
        device.set_custom_kernels(self.options.kernels.clone());
        device.set_poison(self.options.poison);
        device.set_spill_folder(self.options.offload.as_deref());
        Ok(plans.load(device, &self.trained.loss, &self.trained.dloss)?)
    }

    /// The machine as options and, where they leave a folder's bandwidth open, its disk say.
    fn profile(&self) -> Result<DeviceProfile, Error> {
        let Options { prices: given, offload, .. } = &self.options;
        let profile = self.options.device_options().profile();
        let prices = given.clone().unwrap_or(profile.prices);
        if !prices.are_plausible() {
            return Err(Error::BadPrices);
        }
        let spill = match (offload, prices.spill) {
            (None, _) => None,
            (Some(_), Some(given)) => Some(given),
            (Some(folder), None) => Some(measure_spill(folder)?),
        };
        Ok(DeviceProfile { prices: Prices { spill, ..prices }, ..profile })
    }

    fn micro(&self, policy: &CheckpointPolicy, profile: &DeviceProfile) -> Result<Plan, Error> {
        let (graph, cap) = (self.graph.clone(), self.options.arena_cap_bytes);
        match (policy.as_named(), cap) {
            (Some(named), cap) => Ok(compile_within(graph, named, profile, cap)?),
            (None, Some(_)) => {
                let message = format!("{policy} decides every value, so an arena cap cannot: use auto or a budget");
                Err(Error::Policy(message))
            }
            (None, None) => self.chosen(policy, profile),
        }
    }

    /// Compiles what a predicate or rules decide.
    fn chosen(&self, policy: &CheckpointPolicy, profile: &DeviceProfile) -> Result<Plan, Error> {
        let mut required = Vec::new();
        let plan = compile_keeping(self.graph.clone(), profile, |graph| {
            let Chosen { mut choice, must_offload } = policy.choice(graph)?;
            if self.options.offload.is_none() {
                choice.offload.clear();
            }
            required = must_offload;
            Ok::<_, Error>(choice)
        })?;
        if let (Some(name), None) = (required.first(), &self.options.offload) {
            let message = format!("must_offload names \"{name}\", and there is no folder: give Options::offload(DIR)");
            return Err(Error::Policy(message));
        }
        let residuals = plan.saved_residuals();
        let left = |name: &&String| residuals.iter().any(|residual| residual.offloaded && residual.name == **name);
        match required.iter().find(|name| !left(name)) {
            None => Ok(plan),
            Some(name) => Err(Error::Policy(format!(
                "must_offload names \"{name}\", which cannot leave: backward does not read it, it is an output, or it is \
                 made last; keep it"
            ))),
        }
    }
}
