//! Predicted against measured seconds of LoRA steps on published shapes: how far prices can be trusted.
//!
//! `cargo xtask prices [--by-op] [MODEL:SEQ_LEN…]` (with `--release`) calibrates, predicts and measures in one run, under
//! three policies per cell, with random weights in bf16. Invariant: no number of a cell enters the prices; all plans of a
//! cell take turns in one executor, so that drift of the machine hits all alike, and the median round counts.

use remat_model::{BatchShape, LoraConfig, Method, Precision, preset, training};
use remat_plan::{Action, DeviceProfile, OpClass, Plan, Policy};
use remat_step::{DeviceOptions, MicroPlan, StepPlans, StepTrace, TrainingStep, fill_with_small_numbers};
use remat_train::calibrated_profile;
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

/// What is measured unless cells are named.
const CELLS: [&str; 6] =
    ["gpt2:256", "gpt2:1024", "gpt2-medium:256", "gpt2-medium:1024", "tinyllama-1.1b:256", "tinyllama-1.1b:1024"];

/// Counted rounds, after one that faults pages in.
const ROUNDS: usize = 3;

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
    let start = Instant::now();
    let profile = calibrated_profile(&options, remat_train::Precision::Bf16)?;
    println!("{}, {threads} threads: calibrated in {:.1} s", profile.name, start.elapsed().as_secs_f64());
    println!("{:<26}{:<12}{:>12}{:>12}{:>9}", "cell", "policy", "predicted", "measured", "error");
    let mut errors = Vec::new();
    for cell in cells {
        let parts = cell.split_once(':').and_then(|(model, tokens)| Some((model, tokens.parse().ok()?)));
        let (model, seq_len) = parts.ok_or_else(|| format!("{cell}: expected MODEL:SEQ_LEN, such as gpt2:256"))?;
        errors.extend(measure(cell, step(model, seq_len)?, options, &profile, by_class)?);
    }
    errors.sort_by(f64::total_cmp);
    let (median, most) = (errors[errors.len() / 2], errors[errors.len() - 1]);
    println!("{} cells: median absolute error {median:.1} %, largest {most:.1} %", errors.len());
    Ok(median <= MOST_MEDIAN && most <= MOST_ANY)
}

/// Forward and backward of LoRA on all linears.
fn step(model: &str, seq_len: usize) -> Result<TrainingStep, Box<dyn Error>> {
    let lora = LoraConfig { rank: 16, alpha: 32.0, ..LoraConfig::default() };
    let shape = BatchShape { batch: 1, seq_len };
    Ok(TrainingStep::new(training(&preset(model)?, Precision::Bf16, &Method::Lora(lora), shape)?, None)?)
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
    let micros = plans.iter().cloned().map(MicroPlan::longest).collect();
    let loaded = StepPlans { micros, update: None, evaluation: None, forwards: Vec::new() };
    let mut loaded = loaded.load(options.open(), &trained.loss, &trained.dloss)?;
    fill_with_small_numbers(loaded.device_mut(), &plans[0].graph)?;
    loaded.count_positions()?;
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); plans.len()];
    let mut steps: Vec<Vec<Vec<f64>>> = plans.iter().map(|plan| vec![Vec::new(); plan.steps.len()]).collect();
    for round in 0..=ROUNDS {
        for (index, plan) in plans.iter().enumerate() {
            let start = Instant::now();
            loaded.begin_trace(StepTrace::new(plan.steps.len(), plan.steps.len()));
            loaded.micro(index, 1.0, [0; 4])?;
            let seconds = start.elapsed().as_secs_f64();
            let trace = loaded.end_trace();
            for ran in trace.iter().flat_map(StepTrace::ran) {
                steps[index][ran.step.index()].push(ran.seconds);
            }
            if round > 0 {
                rounds[index].push(seconds);
            }
        }
    }
    let mut errors = Vec::new();
    for (index, plan) in plans.iter().enumerate() {
        rounds[index].sort_by(f64::total_cmp);
        let (measured, predicted) = (rounds[index][ROUNDS / 2], plan.step_seconds(&profile.prices));
        let error = 100.0 * (predicted / measured - 1.0);
        let name = ["none", "half of none", "full"][index];
        println!("{cell:<26}{name:<12}{predicted:>10.4} s{measured:>10.4} s{error:>+8.1}%");
        errors.push(error.abs());
        if by_class && index == 0 {
            classes(plan, &mut steps[index], profile);
        }
    }
    Ok(errors)
}

/// Where the error comes from.
fn classes(plan: &Plan, seconds: &mut [Vec<f64>], profile: &DeviceProfile) {
    // The first round faults pages in.
    let median = |rounds: &mut Vec<f64>| {
        rounds[1..].sort_by(f64::total_cmp);
        rounds[1 + ROUNDS / 2]
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
