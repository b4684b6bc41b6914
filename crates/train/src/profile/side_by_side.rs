//! Several micro-steps of one job and its update in one executor, with the same weights and tokens: what is compared takes
//! turns, so that drift of the machine hits all alike. Look next at `measure`.

use crate::TrainError;
use crate::profile::job::ProfileJob;
use crate::run::batched_step::tokens;
use remat_data::Batch;
use remat_ir::{Phase, Storage};
use remat_model::{AdapterStart, BatchShape, LoraConfig, NEXT_TOKEN};
use remat_plan::{Action, Device, DeviceProfile, Observer, POISON, Plan, Slot, StepId, StepMemory};
use remat_step::{LoadedStep, MicroPlan, StepPlans, Trained};
use remat_tensor::Philox;
use std::hash::{DefaultHasher, Hasher};
use std::time::Instant;

/// Every policy of a job, loaded side by side, to be stepped on demand.
pub struct SideBySide {
    policies: LoadedPolicies,
    plans: Vec<Plan>,
}

impl SideBySide {
    /// Compiles and loads the job's policies.
    ///
    /// # Errors
    /// A graph that cannot be built or compiled, weights that cannot be loaded.
    pub fn load(job: &ProfileJob<'_>, device: &DeviceProfile) -> Result<Self, TrainError> {
        let (problem, trained) = job.step()?.problem(device)?;
        let plans = job.policies.iter().map(|policy| problem.plan(policy, None)).collect::<Result<Vec<Plan>, _>>()?;
        let update = trained.plan_update(device)?;
        Ok(SideBySide { policies: LoadedPolicies::load(job, &trained, plans.clone(), update)?, plans })
    }

    /// The plan of each policy.
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// Seconds of one micro-step of a policy, by its place in the job, and the update.
    ///
    /// # Errors
    /// What the executor reports.
    pub fn step(&mut self, policy: usize) -> Result<f64, TrainError> {
        let start = Instant::now();
        self.policies.step(policy)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Several micro-steps and one update, loaded with the same weights and tokens.
pub(crate) struct LoadedPolicies {
    loaded: LoadedStep,
    /// The cotangent of the loss: 1 over the trained tokens.
    dloss: f32,
    updates: i32,
}

impl LoadedPolicies {
    /// Loads plans of one step, and its update.
    pub(crate) fn load(
        job: &ProfileJob<'_>,
        trained: &Trained,
        plans: Vec<Plan>,
        update: Plan,
    ) -> Result<Self, TrainError> {
        let mut device = job.options.open();
        device.set_spill_folder(job.spill.map(|(folder, _)| folder));
        let (graph, count) = (plans[0].graph.clone(), plans.len());
        let micros = plans.into_iter().map(MicroPlan::longest).collect();
        let plans = StepPlans { micros, update: Some(update), ..StepPlans::none() };
        let mut loaded = plans.load(device, &trained.loss, &trained.dloss)?;
        job.model.load_weights(&graph, loaded.device_mut())?;
        if let Some(lora) = job.method.adapter() {
            // Which numbers are multiplied changes no time, and some starts take long to find.
            let lora = LoraConfig { start: AdapterStart::Default, ..lora.clone() };
            job.model.init_adapter(&lora, &trained.parameters, 0, loaded.device_mut())?;
        }
        let random;
        let batch = match job.batch {
            Some(batch) => batch,
            None => {
                random = random_tokens(job.shape, job.model.config().vocab_size);
                &random
            }
        };
        // All plans read the same inputs.
        (0..count).try_for_each(|micro| loaded.set_tokens(micro, tokens(batch)))?;
        Ok(LoadedPolicies { loaded, dloss: NEXT_TOKEN.dloss(batch.trained.max(1)), updates: 0 })
    }

    /// The loaded step.
    pub(crate) fn loaded_mut(&mut self) -> &mut LoadedStep {
        &mut self.loaded
    }

    /// One micro-step of plan `index`, and the update.
    pub(crate) fn step(&mut self, index: usize) -> Result<(), TrainError> {
        self.updates += 1;
        self.loaded.micro(index, self.dloss, [0; 4])?;
        self.loaded.update(1e-4, self.updates)?;
        Ok(())
    }

    /// Runs the first plan in an arena whose free bytes hold a pattern, and counts those that do not, between forward and
    /// backward. `None` if there is no such moment.
    pub(crate) fn live_between_phases(&mut self) -> Result<Option<u64>, TrainError> {
        let mut in_use = BytesInUse { live_bytes: None };
        self.loaded.device_mut().set_poison(true);
        let ran = self.loaded.observe(0, &mut in_use);
        self.loaded.device_mut().set_poison(false);
        ran?;
        Ok(in_use.live_bytes)
    }

    /// Of every trained parameter, in the order of the model.
    pub(crate) fn trained_hash(&self, trained: &Trained) -> Result<u64, TrainError> {
        let (mut hasher, mut buffer) = (DefaultHasher::new(), Vec::new());
        let device: &dyn Device = self.loaded.device();
        for parameter in &trained.parameters {
            let state = device.known(Storage::State, &parameter.name)?;
            device.read_pieces(state, &mut buffer, &mut |piece| {
                hasher.write(piece);
                Ok::<(), TrainError>(())
            })?;
        }
        Ok(hasher.finish())
    }
}

/// Rows of the full length, every token of which is trained.
fn random_tokens(shape: BatchShape, vocabulary: usize) -> Batch {
    let mut batch = Batch::new(shape.batch, shape.seq_len);
    let (tokens, philox) = (shape.batch * shape.seq_len, Philox::new(0, 0));
    batch.ids = (0..tokens as u64).map(|i| (philox.word(i) as usize % vocabulary) as i32).collect();
    batch.targets.clone_from(&batch.ids);
    batch.positions = (0..tokens).map(|i| (i % shape.seq_len) as i32).collect();
    batch.segment_start.fill(0);
    batch.attention_mask.fill(1);
    (batch.tokens, batch.trained) = (tokens, tokens);
    batch
}

/// Counts what is in use in a poisoned arena when the forward has ended.
struct BytesInUse {
    live_bytes: Option<u64>,
}

impl Observer for BytesInUse {
    fn after_step(&mut self, plan: &Plan, id: StepId, memory: &dyn StepMemory) {
        let turn = plan.steps.iter().position(|step| match step.action {
            Action::Compute(op) => {
                let node = plan.graph.node(op);
                node.phase == Phase::Backward || node.recompute_of.is_some()
            }
            _ => false,
        });
        if turn != Some(id.index() + 1) {
            return;
        }
        // What this last step frees is poisoned only after it was shown.
        let ends_here = plan.buffers.iter().filter(|buffer| buffer.last == id).map(|buffer| buffer.slot);
        let freed = ends_here.chain(plan.steps[id.index()].workspace);
        let kept = plan.buffers.iter().filter(|buffer| buffer.first <= id && buffer.last > id);
        let kept: Vec<_> = kept.map(|buffer| buffer.slot).collect();
        let overlaps = |slot: &Slot| kept.iter().any(|other| other.offset < slot.end() && slot.offset < other.end());
        let freed: u64 = freed.filter(|slot| !overlaps(slot)).map(|slot| in_use(memory, slot)).sum();
        let whole = Slot { offset: 0, bytes: plan.arena_bytes };
        self.live_bytes = Some(in_use(memory, whole).saturating_sub(freed));
    }
}

/// Bytes of a slot that do not hold the pattern.
fn in_use(memory: &dyn StepMemory, slot: Slot) -> u64 {
    let mut piece = [0; 1 << 14];
    let mut words = 0;
    for at in (slot.offset..slot.end()).step_by(piece.len()) {
        let piece = &mut piece[..(slot.end() - at).min(1 << 14)];
        memory.read_arena(at, piece);
        words += piece.chunks_exact(4).filter(|word| **word != [POISON; 4]).count() as u64;
    }
    4 * words
}
