//! Watches that every trained parameter learns: a gradient that is all zero where it should not be stops the run.
//!
//! A parameter is watched until its gradient was non-zero once. Some zeros are right by construction and wait:
//!
//! - any before the first update that moved something: behind a layer that starts at zero, as the output projections of
//!   inserted blocks and `lora_B` do, nothing gets a gradient until that layer has moved;
//! - a parameter that a gate multiplies, as `lora_A` by its `lora_B`, as long as the gate is zero;
//! - all in an update whose trained tokens stand at the first position of their sample, where attention looks at one key
//!   only, so that no query or key can matter.
//!
//! Rows of tokens that are trained alone are not watched: an embedding's have no gradient until the rows' text has one of them.
//!
//! Invariant: nothing is read once every parameter has passed.

use crate::TrainError;
use remat_comm::{CommError, Engine, gather_all};
use remat_data::{Batch, IGNORED_LABEL};
use remat_ir::{Parameter, ParameterKind, StateRole, Storage};
use remat_plan::{Device, DeviceError};

/// A parameter and the one that its gradient is a multiple of, if there is one.
#[derive(Debug)]
struct Watched {
    name: String,
    gated_by: Option<String>,
}

/// Parameters that have not shown a gradient yet.
#[derive(Debug)]
pub(crate) struct GradientWatch {
    pending: Vec<Watched>,
    /// Where the gradients of an update are added up.
    sum: StateRole,
    /// Whether the present update has a trained token with something before it.
    conclusive: bool,
    /// Whether an update with a conclusive batch and a rate above zero was made.
    moved: bool,
}

impl GradientWatch {
    /// Watches all of them, whose gradients are added up in states of the role `sum`.
    pub(crate) fn new(parameters: &[Parameter], sum: StateRole) -> Self {
        let watched = |p: &Parameter| Watched { name: p.name.clone(), gated_by: p.gated_by.clone() };
        let all = parameters.iter().filter(|parameter| parameter.kind != ParameterKind::Tokens);
        GradientWatch { pending: all.map(watched).collect(), sum, conclusive: false, moved: false }
    }

    /// Takes note of a micro-batch of the present update.
    pub(crate) fn see(&mut self, batch: &Batch) {
        if !self.pending.is_empty() && !self.conclusive {
            let mut cells = batch.targets.iter().zip(&batch.positions);
            self.conclusive = cells.any(|(&target, &position)| target != IGNORED_LABEL && position > 0);
        }
    }

    /// Whether a micro-batch of the present update that this process has seen was conclusive.
    pub(crate) fn is_conclusive(&self) -> bool {
        self.conclusive
    }

    /// Takes over whether any was, that of other ranks among them.
    pub(crate) fn conclude(&mut self, conclusive: bool) {
        self.conclusive = conclusive;
    }

    /// Checks the accumulated gradients of update `step`, before it is made with the rate `lr`. On several ranks, each of which has
    /// those of the elements that it owns, all call it together.
    pub(crate) fn check(
        &mut self,
        step: u64,
        lr: f64,
        device: &dyn Device,
        ranks: Option<&dyn Engine>,
    ) -> Result<(), TrainError> {
        if self.pending.is_empty() || !std::mem::take(&mut self.conclusive) {
            return Ok(());
        }
        let zeros = self.pending.iter().map(|watched| is_zero(device, &self.sum.name(&watched.name)));
        let zeros = everywhere(zeros.collect::<Result<_, _>>()?, ranks)?;
        let mut still = Vec::new();
        let mut silent = Vec::new();
        for (watched, is_zero_everywhere) in self.pending.drain(..).zip(zeros) {
            if !is_zero_everywhere {
                continue;
            }
            let gated = watched.gated_by.as_ref().map_or(Ok(false), |gate| is_zero(device, gate))?;
            if gated || !self.moved { still.push(watched) } else { silent.push(watched.name) }
        }
        self.pending = still;
        self.moved |= lr > 0.0;
        match silent.split_first() {
            None => Ok(()),
            Some((first, rest)) => Err(TrainError::NoGradient { step, name: first.clone(), others: rest.len() }),
        }
    }
}

/// What holds on every rank.
fn everywhere(holds: Vec<bool>, ranks: Option<&dyn Engine>) -> Result<Vec<bool>, CommError> {
    let Some(engine) = ranks else { return Ok(holds) };
    let all = gather_all(engine, &holds.iter().map(|&holds| u8::from(holds)).collect::<Vec<_>>())?;
    Ok((0..holds.len()).map(|index| all.iter().all(|holds| holds.get(index) == Some(&1))).collect())
}

/// Whether every element of a state is zero, of either sign; all of none are.
fn is_zero(device: &dyn Device, name: &str) -> Result<bool, DeviceError> {
    let (Some(state), mut bytes) = (device.source(Storage::State, name), [0; 4096]) else { return Ok(true) };
    let size = device.source_type(state).bytes();
    for at in (0..size).step_by(bytes.len()) {
        let piece = &mut bytes[..4096.min(size - at)];
        device.read(state, at, piece)?;
        if !piece.chunks_exact(4).all(|x| matches!(x, [0, 0, 0, 0 | 0x80])) {
            return Ok(false);
        }
    }
    Ok(true)
}
