//! Known models under many budgets: a smaller budget never takes more memory than a boundary per block does, a larger one
//! never more time, and no plan chosen is beaten by another that keeps the budget or by a point of the frontier that `plan`
//! prints.

mod shapes;

use remat_compiler::{FrontierPoint, Problem};
use remat_ir::Graph;
use remat_model::{BatchShape, LoraConfig, Method, Precision, preset, preset_names, training};
use remat_plan::{DeviceProfile, Plan, Policy};
use remat_testkit::with_backward;
use shapes::{GPT2_FEW_WORDS, TINYLLAMA};
use std::time::Instant;

fn figures(plan: &Plan, profile: &DeviceProfile) -> FrontierPoint {
    FrontierPoint {
        activation_bytes: plan.activation_bytes(),
        arena_bytes: plan.arena_bytes,
        step_seconds: plan.step_seconds(&profile.prices),
        recompute_seconds: plan.recompute_seconds(&profile.prices),
    }
}

/// Whether `a` takes no more memory and no more time than `b`, and less of one of them.
fn beats(a: &FrontierPoint, b: &FrontierPoint) -> bool {
    let same = 1e-9 * b.step_seconds;
    let (faster, as_fast) = (a.step_seconds < b.step_seconds - same, a.step_seconds <= b.step_seconds + same);
    a.arena_bytes <= b.arena_bytes && faster || a.arena_bytes < b.arena_bytes && as_fast
}

/// What is wrong with the plans of so many budgets from the smallest to everything; the plans, the smallest first.
fn budgets(graph: Graph, profile: &DeviceProfile, count: usize) -> (Vec<FrontierPoint>, Vec<String>) {
    let problem = Problem::new(graph, profile).expect("valid");
    let plan = |policy: Policy| problem.plan(&policy, None).map(|plan| figures(&plan, profile));
    let survey = problem.survey(&Policy::Auto, 8).expect("a frontier");
    let named: Vec<FrontierPoint> =
        [Policy::None, Policy::Full, Policy::Every(2), Policy::Every(4)].map(|p| plan(p).expect("compiles")).into();
    let (least, most) = (survey.smallest_activation_bytes, named[0].activation_bytes);
    // Half of them below what one boundary per block takes, where it gets tight.
    let full = named[1].activation_bytes;
    let low = (0..count / 2).map(|index| least + (full.max(least) - least) * index / (count / 2));
    let high = (0..=count / 2).map(|index| full + (most - full) * index / (count / 2));
    let mut wrong = Vec::new();
    let mut chosen: Vec<FrontierPoint> = Vec::new();
    for bytes in low.chain(high) {
        let Ok(point) = plan(Policy::Budget(bytes)) else { continue };
        if point.activation_bytes > bytes {
            wrong.push(format!("budget:{bytes} keeps {}", point.activation_bytes));
        }
        if point.activation_bytes < full && point.arena_bytes > named[1].arena_bytes {
            wrong.push(format!("budget:{bytes} takes more memory than full: {point:?}"));
        }
        let keeps = |other: &&FrontierPoint| other.activation_bytes <= bytes;
        for other in survey.frontier.iter().chain(chosen.iter().chain(&named).filter(keeps)) {
            if beats(other, &point) {
                wrong.push(format!("budget:{bytes} {point:?} is beaten by {other:?}"));
            }
        }
        if let Some(smaller) = chosen.last() {
            // Below a boundary per block a smaller budget may take a little more, never more than that does.
            if smaller.arena_bytes > point.arena_bytes && point.activation_bytes >= full {
                wrong.push(format!("budget:{bytes} takes less memory than a smaller one: {smaller:?}, {point:?}"));
            }
            if point.step_seconds > smaller.step_seconds * (1.0 + 1e-9) {
                wrong.push(format!("budget:{bytes} takes more time than a smaller one: {smaller:?}, {point:?}"));
            }
        }
        chosen.push(point);
    }
    (chosen, wrong)
}

#[test]
fn no_budget_of_a_small_model_costs_more_than_a_larger_one() {
    for (graph, name) in [(TINYLLAMA.lora(12, 512), "llama"), (GPT2_FEW_WORDS.lora(10, 256), "gpt2")] {
        let (chosen, wrong) = budgets(graph, &DeviceProfile::generic(), 16);
        assert_eq!(wrong, Vec::<String>::new(), "{name}");
        let (first, last) = (&chosen[0], &chosen[chosen.len() - 1]);
        assert!(first.arena_bytes * 2 < last.arena_bytes && last.recompute_seconds == 0.0, "{name}: {chosen:?}");
    }
}

fn graph(name: &str, method: &Method, shape: BatchShape) -> Graph {
    let config = preset(name).expect("a preset");
    with_backward(training(&config, Precision::Bf16, method, shape).expect("a graph"))
}

fn methods() -> [(&'static str, Method); 2] {
    let lora = LoraConfig { rank: 16, alpha: 32.0, ..LoraConfig::default() };
    [("lora", Method::Lora(lora)), ("full", Method::Full)]
}

/// Where rows are cut, a budget buys kept values with bytes of the last block; just below a boundary per block that must not
/// take more memory than the boundaries do. Nor must levels, which can where norms stand behind the parts of a block.
#[test]
fn no_budget_of_a_large_model_costs_more_than_a_larger_one() {
    let [_, (_, full)] = methods();
    for (name, batch, seq_len) in [("llama-2-7b", 2, 512), ("mistral-7b", 1, 2048), ("olmo2-7b", 1, 512)] {
        let (chosen, wrong) = budgets(graph(name, &full, BatchShape { batch, seq_len }), &DeviceProfile::generic(), 12);
        assert_eq!(wrong, Vec::<String>::new(), "{name}");
        assert!(chosen.len() > 8, "{name}: {chosen:?}");
    }
}

/// A plan in tiles that takes more memory than a boundary per block is passed over for the next that does not, not for one
/// that a smaller budget would not take.
#[test]
fn no_budget_of_a_model_with_wide_blocks_costs_more_than_a_larger_one() {
    let [(_, lora), _] = methods();
    let graph = graph("pythia-160m", &lora, BatchShape { batch: 1, seq_len: 2048 });
    assert_eq!(budgets(graph, &DeviceProfile::generic(), 24).1, Vec::<String>::new());
}

/// Two minutes: `cargo test --profile ci -p remat-compiler --test undominated -- --ignored --nocapture`.
#[test]
#[ignore = "two minutes"]
fn no_budget_of_any_preset_costs_more_than_a_larger_one() {
    let mut all = 0;
    for name in preset_names() {
        for (method_name, method) in &methods() {
            for shape in [(1, 512), (2, 512), (1, 2048)].map(|(batch, seq_len)| BatchShape { batch, seq_len }) {
                if shape.seq_len <= preset(name).expect("a preset").max_position_embeddings {
                    all += wrong_of(name, method_name, method, shape);
                }
            }
        }
    }
    assert_eq!(all, 0);
}

/// How much is wrong with one model's budgets; all is printed.
fn wrong_of(name: &str, method_name: &str, method: &Method, shape: BatchShape) -> usize {
    let start = Instant::now();
    let (chosen, wrong) = budgets(graph(name, method, shape), &DeviceProfile::generic(), 24);
    let mebibytes = |bytes: usize| bytes as f64 / (1 << 20) as f64;
    println!("{name} {method_name} {} × {}: {:.1?}", shape.batch, shape.seq_len, start.elapsed());
    let fastest = chosen.last().map_or(1.0, |point| point.step_seconds);
    for point in chosen.iter().step_by(3) {
        let (kept, arena) = (mebibytes(point.activation_bytes), mebibytes(point.arena_bytes));
        println!("  kept {kept:>9.1} MiB, arena {arena:>9.1} MiB, time {:.3}", point.step_seconds / fastest);
    }
    wrong.iter().for_each(|wrong| println!("  {wrong}"));
    wrong.len()
}
