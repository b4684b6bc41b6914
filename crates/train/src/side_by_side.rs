//! Several micro-steps of one job and its update in one executor, with the same weights and tokens: what is compared takes
//! turns, so that drift of the machine hits all alike. Look next at `profile.rs`.

use crate::TrainError;
use crate::profile::ProfileJob;
use remat_compiler::{Target, compile, differentiate};
use remat_cpu::{CpuExecutor, CpuOptions, POISON};
use remat_data::Batch;
use remat_ir::Phase;
use remat_model::{AdamWSettings, BatchShape, Parameter, update_graph};
use remat_plan::{Action, DeviceProfile, Executor, Plan, Policy, ProgramId, RunObserver, Slot, Step, StepId};
use remat_tensor::Philox;
use std::hash::{DefaultHasher, Hasher};
use std::time::Instant;

/// Every policy of a job, loaded side by side, to be stepped on demand.
pub struct SideBySide {
    turns: Turns,
    plans: Vec<Plan>,
}

impl SideBySide {
    /// Compiles and loads the job's policies.
    ///
    /// # Errors
    /// A graph that cannot be built or compiled, weights that cannot be loaded.
    pub fn load(job: &ProfileJob<'_>, device: &DeviceProfile) -> Result<Self, TrainError> {
        let training = job.model.training(job.method, job.shape)?;
        let parameters = training.parameters;
        let target = |p: &Parameter| Target { value: p.value, accumulate_into: Some(p.gradient) };
        let targets: Vec<Target> = parameters.iter().map(target).collect();
        let graph = differentiate(training.graph, training.loss, training.seed, &targets)?.graph;
        let compiled = |policy: &Policy| compile(graph.clone(), policy, device);
        let plans = job.policies.iter().map(compiled).collect::<Result<Vec<Plan>, _>>()?;
        let update = compile(update_graph(&parameters, &AdamWSettings::default())?, &Policy::None, device)?;
        let loaded = plans.iter().cloned().chain([update]).collect();
        Ok(SideBySide { turns: Turns::load(job, &parameters, loaded, job.options)?, plans })
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
        self.turns.step(policy)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Several micro-steps and one update, loaded with the same weights and tokens.
pub(crate) struct Turns {
    executor: CpuExecutor,
    programs: Vec<ProgramId>,
    updates: i32,
}

impl Turns {
    /// The last plan is the update.
    pub(crate) fn load(
        job: &ProfileJob<'_>,
        parameters: &[Parameter],
        plans: Vec<Plan>,
        options: CpuOptions,
    ) -> Result<Self, TrainError> {
        let mut executor = CpuExecutor::new(options);
        executor.set_spill_folder(job.spill.map(|(folder, _)| folder.to_path_buf()));
        let graph = plans[0].graph.clone();
        let programs = executor.load(plans)?;
        job.model.load_weights(&graph, &mut executor)?;
        if job.method.adapter().is_some() {
            job.model.init_adapter(parameters, 0, &mut executor)?;
        }
        let random;
        let batch = match job.batch {
            Some(batch) => batch,
            None => {
                random = random_tokens(job.shape, job.model.config().vocab_size());
                &random
            }
        };
        let mut fill = |name: &str, bytes: &[u8]| {
            if let Ok(input) = executor.input_mut(name) {
                input.bytes.copy_from_slice(bytes);
            }
        };
        fill("ids", bytemuck::cast_slice(&batch.ids));
        fill("targets", bytemuck::cast_slice(&batch.targets));
        fill("positions", bytemuck::cast_slice(&batch.positions));
        fill("segment_start", bytemuck::cast_slice(&batch.segment_start));
        fill("seed", bytemuck::bytes_of(&(1.0f32 / batch.trained.max(1) as f32)));
        fill("rng", bytemuck::cast_slice(&[0u32; 4]));
        fill("lr", bytemuck::bytes_of(&1e-4f32));
        Ok(Turns { executor, programs, updates: 0 })
    }

    /// One micro-step of plan `index`, and the update.
    pub(crate) fn step(&mut self, index: usize) -> Result<(), TrainError> {
        self.updates += 1;
        self.executor.input_mut("step")?.bytes.copy_from_slice(&self.updates.to_le_bytes());
        self.executor.run(self.programs[index])?;
        let update = self.programs.last().expect("the update is loaded last");
        Ok(self.executor.run(*update)?)
    }

    /// Runs the first plan in an arena whose free bytes hold a pattern, and counts those that do not, between forward and
    /// backward. `None` if there is no such moment.
    pub(crate) fn live_between_phases(&mut self) -> Result<Option<u64>, TrainError> {
        let mut census = Census { live_bytes: None };
        self.executor.set_poison(true);
        let ran = self.executor.run_observed(self.programs[0], &mut census);
        self.executor.set_poison(false);
        ran?;
        Ok(census.live_bytes)
    }

    /// Of every trained parameter, in the order of the model.
    pub(crate) fn trained_hash(&mut self, parameters: &[Parameter]) -> Result<u64, TrainError> {
        let mut hasher = DefaultHasher::new();
        for parameter in parameters {
            hasher.write(self.executor.state_mut(&parameter.name)?.bytes);
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
    (batch.tokens, batch.trained) = (tokens, tokens);
    batch
}

/// Counts what is in use in a poisoned arena when the forward has ended.
struct Census {
    live_bytes: Option<u64>,
}

impl RunObserver for Census {
    fn after_step(&mut self, plan: &Plan, id: StepId, _step: &Step, arena: &[u8]) {
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
        let in_use = |bytes: &[u8]| 4 * bytes.chunks_exact(4).filter(|word| **word != [POISON; 4]).count() as u64;
        // What this last step frees is poisoned only after it was shown.
        let ends_here = plan.buffers.iter().filter(|buffer| buffer.last == id).map(|buffer| buffer.slot);
        let freed = ends_here.chain(plan.steps[id.index()].workspace);
        let kept = plan.buffers.iter().filter(|buffer| buffer.first <= id && buffer.last > id);
        let kept: Vec<_> = kept.map(|buffer| buffer.slot).collect();
        let overlaps = |slot: &Slot| kept.iter().any(|other| other.offset < slot.end() && slot.offset < other.end());
        let freed: u64 = freed.filter(|slot| !overlaps(slot)).map(|slot| in_use(&arena[slot.offset..slot.end()])).sum();
        self.live_bytes = Some(in_use(arena).saturating_sub(freed));
    }
}
