//! Byte budgets on random models: never exceeded, never slower when larger, refused with the smallest that works, and
//! compared with every possible choice of kept values where those can be counted.

use proptest::prelude::*;
use remat_compiler::{
    Choice, CompileError, Kept, Target, compile, compile_keeping, compile_within, differentiate, frontier, simplify,
};
use remat_ir::ops::{Gelu, Layout, Linear, Sum};
use remat_ir::{Builder, Graph, Interpreter, Phase, Storage, Type};
use remat_plan::{DeviceProfile, Plan, Policy, check};
use remat_tensor::DType;
use remat_testkit::{random_model, source_values, two_layer_mlp};

fn budget(graph: &Graph, bytes: usize) -> Result<Plan, CompileError> {
    compile(graph.clone(), &Policy::Budget(bytes), &DeviceProfile::generic())
}

fn preset(graph: &Graph, policy: &Policy) -> Plan {
    compile(graph.clone(), policy, &DeviceProfile::generic()).expect("policies without a budget always compile")
}

fn seconds(plan: &Plan) -> f64 {
    plan.step_seconds(&DeviceProfile::generic().prices)
}

/// Sums of the same prices in another order differ in the last digits.
fn at_most(a: f64, b: f64) -> bool {
    a <= b * (1.0 + 1e-9)
}

/// Every output and state, bit for bit.
fn meaning(graph: &Graph) -> Vec<(String, Vec<f64>)> {
    let values = Interpreter::exact().run(graph, &source_values(graph, 1)).expect("all sources are given");
    let wanted =
        graph.value_ids().filter(|&id| graph.outputs.contains(&id) || graph.value(id).storage == Storage::State);
    let mut results: Vec<_> =
        wanted.map(|id| (graph.value(id).name.clone(), values[id.index()].data.clone())).collect();
    results.sort_by(|a, b| a.0.cmp(&b.0));
    results
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_larger_budget_is_kept_and_never_slower(seed in any::<u64>()) {
        let graph = random_model(seed).with_backward();
        let source = meaning(&simplify(graph.clone()));
        let none = preset(&graph, &Policy::None);
        let mut before: Option<f64> = None;
        for step in 0..=8 {
            let bytes = none.activation_bytes() * step / 8;
            match budget(&graph, bytes) {
                Ok(plan) => {
                    prop_assert!(plan.activation_bytes() <= bytes, "{} of {bytes}", plan.activation_bytes());
                    prop_assert!(before.is_none_or(|before| at_most(seconds(&plan), before)));
                    prop_assert_eq!(&meaning(&plan.graph), &source);
                    prop_assert_eq!(check(&plan, &simplify(graph.clone())), Ok(()));
                    before = Some(seconds(&plan));
                }
                Err(error) => {
                    prop_assert!(before.is_none(), "a smaller budget was feasible");
                    let smallest = error.smallest_bytes().expect("only the budget can be wrong");
                    prop_assert!(smallest > bytes);
                    let plan = budget(&graph, smallest).expect("the smallest budget named is feasible");
                    prop_assert_eq!(plan.activation_bytes(), smallest);
                }
            }
        }
        let all = budget(&graph, none.activation_bytes()).expect("everything fits");
        prop_assert_eq!(all.recomputed_steps().count(), 0, "with room for everything nothing is recomputed");
    }

    #[test]
    fn no_named_policy_beats_a_budget_of_its_own_size(seed in any::<u64>()) {
        let graph = random_model(seed).with_backward();
        for policy in [Policy::None, Policy::Full, Policy::Every(2), Policy::Every(3)] {
            let named = preset(&graph, &policy);
            let plan = budget(&graph, named.activation_bytes()).expect("the named plan itself fits");
            prop_assert!(at_most(seconds(&plan), seconds(&named)), "{policy}");
        }
    }

    #[test]
    fn auto_fits_its_arena_and_is_never_slower_with_more(seed in any::<u64>()) {
        let graph = random_model(seed).with_backward();
        let auto = |cap| compile_within(graph.clone(), &Policy::Auto, &DeviceProfile::generic(), cap);
        let source = meaning(&simplify(graph.clone()));
        let fastest = auto(None).expect("no cap, no refusal");
        let mut before: Option<f64> = None;
        for step in 0..=6 {
            let cap = fastest.arena_bytes * step / 6;
            match auto(Some(cap)) {
                Ok(plan) => {
                    prop_assert!(plan.arena_bytes <= cap);
                    prop_assert_eq!(&meaning(&plan.graph), &source);
                    prop_assert_eq!(check(&plan, &simplify(graph.clone())), Ok(()));
                    prop_assert!(before.is_none_or(|before| at_most(seconds(&plan), before)));
                    before = Some(seconds(&plan));
                }
                Err(error) => {
                    prop_assert!(before.is_none(), "a smaller cap was feasible");
                    let smallest = error.smallest_bytes().expect("only the cap can be wrong");
                    prop_assert!(auto(Some(smallest)).expect("the smallest arena named is feasible").arena_bytes <= smallest);
                }
            }
        }
    }

    #[test]
    fn claims_are_what_the_plan_does(seed in any::<u64>(), regions in 1usize..4) {
        let graph = simplify(random_model(seed).with_backward());
        let profile = DeviceProfile::generic();
        let claim = Kept::segments(&graph, regions).footprint(&graph, &profile.prices);
        let plan = preset(&graph, &Policy::Every(regions));
        prop_assert_eq!(plan.activation_bytes(), claim.activation_bytes);
        prop_assert!((plan.recompute_seconds(&profile.prices) - claim.recompute_seconds).abs() < 1e-12);
    }

    #[test]
    fn any_choice_of_kept_values_takes_what_its_footprint_says(seed in any::<u64>(), mask in any::<u64>()) {
        let graph = random_model(seed).with_backward();
        let profile = DeviceProfile::generic();
        let mut claim = None;
        let plan = compile_keeping(graph, &profile, |source| -> Result<Choice, CompileError> {
            let kept = Kept::from_fn(source, |id| mask >> (id.index() % 64) & 1 == 0);
            claim = Some(kept.footprint(source, &profile.prices));
            Ok(Choice { kept, offload: Vec::new() })
        });
        let (plan, claim) = (plan.expect("any choice is a plan"), claim.expect("it was asked"));
        prop_assert_eq!(plan.activation_bytes(), claim.activation_bytes);
        prop_assert!((plan.recompute_seconds(&profile.prices) - claim.recompute_seconds).abs() < 1e-12);
    }
}

/// (bytes, seconds) of every set of forward nodes to run again, outside the last region, if those are at most `most`.
fn every_choice(graph: &Graph, most: usize) -> Option<Vec<(usize, f64)>> {
    let outermost = |node: &remat_ir::Node| graph.region_path(node.region).first().copied();
    let forward = || graph.nodes_with_ids().filter(|(_, node)| node.phase == Phase::Forward);
    let last = forward().filter_map(|(_, node)| outermost(node)).max()?;
    let first_of_last = forward().find(|(_, node)| outermost(node) == Some(last))?.0;
    let free: Vec<_> = forward().map(|(id, _)| id).filter(|&id| id < first_of_last).collect();
    if free.len() > most {
        return None;
    }
    let prices = DeviceProfile::generic().prices;
    let choice = |mask: u32| {
        let rerun: Vec<_> = free.iter().enumerate().filter(|(i, _)| mask & (1 << i) != 0).map(|(_, &id)| id).collect();
        let footprint = Kept::without_results_of(graph, &rerun).footprint(graph, &prices);
        (footprint.activation_bytes, footprint.recompute_seconds)
    };
    Some((0..1u32 << free.len()).map(choice).collect())
}

#[test]
fn small_graphs_are_solved_optimally() {
    let (mut graphs, mut budgets, mut worst, mut optimal) = (0, 0, 0.0f64, 0);
    for seed in 0..400 {
        let graph = random_model(seed).with_backward();
        let source = simplify(graph.clone());
        let Some(choices) = every_choice(&source, 10) else { continue };
        graphs += 1;
        let mut sizes: Vec<usize> = choices.iter().map(|choice| choice.0).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let base = seconds(&preset(&graph, &Policy::None));
        for bytes in sizes {
            let best =
                choices.iter().filter(|choice| choice.0 <= bytes).map(|choice| choice.1).fold(f64::MAX, f64::min);
            let ours = budget(&graph, bytes).map_or(f64::INFINITY, |plan| seconds(&plan) - base);
            let gap = (ours - best) / base;
            budgets += 1;
            optimal += usize::from(gap < 1e-9);
            worst = worst.max(gap);
        }
    }
    assert!(graphs >= 30 && budgets >= 300, "{graphs} graphs, {budgets} budgets are too few to say anything");
    assert!(worst < 1e-9, "worst gap {worst:.4} of a step over {graphs} graphs, {optimal} of {budgets} optimal");
}

/// Linears of random widths, each with its activation in a region of its own.
fn chain(widths: &[usize]) -> Graph {
    let mut b = Builder::new();
    let mut x = b.input("x", Type::new(DType::F32, [3, widths[0]]));
    let dloss = b.input("dloss", Type::new(DType::F32, [1]));
    let mut targets = Vec::new();
    for (layer, pair) in widths.windows(2).enumerate() {
        let ty = Type::new(DType::F32, [pair[0], pair[1]]);
        let weight = b.state(&format!("w{layer}"), ty.clone());
        let gradient = b.state(&format!("w{layer}.grad"), ty);
        targets.push(Target { value: weight, accumulate_into: Some(gradient) });
        x = b.region(&format!("layer.{layer}"), |b| {
            let h = b.op1(&format!("h{layer}"), Linear::plain(Layout::InOut), &[x, weight]).expect("shapes fit");
            b.op1(&format!("act{layer}"), Gelu, &[h]).expect("shapes fit")
        });
    }
    let loss = b.op1("loss", Sum, &[x]).expect("shapes fit");
    b.output(loss);
    differentiate(b.finish(), loss, dloss, &targets).expect("differentiable").graph
}

#[test]
fn on_chains_the_gap_is_zero() {
    let mut widths = (0u32..).map(|index| 1 + (index.wrapping_mul(2_654_435_761) >> 20) as usize % 40);
    let mut chains = vec![two_layer_mlp().with_backward()];
    // Up to five layers before the last: ten nodes that may run again. Eight are too many for one group, so the groups'
    // frontiers are joined.
    for layers in [2, 3, 3, 4, 4, 5, 5, 6, 6, 9] {
        chains.push(chain(&widths.by_ref().take(layers + 1).collect::<Vec<_>>()));
    }
    for graph in &chains {
        let source = simplify(graph.clone());
        let base = seconds(&preset(graph, &Policy::None));
        let choices = every_choice(&source, 16).expect("a small chain");
        let mut sizes: Vec<usize> = choices.iter().map(|choice| choice.0).collect();
        sizes.sort_unstable();
        sizes.dedup();
        assert!(sizes.len() >= 3);
        for &bytes in sizes.iter().step_by(sizes.len().div_ceil(32)) {
            let within = choices.iter().filter(|choice| choice.0 <= bytes);
            let best = within.map(|choice| choice.1).fold(f64::MAX, f64::min);
            let ours = seconds(&budget(graph, bytes).expect("this choice fits")) - base;
            assert!((ours - best).abs() < 1e-12, "at {bytes} bytes {ours} s, {best} s is possible");
        }
    }
}

#[test]
fn the_frontier_falls_at_every_point() {
    for seed in 0..20 {
        let points = frontier(random_model(seed).with_backward(), &DeviceProfile::generic(), 8).expect("valid");
        for pair in points.windows(2) {
            assert!(pair[0].activation_bytes < pair[1].activation_bytes);
            assert!(pair[0].step_seconds > pair[1].step_seconds);
        }
        assert_eq!(points.last().map(|point| point.recompute_seconds), Some(0.0));
    }
}
