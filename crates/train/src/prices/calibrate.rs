//! Measures this machine's prices: the steps of small models are timed as they run, and rates are fitted to them.
//!
//! Method: steps of three small decoders, with adapters or in full, at two or three lengths, run as training runs them. So an
//! operand comes from where a real step's comes from, be it a cache, where the op before has left it, or memory, where the
//! forward or the weights are; a kernel timed alone, again and again, would be up to three times as fast.
//!
//! All trials run once, then all again, so that a moment in which the machine did something else hits one pass of each. A
//! probe of the machine's speed before and after tells such passes: they are repeated, and do not count as long as there are
//! quiet ones; the median of those counts for each step, of two the shorter. Some eight seconds on two quiet threads. Invariants: every class of
//! op is in a trial, or one that stands for it; no trial has the shape of a preset. Look next at `remat_plan::fit` for how
//! rates are found.

use crate::TrainError;
use crate::prices::price_cache::PriceHistory;
use crate::record::time::seconds_since_1970;
use remat_formats::ModelConfig;
use remat_ir::OpDef;
use remat_model::{BatchShape, LoraConfig, Method, Precision, Quant, training};
use remat_plan::{Action, DeviceProfile, Measured, OpClass, Plan, Policy, Prices, Rate};
use remat_step::device::{Level, SpeedProbe, speed_probe};
use remat_step::{
    AdamWSettings, DeviceOptions, MomentFormat, Optimizer, StepPlans, StepTrace, TrainingStep, UpdateRule,
    fill_with_small_numbers,
};
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

/// Passes that a trial needs, on a quiet machine.
const PASSES: usize = 2;

/// Where its passes lie further apart than this, it needs one more.
const STEADY_SPREAD: f64 = 0.05;

/// Passes at most, where some of them find the machine busy.
const MOST_PASSES: usize = 6;

/// After this, what was not quiet is not repeated.
const MOST_SECONDS: f64 = 12.0;

/// Tokens of trials on a machine with vector units: many, fewer, and so few that what does not shrink with them shows.
const TOKENS: [usize; 3] = [512, 192, 24];

/// Wide, so that products are seen at their best and weights do not stay in a cache.
const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 1920, "intermediate_size": 4864, "num_hidden_layers": 1,
    "num_attention_heads": 30, "num_key_value_heads": 6, "vocab_size": 6144, "max_position_embeddings": 1024}"#;

/// The same with more layers, so that weights of 16 bits, and of few bits, do not stay in a cache where tokens are so few
/// that reading them is what takes time.
const LLAMA_OF_TWO_LAYERS: &str = r#"{"model_type": "llama", "hidden_size": 1920, "intermediate_size": 4864,
    "num_hidden_layers": 2, "num_attention_heads": 30, "num_key_value_heads": 6, "vocab_size": 6144,
    "max_position_embeddings": 1024}"#;
const LLAMA_OF_FOUR_LAYERS: &str = r#"{"model_type": "llama", "hidden_size": 1920, "intermediate_size": 4864,
    "num_hidden_layers": 4, "num_attention_heads": 30, "num_key_value_heads": 6, "vocab_size": 6144,
    "max_position_embeddings": 1024}"#;

/// A narrower one, for the gradients of its weights.
const LLAMA_IN_FULL: &str = r#"{"model_type": "llama", "hidden_size": 1152, "intermediate_size": 2688,
    "num_hidden_layers": 1, "num_attention_heads": 18, "num_key_value_heads": 6, "vocab_size": 2048,
    "max_position_embeddings": 1024}"#;

/// With dropout, as published GPT-2 models have it, and a head that no cache holds.
const GPT2: &str = r#"{"model_type": "gpt2", "n_embd": 640, "n_layer": 4, "n_head": 10, "n_positions": 1024,
    "vocab_size": 65536, "attn_pdrop": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1}"#;

/// A model's step.
struct Trial {
    config: &'static str,
    method: Method,
    tokens: usize,
    /// Of moments of 8 bits the update alone is timed, as the micro-step knows none.
    moments: MomentFormat,
}

/// The trials: adapters at all lengths, on quantised weights at the longest and the shortest; in full at all.
fn trials(tokens: [usize; 3], precision: Precision) -> Vec<Trial> {
    let lora = || LoraConfig { rank: 16, alpha: 32.0, ..LoraConfig::default() };
    let of = |config, method, tokens, moments| Trial { config, method, tokens, moments };
    let longer = match precision {
        Precision::F32 => LLAMA,
        Precision::Bf16 => LLAMA_OF_TWO_LAYERS,
    };
    let adapters = [(LLAMA, tokens[0]), (LLAMA, tokens[1]), (longer, tokens[2])]
        .into_iter()
        .chain(tokens.map(|tokens| (GPT2, tokens)))
        .map(|(config, tokens)| of(config, Method::Lora(lora()), tokens, MomentFormat::F32));
    let quantised = [Quant::Nf4, Quant::Int8].into_iter().flat_map(|quant| {
        let method = Method::Qlora(lora(), quant);
        let lengths = [(LLAMA, tokens[0]), (LLAMA_OF_FOUR_LAYERS, tokens[2])];
        lengths.map(|(config, tokens)| of(config, method.clone(), tokens, MomentFormat::F32))
    });
    let full = tokens.map(|tokens| (tokens, MomentFormat::F32)).into_iter().chain([(tokens[1], MomentFormat::Blocks8)]);
    let full = full.map(|(tokens, moments)| of(LLAMA_IN_FULL, Method::Full, tokens, moments));
    adapters.chain(quantised).chain(full).collect()
}

impl Trial {
    /// Plans that keep everything.
    fn plans(&self, precision: Precision, profile: &DeviceProfile) -> Result<Plans, TrainError> {
        let config = ModelConfig::parse(Path::new("calibration"), self.config)?;
        let shape = BatchShape { batch: 1, seq_len: self.tokens };
        let training = training(&config, precision, &self.method, shape)?;
        let settings = AdamWSettings { moments: self.moments, ..AdamWSettings::default() };
        let rule = UpdateRule::of(Optimizer::AdamW(settings));
        let (problem, trained) = TrainingStep::new(training, Some(&rule))?.problem(profile)?;
        let plans = [problem.plan(&Policy::None, None)?, trained.plan_update(profile)?];
        Ok(Plans { plans, loss: trained.loss, dloss: trained.dloss })
    }

    /// Runs it once more. What its steps took is that of the second run in a row.
    fn pass(&self, plans: &Plans, options: &DeviceOptions) -> Result<Pass, TrainError> {
        let Plans { plans, loss, dloss } = plans;
        let [micro, update] = plans.clone();
        let mut step = StepPlans::of(micro, Some(update)).load(options.open()?, loss, dloss)?;
        plans.iter().try_for_each(|plan| fill_with_small_numbers(step.device_mut(), &plan.graph))?;
        step.count_positions()?;
        let (steps, longest) = step.steps_of_update(1);
        let mut run = |trace: Option<StepTrace>| -> Result<Vec<f64>, TrainError> {
            if let Some(trace) = trace {
                step.begin_trace(trace);
            }
            if self.times_the_micro_step() {
                step.micro(0, SMALL, [0; 4])?;
            }
            step.update(SMALL, 1)?;
            Ok(step.end_trace().iter().flat_map(StepTrace::ran).map(|ran| ran.seconds).collect())
        };
        run(None)?;
        let before = probe(options);
        let seconds = run(Some(StepTrace::new(steps, longest)))?;
        Ok(Pass { seconds, probe: before.worse(probe(options)) })
    }

    /// Of moments of 8 bits the update alone is timed, as the micro-step knows none.
    fn times_the_micro_step(&self) -> bool {
        self.moments == MomentFormat::F32
    }
}

/// A trial's plans: the micro-step's and the update's, and the names of the loss and its cotangent.
struct Plans {
    plans: [Plan; 2],
    loss: String,
    dloss: String,
}

/// One run of a trial.
struct Pass {
    /// Of each step, in the order of the plans.
    seconds: Vec<f64>,
    /// The machine's speed at the time, the slower of before and after.
    probe: SpeedProbe,
}

impl Pass {
    fn whole_seconds(&self) -> f64 {
        self.seconds.iter().sum()
    }
}

fn probe(options: &DeviceOptions) -> SpeedProbe {
    speed_probe(options.threads).unwrap_or(SpeedProbe { rounds_per_second: 0.0, share: 0.0 })
}

/// The passes of a trial that count, and whether they were quiet: if none was, the fastest stands for what it can.
fn counted(passes: &[Pass], fastest: f64) -> (Vec<&Pass>, bool) {
    let quiet: Vec<&Pass> = passes.iter().filter(|pass| pass.probe.is_quiet(fastest)).collect();
    if !quiet.is_empty() {
        return (quiet, true);
    }
    let quickest = passes.iter().min_by(|a, b| a.whole_seconds().total_cmp(&b.whole_seconds()));
    (quickest.into_iter().collect(), false)
}

/// Whether a trial is to run once more: for want of quiet passes, or because they differ.
fn needs_another(passes: &[Pass], fastest: f64) -> bool {
    let quiet: Vec<&Pass> = passes.iter().filter(|pass| pass.probe.is_quiet(fastest)).collect();
    quiet.len() < PASSES || (quiet.len() == PASSES && spread(&quiet).is_some_and(|spread| spread > STEADY_SPREAD))
}

/// How far the runs lie apart, as a part of their median; nothing of a single one.
fn spread(passes: &[&Pass]) -> Option<f64> {
    let mut seconds: Vec<f64> = passes.iter().map(|pass| pass.whole_seconds()).collect();
    let (middle, last) = (median(&mut seconds), seconds.len() - 1);
    (last > 0).then(|| (seconds[last] - seconds[0]) / middle)
}

/// A learning rate and a cotangent: neither makes a number large or zero.
const SMALL: f32 = -0.03;

/// Prices, and how they were come by.
pub(crate) struct Calibrated {
    pub(crate) prices: Prices,
    pub(crate) history: PriceHistory,
}

/// Measures all prices.
///
/// # Errors
/// Memory that cannot be had.
pub(crate) fn calibrate(options: &DeviceOptions, precision: Precision) -> Result<Calibrated, TrainError> {
    let tokens = if options.level == Level::Portable { TOKENS.map(|tokens| tokens / 8) } else { TOKENS };
    let trials = trials(tokens, precision);
    let plans = trials.iter().map(|trial| trial.plans(precision, &options.profile()));
    let plans = plans.collect::<Result<Vec<_>, _>>()?;
    let mut passes: Vec<Vec<Pass>> = trials.iter().map(|_| Vec::with_capacity(MOST_PASSES)).collect();
    let (start, mut fastest) = (Instant::now(), 0.0_f64);
    for _ in 0..MOST_PASSES {
        for ((trial, plans), passes) in trials.iter().zip(&plans).zip(&mut passes) {
            let is_late = !passes.is_empty() && start.elapsed().as_secs_f64() > MOST_SECONDS;
            if !is_late && needs_another(passes, fastest) {
                let run = trial.pass(plans, options)?;
                fastest = fastest.max(run.probe.rounds_per_second);
                passes.push(run);
            }
        }
    }
    let counted: Vec<(Vec<&Pass>, bool)> = passes.iter().map(|passes| counted(passes, fastest)).collect();
    let history = PriceHistory {
        measured_at: seconds_since_1970(),
        spread: counted.iter().filter_map(|(passes, _)| spread(passes)).reduce(f64::max),
        busy: counted.iter().any(|(_, quiet)| !quiet),
        rounds_per_second: fastest,
        corrections: Vec::new(),
    };
    let mut by_class = HashMap::new();
    for ((trial, plans), (passes, _)) in trials.iter().zip(&plans).zip(&counted) {
        add_steps(trial, plans, passes, &mut by_class);
    }
    Ok(Calibrated { prices: fitted(&by_class, options), history })
}

/// Adds what each step of a trial took to those of its class.
fn add_steps(trial: &Trial, plans: &Plans, passes: &[&Pass], by_class: &mut HashMap<OpClass, Vec<Measured>>) {
    let timed = if trial.times_the_micro_step() { &plans.plans[..] } else { &plans.plans[1..] };
    let of_plans = timed.iter().flat_map(|plan| plan.steps.iter().map(move |step| (plan, step)));
    for (index, (plan, step)) in of_plans.enumerate() {
        let Action::Compute(op) = step.action else { continue };
        let node = plan.graph.node(op);
        let (inputs, outputs) = plan.graph.node_types(node);
        let mut seconds: Vec<f64> = passes.iter().map(|pass| pass.seconds[index]).collect();
        let measured = Measured { cost: node.op.cost(&inputs, &outputs), seconds: lower_median(&mut seconds) };
        by_class.entry(OpClass::of(&plan.graph, node)).or_default().push(measured);
    }
}

/// Rates that explain the steps of each class best.
fn fitted(by_class: &HashMap<OpClass, Vec<Measured>>, options: &DeviceOptions) -> Prices {
    let nominal = Prices::nominal(options.threads);
    let fitted = |class: OpClass| by_class.get(&class).and_then(|steps| Rate::fitted(steps));
    let rate = |&class: &OpClass| {
        let alike = match class {
            // Decoders add an adapter's second product to a linear; in a model of one's own it may stand alone.
            OpClass::ThinIn => OpClass::ThinOut,
            // In f32 no trial casts anything.
            OpClass::Cast => OpClass::Stream,
            _ => class,
        };
        fitted(class).or_else(|| fitted(alike)).unwrap_or(nominal.rate(class))
    };
    let rates = OpClass::ALL.iter().map(rate).collect();
    Prices { rates, measured: true, spill: None, file_reads: None, links: None }
}

/// Of two the shorter one: what else a machine does makes a step longer and never shorter.
fn lower_median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[(seconds.len() - 1) / 2].max(1e-9)
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
            for trial in trials([32, 16, 8], precision) {
                let plans = trial.plans(precision, &DeviceOptions::cpu(1).profile()).expect("plans");
                for plan in plans.plans {
                    seen.extend(plan.graph.nodes.iter().map(|node| OpClass::of(&plan.graph, node)));
                }
            }
            let missing: Vec<&OpClass> = OpClass::ALL.iter().filter(|class| !seen.contains(class)).collect();
            match precision {
                Precision::F32 => assert_eq!(missing, [&OpClass::ThinIn, &OpClass::Cast], "others are like them"),
                Precision::Bf16 => assert_eq!(missing, [&OpClass::ThinIn], "its rate is that of its transpose"),
            }
        }
    }

    fn pass(seconds: f64, rounds_per_second: f64, share: f64) -> Pass {
        Pass { seconds: vec![seconds], probe: SpeedProbe { rounds_per_second, share } }
    }

    #[test]
    fn passes_on_a_busy_machine_count_only_if_there_are_no_others() {
        let of = |passes: &[Pass]| {
            let (counted, quiet) = counted(passes, 100.0);
            (counted.iter().map(|pass| pass.seconds[0]).collect::<Vec<_>>(), quiet)
        };
        let (slow, without_share) = (|| pass(3.0, 50.0, 1.0), || pass(2.0, 100.0, 0.6));
        assert_eq!(of(&[pass(1.0, 99.0, 1.0), slow(), pass(1.1, 98.0, 0.99), without_share()]), (vec![1.0, 1.1], true));
        assert_eq!(of(&[slow(), without_share()]), (vec![2.0], false), "the quickest");
    }

    #[test]
    fn a_trial_runs_again_for_want_of_quiet_passes_or_because_two_differ() {
        let (one, same, other) = (|| pass(1.0, 100.0, 1.0), || pass(1.04, 100.0, 1.0), || pass(1.2, 100.0, 1.0));
        let busy = || pass(1.0, 50.0, 1.0);
        let needed = |passes: &[Pass]| needs_another(passes, 100.0);
        assert!(needed(&[]) && needed(&[one()]) && needed(&[one(), busy()]) && needed(&[one(), other()]));
        assert!(!needed(&[one(), same()]) && !needed(&[one(), busy(), same()]) && !needed(&[one(), other(), same()]));
    }

    #[test]
    fn a_spread_is_the_range_over_the_median() {
        let passes = [pass(1.0, 1.0, 1.0), pass(1.2, 1.0, 1.0), pass(0.9, 1.0, 1.0)];
        assert!((spread(&passes.iter().collect::<Vec<_>>()).expect("three") - 0.3).abs() < 1e-12);
        assert_eq!(spread(&[&passes[0]]), None);
    }
}
