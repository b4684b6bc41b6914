//! Measures this machine's prices: the steps of small models are timed as they run, and rates are fitted to them.
//!
//! Method: steps of three small decoders, with adapters or in full, at two lengths, run as training runs them. So an
//! operand comes from where a real step's comes from, be it a cache, where the op before has left it, or memory, where the
//! forward or the weights are; a kernel timed alone, again and again, would be up to three times as fast. The median of
//! a few runs counts for each step. Three to five seconds on two threads. Invariants: every class of op is in a trial, or one
//! that stands for it; no trial has the shape of a preset. Look next at `remat_plan::fit` for how rates are found.

use crate::TrainError;
use remat_formats::ModelConfig;
use remat_ir::OpDef;
use remat_model::{BatchShape, LoraConfig, Method, Precision, training};
use remat_plan::{Action, DeviceProfile, Measured, OpClass, Plan, Policy, Prices, Rate};
use remat_step::device::Level;
use remat_step::{
    AdamWSettings, DeviceOptions, MomentFormat, StepPlans, StepTrace, TrainingStep, fill_with_small_numbers,
};
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
    /// Of moments of 8 bits the update alone is timed, as the micro-step knows none.
    moments: MomentFormat,
}

/// The trials at two lengths each.
fn trials(tokens: [usize; 2]) -> Vec<Trial> {
    let lora = || LoraConfig { rank: 16, alpha: 32.0, ..LoraConfig::default() };
    let at = |tokens: usize| {
        [(LLAMA, Method::Lora(lora())), (GPT2, Method::Lora(lora())), (LLAMA_IN_FULL, Method::Full)]
            .map(|(config, method)| Trial { config, method, tokens, moments: MomentFormat::F32 })
    };
    let update =
        Trial { config: LLAMA_IN_FULL, method: Method::Full, tokens: tokens[1], moments: MomentFormat::Blocks8 };
    tokens.into_iter().flat_map(at).chain([update]).collect()
}

impl Trial {
    /// The plans of micro-step and update, which keep everything, and the names of the loss and its cotangent.
    fn plans(&self, precision: Precision, profile: &DeviceProfile) -> Result<([Plan; 2], [String; 2]), TrainError> {
        let config = ModelConfig::parse(Path::new("calibration"), self.config)?;
        let shape = BatchShape { batch: 1, seq_len: self.tokens };
        let training = training(&config, precision, &self.method, shape)?;
        let settings = AdamWSettings { moments: self.moments, ..AdamWSettings::default() };
        let (problem, trained) = TrainingStep::new(training, Some(&settings))?.problem(profile)?;
        let plans = [problem.plan(&Policy::None, None)?, trained.plan_update(profile)?];
        Ok((plans, [trained.loss, trained.dloss]))
    }

    /// Runs it and adds what each of its steps took.
    fn measure(
        &self,
        options: &DeviceOptions,
        precision: Precision,
        by_class: &mut HashMap<OpClass, Vec<Measured>>,
    ) -> Result<(), TrainError> {
        let (plans, [loss, dloss]) = self.plans(precision, &options.profile())?;
        let [micro, update] = plans.clone();
        let mut step = StepPlans::of(micro, Some(update)).load(options.open(), &loss, &dloss)?;
        plans.iter().try_for_each(|plan| fill_with_small_numbers(step.device_mut(), &plan.graph))?;
        let (steps, longest) = step.steps_of_update(1);
        let with_micro = self.moments == MomentFormat::F32;
        let mut seconds: Vec<Vec<f64>> = vec![Vec::with_capacity(REPEATS); steps];
        let mut run = |counted: bool| -> Result<f64, TrainError> {
            let start = Instant::now();
            step.begin_trace(StepTrace::new(steps, longest));
            if with_micro {
                step.micro(0, SMALL, [0; 4])?;
            }
            step.update(SMALL, 1)?;
            let whole = start.elapsed().as_secs_f64();
            let trace = step.end_trace().filter(|_| counted);
            for (ran, seconds) in trace.iter().flat_map(StepTrace::ran).zip(&mut seconds) {
                seconds.push(ran.seconds);
            }
            Ok(whole)
        };
        run(false)?;
        let first_seconds = run(true)?;
        for _ in 1..if first_seconds > LONG_SECONDS { 1 } else { REPEATS } {
            run(true)?;
        }
        let timed = if with_micro { &plans[..] } else { &plans[1..] };
        let of_plans = timed.iter().flat_map(|plan| plan.steps.iter().map(move |step| (plan, step)));
        for ((plan, step), seconds) in of_plans.zip(&mut seconds) {
            let Action::Compute(op) = step.action else { continue };
            let node = plan.graph.node(op);
            let (inputs, outputs) = plan.graph.node_types(node);
            let measured = Measured { cost: node.op.cost(&inputs, &outputs), seconds: median(seconds) };
            by_class.entry(OpClass::of(&plan.graph, node)).or_default().push(measured);
        }
        Ok(())
    }
}

/// A learning rate and a cotangent: neither makes a number large or zero.
const SMALL: f32 = -0.03;

/// Measures all prices.
///
/// # Errors
/// Memory that cannot be had.
pub(crate) fn calibrate(options: &DeviceOptions, precision: Precision) -> Result<Prices, TrainError> {
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

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2].max(1e-9)
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
                let (plans, _) = trial.plans(precision, &DeviceOptions::cpu(1).profile()).expect("plans");
                for plan in plans {
                    seen.extend(plan.graph.nodes.iter().map(|node| OpClass::of(&plan.graph, node)));
                }
            }
            let missing: Vec<&OpClass> = OpClass::ALL.iter().filter(|class| !seen.contains(class)).collect();
            assert_eq!(missing, [&OpClass::ThinIn], "its rate is that of its transpose");
        }
    }
}
