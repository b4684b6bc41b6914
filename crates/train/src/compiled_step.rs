//! The compiled step on its executor: micro-steps that accumulate gradients, then one update of all parameters.
//!
//! Invariant: nothing here allocates: inputs are filled in place and outputs are single numbers. The cotangent of the
//! loss is 1/N with N the trained tokens of the whole update, so the sum over micro-batches is the gradient of the mean,
//! whatever the accumulation.

use crate::TrainError;
use crate::buckets::{TOKEN_INPUTS, input_name};
use crate::trace::Trace;
use remat_cpu::CpuExecutor;
use remat_data::{Batch, DataLoader, UpdateBatch};
use remat_model::BatchShape;
use remat_plan::{ExecError, Executor, Plan, ProgramId, Validation, validate};

/// All programs, loaded.
pub(crate) struct CompiledStep {
    pub(crate) executor: CpuExecutor,
    /// The shortest first; the last is the longest, which every micro-batch fits.
    pub(crate) micros: Vec<MicroStep>,
    pub(crate) update: ProgramId,
    /// Index of the micro-step that ran last.
    pub(crate) used: usize,
    /// Key of the random ops; `None` if the graph has none.
    pub(crate) dropout_seed: Option<u64>,
    /// Takes the time of every step, if it is there.
    pub(crate) trace: Option<Trace>,
    /// Holds every run to what it should be, if it is there.
    pub(crate) validation: Option<RunningValidation>,
}

/// The micro-step of a length bucket.
pub(crate) struct MicroStep {
    pub(crate) program: ProgramId,
    pub(crate) batch: Batch,
    /// What the inputs of [`TOKEN_INPUTS`] are called in its plan.
    inputs: [String; 4],
}

impl MicroStep {
    /// For batches of this shape; `shorter` unless they are the longest.
    pub(crate) fn new(program: ProgramId, shape: BatchShape, shorter: bool) -> Self {
        let inputs = TOKEN_INPUTS.map(|name| input_name(name, shorter.then_some(shape.seq_len)));
        MicroStep { program, batch: Batch::new(shape.batch, shape.seq_len), inputs }
    }
}

/// What `--validate` compared so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RunningValidation {
    pub(crate) compared: Validation,
    /// Whether the runs to come are held to the interpreter, too.
    pub(crate) against_reference: bool,
}

impl CompiledStep {
    /// Steps of an update of so many micro-batches, at most.
    pub(crate) fn steps_of_update(&self, micro_batches: usize) -> usize {
        let steps = self.micros.iter().map(|micro| self.executor.plan(micro.program).steps.len());
        steps_of_update(steps.max().unwrap_or(0), self.executor.plan(self.update), micro_batches)
    }

    /// The program of the longest micro-step.
    pub(crate) fn longest(&self) -> ProgramId {
        self.micros[self.micros.len() - 1].program
    }

    /// The micro-batch that ran last.
    pub(crate) fn batch(&self) -> &Batch {
        &self.micros[self.used].batch
    }

    /// Runs the longest micro-step on padding, which adds zeros to the gradients: whatever memory or time the longest
    /// batch takes, it takes now and not in the middle of a run.
    pub(crate) fn rehearse(&mut self) -> Result<(), TrainError> {
        let micro = self.micros.len() - 1;
        self.fill_batch(micro, 0.0)?;
        if self.dropout_seed.is_some() {
            fill(&mut self.executor, "rng", &[0_u32; 4])?;
        }
        Ok(self.executor.run(self.longest())?)
    }

    /// Copies a micro-step's batch to its inputs.
    fn fill_batch(&mut self, micro: usize, seed: f32) -> Result<(), TrainError> {
        let (executor, MicroStep { batch, inputs, .. }) = (&mut self.executor, &self.micros[micro]);
        let tokens = [&batch.ids, &batch.targets, &batch.positions, &batch.segment_start];
        for (name, numbers) in inputs.iter().zip(tokens) {
            fill(executor, name, numbers)?;
        }
        Ok(fill(executor, "seed", &[seed])?)
    }

    /// Runs one micro-batch of the update after `made` others: adds its gradients onto the accumulators and returns the
    /// sum of its negative log-likelihoods.
    pub(crate) fn run_micro(
        &mut self,
        loader: &DataLoader,
        update: &UpdateBatch,
        micro: usize,
        made: u64,
    ) -> Result<f64, TrainError> {
        let longest = loader.longest_of(update, micro);
        let fits = self.micros.iter().position(|micro| micro.batch.seq_len() >= longest);
        self.used = fits.expect("the longest fits all");
        loader.fill(update, micro, &mut self.micros[self.used].batch);
        self.fill_batch(self.used, (1.0 / update.trained as f64) as f32)?;
        if let Some(seed) = self.dropout_seed {
            fill(&mut self.executor, "rng", &[seed as u32, (seed >> 32) as u32, made as u32, micro as u32])?;
        }
        let program = self.micros[self.used].program;
        self.run(program, made)?;
        number(&self.executor, program, "loss")
    }

    /// Updates all parameters by their accumulated gradients, zeroes those, and returns their norm before clipping.
    /// `made` updates were made before.
    pub(crate) fn run_update(&mut self, lr: f64, made: u64) -> Result<f64, TrainError> {
        fill(&mut self.executor, "lr", &[lr as f32])?;
        fill(&mut self.executor, "step", &[(made + 1) as i32])?;
        self.run(self.update, made)?;
        number(&self.executor, self.update, "grad_norm")
    }

    fn run(&mut self, program: ProgramId, made: u64) -> Result<(), TrainError> {
        let CompiledStep { executor, trace, validation, .. } = self;
        if let Some(validation) = validation {
            let graph = executor.graph(program).clone();
            let compared = validate(executor, program, &graph, validation.against_reference);
            let compared =
                compared.map_err(|error| TrainError::Invalid { step: made + 1, problem: error.to_string() })?;
            validation.compared.replayed_values += compared.replayed_values;
            validation.compared.reference_values += compared.reference_values;
            return Ok(());
        }
        match trace {
            None => executor.run(program)?,
            Some(trace) => {
                trace.begin(program);
                executor.run_observed(program, trace)?;
            }
        }
        Ok(())
    }
}

/// Steps of an update of so many micro-batches with so many steps each.
pub(crate) fn steps_of_update(micro_steps: usize, update: &Plan, micro_batches: usize) -> usize {
    micro_batches * micro_steps + update.steps.len()
}

fn fill<T: bytemuck::NoUninit>(executor: &mut dyn Executor, name: &str, elements: &[T]) -> Result<(), ExecError> {
    executor.input_mut(name)?.bytes.copy_from_slice(bytemuck::cast_slice(elements));
    Ok(())
}

fn number(executor: &dyn Executor, program: ProgramId, name: &str) -> Result<f64, TrainError> {
    let view = executor.output(program, name)?;
    Ok(f64::from(bytemuck::pod_read_unaligned::<f32>(&view.bytes[..4])))
}
