//! The compiled step on its executor: micro-steps that accumulate gradients, then one update of all parameters.
//!
//! Invariant: nothing here allocates: inputs are filled in place and outputs are single numbers. The cotangent of the
//! loss is 1/N with N the trained tokens of the whole update, so the sum over micro-batches is the gradient of the mean,
//! whatever the accumulation.

use crate::TrainError;
use crate::trace::Trace;
use remat_cpu::CpuExecutor;
use remat_data::{Batch, DataLoader, UpdateBatch};
use remat_plan::{ExecError, Executor, ProgramId};

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
}

impl CompiledStep {
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
        run(executor, self.micro, &mut self.trace)?;
        number(executor, self.micro, "loss")
    }

    /// Updates all parameters by their accumulated gradients, zeroes those, and returns their norm before clipping.
    /// `made` updates were made before.
    pub(crate) fn run_update(&mut self, lr: f64, made: u64) -> Result<f64, TrainError> {
        fill(&mut self.executor, "lr", &[lr as f32])?;
        fill(&mut self.executor, "step", &[(made + 1) as i32])?;
        run(&mut self.executor, self.update, &mut self.trace)?;
        number(&self.executor, self.update, "grad_norm")
    }
}

fn run(executor: &mut CpuExecutor, program: ProgramId, trace: &mut Option<Trace>) -> Result<(), ExecError> {
    match trace {
        None => executor.run(program),
        Some(trace) => {
            trace.begin();
            executor.run_observed(program, trace)
        }
    }
}

fn fill<T: bytemuck::NoUninit>(executor: &mut dyn Executor, name: &str, elements: &[T]) -> Result<(), ExecError> {
    executor.input_mut(name)?.bytes.copy_from_slice(bytemuck::cast_slice(elements));
    Ok(())
}

fn number(executor: &dyn Executor, program: ProgramId, name: &str) -> Result<f64, TrainError> {
    let view = executor.output(program, name)?;
    Ok(f64::from(bytemuck::pod_read_unaligned::<f32>(&view.bytes[..4])))
}
