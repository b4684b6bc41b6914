//! Predicted against measured seconds, per class of op and for whole steps: how far the prices can be trusted here.
//!
//! `cargo run --release -p remat-testkit --example prices -- LAYERS SEQ_LEN THREADS` runs LoRA steps of a model as wide as
//! TinyLlama on random numbers. Prices come from `calibrated_profile`; no number of the run enters them.

use remat_compiler::{Target, compile, differentiate, frontier};
use remat_cpu::{CpuExecutor, CpuOptions};
use remat_formats::ModelConfig;
use remat_ir::{Graph, Storage};
use remat_model::{BatchShape, LoraConfig, Method, Precision, Targets, training};
use remat_plan::{Action, DeviceProfile, Executor, OpClass, Plan, Policy, Prices, RunObserver, Step, StepId};
use remat_tensor::{DType, Philox, stream_of_name};
use std::path::Path;
use std::time::Instant;

/// Seconds of every step: the fastest of some runs.
struct Clock {
    last: Instant,
    fastest: Vec<f64>,
}

impl RunObserver for Clock {
    fn after_step(&mut self, _plan: &Plan, id: StepId, _step: &Step, _arena: &[u8]) {
        let seconds = self.last.elapsed().as_secs_f64();
        self.fastest[id.index()] = self.fastest[id.index()].min(seconds);
        self.last = Instant::now();
    }
}

fn graph(layers: usize, seq_len: usize) -> Graph {
    let config = format!(
        r#"{{"model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": {layers},
        "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000}}"#
    );
    let config = ModelConfig::parse(Path::new("config.json"), &config).expect("a configuration");
    let lora = LoraConfig { rank: 16, alpha: 32.0, dropout: 0.0, rank_stabilised: false, targets: Targets::AllLinear };
    let training =
        training(&config, Precision::F32, &Method::Lora(lora), BatchShape { batch: 1, seq_len }).expect("a graph");
    let target = |p: &remat_model::Parameter| Target { value: p.value, accumulate_into: Some(p.gradient) };
    let targets: Vec<Target> = training.parameters.iter().map(target).collect();
    differentiate(training.graph, training.loss, training.seed, &targets).expect("differentiable").graph
}

/// Small random numbers in every float, positions counted up, token ids 0.
fn fill(executor: &mut CpuExecutor, graph: &Graph) {
    for value in graph.values.iter().filter(|value| value.producer.is_none()) {
        let view = match value.storage {
            Storage::Weight => executor.weight_mut(&value.name),
            Storage::State => executor.state_mut(&value.name),
            Storage::Input | Storage::Arena => executor.input_mut(&value.name),
        };
        let bytes = view.expect("the plan has it").bytes;
        match value.ty.dtype {
            DType::F32 => {
                let philox = Philox::new(1, stream_of_name(&value.name));
                let scale = if value.ty.shape.len() == 1 { 1.0 } else { 0.02 };
                for (index, element) in bytes.chunks_exact_mut(4).enumerate() {
                    let x = scale * (f64::from(philox.word(index as u64 % 4096)) / f64::from(u32::MAX) - 0.5);
                    element.copy_from_slice(&(x as f32).to_le_bytes());
                }
            }
            _ if value.name == "positions" => {
                let tokens = value.ty.shape.last();
                for (index, element) in bytes.chunks_exact_mut(4).enumerate() {
                    element.copy_from_slice(&((index % tokens) as i32).to_le_bytes());
                }
            }
            _ => bytes.fill(0),
        }
    }
}

fn measure(graph: &Graph, policy: &Policy, options: CpuOptions, prices: &Prices, by_class: bool) {
    let plan = compile(graph.clone(), policy, &options.profile()).expect("compiles");
    let mut executor = CpuExecutor::new(options);
    let program = executor.load(vec![plan.clone()]).expect("loads")[0];
    fill(&mut executor, graph);
    executor.run(program).expect("runs");
    let mut clock = Clock { last: Instant::now(), fastest: vec![f64::INFINITY; plan.steps.len()] };
    let mut whole = f64::INFINITY;
    for _ in 0..4 {
        let start = Instant::now();
        clock.last = start;
        executor.run_observed(program, &mut clock).expect("runs");
        whole = whole.min(start.elapsed().as_secs_f64());
    }
    let predicted = plan.step_seconds(prices);
    let error = 100.0 * (predicted / whole - 1.0);
    println!("{policy}: measured {whole:.4} s, predicted {predicted:.4} s ({error:+.1} %)");
    if !by_class {
        return;
    }
    for &class in OpClass::ALL {
        let (mut measured, mut predicted, mut steps) = (0.0, 0.0, 0);
        for (step, seconds) in plan.steps.iter().zip(&clock.fastest) {
            let Action::Compute(op) = step.action else { continue };
            let node = plan.graph.node(op);
            if OpClass::of(&plan.graph, node) == class {
                measured += seconds;
                predicted += prices.seconds(&plan.graph, node);
                steps += 1;
            }
        }
        if steps > 0 {
            let error = 100.0 * (predicted / measured - 1.0);
            println!("  {:22} {steps:5} steps {measured:9.5} s {predicted:9.5} s {error:+6.1} %", class.name());
        }
    }
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [layers, seq_len, threads] = numbers[..] else {
        eprintln!("usage: prices LAYERS SEQ_LEN THREADS");
        std::process::exit(2);
    };
    let options = CpuOptions::new(threads);
    let start = Instant::now();
    let prices = options.calibrated_profile(DType::F32).expect("memory for small operands").prices;
    println!("calibrated in {:.2} s", start.elapsed().as_secs_f64());
    let graph = graph(layers, seq_len);
    let profile = DeviceProfile { prices: prices.clone(), ..options.profile() };
    let points = frontier(graph.clone(), &profile, 16).expect("a frontier");
    let most = points[points.len() - 1].clone();
    for point in points {
        let kept = 100.0 * point.activation_bytes as f64 / most.activation_bytes as f64;
        let extra = 100.0 * point.recompute_seconds / most.step_seconds;
        println!(
            "kept {kept:5.1} % of none, arena {:7.1} MiB: {extra:5.2} % extra",
            point.arena_bytes as f64 / 1048576.0
        );
    }
    for (index, policy) in [Policy::None, Policy::Full, Policy::Every(2)].iter().enumerate() {
        measure(&graph, policy, options, &prices, index == 0);
    }
}
