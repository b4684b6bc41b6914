//! The boundary to a device is one: whole training runs, resumed, evaluated, offloaded, and the library's steps, give the
//! same bytes on the CPU and on a device whose memory nothing here can address.

use remat::{AdamWSettings, CheckpointPolicy, DType, Graph, Init, Options};
use remat_compiler::compile_or_smallest;
use remat_model::{BatchShape, Method, Model};
use remat_plan::{Policy, SpillPrices};
use remat_step::DeviceOptions;
use remat_step::device::Opener;
use remat_testkit::{DistantDevice, run_plan, source_values, with_backward};
use remat_train::{
    Checks, EvaluationRequest, Event, Existing, Generator, MethodKind, OptimizerKind, PrecisionChoice, QuantKind,
    Reporter, Request, RunControl, Sampling, TrainConfig, TrainedTurns, evaluate, train,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn case(name: &str) -> PathBuf {
    fixtures().join("parity").join(name)
}

/// Both devices: the CPU as it is opened for everybody, and the distant one.
const DEVICES: [Option<Opener>; 2] = [None, Some(DistantDevice::OPENER)];

fn options(device: Option<Opener>) -> DeviceOptions {
    let options = DeviceOptions::cpu(2);
    device.map_or(options, |opener| options.opened_by(opener))
}

struct Silent;

impl Reporter for Silent {
    fn report(&mut self, _: Event<'_>) {}
}

/// Trains and returns every file of results and saves, and the losses.
fn run(config: &TrainConfig, device: Option<Opener>, existing: Existing, checks: Checks) -> BTreeMap<String, Vec<u8>> {
    let interrupt = AtomicBool::new(false);
    let control = RunControl {
        existing,
        interrupt: &interrupt,
        trace: None,
        config_file: None,
        checks,
        device,
        phases_apart: false,
        ranks: None,
    };
    train(config.clone(), control, &mut Silent).unwrap_or_else(|error| panic!("{error}"));
    let mut files = BTreeMap::new();
    let read = |path: &Path| std::fs::read(path).expect("readable");
    for name in ["adapter_model.safetensors", "model.safetensors", "checkpoint-4/optimizer.safetensors"] {
        let path = config.out.join(name);
        if path.is_file() {
            files.insert(name.to_string(), read(&path));
        }
    }
    let metrics = String::from_utf8(read(&config.out.join("metrics.jsonl"))).expect("text");
    for (index, line) in metrics.lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let numbers = ["loss", "val_loss", "grad_norm"].map(|key| line[key].to_string()).join(" ");
        files.insert(format!("update {index}"), numbers.into_bytes());
    }
    assert!(files.len() >= 6, "{:?}", files.keys());
    files
}

fn config(model: &str, out: &Path) -> TrainConfig {
    TrainConfig {
        model: case(model),
        data: vec![case(model).join("rows.jsonl")],
        out: out.to_path_buf(),
        rank: 4,
        batch_size: 2,
        grad_accum: 2,
        lr: Some(1e-2),
        steps: Some(4),
        save_every: Some(2),
        threads: Some(2),
        ..TrainConfig::default()
    }
}

fn assert_same(what: &str, on: impl Fn(Option<Opener>, &Path) -> BTreeMap<String, Vec<u8>>) {
    let [here, there] = DEVICES.map(|device| {
        let folder = tempfile::tempdir().expect("temporary folder");
        on(device, &folder.path().join("out"))
    });
    let differs = here.iter().find(|(name, bytes)| there.get(*name) != Some(bytes)).map(|(name, _)| name);
    assert_eq!((differs, here.len()), (None, there.len()), "{what}");
}

#[test]
fn training_gives_the_same_bytes() {
    type Change = fn(TrainConfig) -> TrainConfig;
    let runs: [(&str, &str, Change); 4] = [
        ("lora with dropout, lengths and held-out rows", "llama-gqa-tied", |c| TrainConfig {
            dropout: 0.1,
            data: vec![fixtures().join("tiny/data.jsonl")],
            eval_data: vec![c.data[0].clone()],
            eval_every: Some(2),
            ..c
        }),
        ("qlora in bf16, packed, recomputed", "gpt2", |c| TrainConfig {
            method: MethodKind::Qlora,
            precision: PrecisionChoice::Bf16,
            packing: true,
            checkpointing: Policy::Full,
            ..c
        }),
        ("int8", "qwen2", |c| TrainConfig { method: MethodKind::Qlora, quant: Some(QuantKind::Int8), ..c }),
        ("full in bf16 with moments of 8 bits", "llama-f16", |c| TrainConfig {
            method: MethodKind::Full,
            precision: PrecisionChoice::Bf16,
            optimizer: OptimizerKind::Adamw8bit,
            ..c
        }),
    ];
    for (what, model, change) in runs {
        assert_same(what, |device, out| run(&change(config(model, out)), device, Existing::Refuse, Checks::default()));
    }
}

#[test]
fn a_run_that_is_gone_on_with_elsewhere_has_the_bytes_of_one() {
    assert_same("resumed", |device, out| {
        let whole = config("llama-gqa-tied", out);
        run(&whole, None, Existing::Refuse, Checks::default());
        // The newest save goes, and the older one is gone on with.
        std::fs::remove_dir_all(out.join("checkpoint-4")).expect("removed");
        run(&whole, device, Existing::Resume, Checks::default())
    });
}

#[test]
fn what_is_poisoned_or_validated_comes_out_the_same() {
    for checks in [Checks { poison: true, validate: false }, Checks { poison: false, validate: true }] {
        assert_same(&format!("{checks:?}"), |device, out| {
            let config = TrainConfig { checkpointing: Policy::Full, ..config("llama-gqa-tied", out) };
            run(&config, device, Existing::Refuse, checks)
        });
    }
}

#[test]
fn what_is_offloaded_comes_back_the_same() {
    let model = Model::open(&case("llama-gqa-tied")).expect("opens");
    let training = model.training(&Method::Full, BatchShape { batch: 2, seq_len: 16 }).expect("a graph");
    let mut profile = options(None).profile();
    // At this price everything is offloaded that can be.
    profile.prices.spill = Some(SpillPrices { write_bytes_per_second: 1e15, read_bytes_per_second: 1e15 });
    let graph = with_backward(training);
    let plan = compile_or_smallest(graph, &Policy::None, &profile, 0).expect("a plan");
    assert!(plan.copy_steps().count() > 4, "{} copies", plan.copy_steps().count());
    let (sources, spill) = (source_values(&plan.graph, 3), tempfile::tempdir().expect("temporary folder"));
    let [here, there] = DEVICES.map(|device| {
        let mut device = options(device).open();
        device.set_spill_folder(Some(spill.path()));
        run_plan(device.as_mut(), plan.clone(), &sources).expect("runs")
    });
    assert_eq!(here, there);
}

#[test]
fn evaluation_and_generation_give_the_same_numbers() {
    let model = Model::open(&case("qwen3")).expect("opens");
    let [here, there] = DEVICES.map(|device| {
        let request = EvaluationRequest {
            data: vec![case("qwen3").join("rows.jsonl")],
            rows: Default::default(),
            seq_len: None,
            train_on: TrainedTurns::Assistant,
            chat_date: None,
            chat_template: None,
            chat_template_kwargs: None,
            batch_size: 2,
            options: options(device),
        };
        let loss = evaluate(&model, Some(&case("qwen3").join("adapter")), &request).expect("evaluates").loss;
        let mut generator = Generator::open(&model, None, 40, options(device)).expect("loads");
        let sampling = Sampling { temperature: 0.8, top_k: None, top_p: 1.0, seed: 3 };
        let prompt = Request { prompt: &[5, 9, 2], max_tokens: 24, sampling, stop: &[] };
        (loss.to_bits(), generator.generate(&prompt, &mut |_| true).expect("generates").tokens)
    });
    assert_eq!(here, there);
    assert_eq!(here.1.len(), 24);
}

#[test]
fn the_librarys_steps_give_the_same_bits() {
    let [here, there] = DEVICES.map(|device| {
        let mut g = Graph::new();
        let x = g.input("x", DType::F32, &[6, 8]).expect("an input");
        let classes = g.input("classes", DType::I32, &[6]).expect("an input");
        let hidden = (0..3).try_fold(x, |h, i| {
            g.checkpoint(&format!("layers.{i}"), |g| {
                let h = g.dense("fc", h, 8)?;
                let h = g.gelu(h)?;
                g.dropout(h, 0.2)
            })
        });
        let head = g.parameter("head", &[3, 8], Init::Linear).expect("a parameter");
        let loss = g.cross_entropy(hidden.expect("layers"), head, classes).expect("a loss");
        let options = Options::new().adamw(AdamWSettings::default()).seed(5).threads(2);
        let options = device.map_or(options.clone(), |opener| options.device(opener));
        let mut step = g.compile(loss, options.policy(CheckpointPolicy::full())).expect("compiles");
        let elements: Vec<f32> = (0..48).map(|i| (i as f32 * 0.37).sin()).collect();
        step.set_input("x", &elements).expect("fits");
        step.set_input("classes", &[0_i32, 1, 2, 0, 1, 2]).expect("fits");
        let mut bits = Vec::new();
        for policy in [CheckpointPolicy::full(), CheckpointPolicy::none()] {
            step.set_policy(policy).expect("compiles");
            bits.push(step.run().expect("runs").to_bits());
            bits.push(step.update(1e-2).expect("updates").to_bits());
            bits.extend(step.parameter("head").expect("a parameter").iter().map(|x| x.to_bits()));
        }
        assert!(step.validate().expect("agrees").reference_values > 0);
        bits
    });
    assert_eq!(here, there);
}
