//! Everything before the first step: model, data, graph, plans, memory account; then loading.
//!
//! Invariant: [`prepare`] reads input and compiles, and [`Prepared::load`] fills the device; neither writes a file, so a
//! run that is refused leaves nothing behind. All errors of a user's input come from here.

use crate::folder::saved_states::saved_states;
use crate::folder::snapshot::{self, Resumed};
use crate::generate::sample_texts::SampleTexts;
use crate::plan::alternatives::with_alternatives;
use crate::plan::buckets::{BucketPlan, LengthBucket};
use crate::plan::memory;
use crate::plan::memory::Buffers;
use crate::plan::placed_states::placed_states;
use crate::plan::placed_weights::placed_weights;
use crate::plan::plan_step::{plan_step, prices_decide};
use crate::plan::planning::{Limit, Limits, MicroStepProblem, PlannedStep};
use crate::plan::program_memory::{MEASURING_BYTES, RESERVE_BYTES};
use crate::plan::setting::update_rule;
use crate::plan::setup::{EvaluationData, SetUp, SetUpFor};
use crate::prices::machine_prices::{Measuring, measured_profile};
use crate::prices::pace::PaceWatch;
use crate::record::bound_by::{bound_by, limiting};
use crate::record::lab_record::PlanRecord;
use crate::record::machine::Machine;
use crate::run::batched_step::BatchedStep;
use crate::run::control::RunControl;
use crate::run::evaluate::EvaluationRows;
use crate::run::report::{Event, PlannedRun, Reporter};
use crate::run::sampler::Sampler;
use crate::run::session::{Evaluation, RunFacts, Session};
use crate::{MemoryPart, PhaseMemory, TrainConfig, TrainError};
use remat_comm::Engine;
use remat_data::{Batch, DataLoader};
use remat_ir::{StateRole, Storage, World};
use remat_model::{BatchShape, Method, Model, refresh_working_copies};
use remat_plan::{DeviceProfile, MemoryDomain, Plan, Prices};
use remat_step::device::release_freed_memory;
use remat_step::{DeviceOptions, MicroPlan, StepPlans, TrainingStep};
use std::collections::HashSet;
use std::sync::Arc;

/// A run that is ready to be loaded.
pub(crate) struct Prepared {
    pub(crate) config: TrainConfig,
    pub(crate) model: Model,
    pub(crate) method: Method,
    pub(crate) loader: DataLoader,
    pub(crate) shape: BatchShape,
    pub(crate) total_updates: u64,
    buckets: Vec<LengthBucket>,
    bucket_plans: Vec<BucketPlan>,
    evaluation: Option<EvaluationData>,
    samples: Option<SampleTexts>,
    pub(crate) resumed: Option<Resumed>,
    options: DeviceOptions,
    limits: Limits,
    planned: PlannedStep,
    /// Weights that the model's files hold as they are read.
    in_files: HashSet<String>,
    /// The prices that it was planned with, if they are this machine's own.
    own_prices: Option<Prices>,
    world: World,
    /// What joins this rank to the others, if there are any.
    engine: Option<Arc<dyn Engine>>,
}

/// Reads all input and compiles the step.
pub(crate) fn prepare(
    config: TrainConfig,
    resumed: Option<Resumed>,
    control: RunControl<'_>,
) -> Result<Prepared, TrainError> {
    let setup = SetUp::of(config, SetUpFor::Run(resumed.as_ref(), control))?;
    let setting = setup.setting();
    let training = setting.training()?;
    setup.model.check_weights(&training.graph)?;
    let beside = setup.other_graphs()?;
    let SetUp { config, options, limits, buffers, .. } = &setup;
    let planned = |profile: &DeviceProfile, buffers: Buffers| {
        let step = TrainingStep::new(training.clone(), Some(&update_rule(config, setting.world)))?;
        let micro_step = MicroStepProblem::of(step, setting, profile)?;
        plan_step(config, &micro_step, &beside, profile, buffers, *limits)
            .map_err(|error| with_alternatives(error, setting, profile))
    };
    let mut profile = setup.profile();
    let mut step = planned(&profile, *buffers)?;
    if !profile.prices.measured && prices_decide(&step.micro) {
        let measuring_bytes = MEASURING_BYTES + profile.executor_bytes;
        let buffers = Buffers { measuring_bytes, ..*buffers };
        if has_room_to_measure(limits.in_domain(MemoryDomain::Host), buffers, step.steps()) {
            let measured = measured_profile(options, config.number_format(), Measuring::IfDoubtful)?.0;
            let measured = setup.with_copies(measured);
            match planned(&measured, buffers) {
                Ok(better) => (profile, step) = (measured, better),
                // The plan by arithmetic fits, so a limit that is just enough for it stays enough.
                Err(TrainError::DoesNotFit { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    let in_files = match step.micro.spilled.is_empty() {
        true => HashSet::new(),
        false => setup.model.weights_in_files(&step.micro.graph)?.into_keys().collect(),
    };
    let bucket_plans = step.bucket_plans(&setup.buckets, &profile);
    let own_prices = (setup.prices.is_none() && control.device.is_none()).then_some(profile.prices);
    let SetUp { config, model, method, shape, loader, evaluation, samples, buckets, options, limits, world, .. } =
        setup;
    let loader = loader.expect("a run has rows");
    let per_epoch = loader.updates_per_epoch() as u64;
    let total_updates = config.total_updates(per_epoch)?;
    Ok(Prepared {
        config,
        model,
        method,
        loader,
        shape,
        total_updates,
        buckets,
        bucket_plans,
        evaluation,
        samples,
        resumed,
        options,
        limits,
        planned: step,
        in_files,
        own_prices,
        world,
        engine: control.ranks.map(Arc::clone),
    })
}

/// Whether measuring prices now leaves the promise of the limit alone. `buffers` count what it takes.
fn has_room_to_measure(limit: Option<Limit>, buffers: Buffers, steps: usize) -> bool {
    limit.is_none_or(|limit| buffers.earlier_bytes(steps) + RESERVE_BYTES <= limit.bytes)
}

impl Prepared {
    /// Tells what was planned, and what is not as it looks in the adapter that the run starts from.
    pub(crate) fn announce(&self, reporter: &mut dyn Reporter) -> Result<(), TrainError> {
        reporter.report(Event::Planned(&PlannedRun {
            config: &self.config,
            family: self.model.config().family,
            number_format: self.config.number_format().beside(self.model.stored_dtype()),
            trained_parameters: self.trained_parameters(),
            total_parameters: self.total_parameters(),
            data: self.loader.dataset().stats(),
            eval_data: self.evaluation.as_ref().map_or(&[], |data| data.loader.dataset().stats()),
            shape: self.shape,
            updates_per_epoch: self.loader.updates_per_epoch() as u64,
            total_updates: self.total_updates,
            resumed_from: self.resumed.as_ref().map(|resumed| resumed.save.step),
            device: &self.options.profile().name,
            threads: self.options.threads,
            plan_steps: self.planned.micro.steps.len(),
            recomputed_steps: self.planned.micro.recomputed_steps().count(),
            tiles: self.planned.micro.tiles(),
            offloaded_bytes: self.planned.micro.offloaded_bytes(),
            off_memory_weight_bytes: self.planned.micro.spilled_weight_bytes(),
            read_weight_bytes: self.planned.micro.fetched_weight_bytes(),
            states: placed_states(&self.planned, self.config.grad_accum),
            buckets: &self.bucket_plans,
            arena_bytes: self.arena_bytes(),
            memory: &self.planned.account,
        }));
        self.model.notes().iter().for_each(|note| reporter.report(Event::Note(note)));
        if let (Some(adapter), None) = (&self.config.init_adapter, &self.resumed) {
            let notes = self.model.adapter_settings(adapter)?.notes;
            notes.iter().for_each(|note| reporter.report(Event::Note(note)));
        }
        Ok(())
    }

    /// What the run will hold, phase by phase.
    pub(crate) fn phases(&self) -> Vec<PhaseMemory> {
        self.planned.account.phases()
    }

    /// What is trained and what ranks do together, as text: the rest of an update is another on each rank.
    pub(crate) fn agreed_text(&self) -> String {
        let parameters = self.planned.trained.parameters.iter().map(|p| format!("{} {}", p.name, p.ty));
        let plans = std::iter::once(&self.planned.update).chain(&self.planned.accumulation);
        parameters.chain(plans.flat_map(Plan::agreed)).collect::<Vec<_>>().join("\n")
    }

    fn arena_bytes(&self) -> usize {
        memory::largest_arena(&self.planned.micro, &self.planned.others())
    }

    fn trained_parameters(&self) -> usize {
        self.planned.trained.parameters.iter().map(|parameter| parameter.ty.shape.numel()).sum()
    }

    /// Parameters of base and adapters together.
    fn total_parameters(&self) -> usize {
        let weights = self.planned.micro.graph.values.iter().filter(|value| value.storage == Storage::Weight);
        self.trained_parameters() + weights.map(|value| value.ty.shape.numel()).sum::<usize>()
    }

    fn facts(&self) -> RunFacts {
        let PlannedStep { micro, account, .. } = &self.planned;
        RunFacts {
            machine: Machine::this(&self.options.level.to_string(), self.options.threads),
            total_parameters: self.total_parameters(),
            plan: PlanRecord {
                policy: micro.policy.to_string(),
                steps: micro.steps.len(),
                recomputed_steps: micro.recomputed_steps().count(),
                offloaded_bytes: micro.offloaded_bytes(),
                arena_bytes: self.arena_bytes(),
                activation_bytes: account.bytes_of(MemoryPart::KeptActivations),
                placement: placed_weights(micro, &self.in_files),
                states: placed_states(&self.planned, self.config.grad_accum),
            },
            bound_by: bound_by(account, limiting(self.limits.in_domain(self.options.profile().tensor_domain()), micro)),
        }
    }

    /// Allocates everything and fills it: base weights, then the adapter or the saved state.
    pub(crate) fn load(self) -> Result<Session, TrainError> {
        let (facts, world) = (self.facts(), self.world);
        // Ranks add up apart whatever the settings say.
        let gradient_sum =
            if world.is_alone() { self.config.accumulation_rule().sum() } else { StateRole::GradientSum };
        let PlannedStep { micro, update, accumulation, evaluation, generation, shorter, account, trained } =
            self.planned;
        let (graph, parameters) = (micro.graph.clone(), trained.parameters);
        let mut device = self.options.open()?;
        if let Some(engine) = self.engine {
            device.set_ranks(engine);
        }
        device.set_spill_folder(self.config.offload.as_deref());
        if !micro.spilled.is_empty() {
            device.set_weights_in_files(self.model.weights_in_files(&graph)?);
        }
        let shorter =
            shorter.into_iter().zip(&self.buckets).map(|(plan, bucket)| MicroPlan::shorter(plan, bucket.seq_len));
        let micros = shorter.chain([MicroPlan::longest(micro)]).collect();
        let plans = StepPlans { micros, update: Some(update), accumulation, evaluation, forwards: generation };
        let mut loaded = plans.load(device, &trained.loss, &trained.dloss)?;
        let per_epoch = self.loader.updates_per_epoch() as u64;
        let held_out = self.evaluation.as_ref().map(|data| data.shape.seq_len);
        let evaluation = self.evaluation.map(|data| Evaluation {
            rows: EvaluationRows::new(data.loader, data.shape),
            every: self.config.eval_every.unwrap_or(per_epoch),
        });
        let device = loaded.device_mut();
        self.model.load_weights(&graph, device)?;
        let sampled = self.samples.as_ref().map(|samples| samples.shape.capacity);
        let lengths = self.buckets.iter().map(|bucket| bucket.seq_len).chain(held_out).chain(sampled);
        self.model.load_frequencies(lengths, device)?;
        match (&self.resumed, &self.config.init_adapter, &self.method) {
            (Some(resumed), _, _) => {
                let states = saved_states(&parameters, &self.config, world);
                snapshot::restore(&resumed.save, &states, world.rank, device)?;
                refresh_working_copies(&parameters, device)?;
                if let Some(lora) = self.method.adapter() {
                    self.model.refill_adapter_start(lora, self.config.seed, device)?;
                }
            }
            (None, Some(adapter), _) => self.model.load_adapter(adapter, &parameters, device)?,
            (None, None, Method::Lora(lora) | Method::Qlora(lora, _)) => {
                self.model.init_adapter(lora, &parameters, self.config.seed, device)?;
            }
            (None, None, Method::Full) => {}
        }
        let samples = self.samples.map(|texts| Sampler::of(texts, &mut loaded, per_epoch)).transpose()?;
        // The buffers that weights were read through are no part of a step.
        release_freed_memory();
        let batches = self.buckets.iter().map(|bucket| Batch::new(self.shape.batch, bucket.seq_len)).collect();
        let step = BatchedStep::new(loaded, batches, self.config.seed);
        Ok(Session {
            evaluation,
            samples,
            schedule: self.config.lr_schedule(self.total_updates),
            made_updates: self.resumed.as_ref().map_or(0, |resumed| resumed.save.step),
            planned_peak_bytes: account.planned_peak_bytes() as u64,
            pace: PaceWatch::new(self.options, self.config.number_format(), self.own_prices.as_ref()),
            config: self.config,
            model: self.model,
            method: self.method,
            parameters,
            loader: self.loader,
            step,
            total_updates: self.total_updates,
            facts,
            gradient_sum,
            world,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::limit_owner::LimitOwner;

    /// A small control group with nothing else in it is a limit: a process that measured there would be killed.
    #[test]
    fn prices_are_measured_only_where_there_is_room_for_it() {
        let buffers = Buffers { measuring_bytes: MEASURING_BYTES + (4 << 20), ..Buffers::default() };
        let room = |mebibytes: usize| {
            let limit = Limit { bytes: mebibytes << 20, whose: LimitOwner::Machine };
            has_room_to_measure(Some(limit), buffers, 500)
        };
        for mebibytes in [64, 280, 300, 320, 340, 360] {
            assert!(!room(mebibytes), "{mebibytes} MiB");
        }
        assert!(room(400) && has_room_to_measure(None, buffers, 500));
    }
}
