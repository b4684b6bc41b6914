//! Byte budgets on random models: never exceeded, never slower when larger, never beaten in memory and time by another plan
//! that keeps them, refused with the smallest that works, and compared with every possible choice of kept values where
//! those can be counted.

use proptest::prelude::*;
use remat_compiler::{
    Choice, CompileError, Kept, Problem, Target, compile, compile_keeping, differentiate, frontier, place,
    rematerialise, schedule, simplify,
};
use remat_ir::ops::{Gelu, Layout, Linear, Sum};
use remat_ir::{Builder, Graph, Interpreter, Phase, Storage, Type};
use remat_plan::{DeviceProfile, Plan, Policy, check};
use remat_tensor::DType;
use remat_testkit::{random_model, random_model_of_functions, source_values, two_layer_mlp};

/// The model of a seed: of the layers of decoders alone, or of layers of single ops besides.
fn model(seed: u64, of_functions: bool) -> Graph {
    let model = if of_functions { random_model_of_functions(seed) } else { random_model(seed) };
    model.with_backward()
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

/// Whether one plan takes no more memory and no more time than another, and less of one of them.
fn beats(a: &Plan, b: &Plan) -> bool {
    let (less, same) = (seconds(a) < seconds(b) * (1.0 - 1e-9), at_most(seconds(a), seconds(b)));
    a.arena_bytes <= b.arena_bytes && less || a.arena_bytes < b.arena_bytes && same
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

/// What beats the plans of a model's budgets and keeps them, too: plans of named policies, of caps and of smaller budgets.
fn beaten_budgets(seed: u64, of_functions: bool) -> Vec<String> {
    let profile = DeviceProfile::generic();
    let problem = Problem::new(model(seed, of_functions), &profile).expect("valid");
    let plan = |policy: &Policy, cap: Option<usize>| problem.plan(policy, cap);
    let named = [Policy::None, Policy::Full, Policy::Every(2), Policy::Every(3)];
    let mut others: Vec<Plan> = named.iter().map(|policy| plan(policy, None).expect("compiles")).collect();
    let (most_bytes, arena_bytes) = (others[0].activation_bytes(), others[0].arena_bytes);
    others.extend((1..8).filter_map(|part| plan(&Policy::Auto, Some(arena_bytes * part / 8)).ok()));
    let mut wrong = Vec::new();
    for bytes in (0..=12).map(|step| most_bytes * step / 12) {
        let Ok(chosen) = plan(&Policy::Budget(bytes), None) else { continue };
        let keeps = |other: &&Plan| other.activation_bytes() <= bytes;
        let better = others.iter().filter(keeps).filter(|other| beats(other, &chosen));
        wrong.extend(better.map(|other| format!("{} beats budget:{bytes}", other.policy)));
        others.push(chosen);
    }
    wrong
}

/// Models of which the plans that keep some of the small budgets are all beaten by plans that keep more: of those the chosen
/// one must not be beaten by another that keeps the budget, nor may a larger budget get a slower one.
#[test]
fn where_a_budget_leaves_only_beaten_plans_the_chosen_one_is_not_beaten_within_it() {
    for seed in [1620, 2107, 4014, 5621] {
        assert_eq!(beaten_budgets(seed, false), Vec::<String>::new(), "{seed}");
    }
    for seed in [3322, 3351, 3411, 3668, 3831, 5064, 5201, 9_940_896_312_089_270_729] {
        assert_eq!(beaten_budgets(seed, true), Vec::<String>::new(), "{seed} of functions");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_larger_budget_is_kept_and_never_slower(seed in any::<u64>(), of_functions in any::<bool>()) {
        let profile = DeviceProfile::generic();
        let problem = Problem::new(model(seed, of_functions), &profile).expect("valid");
        let budget = |bytes: usize| problem.plan(&Policy::Budget(bytes), None);
        let source = meaning(problem.graph());
        let none = problem.plan(&Policy::None, None).expect("compiles");
        let mut before: Option<f64> = None;
        for step in 0..=8 {
            let bytes = none.activation_bytes() * step / 8;
            match budget(bytes) {
                Ok(plan) => {
                    prop_assert!(plan.activation_bytes() <= bytes, "{} of {bytes}", plan.activation_bytes());
                    prop_assert!(before.is_none_or(|before| at_most(seconds(&plan), before)));
                    prop_assert_eq!(&meaning(&plan.graph), &source);
                    prop_assert_eq!(check(&plan, problem.graph()), Ok(()));
                    before = Some(seconds(&plan));
                }
                Err(error) => {
                    prop_assert!(before.is_none(), "a smaller budget was feasible");
                    let smallest = error.smallest_bytes().expect("only the budget can be wrong");
                    prop_assert!(smallest > bytes);
                    let plan = budget(smallest).expect("the smallest budget named is feasible");
                    prop_assert_eq!(plan.activation_bytes(), smallest);
                }
            }
        }
        let all = budget(none.activation_bytes()).expect("everything fits");
        prop_assert_eq!(all.recomputed_steps().count(), 0, "with room for everything nothing is recomputed");
    }

    #[test]
    fn nothing_that_keeps_a_budget_beats_the_plan_chosen_for_it(seed in any::<u64>(), of_functions in any::<bool>()) {
        prop_assert_eq!(beaten_budgets(seed, of_functions), Vec::<String>::new());
    }

    #[test]
    fn auto_fits_its_arena_and_is_never_slower_with_more(seed in any::<u64>(), of_functions in any::<bool>()) {
        let profile = DeviceProfile::generic();
        let problem = Problem::new(model(seed, of_functions), &profile).expect("valid");
        let auto = |cap| problem.plan(&Policy::Auto, cap);
        let source = meaning(problem.graph());
        let fastest = auto(None).expect("no cap, no refusal");
        let mut before: Option<f64> = None;
        for step in 0..=6 {
            let cap = fastest.arena_bytes * step / 6;
            match auto(Some(cap)) {
                Ok(plan) => {
                    prop_assert!(plan.arena_bytes <= cap);
                    prop_assert_eq!(&meaning(&plan.graph), &source);
                    prop_assert_eq!(check(&plan, problem.graph()), Ok(()));
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
    fn claims_are_what_the_plan_does(
        seed in any::<u64>(), of_functions in any::<bool>(), regions in 1usize..4,
    ) {
        let graph = simplify(model(seed, of_functions));
        let profile = DeviceProfile::generic();
        let claim = Kept::segments(&graph, regions).footprint(&graph, &profile.prices);
        let plan = preset(&graph, &Policy::Every(regions));
        prop_assert_eq!(plan.activation_bytes(), claim.activation_bytes);
        prop_assert!((plan.recompute_seconds(&profile.prices) - claim.recompute_seconds).abs() < 1e-12);
    }

    #[test]
    fn any_choice_of_kept_values_takes_what_its_footprint_says(
        seed in any::<u64>(), of_functions in any::<bool>(), mask in any::<u64>(),
    ) {
        let graph = model(seed, of_functions);
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

/// One choice of nodes that run again once each: what it keeps, its arena, its seconds of recomputation.
#[derive(Clone, Copy)]
struct Tried {
    kept_bytes: usize,
    arena_bytes: usize,
    seconds: f64,
}

/// Every set of forward nodes to run again, outside the last block, if those are at most `most`.
fn every_choice(graph: &Graph, most: usize) -> Option<Vec<Tried>> {
    let forward = || graph.nodes_with_ids().filter(|(_, node)| node.phase == Phase::Forward);
    let is_block = |region: &remat_ir::RegionId| graph.regions.iter().all(|other| other.parent != Some(*region));
    let last = forward().filter_map(|(_, node)| node.region.filter(is_block)).last()?;
    let first_of_last = forward().find(|(_, node)| node.region == Some(last))?.0;
    let free: Vec<_> = forward().map(|(id, _)| id).filter(|&id| id < first_of_last).collect();
    if free.len() > most {
        return None;
    }
    let profile = DeviceProfile::generic();
    let choice = |mask: u32| {
        let rerun: Vec<_> = free.iter().enumerate().filter(|(i, _)| mask & (1 << i) != 0).map(|(_, &id)| id).collect();
        let kept = Kept::without_results_of(graph, &rerun);
        let footprint = kept.footprint(graph, &profile.prices);
        let arena_bytes = place(schedule(rematerialise(graph, &kept)), &Policy::None, &profile).arena_bytes;
        Tried { kept_bytes: footprint.activation_bytes, arena_bytes, seconds: footprint.recompute_seconds }
    };
    Some((0..1u32 << free.len()).map(choice).collect())
}

/// Sizes at which the plan for a budget may change.
fn sizes(choices: &[Tried]) -> Vec<usize> {
    let mut sizes: Vec<usize> = choices.iter().map(|choice| choice.kept_bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// How much longer the plan of a budget takes than the fastest choice that keeps it in no more memory, as a part of `base`.
/// `None` where every choice that keeps it is beaten in memory and time by one that keeps more: there is no right one.
fn gap(problem: &Problem<'_>, choices: &[Tried], bytes: usize, base: f64) -> Option<f64> {
    let beaten = |choice: &Tried| {
        let no_worse =
            |other: &&Tried| other.arena_bytes <= choice.arena_bytes && at_most(other.seconds, choice.seconds);
        let better = |other: &Tried| other.arena_bytes < choice.arena_bytes || !at_most(choice.seconds, other.seconds);
        choices.iter().filter(no_worse).any(better)
    };
    let keeps = || choices.iter().filter(|choice| choice.kept_bytes <= bytes);
    if keeps().all(beaten) {
        return None;
    }
    let plan = problem.plan(&Policy::Budget(bytes), None).expect("a choice keeps it");
    let within = keeps().filter(|choice| choice.arena_bytes <= plan.arena_bytes);
    Some((seconds(&plan) - base - within.map(|choice| choice.seconds).fold(f64::MAX, f64::min)) / base)
}

#[test]
fn small_graphs_are_solved_optimally() {
    let (mut graphs, mut budgets, mut worst, mut optimal) = (0, 0, 0.0f64, 0);
    let profile = DeviceProfile::generic();
    for seed in 0..300 {
        let graph = model(seed / 2, seed % 2 == 1);
        let Some(choices) = every_choice(&simplify(graph.clone()), 8) else { continue };
        graphs += 1;
        let base = seconds(&preset(&graph, &Policy::None));
        let problem = Problem::new(graph, &profile).expect("valid");
        for bytes in sizes(&choices) {
            let Some(gap) = gap(&problem, &choices, bytes, base) else { continue };
            budgets += 1;
            optimal += usize::from(gap < 1e-9);
            worst = worst.max(gap);
        }
    }
    assert!(graphs >= 30 && budgets >= 200, "{graphs} graphs, {budgets} budgets are too few to say anything");
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
            b.op1(&format!("act{layer}"), Gelu::TANH, &[h]).expect("shapes fit")
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
    // Up to five layers before the last: ten nodes that may run again.
    for layers in [2, 3, 3, 4, 4, 5, 5, 6, 6] {
        chains.push(chain(&widths.by_ref().take(layers + 1).collect::<Vec<_>>()));
    }
    let profile = DeviceProfile::generic();
    let mut weighed = 0;
    for graph in chains {
        let choices = every_choice(&simplify(graph.clone()), 16).expect("a small chain");
        let base = seconds(&preset(&graph, &Policy::None));
        let problem = Problem::new(graph, &profile).expect("valid");
        let sizes = sizes(&choices);
        assert!(sizes.len() >= 3);
        for &bytes in sizes.iter().step_by(sizes.len().div_ceil(32)) {
            let Some(gap) = gap(&problem, &choices, bytes, base) else { continue };
            weighed += 1;
            assert!(gap < 1e-9, "at {bytes} bytes, {gap:.4} of a step over what is possible in this memory");
        }
    }
    assert!(weighed >= 60, "{weighed} budgets are too few to say anything");
}

#[test]
fn the_frontier_falls_at_every_point() {
    for seed in 0..40 {
        let points = frontier(model(seed, seed % 2 == 1), &DeviceProfile::generic(), 8).expect("valid");
        for pair in points.windows(2) {
            assert!(pair[0].activation_bytes < pair[1].activation_bytes);
            assert!(pair[0].step_seconds > pair[1].step_seconds);
        }
        assert_eq!(points.last().map(|point| point.recompute_seconds), Some(0.0));
    }
}
