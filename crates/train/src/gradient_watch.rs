//! Watches that every trained parameter learns: a gradient that is all zero where it should not be stops the run.
//!
//! A parameter is watched until its gradient was non-zero once. Two zeros are right by construction and wait: that of
//! `lora_A` while its `lora_B` is zero, and anything in an update whose trained tokens all stand at the first position
//! of their sample, where attention looks at one key only and no query or key can matter.
//!
//! Invariant: nothing is read once every parameter has passed.

use crate::TrainError;
use remat_data::{Batch, IGNORED_LABEL};
use remat_plan::{ExecError, Executor};

/// Parameters that have not shown a gradient yet.
#[derive(Debug)]
pub(crate) struct GradientWatch {
    pending: Vec<String>,
    /// Whether the present update has a trained token with something before it.
    conclusive: bool,
}

impl GradientWatch {
    /// Watches all of them.
    pub(crate) fn new(names: impl Iterator<Item = String>) -> Self {
        GradientWatch { pending: names.collect(), conclusive: false }
    }

    /// Takes note of a micro-batch of the present update.
    pub(crate) fn see(&mut self, batch: &Batch) {
        if !self.pending.is_empty() && !self.conclusive {
            let mut cells = batch.targets.iter().zip(&batch.positions);
            self.conclusive = cells.any(|(&target, &position)| target != IGNORED_LABEL && position > 0);
        }
    }

    /// Checks the accumulated gradients of update `step`, before it is made.
    pub(crate) fn check(&mut self, step: u64, executor: &dyn Executor) -> Result<(), TrainError> {
        if self.pending.is_empty() || !std::mem::take(&mut self.conclusive) {
            return Ok(());
        }
        let mut still = Vec::new();
        let mut silent = Vec::new();
        for name in self.pending.drain(..) {
            if !is_zero(executor, &format!("{name}.grad"))? {
                continue;
            }
            let waits = name.contains(".lora_A.") && is_zero(executor, &name.replace(".lora_A.", ".lora_B."))?;
            if waits { still.push(name) } else { silent.push(name) }
        }
        self.pending = still;
        match silent.split_first() {
            None => Ok(()),
            Some((first, rest)) => Err(TrainError::NoGradient { step, name: first.clone(), others: rest.len() }),
        }
    }
}

/// Whether every element of a state is zero, of either sign.
fn is_zero(executor: &dyn Executor, name: &str) -> Result<bool, ExecError> {
    let view = executor.state(name)?;
    Ok(view.bytes.chunks_exact(4).all(|x| matches!(x, [0, 0, 0, 0 | 0x80])))
}
