//! Predicted against measured seconds of LoRA steps on published shapes: how far prices can be trusted.
//!
//! `cargo xtask prices [--by-op] [MODEL:SEQ_LEN…]` (with `--release`) calibrates, predicts and measures in one run, under
//! three policies per cell, with random weights in bf16. Invariant: no number of a cell enters the prices; all plans of a
//! cell take turns in one executor, so that drift of the machine hits all alike, and the median round counts.

use remat_compiler::{Target, compile, differentiate};
use remat_cpu::{CpuExecutor, CpuOptions};
use remat_ir::{Graph, Storage};
use remat_model::{BatchShape, LoraConfig, Method, Precision, Targets, preset, training};
use remat_plan::{Action, DeviceProfile, Executor, OpClass, Plan, Policy, ProgramId, RunObserver, Step, StepId};
use remat_tensor::{DType, Philox, stream_of_name};
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

/// Seconds of every step, round by round.
struct Clock {
    last: Instant,
    seconds: Vec<Vec<f64>>,
}

impl RunObserver for Clock {
    fn after_step(&mut self, _plan: &Plan, id: StepId, _step: &Step, _arena: &[u8]) {
        self.seconds[id.index()].push(self.last.elapsed().as_secs_f64());
        self.last = Instant::now();
    }
}

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
    let options = CpuOptions::new(threads);
    let start = Instant::now();
    let profile = calibrated_profile(&options, remat_train::Precision::Bf16)?;
    println!("{}, {threads} threads: calibrated in {:.1} s", profile.name, start.elapsed().as_secs_f64());
    println!("{:<26}{:<12}{:>12}{:>12}{:>9}", "cell", "policy", "predicted", "measured", "error");
    let mut errors = Vec::new();
    for cell in cells {
        let parts = cell.split_once(':').and_then(|(model, tokens)| Some((model, tokens.parse().ok()?)));
        let (model, seq_len) = parts.ok_or_else(|| format!("{cell}: expected MODEL:SEQ_LEN, such as gpt2:256"))?;
        errors.extend(measure(cell, &graph(model, seq_len)?, options, &profile, by_class)?);
    }
    errors.sort_by(f64::total_cmp);
    let (median, most) = (errors[errors.len() / 2], errors[errors.len() - 1]);
    println!("{} cells: median absolute error {median:.1} %, largest {most:.1} %", errors.len());
    Ok(median <= MOST_MEDIAN && most <= MOST_ANY)
}

/// Forward and backward of LoRA on all linears.
fn graph(model: &str, seq_len: usize) -> Result<Graph, Box<dyn Error>> {
    let lora = LoraConfig { rank: 16, alpha: 32.0, dropout: 0.0, rank_stabilised: false, targets: Targets::AllLinear };
    let shape = BatchShape { batch: 1, seq_len };
    let training = training(&preset(model)?, Precision::Bf16, &Method::Lora(lora), shape)?;
    let target = |p: &remat_model::Parameter| Target { value: p.value, accumulate_into: Some(p.gradient) };
    let targets: Vec<Target> = training.parameters.iter().map(target).collect();
    Ok(differentiate(training.graph, training.loss, training.seed, &targets)?.graph)
}

/// Absolute errors in percent, one per policy.
fn measure(
    cell: &str,
    graph: &Graph,
    options: CpuOptions,
    profile: &DeviceProfile,
    by_class: bool,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let none = compile(graph.clone(), &Policy::None, profile)?;
    let half = Policy::Budget(none.activation_bytes() / 2);
    let plans = vec![none, compile(graph.clone(), &half, profile)?, compile(graph.clone(), &Policy::Full, profile)?];
    let mut executor = CpuExecutor::new(options);
    let programs = executor.load(plans.clone())?;
    fill(&mut executor, graph)?;
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); plans.len()];
    let mut clocks: Vec<Clock> =
        plans.iter().map(|plan| Clock { last: Instant::now(), seconds: vec![Vec::new(); plan.steps.len()] }).collect();
    for round in 0..=ROUNDS {
        for (index, &program) in programs.iter().enumerate() {
            let seconds = timed(&mut executor, program, &mut clocks[index])?;
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
            classes(plan, &mut clocks[index].seconds, profile);
        }
    }
    Ok(errors)
}

fn timed(executor: &mut CpuExecutor, program: ProgramId, clock: &mut Clock) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    clock.last = start;
    executor.run_observed(program, clock)?;
    Ok(start.elapsed().as_secs_f64())
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

/// Small random numbers in every float, positions counted up, token ids 0.
fn fill(executor: &mut CpuExecutor, graph: &Graph) -> Result<(), Box<dyn Error>> {
    for value in graph.values.iter().filter(|value| value.producer.is_none()) {
        let view = match value.storage {
            Storage::Weight => executor.weight_mut(&value.name),
            Storage::State => executor.state_mut(&value.name),
            Storage::Input | Storage::Arena => executor.input_mut(&value.name),
        }?;
        let philox = Philox::new(1, stream_of_name(&value.name));
        let scale = if value.ty.shape.len() == 1 { 1.0 } else { 0.02 };
        let number = |index: usize| scale * (philox.word(index as u64 % 4096) as f32 / u32::MAX as f32 - 0.5);
        match value.ty.dtype {
            DType::F32 => {
                let elements = view.bytes.chunks_exact_mut(4).enumerate();
                elements.for_each(|(index, element)| element.copy_from_slice(&number(index).to_le_bytes()));
            }
            DType::BF16 => {
                // The upper half of an f32 is the bf16 below it.
                let elements = view.bytes.chunks_exact_mut(2).enumerate();
                elements.for_each(|(index, element)| element.copy_from_slice(&number(index).to_le_bytes()[2..]));
            }
            _ if value.name == "positions" => {
                let tokens = value.ty.shape.last();
                let elements = view.bytes.chunks_exact_mut(4).enumerate();
                elements.for_each(|(i, element)| element.copy_from_slice(&((i % tokens) as i32).to_le_bytes()));
            }
            _ => view.bytes.fill(0),
        }
    }
    Ok(())
}
