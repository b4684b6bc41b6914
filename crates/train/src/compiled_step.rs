//! The compiled step on its executor: micro-steps that accumulate gradients, then one update of all parameters.
//!
//! Invariant: nothing here allocates: inputs are filled in place and outputs are single numbers. The cotangent of the
//! loss is 1/N with N the trained tokens of the whole update, so the sum over micro-batches is the gradient of the mean,
//! whatever the accumulation.

use crate::TrainError;
use crate::trace::Trace;
use remat_cpu::CpuExecutor;
use remat_data::{Batch, DataLoader, UpdateBatch};
use remat_plan::{ExecError, Executor, Plan, ProgramId, Validation, validate};

/// Both programs, loaded.
pub(crate) struct CompiledStep {
    pub(crate) executor: CpuExecutor,
    pub(crate) micro: ProgramId,
    pub(crate) update: ProgramId,
    pub(crate) batch: Batch,
    /// Key of the random ops; `None` if the graph has none.
    pub(crate) dropout_seed: Option<u64>,
    /// Takes the time of every step, if it is there.
    pub(crate) trace: Option<Trace>,
    /// Holds every run to what it should be, if it is there.
    pub(crate) validation: Option<RunningValidation>,
}

/// What `--validate` compared so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RunningValidation {
    pub(crate) compared: Validation,
    /// Whether the runs to come are held to the interpreter, too.
    pub(crate) against_reference: bool,
}

impl CompiledStep {
    /// Steps of an update of so many micro-batches.
    pub(crate) fn steps_of_update(&self, micro_batches: usize) -> usize {
        let (micro, update) = self.plans();
        steps_of_update(micro, update, micro_batches)
    }

    /// The plans of the micro-step and of the update.
    pub(crate) fn plans(&self) -> (&Plan, &Plan) {
        (self.executor.plan(self.micro), self.executor.plan(self.update))
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
        let (executor, batch) = (&mut self.executor, &mut self.batch);
        loader.fill(update, micro, batch);
        fill(executor, "ids", &batch.ids)?;
        fill(executor, "targets", &batch.targets)?;
        fill(executor, "positions", &batch.positions)?;
        fill(executor, "segment_start", &batch.segment_start)?;
        fill(executor, "seed", &[(1.0 / update.trained as f64) as f32])?;
        if let Some(seed) = self.dropout_seed {
            fill(executor, "rng", &[seed as u32, (seed >> 32) as u32, made as u32, micro as u32])?;
        }
        self.run(self.micro, made)?;
        number(&self.executor, self.micro, "loss")
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
        let CompiledStep { executor, trace, validation, update, .. } = self;
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
                trace.begin(program == *update);
                executor.run_observed(program, trace)?;
            }
        }
        Ok(())
    }
}

/// Steps of an update of so many micro-batches.
pub(crate) fn steps_of_update(micro: &Plan, update: &Plan, micro_batches: usize) -> usize {
    micro_batches * micro.steps.len() + update.steps.len()
}

fn fill<T: bytemuck::NoUninit>(executor: &mut dyn Executor, name: &str, elements: &[T]) -> Result<(), ExecError> {
    executor.input_mut(name)?.bytes.copy_from_slice(bytemuck::cast_slice(elements));
    Ok(())
}

fn number(executor: &dyn Executor, program: ProgramId, name: &str) -> Result<f64, TrainError> {
    let view = executor.output(program, name)?;
    Ok(f64::from(bytemuck::pod_read_unaligned::<f32>(&view.bytes[..4])))
}
