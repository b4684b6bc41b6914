//! Side by side with PyTorch + transformers + peft: the same step, in turns, in one run.
//!
//! `cargo xtask peers --python PATH [--model M] [--method lora|qlora] [--precision bf16|f32] [--steps N] [--ours POLICY,…]`
//! (with `--release`) drives `bench/peers/peer.py` over its standard input: our step, theirs, ours again, never two at
//! once, the machine's peak between them. `cargo xtask peers products --python PATH` does the same with single matrix
//! products. Medians count. Invariant: same shapes, random weights on both sides, no dropout, rank 16 on all linears.

use crate::peer::Peer;
use remat_formats::ModelConfig;
use remat_ir::ops::{Layout, Linear};
use remat_ir::{Builder, OpDef, Type};
use remat_model::{BatchShape, LoraConfig, Method, Model, Precision, Quant, preset_json};
use remat_plan::{Action, OpClass, Plan, Policy};
use remat_step::device::multiplier_peak;
use remat_step::{DeviceOptions, LoadedForward, fill_with_small_numbers};
use remat_tensor::DType;
use remat_train::{Limits, ProfileJob, SideBySide, cached_profile};
use serde_json::{Value, json};
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

/// Length of the sequence, and rank of the adapters.
const TOKENS: usize = 512;
const RANK: usize = 16;
/// Rounds that are not counted: pages are faulted in, allocators grow.
const WARM_UP: usize = 2;

/// After each turn: the other side's threads spin for a while before they sleep, and would take a core from us.
const AT_REST: Duration = Duration::from_millis(300);

/// m, n, k, and whether W is read transposed, as forward does: heads forward and for dX, a feed-forward product, adapters.
const PRODUCTS: [([usize; 3], bool); 8] = [
    ([512, 5632, 2048], true),
    ([512, 2048, 5632], false),
    ([512, 50257, 768], true),
    ([512, 768, 50257], false),
    ([512, 151936, 896], true),
    ([512, 896, 151936], false),
    ([512, 16, 2048], true),
    ([512, 2048, 16], true),
];

/// What the command line asks for.
struct Settings {
    python: String,
    model: String,
    method: String,
    precision: Precision,
    steps: usize,
    policies: Vec<(String, Policy)>,
}

impl Settings {
    fn of(arguments: &[String]) -> Result<Self, Box<dyn Error>> {
        let given = |name: &str, default: &str| -> Result<String, Box<dyn Error>> {
            let Some(at) = arguments.iter().position(|argument| argument == name) else {
                return Ok(default.to_string());
            };
            Ok(arguments.get(at + 1).ok_or_else(|| format!("{name}: a value is missing"))?.clone())
        };
        let precision = match given("--precision", "bf16")?.as_str() {
            "bf16" => Precision::Bf16,
            "f32" => Precision::F32,
            other => return Err(format!("--precision {other}: give bf16 or f32").into()),
        };
        let policy = |text: &str| Ok((text.to_string(), text.parse::<Policy>()?));
        Ok(Settings {
            python: given("--python", "python3")?,
            model: given("--model", "gpt2-medium")?,
            method: given("--method", "lora")?,
            precision,
            steps: given("--steps", "10")?.parse().map_err(|_| "--steps: give a number")?,
            policies: given("--ours", "none,full")?.split(',').map(policy).collect::<Result<_, Box<dyn Error>>>()?,
        })
    }

    fn train_precision(&self) -> remat_train::Precision {
        if self.precision == Precision::Bf16 { remat_train::Precision::Bf16 } else { remat_train::Precision::F32 }
    }

    fn bits(&self) -> &'static str {
        if self.precision == Precision::Bf16 { "bf16" } else { "f32" }
    }

    /// The preset's configuration, without dropout of its own.
    fn config(&self) -> Result<Value, Box<dyn Error>> {
        let mut config: Value = serde_json::from_str(preset_json(&self.model)?)?;
        if config["model_type"] == "gpt2" {
            for rate in ["embd_pdrop", "resid_pdrop", "attn_pdrop"] {
                config[rate] = json!(0.0);
            }
        }
        Ok(config)
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs the chore and prints its table.
///
/// # Errors
/// Bad settings; a Python without the packages of `bench/peers/requirements.txt`; memory that cannot be had.
pub fn run(root: &Path, arguments: &[String]) -> Result<bool, Box<dyn Error>> {
    let settings = Settings::of(arguments)?;
    let mut peer = Peer::start(&settings.python, &root.join("bench/peers/peer.py"))?;
    if arguments.first().is_some_and(|argument| argument == "products") {
        products(&mut peer)?;
    } else {
        steps(&settings, &mut peer)?;
    }
    Ok(true)
}

/// One row of the table: a name, its seconds, and bytes that live from forward to backward.
struct Row {
    name: String,
    seconds: Vec<f64>,
    saved: (u64, u64),
}

fn steps(settings: &Settings, peer: &mut Peer) -> Result<(), Box<dyn Error>> {
    let config = settings.config()?;
    let loaded = peer.ask(json!({
        "do": "load", "config": config, "method": settings.method, "precision": settings.bits(), "tokens": TOKENS,
        "rank": RANK, "threads": threads(),
    }))?;
    println!("{} {} {}, {TOKENS} tokens, rank {RANK} on all linears", settings.model, settings.method, settings.bits());
    println!("theirs: {}, attention {}, {}", loaded["versions"], loaded["attention"], loaded["allocator"]);
    let parsed = ModelConfig::parse(Path::new(&settings.model), &config.to_string())?;
    let model = Model::random(&settings.model, parsed).in_precision(settings.precision);
    let lora = LoraConfig { rank: RANK, alpha: 32.0, ..LoraConfig::default() };
    let method = if settings.method == "qlora" { Method::Qlora(lora, Quant::Nf4) } else { Method::Lora(lora) };
    let policies: Vec<Policy> = settings.policies.iter().map(|(_, policy)| policy.clone()).collect();
    let options = DeviceOptions::cpu(threads());
    let job = ProfileJob {
        batch: None,
        model: &model,
        method: &method,
        shape: BatchShape { batch: 1, seq_len: TOKENS },
        policies: &policies,
        repeats: 0,
        options,
        limits: Limits::default(),
        prices: None,
        spill: None,
    };
    let device = cached_profile(&options, settings.train_precision()).unwrap_or_else(|| options.profile());
    let mut ours = SideBySide::load(&job, &device)?;
    println!("ours: {}, {} threads", device.name, threads());
    let row = |name: String, saved| Row { name, seconds: Vec::new(), saved };
    let kept = |plan: &Plan| (plan.activation_bytes() as u64, plan.activation_bytes() as u64);
    let mut rows: Vec<Row> =
        settings.policies.iter().zip(ours.plans()).map(|((name, _), plan)| row(name.clone(), kept(plan))).collect();
    let saved_of = |answer: &Value| {
        let bytes = |key: &str| answer[key].as_u64().unwrap_or(0);
        (bytes("bytes"), bytes("bytes").saturating_sub(bytes("vocabulary_bytes")))
    };
    for checkpointing in [false, true] {
        let answer = peer.ask(json!({ "do": "saved", "checkpointing": checkpointing }))?;
        let name = format!("theirs, checkpointing {}", if checkpointing { "on" } else { "off" });
        rows.push(row(name, saved_of(&answer)));
    }
    // Whichever is faster, sdpa is the attention that keeps less.
    let sdpa = saved_of(&peer.ask(json!({ "do": "saved", "checkpointing": false, "attention": "sdpa" }))?);
    println!("theirs, sdpa: keeps {} MB, {} without the vocabulary's", sdpa.0 / 1_000_000, sdpa.1 / 1_000_000);
    let mut peaks = Vec::new();
    let own = settings.policies.len();
    for round in 0..WARM_UP + settings.steps {
        for (index, row) in rows.iter_mut().enumerate() {
            let seconds = if index < own {
                ours.step(index)?
            } else {
                peer.seconds(json!({ "do": "step", "checkpointing": index > own }))?
            };
            std::thread::sleep(AT_REST);
            if round >= WARM_UP {
                row.seconds.push(seconds);
            }
        }
        peaks.extend(multiplier_peak(threads(), settings.precision == Precision::Bf16));
    }
    let ceiling = contraction_flops(&ours.plans()[0]) / median(&mut peaks);
    table(&mut rows, own, ceiling, median(&mut peaks));
    Ok(())
}

fn table(rows: &mut [Row], own: usize, ceiling: f64, peak: f64) {
    println!(
        "multipliers' peak {:.0} GFLOP/s in this run; products and causal attention take {ceiling:.3} s at it\n",
        peak / 1e9
    );
    let (off, on) = (median(&mut rows[own].seconds.clone()), median(&mut rows[own + 1].seconds.clone()));
    let theirs = rows[own].saved;
    println!(
        "| | s a step | of the ceiling's time | theirs off | theirs on | saved MB | of theirs | without vocabulary MB | of theirs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let seconds = median(&mut row.seconds);
        let (all, narrow) = (row.saved.0 as f64 / 1e6, row.saved.1 as f64 / 1e6);
        println!(
            "| {} | {seconds:.3} | {:.2} x | {:.2} x | {:.2} x | {all:.0} | {:.0} % | {narrow:.0} | {:.0} % |",
            row.name,
            seconds / ceiling,
            off / seconds,
            on / seconds,
            100.0 * row.saved.0 as f64 / theirs.0 as f64,
            100.0 * row.saved.1 as f64 / theirs.1 as f64,
        );
    }
}

/// FLOPs of matrix products and causal attention in one step.
fn contraction_flops(plan: &Plan) -> f64 {
    let work = |action: &Action| {
        let Action::Compute(op) = action else { return 0.0 };
        let node = plan.graph.node(*op);
        let (inputs, outputs) = plan.graph.node_types(node);
        let counts = node.op.is_contraction() || OpClass::of(&plan.graph, node).is_head();
        if counts { node.op.cost(&inputs, &outputs).flops } else { 0.0 }
    };
    plan.steps.iter().map(|step| work(&step.action)).sum()
}

fn products(peer: &mut Peer) -> Result<(), Box<dyn Error>> {
    println!(
        "| product | threads | ours GFLOP/s | of peak | theirs | of peak | ratio |\n|---|---|---|---|---|---|---|"
    );
    for threads in [1, threads()] {
        for (size, transposed) in PRODUCTS {
            product(DType::BF16, peer, threads, size, transposed)?;
            product(DType::F32, peer, threads, size, transposed)?;
        }
    }
    Ok(())
}

fn product(
    dtype: DType,
    peer: &mut Peer,
    threads: usize,
    size: [usize; 3],
    transposed: bool,
) -> Result<(), Box<dyn Error>> {
    let [m, n, k] = size;
    let name = dtype.name();
    // A linear is the product, with W read transposed or as it lies.
    let (layout, shape) = if transposed { (Layout::OutIn, [n, k]) } else { (Layout::InOut, [k, n]) };
    let mut builder = Builder::new();
    let x = builder.input("x", Type::new(dtype, [m, k]));
    let w = builder.weight("w", Type::new(dtype, shape));
    let y = builder.op1("y", Linear::plain(layout), &[x, w])?;
    builder.output(y);
    let (graph, options) = (builder.finish(), DeviceOptions::cpu(threads));
    let plan = LoadedForward::plan(graph.clone(), &options.profile())?;
    let mut product = LoadedForward::load(vec![plan], options)?;
    fill_with_small_numbers(product.device_mut(), &graph)?;
    let flops = 2.0 * (m * n * k) as f64;
    let repeats = (4e9 / flops).ceil() as usize;
    let (mut ours, mut theirs, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..6 {
        let start = Instant::now();
        for _ in 0..repeats {
            product.run(0)?;
        }
        let own = start.elapsed().as_secs_f64() / repeats as f64;
        let other = peer.seconds(json!({
            "do": "product", "size": size, "transposed": transposed, "precision": name, "threads": threads,
            "repeats": repeats,
        }))?;
        std::thread::sleep(AT_REST);
        if round > 0 {
            ours.push(own);
            theirs.push(other);
        }
        peaks.extend(multiplier_peak(threads, dtype == DType::BF16));
    }
    let [ours, theirs] = [ours, theirs].map(|mut seconds| flops / median(&mut seconds) / 1e9);
    let peak = median(&mut peaks) / 1e9;
    println!(
        "| {name} {m} x {n} x {k} | {threads} | {ours:.0} | {:.0} % | {theirs:.0} | {:.0} % | {:.2} |",
        100.0 * ours / peak,
        100.0 * theirs / peak,
        ours / theirs
    );
    Ok(())
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
