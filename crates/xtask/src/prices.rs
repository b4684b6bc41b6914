//! Predicted against measured seconds of steps on published shapes: how far prices can be trusted.
//!
//! `cargo xtask prices [--by-op | --by-shape] [MODEL:TOKENS[:METHOD[:PRECISION]]…]` (with `--release`) calibrates, predicts and measures
//! in one run, under three policies per cell, with random weights. METHOD is `lora`, `nf4`, `int8`, `full` or `adamw8bit`;
//! the last two make an update, too. Invariant: no number of a cell enters the prices; all plans of a cell take turns in
//! one executor, so that drift of the machine hits all alike; of rounds in which nothing else ran the median counts.

use remat_ir::ValueId;
use remat_model::{BatchShape, LoraConfig, Method, Precision, Quant, preset, training};
use remat_plan::{Action, DeviceProfile, OpClass, Plan, Policy};
use remat_step::device::{SpeedProbe, speed_probe};
use remat_step::{
    AdamWSettings, DeviceOptions, LoadedStep, MicroPlan, MomentFormat, Optimizer, StepPlans, StepTrace, TrainingStep,
    UpdateRule, fill_with_small_numbers,
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

/// Counted rounds, after one that faults pages in, and seconds of them together: a step of 50 ms is told by more rounds.
const ROUNDS: usize = 3;
const SECONDS: f64 = 1.5;

/// Rounds at most, where some of them find the machine busy or are short, and seconds of them.
const MOST_ROUNDS: usize = 30;
const MOST_SECONDS: f64 = 60.0;

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
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let detail = match (has("--by-op"), has("--by-shape")) {
        (_, true) => Detail::Shape,
        (true, false) => Detail::Op,
        (false, false) => Detail::Step,
    };
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
        errors.extend(measure(cell, step, options, profile, detail)?);
    }
    errors.sort_by(f64::total_cmp);
    let (median, most) = (errors[errors.len() / 2], errors[errors.len() - 1]);
    println!("{} cells: median absolute error {median:.1} %, largest {most:.1} %", errors.len());
    Ok(median <= MOST_MEDIAN && most <= MOST_ANY)
}

/// How far errors are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Step,
    Op,
    Shape,
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
    detail: Detail,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let (problem, trained) = step.problem(profile)?;
    let none = problem.plan(&Policy::None, None)?;
    let half = Policy::Budget(none.activation_bytes() / 2);
    let plans = [none, problem.plan(&half, None)?, problem.plan(&Policy::Full, None)?];
    let update = trained.plan_update(profile).ok();
    let micros = plans.iter().cloned().map(MicroPlan::longest).collect();
    let loaded = StepPlans { micros, update: update.clone(), ..StepPlans::none() };
    let mut loaded = loaded.load(options.open()?, &trained.loss, &trained.dloss)?;
    for plan in plans.iter().take(1).chain(&update) {
        fill_with_small_numbers(loaded.device_mut(), &plan.graph)?;
    }
    loaded.count_positions()?;
    let rounds = rounds(&mut loaded, &plans, update.as_ref(), options.threads)?;
    let of_update = update.as_ref().map_or(0.0, |update| update.step_seconds(&profile.prices));
    let mut errors = Vec::new();
    for (index, plan) in plans.iter().enumerate() {
        let (counted, quiet) = counted(&rounds[index]);
        let measured = median(counted.iter().map(|round| round.seconds).collect());
        let predicted = plan.step_seconds(&profile.prices) + of_update;
        let error = 100.0 * (predicted / measured - 1.0);
        let name = ["none", "half of none", "full"][index];
        let busy = if quiet { "" } else { "  (the machine was busy)" };
        println!("{cell:<30}{name:<14}{predicted:>10.4} s{measured:>10.4} s{error:>+8.1}%{busy}");
        errors.push(error.abs());
        classes(plan, &step_medians(&counted, |round| &round.micro), profile, detail);
        if let (2, Some(update)) = (index, &update) {
            println!("{cell:<30}update");
            classes(update, &step_medians(&counted, |round| &round.update), profile, detail);
        }
    }
    Ok(errors)
}

/// One micro-step of a plan with its update.
struct Round {
    seconds: f64,
    /// Of each step.
    micro: Vec<f64>,
    update: Vec<f64>,
    /// The machine's speed at the time, the worse of before and after.
    probe: SpeedProbe,
}

/// The rounds of each plan, in turns, until there are enough on a quiet machine. The first is left out: it faults pages in.
fn rounds(
    loaded: &mut LoadedStep,
    plans: &[Plan],
    update: Option<&Plan>,
    threads: usize,
) -> Result<Vec<Vec<Round>>, Box<dyn Error>> {
    let mut rounds: Vec<Vec<Round>> = plans.iter().map(|_| Vec::new()).collect();
    for number in 0..=MOST_ROUNDS {
        for (index, plan) in plans.iter().enumerate() {
            if number > ROUNDS && has_enough(&rounds[index]) {
                continue;
            }
            let round = round(loaded, (index, plan), update, threads)?;
            if number > 0 {
                rounds[index].push(round);
            }
        }
    }
    Ok(rounds)
}

fn round(
    loaded: &mut LoadedStep,
    (index, plan): (usize, &Plan),
    update: Option<&Plan>,
    threads: usize,
) -> Result<Round, Box<dyn Error>> {
    let probe = || speed_probe(threads).ok_or("no threads can be started");
    let before = probe()?;
    let start = Instant::now();
    let micro = traced(loaded, plan, |loaded| loaded.micro(index, SMALL, [0; 4]))?;
    let update = match update {
        Some(update) => traced(loaded, update, |loaded| loaded.update(SMALL, 1))?,
        None => Vec::new(),
    };
    let seconds = start.elapsed().as_secs_f64();
    Ok(Round { seconds, micro, update, probe: before.worse(probe()?) })
}

/// Seconds of each step of what runs.
fn traced<T, E: Into<Box<dyn Error>>>(
    loaded: &mut LoadedStep,
    plan: &Plan,
    run: impl FnOnce(&mut LoadedStep) -> Result<T, E>,
) -> Result<Vec<f64>, Box<dyn Error>> {
    loaded.begin_trace(StepTrace::new(plan.steps.len(), plan.steps.len()));
    run(loaded).map_err(Into::into)?;
    let mut seconds = vec![0.0; plan.steps.len()];
    for ran in loaded.end_trace().iter().flat_map(StepTrace::ran) {
        seconds[ran.step.index()] = ran.seconds;
    }
    Ok(seconds)
}

/// The rounds of a quiet machine, and that they are; without any, the quickest, which stands for what it can.
fn counted(rounds: &[Round]) -> (Vec<&Round>, bool) {
    let fastest = rounds.iter().map(|round| round.probe.rounds_per_second).fold(0.0, f64::max);
    let quiet: Vec<&Round> = rounds.iter().filter(|round| round.probe.is_quiet(fastest)).collect();
    if quiet.is_empty() {
        return (rounds.iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds)).into_iter().collect(), false);
    }
    (quiet, true)
}

/// Whether there are enough rounds of a quiet machine.
fn has_enough(rounds: &[Round]) -> bool {
    let (counted, quiet) = counted(rounds);
    let seconds: f64 = counted.iter().map(|round| round.seconds).sum();
    // A long step that keeps finding the machine busy is given up sooner.
    quiet && counted.len() >= ROUNDS && seconds >= SECONDS || seconds_of_all(rounds) >= MOST_SECONDS
}

fn seconds_of_all(rounds: &[Round]) -> f64 {
    rounds.iter().map(|round| round.seconds).sum()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Of each step over the rounds.
fn step_medians(rounds: &[&Round], of: impl Fn(&Round) -> &Vec<f64>) -> Vec<f64> {
    let steps = 0..rounds.first().map_or(0, |round| of(round).len());
    steps.map(|step| median(rounds.iter().map(|round| of(round)[step]).collect())).collect()
}

/// Where the error comes from: by class of op, and by the shapes of its operands where that is asked for.
fn classes(plan: &Plan, seconds: &[f64], profile: &DeviceProfile, detail: Detail) {
    if detail == Detail::Step {
        return;
    }
    let mut rows: BTreeMap<(OpClass, &str, String), (f64, f64, usize)> = BTreeMap::new();
    for (step, seconds) in plan.steps.iter().zip(seconds) {
        let Action::Compute(op) = step.action else { continue };
        let node = plan.graph.node(op);
        let shape = |&value: &ValueId| plan.graph.ty(value).to_string();
        let shapes = match detail {
            Detail::Shape => node.inputs.iter().map(shape).collect::<Vec<_>>().join(" "),
            _ => String::new(),
        };
        let row = rows.entry((OpClass::of(&plan.graph, node), node.op.name(), shapes)).or_default();
        *row = (row.0 + seconds, row.1 + profile.prices.seconds(&plan.graph, node), row.2 + 1);
    }
    for ((class, op, shapes), (measured, predicted, steps)) in rows {
        let error = 100.0 * (predicted / measured - 1.0);
        let class = class.name();
        println!("  {class:<28}{op:<34}{steps:>5} steps {predicted:>12.5} s {measured:>9.5} s{error:>+8.1}%  {shapes}");
    }
}
