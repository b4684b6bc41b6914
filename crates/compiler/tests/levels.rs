//! Levels: chains of equal blocks under budgets of few boundaries against Revolve's optimum (Griewank and Walther, *Algorithm
//! 799*, 2000), what the checker says of such plans, and that they mean the same.

use remat_compiler::{CompileError, Problem, Target, differentiate, simplify};
use remat_ir::ops::{Dropout, Gelu, Layout, Linear, Sum};
use remat_ir::{Builder, Graph, Interpreter, OpId, Storage, Type, ValueId};
use remat_plan::{DeviceProfile, Plan, Policy, check, lower_bound_bytes};
use remat_tensor::{DType, stream_of_name};
use remat_testkit::source_values;

const ROWS: usize = 16;
const WIDTH: usize = 16;
/// Bytes of what enters a block.
const BOUNDARY: usize = ROWS * WIDTH * 4;

/// A value of the arena, and equal blocks of a linear and what `after` makes of it, each a region.
fn chain(blocks: usize, after: impl Fn(&mut Builder, usize, ValueId) -> ValueId) -> Graph {
    let mut b = Builder::new();
    let input = b.input("x", Type::new(DType::F32, [ROWS, WIDTH]));
    let dloss = b.input("dloss", Type::new(DType::F32, [1]));
    let mut targets = Vec::new();
    let mut x = b.op1("x0", Gelu::TANH, &[input]).expect("shapes fit");
    for block in 0..blocks {
        let ty = Type::new(DType::F32, [WIDTH, WIDTH]);
        let weight = b.state(&format!("w{block}"), ty.clone());
        let gradient = b.state(&format!("w{block}.grad"), ty);
        targets.push(Target { value: weight, accumulate_into: Some(gradient) });
        x = b.region(&format!("block.{block}"), |b| {
            let h = b.op1(&format!("h{block}"), Linear::plain(Layout::InOut), &[x, weight]).expect("shapes fit");
            after(b, block, h)
        });
    }
    let loss = b.op1("loss", Sum, &[x]).expect("shapes fit");
    b.output(loss);
    differentiate(b.finish(), loss, dloss, &targets).expect("differentiable").graph
}

fn with_gelu(b: &mut Builder, block: usize, h: ValueId) -> ValueId {
    b.op1(&format!("act{block}"), Gelu::TANH, &[h]).expect("shapes fit")
}

/// How often blocks run forward: those of the forward itself and those for backward.
fn block_forwards(plan: &Plan) -> usize {
    let is_first =
        |name: &str| name.starts_with('h') && name[1..].split('~').next().is_some_and(|n| n.parse::<u32>().is_ok());
    plan.graph.nodes.iter().filter(|node| is_first(&node.name)).count()
}

/// The fewest block forwards that reverse a chain with so many stored boundaries, the first one among them: by dynamic
/// programming. Each block runs once more just before its backward; of the last one that is its first run.
fn revolve(blocks: usize, slots: usize) -> usize {
    let mut best = vec![vec![0; slots + 1]; blocks + 1];
    for length in 2..=blocks {
        best[length][1] = length * (length - 1) / 2;
        for slots in 2..=slots {
            let cut = |at: usize| at + best[at][slots] + best[length - at][slots - 1];
            best[length][slots] = (1..length).map(cut).min().expect("two blocks or more");
        }
    }
    best[blocks][slots] + blocks
}

#[test]
fn a_hundred_blocks_with_few_boundaries_take_little_more_than_revolve() {
    let profile = DeviceProfile::generic();
    let problem = Problem::new(chain(100, with_gelu), &profile).expect("valid");
    let plan = |policy: Policy| problem.plan(&policy, None).expect("compiles");
    let full = plan(Policy::Full);
    assert_eq!(block_forwards(&full), revolve(100, 100));
    let mut before: Option<f64> = None;
    for slots in 1..=99 {
        // Of the hundred boundaries of `full` the last enters the block where backward begins.
        let bytes = full.activation_bytes() - (99 - slots) * BOUNDARY;
        let plan = plan(Policy::Budget(bytes));
        assert!(plan.activation_bytes() <= bytes && plan.arena_bytes <= full.arena_bytes, "{slots} boundaries");
        let (forwards, most) = (block_forwards(&plan), revolve(100, slots));
        assert!(forwards as f64 <= 1.1 * most as f64, "{slots} boundaries: {forwards} block forwards, Revolve {most}");
        if slots >= 10 {
            assert!(forwards <= block_forwards(&full) + 100, "{slots} boundaries: {forwards}");
        }
        let again = plan.recompute_seconds(&profile.prices);
        assert!(before.is_none_or(|before| again <= before * (1.0 + 1e-9)), "{slots}: {again} s after {before:?}");
        before = Some(again);
    }
}

#[test]
fn a_small_arena_is_met_by_holding_fewer_boundaries_at_any_time() {
    let profile = DeviceProfile::generic();
    let problem = Problem::new(chain(100, with_gelu), &profile).expect("valid");
    let full = problem.plan(&Policy::Full, None).expect("compiles");
    for slots in 3..=20 {
        // What is beside the boundaries: the block's own values and their cotangents.
        let cap = full.arena_bytes - (99 - slots) * BOUNDARY;
        let plan = problem.plan(&Policy::Auto, Some(cap)).expect("fits");
        let (forwards, most) = (block_forwards(&plan), revolve(100, slots));
        assert!(plan.arena_bytes <= cap && lower_bound_bytes(&plan) <= plan.arena_bytes);
        assert!(forwards as f64 <= 1.1 * most as f64, "{slots} boundaries: {forwards} block forwards, Revolve {most}");
    }
}

/// Every output and state, bit for bit.
fn meaning(graph: &Graph) -> Vec<(String, Vec<u64>)> {
    let values = Interpreter::exact().run(graph, &source_values(graph, 1)).expect("all sources are given");
    let wanted =
        graph.value_ids().filter(|&id| graph.outputs.contains(&id) || graph.value(id).storage == Storage::State);
    let bits = |id: ValueId| values[id.index()].data.iter().map(|x| x.to_bits()).collect();
    let mut results: Vec<_> = wanted.map(|id| (graph.value(id).name.clone(), bits(id))).collect();
    results.sort();
    results
}

#[test]
fn what_runs_several_times_means_the_same_is_counted_and_is_checked() {
    // Dropout's numbers are drawn by the op's own name, whichever copy runs.
    let with_dropout = |b: &mut Builder, block: usize, h: ValueId| {
        let rng = b.graph().find("rng").unwrap_or_else(|| b.input("rng", Type::new(DType::U32, [4])));
        let name = format!("act{block}");
        let h = b.op1(&name, Gelu::TANH, &[h]).expect("shapes fit");
        let name = format!("drop{block}");
        b.op1(&name, Dropout::new(0.25, stream_of_name(&name)), &[h, rng]).expect("shapes fit")
    };
    let profile = DeviceProfile::generic();
    let graph = chain(14, with_dropout);
    let source = simplify(graph.clone());
    let expected = meaning(&source);
    let problem = Problem::new(graph, &profile).expect("valid");
    let most = problem.plan(&Policy::None, None).expect("compiles");
    let Err(CompileError::BudgetDoesNotFit { smallest_bytes, .. }) = problem.plan(&Policy::Budget(0), None) else {
        panic!("nothing fits in nothing")
    };
    let mut deepest = 0;
    for boundaries in 0..8 {
        let plan = problem.plan(&Policy::Budget(smallest_bytes + boundaries * BOUNDARY), None).expect("feasible");
        assert_eq!(check(&plan, &source), Ok(()));
        assert_eq!(meaning(&plan.graph), expected, "{boundaries} boundaries");
        assert_eq!(plan.to_string().parse(), Ok(plan.clone()));
        deepest = deepest.max(plan.most_repetitions());
        let seconds = |plan: &Plan| plan.step_seconds(&profile.prices);
        let again = plan.recompute_seconds(&profile.prices);
        assert!((seconds(&plan) - seconds(&most) - again).abs() < 1e-12, "every repetition has its price");
    }
    assert!(deepest >= 3, "{deepest}");
}

#[test]
fn a_copy_that_reads_another_block_s_copy_is_refused() {
    let profile = DeviceProfile::generic();
    let graph = chain(14, with_gelu);
    let source = simplify(graph.clone());
    let problem = Problem::new(graph, &profile).expect("valid");
    let smallest = problem.plan(&Policy::Budget(0), None).expect_err("too small").smallest_bytes();
    let plan = problem.plan(&Policy::Budget(smallest.expect("a budget")), None).expect("feasible");
    let copies: Vec<OpId> =
        plan.graph.nodes_with_ids().filter(|(_, node)| node.recompute_of.is_some()).map(|(id, _)| id).collect();
    let mut refused = 0;
    for pair in copies.windows(2) {
        // The operand of one copy in place of the next one's: another block's input of the same type.
        let (one, other) = (plan.graph.node(pair[0]).inputs[0], plan.graph.node(pair[1]).inputs[0]);
        let of = |id: ValueId| plan.graph.value(id).name.split('~').next().map(str::to_string);
        if plan.graph.ty(one) != plan.graph.ty(other) || of(one) == of(other) {
            continue;
        }
        let mut wrong = plan.clone();
        std::sync::Arc::make_mut(&mut wrong.graph).nodes[pair[1].index()].inputs[0] = one;
        let error = check(&wrong, &source).expect_err("another block's value").to_string();
        assert!(error.contains("is not"), "{error}");
        refused += 1;
    }
    assert!(refused >= 10, "{refused}");
}
