//! Whole models on the CUDA device, on an emulated card: the same bits under every plan and every order of warps, blocks and
//! streams; numbers near the definition; allocations as planned; training runs, resumed, evaluated, generated from.
//!
//! All of it takes minutes on an interpreter: `cargo xtask ptx-soak` runs it. Ops one by one are held in `cuda/tests/samples.rs`.

use remat_compiler::{compile, compile_or_smallest};
use remat_cuda::driver::Driver;
use remat_cuda::{CudaDevice, RULES, profile};
use remat_ir::Graph;
use remat_model::{BatchShape, LoraConfig, Method, Model, Precision};
use remat_plan::{Device, DeviceError, DeviceProfile, MemoryDomain, Plan, Policy, SpillPrices};
use remat_step::DeviceOptions;
use remat_testkit::{Definition, EmulatedCard, RunResult, run_plan, source_values, with_backward};
use remat_train::{
    Checks, EvaluationRequest, Event, Existing, Generator, MemoryAccount, MethodKind, PrecisionChoice, Reporter,
    Request, RunControl, Sampling, TrainConfig, TrainedTurns, evaluate, train,
};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn case(name: &str) -> PathBuf {
    fixtures().join("parity").join(name)
}

fn device_profile() -> DeviceProfile {
    profile(EmulatedCard::new(0).card())
}

/// Forward and backward of a parity model.
fn backward(name: &str, precision: Precision, method: &Method, shape: BatchShape) -> Graph {
    let model = Model::open(&case(name)).expect("opens").in_precision(precision);
    with_backward(model.training(method, shape).expect("a graph"))
}

fn lora(dropout: f32) -> Method {
    Method::Lora(LoraConfig { rank: 4, dropout, ..LoraConfig::default() })
}

fn on_card(plan: Plan, seed: u64, poison: bool) -> (RunResult, u64) {
    let (card, sources) = (Rc::new(EmulatedCard::new(seed)), source_values(&plan.graph, 3));
    let (arena, planned) = (plan.arena_bytes, plan.clone());
    let mut device = CudaDevice::new(card.clone());
    device.set_poison(poison);
    let result = run_plan(&mut device, plan, &sources).expect("runs");
    let memory = device.memory();
    assert_eq!(memory.arena, arena, "the arena is as large as planned");
    assert_eq!(memory.in_domain(MemoryDomain::Device), card.held_bytes(), "all that is held is told");
    let rounded = |bytes: usize| bytes.next_multiple_of(RULES.slot_alignment_bytes);
    let sources = planned.graph.values.iter().filter(|value| value.producer.is_none());
    let bytes: usize = sources.map(|value| rounded(value.ty.bytes())).sum();
    assert_eq!(card.held_bytes(), arena + bytes, "arena and sources, to the byte");
    (result, card.instructions())
}

/// Named policies, and two budgets between the least and the most.
fn policies(graph: &Graph) -> Vec<Policy> {
    let bytes = |policy| compile(graph.clone(), &policy, &device_profile()).map(|plan| plan.activation_bytes());
    let most = bytes(Policy::None).expect("compiles");
    let least = match bytes(Policy::Budget(0)) {
        Ok(bytes) => bytes,
        Err(error) => error.smallest_bytes().expect("only the budget can be wrong"),
    };
    let budgets = [least, least + (most - least) / 2].map(Policy::Budget);
    [Policy::None, Policy::Full, Policy::Every(2)].into_iter().chain(budgets).collect()
}

/// Runs a graph under policies, each with another seed, holds all bits to the first's, and the numbers to the definition.
fn same_under_every_plan(graph: &Graph, policies: &[Policy]) -> u64 {
    let (mut first, mut instructions) = (None, 0);
    for (seed, policy) in policies.iter().enumerate() {
        let plan = compile(graph.clone(), policy, &device_profile()).expect("compiles");
        let (result, count) = on_card(plan, seed as u64, seed % 2 == 0);
        instructions += count;
        let first = first.get_or_insert_with(|| result.clone());
        let differs = result.bytes.iter().find(|(name, bytes)| first.bytes[*name] != **bytes);
        assert!(differs.is_none(), "{policy}: {:?} has other bits", differs.map(|(name, _)| name));
    }
    let definition = Definition::of(graph, &source_values(graph, 3));
    definition.check(graph, &first.expect("there are policies")).unwrap_or_else(|wrong| panic!("{wrong}"));
    instructions
}

#[test]
#[ignore = "minutes: cargo xtask ptx-soak"]
fn lora_of_a_llama_has_the_same_bits_under_every_plan() {
    let graph = backward("llama-gqa-tied", Precision::F32, &lora(0.1), BatchShape { batch: 2, seq_len: 9 });
    let instructions = same_under_every_plan(&graph, &policies(&graph)[..3]);
    println!("{instructions} thread instructions");
}

#[test]
#[ignore = "minutes: cargo xtask ptx-soak"]
fn the_whole_of_a_gpt2_is_trained_with_the_same_bits_under_every_plan() {
    let graph = backward("gpt2", Precision::Bf16, &Method::Full, BatchShape { batch: 1, seq_len: 7 });
    let instructions = same_under_every_plan(&graph, &policies(&graph)[3..]);
    println!("{instructions} thread instructions");
}

#[test]
#[ignore = "minutes: cargo xtask ptx-soak"]
fn every_family_and_method_has_the_same_bits_under_every_plan() {
    let mut instructions = 0;
    for name in ["llama-gqa-tied", "gpt2", "qwen2", "qwen3"] {
        for precision in [Precision::F32, Precision::Bf16] {
            for method in [lora(0.1), Method::Full] {
                let graph = backward(name, precision, &method, BatchShape { batch: 2, seq_len: 40 });
                let policies = policies(&graph);
                let count = same_under_every_plan(&graph, &policies);
                println!("{name} {precision}: {} plans, {count} thread instructions", policies.len());
                instructions += count;
            }
        }
    }
    println!("{instructions} thread instructions");
}

#[test]
#[ignore = "minutes: cargo xtask ptx-soak"]
fn what_is_offloaded_comes_back_in_any_order_of_streams_and_a_missing_wait_is_seen() {
    let graph = backward("gpt2", Precision::F32, &lora(0.0), BatchShape { batch: 1, seq_len: 5 });
    let mut profile = device_profile();
    // At this price everything is offloaded that can be.
    profile.prices.spill = Some(SpillPrices { write_bytes_per_second: 1e15, read_bytes_per_second: 1e15 });
    let plan = compile_or_smallest(graph.clone(), &Policy::None, &profile, 0).expect("a plan");
    assert!(plan.copy_steps().count() > 4, "{} copies", plan.copy_steps().count());
    let kept = compile(graph, &Policy::None, &device_profile()).expect("compiles");
    let (reference, _) = on_card(kept, 0, false);
    for seed in 1..3 {
        assert_eq!(on_card(plan.clone(), seed, false).0, reference, "seed {seed}");
    }
    let mut careless = plan;
    careless.steps.iter_mut().for_each(|step| step.waits.clear());
    let seen = (0..4).any(|seed| {
        let careless = careless.clone();
        // The card panics where a kernel reads what no copy has brought.
        let ran = std::thread::spawn(move || on_card(careless, seed, false).0).join();
        ran.map_or(true, |result| result != reference)
    });
    assert!(seen, "copies that nothing waits for");
}

#[test]
#[ignore = "minutes: cargo xtask ptx-soak"]
fn more_than_the_card_has_is_refused_and_ids_are_checked() {
    let graph = backward("gpt2", Precision::F32, &lora(0.0), BatchShape { batch: 1, seq_len: 5 });
    let plan = compile(graph.clone(), &Policy::None, &device_profile()).expect("compiles");
    let mut small = CudaDevice::new(Rc::new(EmulatedCard::with_memory(0, 1 << 16)));
    let error = small.load(vec![plan.clone()]).expect_err("no room");
    assert!(matches!(error, DeviceError::OutOfMemory { .. }), "{error}");
    let mut sources = source_values(&graph, 3);
    sources.get_mut("ids").expect("ids").data[2] = 150.0;
    let error = run_plan(&mut CudaDevice::new(Rc::new(EmulatedCard::new(0))), plan, &sources).expect_err("no such row");
    assert!(error.to_string().contains("id 150 lies outside the table's 150 rows"), "{error}");
}

#[derive(Default)]
struct Told {
    losses: Vec<f64>,
    account: Option<MemoryAccount>,
}

impl Reporter for Told {
    fn report(&mut self, event: Event<'_>) {
        match event {
            Event::Planned(planned) => self.account = Some(planned.memory.clone()),
            Event::Updated { metrics, .. } => self.losses.push(metrics.loss),
            _ => {}
        }
    }
}

fn config(model: &str, out: &Path) -> TrainConfig {
    TrainConfig {
        model: case(model),
        data: vec![case(model).join("rows.jsonl")],
        out: out.to_path_buf(),
        rank: 4,
        batch_size: 1,
        lr: Some(1e-2),
        steps: Some(2),
        threads: Some(1),
        ..TrainConfig::default()
    }
}

/// Trains on the card or on the CPU.
fn trained(config: TrainConfig, card: bool, existing: Existing) -> Told {
    let (interrupt, mut told) = (AtomicBool::new(false), Told::default());
    let control = RunControl {
        existing,
        interrupt: &interrupt,
        trace: None,
        config_file: None,
        checks: Checks::default(),
        device: card.then_some(EmulatedCard::OPENER),
        phases_apart: false,
        ranks: None,
        disk_wait: std::time::Duration::ZERO,
    };
    train(config, control, &mut told).unwrap_or_else(|error| panic!("{error}"));
    told
}

/// Trains on both and holds the losses together; gives the card's account.
fn train_on_both(model: &str, off: f64, change: impl Fn(TrainConfig) -> TrainConfig) -> MemoryAccount {
    let [on_card, on_cpu] = [true, false].map(|card| {
        let folder = tempfile::tempdir().expect("temporary folder");
        trained(change(config(model, &folder.path().join("out"))), card, Existing::Refuse)
    });
    assert!(on_card.losses.len() >= 2 && on_card.losses.len() == on_cpu.losses.len());
    for (card, cpu) in on_card.losses.iter().zip(&on_cpu.losses) {
        assert!((card - cpu).abs() <= off * cpu.abs(), "{model}: losses {:?} and {:?}", on_card.losses, on_cpu.losses);
    }
    on_card.account.expect("a run tells its plan")
}

#[test]
#[ignore = "minutes: cargo xtask ptx-soak"]
fn a_run_of_qlora_trains_as_on_the_cpu_and_its_account_lies_on_the_card() {
    let account = train_on_both("qwen3", 1e-4, |config| TrainConfig { method: MethodKind::Qlora, ..config });
    assert!(account.running_bytes(MemoryDomain::Device) > 0);
    assert_eq!(account.running_bytes(MemoryDomain::Disk), 0);
}

#[test]
#[ignore = "minutes: cargo xtask ptx-soak"]
fn every_method_trains_as_on_the_cpu() {
    for model in ["llama-gqa-tied", "gpt2", "qwen2", "qwen3"] {
        for (precision, off) in [(PrecisionChoice::F32, 1e-4), (PrecisionChoice::Bf16, 2e-2)] {
            for method in [MethodKind::Lora, MethodKind::Qlora, MethodKind::Full] {
                let steps = Some(3);
                train_on_both(model, off, |config| TrainConfig { precision, method, steps, ..config });
                println!("{model} {precision:?} {method:?}");
            }
        }
        let dropped = |config| TrainConfig { dropout: 0.1, packing: true, checkpointing: Policy::Full, ..config };
        train_on_both(model, 1e-4, dropped);
    }
}

#[test]
#[ignore = "minutes: cargo xtask ptx-soak"]
fn a_run_that_is_gone_on_with_has_the_losses_of_one() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = folder.path().join("out");
    let whole = TrainConfig { steps: Some(4), save_every: Some(2), ..config("llama-gqa-tied", &out) };
    let all = trained(whole.clone(), true, Existing::Refuse).losses;
    std::fs::remove_dir_all(out.join("checkpoint-4")).expect("removed");
    let rest = trained(whole, true, Existing::Resume).losses;
    assert_eq!(
        all[2..].iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
        rest.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    );
}

#[test]
#[ignore = "minutes: cargo xtask ptx-soak"]
fn evaluation_and_generation_are_those_of_the_cpu() {
    let model = Model::open(&case("qwen3")).expect("opens");
    let [here, there] = [false, true].map(|card| {
        let options = DeviceOptions::cpu(1);
        let options = if card { options.opened_by(EmulatedCard::OPENER) } else { options };
        let request = EvaluationRequest {
            data: vec![case("qwen3").join("rows.jsonl")],
            rows: Default::default(),
            seq_len: None,
            train_on: TrainedTurns::Assistant,
            chat_date: None,
            chat_template: None,
            chat_template_kwargs: None,
            batch_size: 2,
            options,
        };
        let loss = evaluate(&model, Some(&case("qwen3").join("adapter")), &request).expect("evaluates").loss;
        let mut generator = Generator::open(&model, None, 40, options).expect("loads");
        let sampling = Sampling { temperature: 0.0, top_k: None, top_p: 1.0, seed: 3 };
        let prompt = Request { prompt: &[5, 9, 2], max_tokens: 8, sampling, stop: &[] };
        (loss, generator.generate(&prompt, &mut |_| true).expect("generates").tokens)
    });
    assert!((here.0 - there.0).abs() <= 1e-5 * here.0, "{} and {}", here.0, there.0);
    assert_eq!(here.1, there.1);
}
