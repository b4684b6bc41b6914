//! Predicted against measured seconds of steps on published shapes: how far prices can be trusted.
//!
//! `cargo xtask prices [--by-op] [MODEL:TOKENS[:METHOD[:PRECISION]]…]` (with `--release`) calibrates, predicts and measures
//! in one run, under three policies per cell, with random weights. METHOD is `lora`, `nf4`, `int8`, `full` or `adamw8bit`;
//! the last two make an update, too. Invariant: no number of a cell enters the prices; all plans of a cell take turns in
//! one executor, so that drift of the machine hits all alike, and the median round counts.

use remat_model::{BatchShape, LoraConfig, Method, Precision, Quant, preset, training};
use remat_plan::{Action, DeviceProfile, OpClass, Plan, Policy};
use remat_step::{
    AdamWSettings, DeviceOptions, MicroPlan, MomentFormat, Optimizer, StepPlans, StepTrace, TrainingStep, UpdateRule,
    fill_with_small_numbers,
};
use remat_train::calibrated_profile;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::error::Error;
use std::time::Instant;

/// What is measured unless cells are named: models that no price is fitted to, from few tokens to many, every method.
const CELLS: [&str; 14] = [
    "gpt2:16",
    "gpt2:256",
    "gpt2:1024:lora:f32",
    "gpt2:64:full",
    "gpt2:256:adamw8bit:f32",
    "llama-160m:16:lora:f32",
    "llama-160m:64:nf4",
    "llama-160m:512:full",
    "llama-160m:2048",
    "qwen2.5-0.5b:16",
    "qwen2.5-0.5b:16:nf4",
    "qwen2.5-0.5b:64:int8",
    "qwen2.5-0.5b:256:int8:f32",
    "qwen2.5-0.5b:2048:nf4",
];

/// Counted rounds, after one that faults pages in.
const ROUNDS: usize = 3;

/// A cotangent and a learning rate: neither makes a number large or zero.
const SMALL: f32 = -0.03;

/// Bounds of the absolute error, in percent.
const MOST_MEDIAN: f64 = 10.0;
const MOST_ANY: f64 = 20.0;

/// Runs the chore and prints its table; false if the errors exceed the bounds.
///
/// # Errors
/// A cell that is no `MODEL:SEQ_LEN`, a model that cannot be built, memory that cannot be had.
pub fn run(arguments: &[String]) -> Result<bool, Box<dyn Error>> {
    let by_class = arguments.iter().any(|argument| argument == "--by-op");
    let mut cells: Vec<&str> = arguments.iter().map(String::as_str).filter(|cell| !cell.starts_with("--")).collect();
    if cells.is_empty() {
        cells = CELLS.to_vec();
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = DeviceOptions::cpu(threads);
    println!("{}, {threads} threads", options.profile().name);
    println!("{:<30}{:<14}{:>12}{:>12}{:>9}", "cell", "policy", "predicted", "measured", "error");
    let (mut errors, mut profiles) = (Vec::new(), BTreeMap::new());
    for cell in cells {
        let Cell { step, precision } = parse(cell)?;
        let profile = match profiles.entry(matches!(precision, Precision::F32)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(calibrated_profile(&options, precision.into())?),
        };
        errors.extend(measure(cell, step, options, profile, by_class)?);
    }
    errors.sort_by(f64::total_cmp);
    let (median, most) = (errors[errors.len() / 2], errors[errors.len() - 1]);
    println!("{} cells: median absolute error {median:.1} %, largest {most:.1} %", errors.len());
    Ok(median <= MOST_MEDIAN && most <= MOST_ANY)
}

/// What a cell asks for.
struct Cell {
    step: TrainingStep,
    precision: Precision,
}

/// Forward and backward, adapters on all linears; with the update where the model itself is trained.
fn parse(cell: &str) -> Result<Cell, Box<dyn Error>> {
    let expected = || format!("{cell}: expected MODEL:TOKENS[:METHOD[:PRECISION]], such as gpt2:256:nf4:f32");
    let mut parts = cell.split(':');
    let (model, tokens) = (parts.next().unwrap_or_default(), parts.next().and_then(|tokens| tokens.parse().ok()));
    let seq_len = tokens.ok_or_else(expected)?;
    let lora = LoraConfig { rank: 16, alpha: 32.0, ..LoraConfig::default() };
    let (method, moments) = match parts.next().unwrap_or("lora") {
        "lora" => (Method::Lora(lora), None),
        "nf4" => (Method::Qlora(lora, Quant::Nf4), None),
        "int8" => (Method::Qlora(lora, Quant::Int8), None),
        "full" => (Method::Full, Some(MomentFormat::F32)),
        "adamw8bit" => (Method::Full, Some(MomentFormat::Blocks8)),
        _ => return Err(expected().into()),
    };
    let precision = match (parts.next().unwrap_or("bf16"), parts.next()) {
        ("bf16", None) => Precision::Bf16,
        ("f32", None) => Precision::F32,
        _ => return Err(expected().into()),
    };
    let training = training(&preset(model)?, precision, &method, BatchShape { batch: 1, seq_len })?;
    let settings = moments.map(|moments| AdamWSettings { moments, ..AdamWSettings::default() });
    let rule = settings.map(|settings| UpdateRule::of(Optimizer::AdamW(settings)));
    Ok(Cell { step: TrainingStep::new(training, rule.as_ref())?, precision })
}

/// Absolute errors in percent, one per policy.
fn measure(
    cell: &str,
    step: TrainingStep,
    options: DeviceOptions,
    profile: &DeviceProfile,
    by_class: bool,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let (problem, trained) = step.problem(profile)?;
    let none = problem.plan(&Policy::None, None)?;
    let half = Policy::Budget(none.activation_bytes() / 2);
    let plans = [none, problem.plan(&half, None)?, problem.plan(&Policy::Full, None)?];
    let update = trained.plan_update(profile).ok();
    let micros = plans.iter().cloned().map(MicroPlan::longest).collect();
    let loaded = StepPlans { micros, update: update.clone(), ..StepPlans::none() };
    let mut loaded = loaded.load(options.open(), &trained.loss, &trained.dloss)?;
    for plan in plans.iter().take(1).chain(&update) {
        fill_with_small_numbers(loaded.device_mut(), &plan.graph)?;
    }
    loaded.count_positions()?;
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); plans.len()];
    let mut steps: Vec<Vec<Vec<f64>>> =
        plans.iter().chain(&update).map(|plan| vec![Vec::new(); plan.steps.len()]).collect();
    for round in 0..=ROUNDS {
        for (index, plan) in plans.iter().enumerate() {
            let start = Instant::now();
            loaded.begin_trace(StepTrace::new(plan.steps.len(), plan.steps.len()));
            loaded.micro(index, SMALL, [0; 4])?;
            let trace = loaded.end_trace();
            let mut of_update = None;
            if let Some(update) = &update {
                loaded.begin_trace(StepTrace::new(update.steps.len(), update.steps.len()));
                loaded.update(SMALL, 1)?;
                of_update = loaded.end_trace();
            }
            if round > 0 {
                rounds[index].push(start.elapsed().as_secs_f64());
            }
            for (trace, index) in [(trace, index), (of_update, plans.len())] {
                for ran in trace.iter().flat_map(StepTrace::ran) {
                    steps[index][ran.step.index()].push(ran.seconds);
                }
            }
        }
    }
    let of_update = update.as_ref().map_or(0.0, |update| update.step_seconds(&profile.prices));
    let mut errors = Vec::new();
    for (index, plan) in plans.iter().enumerate() {
        rounds[index].sort_by(f64::total_cmp);
        let (measured, predicted) = (rounds[index][ROUNDS / 2], plan.step_seconds(&profile.prices) + of_update);
        let error = 100.0 * (predicted / measured - 1.0);
        let name = ["none", "half of none", "full"][index];
        println!("{cell:<30}{name:<14}{predicted:>10.4} s{measured:>10.4} s{error:>+8.1}%");
        errors.push(error.abs());
        if by_class && index == 0 {
            classes(plan, &mut steps[index], profile);
        }
    }
    if let (true, Some(update)) = (by_class, &update) {
        println!("{cell:<30}update");
        classes(update, &mut steps[plans.len()], profile);
    }
    Ok(errors)
}

/// Where the error comes from.
fn classes(plan: &Plan, seconds: &mut [Vec<f64>], profile: &DeviceProfile) {
    // The first round faults pages in.
    let median = |rounds: &mut Vec<f64>| {
        rounds[1..].sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    };
    let medians: Vec<f64> = seconds.iter_mut().map(median).collect();
    let mut rows: BTreeMap<(OpClass, &str), (f64, f64, usize)> = BTreeMap::new();
    for (step, seconds) in plan.steps.iter().zip(&medians) {
        let Action::Compute(op) = step.action else { continue };
        let node = plan.graph.node(op);
        let row = rows.entry((OpClass::of(&plan.graph, node), node.op.name())).or_default();
        *row = (row.0 + seconds, row.1 + profile.prices.seconds(&plan.graph, node), row.2 + 1);
    }
    for ((class, op), (measured, predicted, steps)) in rows {
        let error = 100.0 * (predicted / measured - 1.0);
        let class = class.name();
        println!("  {class:<28}{op:<34}{steps:>5} steps {predicted:>12.5} s {measured:>9.5} s{error:>+8.1}%");
    }
}
