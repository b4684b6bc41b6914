//! A loaded step: micro-steps that accumulate gradients, updates of all parameters, evaluation.
//!
//! Invariant: driving it allocates nothing: inputs are copied in, and what comes out are single numbers. The cotangent of
//! the loss is an input, so the sum over micro-batches is the gradient of whatever mean the caller wants.

use crate::exchange::PRESENT;
use crate::training_step::{POSITIONS, TOKEN_INPUTS};
use crate::{Forwards, StepError, StepPlans, StepTrace};
use remat_ir::{RANDOM_KEY, Storage, TRAINED_TOKENS};
use remat_plan::{Device, DeviceError, Observer, Plan, ProgramId, SourceId, Validation, ValidationError, validate};
use std::time::Instant;

/// A micro-batch: i32 [B, T] each.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// Token ids.
    pub ids: &'a [i32],
    /// What is to be predicted at each token; −100 where it takes no part.
    pub targets: &'a [i32],
    /// Positions within the sample.
    pub positions: &'a [i32],
    /// The first token of each token's sample.
    pub segment_start: &'a [i32],
    /// 0 for padding, 1 for all else.
    pub attention_mask: &'a [i32],
}

/// Handles of the inputs for tokens, where a plan has them.
type TokenHandles = [Option<SourceId>; TOKEN_INPUTS.len()];

/// One loaded plan of forward and backward.
#[derive(Debug)]
struct Micro {
    program: ProgramId,
    tokens: TokenHandles,
}

/// The loaded update.
#[derive(Debug)]
struct Update {
    program: ProgramId,
    /// None where every parameter is in a group with a rate of its own.
    learning_rate: Option<SourceId>,
    /// None where the optimizer does not count.
    number: Option<SourceId>,
}

/// What a validation compared so far, and what it compares with.
#[derive(Debug, Clone, Copy, Default)]
struct Validating {
    compared: Validation,
    against_reference: bool,
}

/// A step on a device.
pub struct LoadedStep {
    device: Box<dyn Device>,
    micros: Vec<Micro>,
    update: Option<Update>,
    accumulation: Option<ProgramId>,
    evaluation: Option<Micro>,
    forwards: Vec<ProgramId>,
    dloss: Option<SourceId>,
    /// Where what follows a round of micro-batches reads how many ranks had one.
    present: Option<SourceId>,
    /// Where the loss reads how many tokens the update trains.
    trained_tokens: Option<SourceId>,
    key: Option<SourceId>,
    loss: String,
    trace: Option<StepTrace>,
    validating: Option<Validating>,
}

/// What the inputs of an evaluation begin with.
const EVALUATION: &str = "evaluation.";

impl StepPlans {
    /// Loads all plans into a device: the longest micro-step and the update first. `loss` and `dloss` are the names of the
    /// output and the input of [`crate::TrainingStep`].
    ///
    /// # Errors
    /// A plan that the device cannot run, memory that it does not have.
    pub fn load(self, mut device: Box<dyn Device>, loss: &str, dloss: &str) -> Result<LoadedStep, StepError> {
        let StepPlans { mut micros, update, accumulation, evaluation, forwards } = self;
        let names: Vec<[String; TOKEN_INPUTS.len()]> = micros.iter().map(|micro| micro.tokens.clone()).collect();
        let (has_update, has_accumulation) = (update.is_some(), accumulation.is_some());
        let (has_evaluation, forward_count) = (evaluation.is_some(), forwards.len());
        // The longest first: what all plans share lies in its order.
        let last = micros.pop();
        let first = last.map(|micro| micro.plan);
        let others = update.into_iter().chain(accumulation).chain(evaluation).chain(forwards);
        let plans = first.into_iter().chain(others).chain(micros.into_iter().map(|micro| micro.plan));
        let mut programs = device.load(plans.collect())?.into_iter();
        let longest = programs.by_ref().take(usize::from(!names.is_empty())).next();
        let update = programs.by_ref().take(usize::from(has_update)).next();
        let accumulation = programs.by_ref().take(usize::from(has_accumulation)).next();
        let evaluation = programs.by_ref().take(usize::from(has_evaluation)).next();
        let forwards = programs.by_ref().take(forward_count).collect();
        let handles = |names: &[String; TOKEN_INPUTS.len()]| -> TokenHandles {
            std::array::from_fn(|index| device.source(Storage::Input, &names[index]))
        };
        let micros =
            programs.chain(longest).zip(&names).map(|(program, names)| Micro { program, tokens: handles(names) });
        let micros = micros.collect();
        let evaluation_names = TOKEN_INPUTS.map(|name| format!("{EVALUATION}{name}"));
        let evaluation = evaluation.map(|program| Micro { program, tokens: handles(&evaluation_names) });
        let update = update.map(|program| {
            let [learning_rate, number] = ["lr", "step"].map(|name| device.source(Storage::Input, name));
            Update { program, learning_rate, number }
        });
        Ok(LoadedStep {
            update,
            accumulation,
            dloss: device.source(Storage::Input, dloss),
            present: device.source(Storage::Input, PRESENT),
            trained_tokens: device.source(Storage::Input, TRAINED_TOKENS),
            key: device.source(Storage::Input, RANDOM_KEY),
            micros,
            evaluation,
            forwards,
            device,
            loss: loss.to_string(),
            trace: None,
            validating: None,
        })
    }
}

impl LoadedStep {
    /// The device, to load weights into and to read states from.
    pub fn device(&self) -> &dyn Device {
        self.device.as_ref()
    }

    /// The device, to be written to.
    pub fn device_mut(&mut self) -> &mut dyn Device {
        self.device.as_mut()
    }

    /// The plans without backward that were loaded beside the step, to be run between two of its updates.
    pub fn forwards(&mut self) -> Forwards<'_> {
        Forwards::of(self.device.as_mut(), &self.forwards)
    }

    /// The plan of a micro-step.
    pub fn micro_plan(&self, micro: usize) -> &Plan {
        self.device.plan(self.micros[micro].program)
    }

    /// The plan of the update.
    pub fn update_plan(&self) -> Option<&Plan> {
        self.update.as_ref().map(|update| self.device.plan(update.program))
    }

    /// A plan without backward.
    pub fn forward_plan(&self, index: usize) -> &Plan {
        self.device.plan(self.forwards[index])
    }

    /// The plans without backward.
    pub fn forward_plans(&self) -> impl Iterator<Item = &Plan> {
        self.forwards.iter().map(|&program| self.device.plan(program))
    }

    /// Every plan of it.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        let micros = self.micros.iter().chain(&self.evaluation).map(|micro| micro.program);
        let programs =
            micros.chain(self.update_program()).chain(self.accumulation).chain(self.forwards.iter().copied());
        programs.map(|program| self.device.plan(program))
    }

    /// The program of the update.
    pub fn update_program(&self) -> Option<ProgramId> {
        self.update.as_ref().map(|update| update.program)
    }

    /// The program that adds a micro-batch to the sums, where they are added up apart.
    pub fn accumulation_program(&self) -> Option<ProgramId> {
        self.accumulation
    }

    /// Writes a micro-step's tokens.
    ///
    /// # Errors
    /// A device that fails.
    pub fn set_tokens(&mut self, micro: usize, tokens: Tokens<'_>) -> Result<(), StepError> {
        let handles = self.micros[micro].tokens;
        self.write_tokens(handles, tokens)
    }

    /// Counts the positions of every row of every micro-step up from 0, for steps whose times are measured.
    ///
    /// # Errors
    /// A device that fails.
    pub fn count_positions(&mut self) -> Result<(), StepError> {
        for handle in self.micros.iter().filter_map(|micro| micro.tokens[POSITIONS]) {
            let shape = &self.device.source_type(handle).shape;
            let (elements, tokens) = (shape.numel(), shape.last());
            let positions: Vec<i32> = (0..elements).map(|index| (index % tokens) as i32).collect();
            self.device.write_all(handle, &positions)?;
        }
        Ok(())
    }

    fn write_tokens(&mut self, handles: TokenHandles, tokens: Tokens<'_>) -> Result<(), StepError> {
        let Tokens { ids, targets, positions, segment_start, attention_mask } = tokens;
        let arrays = [ids, targets, positions, segment_start, attention_mask];
        for (handle, numbers) in handles.into_iter().zip(arrays) {
            if let Some(source) = handle {
                self.device.write_all(source, numbers)?;
            }
        }
        Ok(())
    }

    /// Runs a micro-step on the present inputs: adds the gradients of `dloss` · loss onto their states, or, where micro-batches
    /// are added up apart, onto zeros, for [`LoadedStep::accumulate`] to add them to their sums. `key` is that of the
    /// random ops.
    ///
    /// # Errors
    /// An input that a kernel refuses; a value that differs where the step is validated.
    pub fn micro(&mut self, micro: usize, dloss: f32, key: [u32; 4]) -> Result<(), StepError> {
        self.prepare(dloss, key)?;
        self.run(self.micros[micro].program)
    }

    /// Adds the gradients of the micro-step that has just run to the sums of the update, and zeroes them; nothing where
    /// micro-steps add onto the sums themselves.
    ///
    /// # Errors
    /// A value that differs where the step is validated.
    pub fn accumulate(&mut self) -> Result<(), StepError> {
        self.accumulation.map_or(Ok(()), |program| self.run(program))
    }

    /// The same after a round in which the first `present` ranks ran a micro-step each: all ranks call it together, and each adds
    /// up what it owns.
    ///
    /// # Errors
    /// Another rank that has ended.
    pub fn accumulate_round(&mut self, present: usize) -> Result<(), StepError> {
        if let Some(source) = self.present {
            self.device.write_all(source, &[present as i32])?;
        }
        self.accumulate()
    }

    /// Writes the cotangent of the loss and the key of the random ops, for a run that is driven from outside.
    ///
    /// # Errors
    /// A device that fails.
    pub fn prepare(&mut self, dloss: f32, key: [u32; 4]) -> Result<(), StepError> {
        if let Some(source) = self.dloss {
            self.device.write_all(source, &[dloss])?;
        }
        if let Some(source) = self.trained_tokens {
            self.device.write_all(source, &[if dloss == 0.0 { 0.0 } else { 1.0 / dloss }])?;
        }
        if let Some(source) = self.key {
            self.device.write_all(source, &key)?;
        }
        Ok(())
    }

    /// The program of a micro-step.
    pub fn micro_program(&self, micro: usize) -> ProgramId {
        self.micros[micro].program
    }

    /// The loss that a micro-step has just computed.
    ///
    /// # Errors
    /// A step without a loss.
    pub fn loss(&self, micro: usize) -> Result<f32, StepError> {
        Ok(self.device.read_number(self.micros[micro].program, &self.loss)?)
    }

    /// Copies an output of a micro-step that has just run.
    ///
    /// # Errors
    /// A name that is no output.
    pub fn read_output(&self, micro: usize, name: &str, into: &mut [u8]) -> Result<(), StepError> {
        Ok(self.device.read_output(self.micros[micro].program, name, 0, into)?)
    }

    /// Updates all parameters by their accumulated gradients, zeroes those, and returns their norm before clipping.
    /// `number` counts updates from 1. Rates of groups are inputs of their own, as they were written last.
    ///
    /// # Errors
    /// A step without an optimizer; as [`LoadedStep::micro`].
    pub fn update(&mut self, learning_rate: f32, number: i32) -> Result<f32, StepError> {
        let Some(Update { program, learning_rate: rate, number: count }) = self.update else {
            return Err(StepError::NothingTrained);
        };
        if let Some(rate) = rate {
            self.device.write_all(rate, &[learning_rate])?;
        }
        if let Some(count) = count {
            self.device.write_all(count, &[number])?;
        }
        self.run(program)?;
        Ok(self.device.read_number(program, "grad_norm")?)
    }

    /// The sum of the losses of a batch of held-out rows.
    ///
    /// # Errors
    /// A step without evaluation; an input that a kernel refuses.
    pub fn evaluate(&mut self, tokens: Tokens<'_>) -> Result<f32, StepError> {
        let Some(Micro { program, tokens: handles }) = self.evaluation else {
            let (kind, name) = ("plan", "evaluation".to_string());
            return Err(DeviceError::UnknownSource { kind, name }.into());
        };
        self.write_tokens(handles, tokens)?;
        self.device.run(program)?;
        Ok(self.device.read_number(program, "loss")?)
    }

    /// Runs a micro-step as it is and tells `observer` of every step of its plan.
    ///
    /// # Errors
    /// An input that a kernel refuses.
    pub fn observe(&mut self, micro: usize, observer: &mut dyn Observer) -> Result<(), StepError> {
        Ok(self.device.observe(self.micros[micro].program, observer)?)
    }

    /// Writes down the time of every step from now on.
    pub fn begin_trace(&mut self, trace: StepTrace) {
        self.trace = Some(trace);
    }

    /// What ran since [`LoadedStep::begin_trace`].
    pub fn end_trace(&mut self) -> Option<StepTrace> {
        self.trace.take()
    }

    /// Steps of an update of so many micro-batches at most, and of the longest plan.
    pub fn steps_of_update(&self, micro_batches: usize) -> (usize, usize) {
        let micro = (0..self.micros.len()).map(|micro| self.micro_plan(micro).steps.len()).max().unwrap_or(0);
        let update = self.update_plan().map_or(0, |plan| plan.steps.len());
        let accumulation = self.accumulation.map_or(0, |program| self.device.plan(program).steps.len());
        (micro_batches * (micro + accumulation) + update, micro.max(update).max(accumulation))
    }

    /// Holds recomputed values of every run from now on to the forward's bits and, `against_reference` and where that can
    /// follow, all values to the interpreter.
    pub fn validate(&mut self, against_reference: bool) {
        self.validating.get_or_insert_default().against_reference = against_reference;
    }

    /// What was compared; `None` if nothing is validated.
    pub fn validated(&self) -> Option<Validation> {
        self.validating.map(|validating| validating.compared)
    }

    fn run(&mut self, program: ProgramId) -> Result<(), StepError> {
        if let Some(validating) = &mut self.validating {
            let compared = validate(self.device.as_mut(), program, validating.against_reference);
            let compared = compared.map_err(|error| match error {
                ValidationError::Device(error) => StepError::Device(error),
                ValidationError::Differs(fault) => StepError::Differs(fault),
            })?;
            validating.compared.replayed_values += compared.replayed_values;
            validating.compared.reference_values += compared.reference_values;
            return Ok(());
        }
        let Some(trace) = &mut self.trace else { return Ok(self.device.run(program)?) };
        let (steps, began) = (self.device.plan(program).steps.len(), Instant::now());
        self.device.run_timed(program, trace.times(steps))?;
        trace.take(program, steps, began);
        Ok(())
    }
}
