//! Measures this machine's prices: the steps of small models are timed as they run, and rates are fitted to them.
//!
//! Method: steps of three small decoders, with adapters or in full, at two lengths, run as training runs them. So an
//! operand comes from where a real step's comes from, be it a cache, where the op before has left it, or memory, where the
//! forward or the weights are; a kernel timed alone, again and again, would be up to three times as fast. The median of
//! a few runs counts for each step. Three to five seconds on two threads. Invariants: every class of op is in a trial, or one
//! that stands for it; no trial has the shape of a preset. Look next at `remat_plan::fit` for how rates are found.

use crate::TrainError;
use crate::planning::targets;
use remat_compiler::{compile, differentiate};
use remat_cpu::{CpuExecutor, CpuOptions, Level};
use remat_formats::ModelConfig;
use remat_ir::{Graph, OpDef, Storage};
use remat_model::{
    AdamWSettings, BatchShape, LoraConfig, Method, MomentFormat, Precision, Targets, training, update_graph,
};
use remat_plan::{
    Action, ExecError, Executor, Measured, OpClass, Plan, Policy, Prices, ProgramId, Rate, RunObserver, Step, StepId,
};
use remat_tensor::DType;
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

/// Counted runs of each trial, after one that faults pages in.
const REPEATS: usize = 3;

/// A trial that takes longer than this is run but once more.
const LONG_SECONDS: f64 = 1.0;

/// Tokens of trials on a machine with vector units.
const TOKENS: [usize; 2] = [512, 192];

/// Wide, so that products are seen at their best and weights do not stay in a cache.
const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 1920, "intermediate_size": 4864, "num_hidden_layers": 1,
    "num_attention_heads": 30, "num_key_value_heads": 6, "vocab_size": 6144, "max_position_embeddings": 1024}"#;

/// A narrower one, for the gradients of its weights.
const LLAMA_IN_FULL: &str = r#"{"model_type": "llama", "hidden_size": 1152, "intermediate_size": 2688,
    "num_hidden_layers": 1, "num_attention_heads": 18, "num_key_value_heads": 6, "vocab_size": 2048,
    "max_position_embeddings": 1024}"#;

/// With dropout, as published GPT-2 models have it.
const GPT2: &str = r#"{"model_type": "gpt2", "n_embd": 640, "n_layer": 4, "n_head": 10, "n_positions": 1024,
    "vocab_size": 12288, "attn_pdrop": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1}"#;

/// A model's step.
struct Trial {
    config: &'static str,
    method: Method,
    tokens: usize,
    moments: MomentFormat,
}

/// The trials at two lengths each.
fn trials(tokens: [usize; 2]) -> Vec<Trial> {
    let lora =
        || LoraConfig { rank: 16, alpha: 32.0, dropout: 0.0, rank_stabilised: false, targets: Targets::AllLinear };
    let at = |tokens: usize| {
        [(LLAMA, Method::Lora(lora())), (GPT2, Method::Lora(lora())), (LLAMA_IN_FULL, Method::Full)]
            .map(|(config, method)| Trial { config, method, tokens, moments: MomentFormat::F32 })
    };
    let update =
        Trial { config: LLAMA_IN_FULL, method: Method::Full, tokens: tokens[1], moments: MomentFormat::Blocks8 };
    tokens.into_iter().flat_map(at).chain([update]).collect()
}

impl Trial {
    /// The micro-step and the update; of moments of 8 bits the update alone, as the micro-step knows none.
    fn graphs(&self, precision: Precision) -> Result<Vec<Graph>, TrainError> {
        let config = ModelConfig::parse(Path::new("calibration"), self.config)?;
        let shape = BatchShape { batch: 1, seq_len: self.tokens };
        let training = training(&config, precision, &self.method, shape)?;
        let gradient = differentiate(training.graph, training.loss, training.seed, &targets(&training.parameters))?;
        let settings = AdamWSettings { moments: self.moments, ..AdamWSettings::default() };
        let update = update_graph(&training.parameters, &settings)?;
        Ok(match self.moments {
            MomentFormat::F32 => vec![gradient.graph, update],
            MomentFormat::Blocks8 => vec![update],
        })
    }

    /// Runs it and adds what each of its steps took.
    fn measure(
        &self,
        options: &CpuOptions,
        precision: Precision,
        by_class: &mut HashMap<OpClass, Vec<Measured>>,
    ) -> Result<(), TrainError> {
        let profile = options.profile();
        let plans = self.graphs(precision)?.into_iter().map(|graph| compile(graph, &Policy::None, &profile));
        let plans = plans.collect::<Result<Vec<Plan>, _>>()?;
        let mut executor = CpuExecutor::new(*options);
        let programs = executor.load(plans.clone())?;
        plans.iter().try_for_each(|plan| fill(&mut executor, &plan.graph))?;
        let mut clocks: Vec<Clock> = plans.iter().map(Clock::new).collect();
        let mut run = |clocks: &mut [Clock]| -> Result<f64, ExecError> {
            let start = Instant::now();
            for (clock, &program) in clocks.iter_mut().zip(&programs) {
                clock.run(&mut executor, program)?;
            }
            Ok(start.elapsed().as_secs_f64())
        };
        run(&mut clocks)?;
        clocks.iter_mut().for_each(Clock::forget);
        let first_seconds = run(&mut clocks)?;
        for _ in 1..if first_seconds > LONG_SECONDS { 1 } else { REPEATS } {
            run(&mut clocks)?;
        }
        for (plan, clock) in plans.iter().zip(&mut clocks) {
            for (step, seconds) in plan.steps.iter().zip(&mut clock.seconds) {
                let Action::Compute(op) = step.action else { continue };
                let node = plan.graph.node(op);
                let (inputs, outputs) = plan.graph.node_types(node);
                let measured = Measured { cost: node.op.cost(&inputs, &outputs), seconds: median(seconds) };
                by_class.entry(OpClass::of(&plan.graph, node)).or_default().push(measured);
            }
        }
        Ok(())
    }
}

/// Measures all prices.
///
/// # Errors
/// Memory that cannot be had.
pub(crate) fn calibrate(options: &CpuOptions, precision: Precision) -> Result<Prices, TrainError> {
    let tokens = if options.level == Level::Portable { TOKENS.map(|tokens| tokens / 8) } else { TOKENS };
    let mut by_class = HashMap::new();
    for trial in trials(tokens) {
        trial.measure(options, precision, &mut by_class)?;
    }
    let nominal = Prices::nominal(options.threads);
    let fitted = |class: OpClass| by_class.get(&class).and_then(|steps| Rate::fitted(steps));
    let rate = |&class: &OpClass| {
        // Decoders add an adapter's second product to a linear; in a model of one's own it may stand alone.
        let class = if class == OpClass::ThinIn { OpClass::ThinOut } else { class };
        fitted(class).unwrap_or(nominal.rate(class))
    };
    let rates = OpClass::ALL.iter().map(rate).collect();
    Ok(Prices { rates, measured: true, spill: None })
}

/// Seconds of every step of a plan, run after run.
struct Clock {
    last: Instant,
    seconds: Vec<Vec<f64>>,
}

impl Clock {
    fn new(plan: &Plan) -> Self {
        let seconds = vec![Vec::with_capacity(REPEATS + 1); plan.steps.len()];
        Clock { last: Instant::now(), seconds }
    }

    fn forget(&mut self) {
        self.seconds.iter_mut().for_each(Vec::clear);
    }

    fn run(&mut self, executor: &mut CpuExecutor, program: ProgramId) -> Result<(), ExecError> {
        self.last = Instant::now();
        executor.run_observed(program, self)
    }
}

impl RunObserver for Clock {
    fn after_step(&mut self, _: &Plan, step: StepId, _: &Step, _: &[u8]) {
        let now = Instant::now();
        self.seconds[step.index()].push(now.duration_since(self.last).as_secs_f64());
        self.last = Instant::now();
    }
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2].max(1e-9)
}

/// Small numbers of both signs in floats, positions counted up, the first step, everything else zero.
fn fill(executor: &mut CpuExecutor, graph: &Graph) -> Result<(), ExecError> {
    for value in graph.values.iter().filter(|value| value.producer.is_none()) {
        let bytes = match value.storage {
            Storage::Weight => executor.weight_mut(&value.name),
            Storage::State => executor.state_mut(&value.name),
            Storage::Input | Storage::Arena => executor.input_mut(&value.name),
        }?
        .bytes;
        let gradient_or_moment = value.storage == Storage::State && is_zero_at_first(&value.name);
        let number = |index: usize| ((index * 37) % 97) as f32 * 6e-4 - 0.03;
        match value.ty.dtype {
            _ if gradient_or_moment => {}
            DType::F32 => {
                let elements = bytes.chunks_exact_mut(4).enumerate();
                elements.for_each(|(index, element)| element.copy_from_slice(&number(index).to_le_bytes()));
            }
            DType::BF16 => {
                // The upper half of an f32 is the bf16 below it.
                let elements = bytes.chunks_exact_mut(2).enumerate();
                elements.for_each(|(index, element)| element.copy_from_slice(&number(index).to_le_bytes()[2..]));
            }
            DType::I32 if value.name == "positions" => {
                let elements = bytes.chunks_exact_mut(4).enumerate();
                elements.for_each(|(index, element)| element.copy_from_slice(&(index as i32).to_le_bytes()));
            }
            DType::I32 if value.name == "step" => bytes.copy_from_slice(&1_i32.to_le_bytes()),
            _ => {}
        }
    }
    Ok(())
}

fn is_zero_at_first(name: &str) -> bool {
    name.ends_with(".grad") || remat_model::OPTIMIZER_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_trials_have_every_class_of_op() {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut seen = HashSet::new();
            for trial in trials([32, 16]) {
                for graph in trial.graphs(precision).expect("graphs") {
                    let plan = compile(graph, &Policy::None, &CpuOptions::new(1).profile()).expect("compiles");
                    seen.extend(plan.graph.nodes.iter().map(|node| OpClass::of(&plan.graph, node)));
                }
            }
            let missing: Vec<&OpClass> = OpClass::ALL.iter().filter(|class| !seen.contains(class)).collect();
            assert_eq!(missing, [&OpClass::ThinIn], "its rate is that of its transpose");
        }
    }
}
