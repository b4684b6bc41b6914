//! A training step as graphs: forward and backward of a micro-batch, and the update of all parameters.
//!
//! Invariant: gradients of parameters are added onto states, so that micro-batches add up; gradients of other values are
//! outputs of each run. Look next at `plans` for what is loaded.

use crate::exchange::exchange_graph;
use crate::sharded_update::sharded_update_graph;
use crate::{Accumulation, StepError, UpdateRule, accumulation_graph, update_graph};
use remat_compiler::{Choice, CompileError};
use remat_compiler::{Problem, Target, compile, compile_keeping, differentiate};
use remat_ir::{Graph, Parameter, Storage, Training, World};
use remat_plan::{DeviceProfile, Plan, Policy};
use std::sync::Arc;

/// Inputs of a decoder's micro-step that have one element per token, in the order of a batch's arrays.
pub(crate) const TOKEN_INPUTS: [&str; 5] = ["ids", "targets", "positions", "segment_start", "attention_mask"];

/// Which of them are the positions.
pub(crate) const POSITIONS: usize = 2;

/// Where a gradient is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GradientOf {
    /// The value that it is the gradient of.
    pub value: String,
    /// The state that sums it over runs, for a parameter.
    pub state: Option<String>,
    /// What it is called in one run: an output where there is no state.
    pub made: String,
}

/// Forward, backward and update.
#[derive(Debug, Clone)]
pub struct TrainingStep {
    /// Forward and backward.
    pub graph: Graph,
    /// The rest.
    pub trained: Trained,
}

/// What a step trains, and by which names it is driven; of a step without a loss nothing.
#[derive(Debug, Clone, Default)]
pub struct Trained {
    /// The output that is the loss.
    pub loss: String,
    /// The input that is its cotangent.
    pub dloss: String,
    /// What is trained.
    pub parameters: Vec<Parameter>,
    /// Every gradient that is made.
    pub gradients: Vec<GradientOf>,
    /// Whether random ops read a key.
    pub random: bool,
    /// The update of all parameters, where there is an optimizer.
    pub update: Option<Arc<Graph>>,
    /// What follows each micro-step, where micro-batches are added up apart; on several ranks, each round of them.
    pub accumulation: Option<Arc<Graph>>,
}

impl TrainingStep {
    /// Differentiates a loss and builds the update of what it trains, if a rule for it is given.
    ///
    /// # Errors
    /// A loss that nothing trainable reaches, an op without derivative.
    pub fn new(training: Training, rule: Option<&UpdateRule>) -> Result<Self, StepError> {
        let Training { graph, loss, dloss, parameters, wanted, random } = training;
        let of_parameters = parameters.iter().map(|p| Target { value: p.value, accumulate_into: Some(p.gradient) });
        let others = wanted.iter().map(|&value| Target { value, accumulate_into: None });
        let targets: Vec<Target> = of_parameters.chain(others).collect();
        let [loss_name, dloss_name] = [loss, dloss].map(|id| graph.value(id).name.clone());
        let gradient = differentiate(graph, loss, dloss, &targets)?;
        let name = |id| gradient.graph.value(id).name.clone();
        let gradients = targets.iter().zip(&gradient.gradients).map(|(target, &made)| GradientOf {
            value: name(target.value),
            state: target.accumulate_into.map(name),
            made: name(made),
        });
        let gradients = gradients.collect();
        let update = rule.filter(|_| !parameters.is_empty());
        let world = update.map_or(World::ALONE, |rule| rule.world);
        let apart = update.is_some_and(|rule| rule.accumulation == Accumulation::Apart);
        let (update, accumulation) = match world.is_alone() {
            true => (
                update.map(|rule| update_graph(&parameters, rule)).transpose()?,
                apart.then(|| accumulation_graph(&parameters)).transpose()?,
            ),
            false => (
                update.map(|rule| sharded_update_graph(&parameters, rule)).transpose()?,
                Some(exchange_graph(&parameters, world)?),
            ),
        };
        let (update, accumulation) = (update.map(Arc::new), accumulation.map(Arc::new));
        let (loss, dloss) = (loss_name, dloss_name);
        let trained = Trained { loss, dloss, parameters, gradients, random, update, accumulation };
        Ok(TrainingStep { graph: gradient.graph, trained })
    }

    /// Forward and backward of shorter sequences, to run beside the longest. Inputs with an element per token have names of
    /// their own; parameters, gradients and all else are the ones of the longest.
    ///
    /// # Errors
    /// As [`TrainingStep::new`].
    pub fn shorter(training: Training, seq_len: usize) -> Result<Graph, StepError> {
        let mut graph = TrainingStep::new(training, None)?.graph;
        for value in graph.values.iter_mut().filter(|value| value.storage == Storage::Input) {
            if TOKEN_INPUTS.contains(&value.name.as_str()) {
                value.name = token_input(&value.name, Some(seq_len));
            }
        }
        Ok(graph)
    }

    /// Forward and backward, to be planned for a device under any policy and limit, and the rest.
    ///
    /// # Errors
    /// A malformed graph.
    pub fn problem(self, profile: &DeviceProfile) -> Result<(Problem<'_>, Trained), StepError> {
        Ok((Problem::new(self.graph, profile)?, self.trained))
    }

    /// The plan of forward and backward whose kept and offloaded values `choose` decides, one by one.
    ///
    /// # Errors
    /// As [`TrainingStep::problem`]; whatever the function refuses.
    pub fn plan_keeping<E: From<CompileError>>(
        &self,
        profile: &DeviceProfile,
        choose: impl FnOnce(&Graph) -> Result<Choice, E>,
    ) -> Result<Plan, E> {
        compile_keeping(self.graph.clone(), profile, choose)
    }
}

impl Trained {
    /// The plan of the update.
    ///
    /// # Errors
    /// A step without an optimizer, or that trains nothing.
    pub fn plan_update(&self, profile: &DeviceProfile) -> Result<Plan, StepError> {
        let update = self.update.as_deref().ok_or(StepError::NothingTrained)?;
        Ok(compile(update.clone(), &Policy::None, profile)?)
    }

    /// The plan of what follows each micro-step, where micro-batches are added up apart.
    ///
    /// # Errors
    /// A malformed graph.
    pub fn plan_accumulation(&self, profile: &DeviceProfile) -> Result<Option<Plan>, StepError> {
        let plan = |graph: &Graph| compile(graph.clone(), &Policy::None, profile);
        Ok(self.accumulation.as_deref().map(plan).transpose()?)
    }
}

/// The name of a token input in a micro-step: of shorter sequences, or the longest.
pub(crate) fn token_input(name: &str, shorter: Option<usize>) -> String {
    shorter.map_or_else(|| name.to_string(), |seq_len| format!("{name}.{seq_len}"))
}
