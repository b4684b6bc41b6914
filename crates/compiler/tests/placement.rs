//! Plans of real shapes: arenas against what their order cannot do without, what a budget buys, and how long planning
//! takes.

mod shapes;

use remat_compiler::{compile, compile_within, frontier};
use remat_ir::Node;
use remat_plan::{Action, DeviceProfile, OpClass, Plan, Policy, lower_bound_bytes};
use shapes::{GPT2_MEDIUM, LLAMA_8B, LLAMA_70B, TINYLLAMA};

fn plan(graph: &remat_ir::Graph, policy: Policy) -> Plan {
    compile(graph.clone(), &policy, &DeviceProfile::generic()).expect("compiles")
}

#[test]
fn arenas_are_within_two_percent_of_the_lower_bound() {
    for shape in [GPT2_MEDIUM, TINYLLAMA, LLAMA_8B] {
        for seq_len in [512, 4096] {
            let graph = shape.lora(6, seq_len);
            let (none, full) = (plan(&graph, Policy::None), plan(&graph, Policy::Full));
            let mut plans = vec![];
            for part in 1..4 {
                let cap = full.arena_bytes + (none.arena_bytes - full.arena_bytes) * part / 4;
                let auto = compile_within(graph.clone(), &Policy::Auto, &DeviceProfile::generic(), Some(cap));
                let auto = auto.expect("what full needs is enough for auto");
                assert!(auto.arena_bytes <= cap, "{} {seq_len}", shape.name);
                plans.push(auto);
            }
            let budget = Policy::Budget(none.activation_bytes() / 2);
            plans.extend([plan(&graph, budget), plan(&graph, Policy::Every(2)), none, full]);
            for plan in plans {
                let ratio = plan.arena_bytes as f64 / lower_bound_bytes(&plan) as f64;
                assert!(ratio <= 1.02, "{} {seq_len} {}: {ratio:.4}", shape.name, plan.policy);
            }
        }
    }
}

fn recomputed(plan: &Plan) -> impl Iterator<Item = &Node> {
    plan.recomputed_steps().filter_map(|step| match step.action {
        Action::Compute(op) => Some(plan.graph.node(op)),
        Action::Evict { .. } | Action::Fetch { .. } => None,
    })
}

/// In a Llama block with adapters on all linears, {x1, q, k, v, o, lse, x2, gate, up, 7·u} is enough for backward to repeat
/// no matrix product: the normed inputs and the activation come back element by element.
#[test]
fn keeping_what_no_product_gives_back_repeats_no_product() {
    let (layers, tokens, rank) = (4, 512, 16);
    let graph = LLAMA_8B.lora(layers, tokens);
    let none = plan(&graph, Policy::None);
    let (width, kv, inner, heads) = (4096, 1024, 14336, 32);
    let floats = 4 * width + 2 * kv + heads + 2 * inner + 7 * rank;
    let block_bytes = |region: &str| -> usize {
        none.saved_residuals().iter().filter(|r| r.region.as_deref() == Some(region)).map(|r| r.bytes).sum()
    };
    // Besides: the last block as it is, whose input an earlier block hands on, and the loss's cotangent.
    let last = block_bytes(&format!("model.layers.{}", layers - 1));
    let bytes = ((layers - 1) * floats + 2 * width) * tokens * 4 + last;
    let lean = plan(&graph, Policy::Budget(bytes));
    assert!(lean.activation_bytes() <= bytes);
    assert!(lean.activation_bytes() * 10 < none.activation_bytes() * 8);
    let products = recomputed(&lean).filter(|node| OpClass::of(&lean.graph, node) == OpClass::GemmOutIn).count();
    assert_eq!(products, 0, "of {} repeated steps", lean.recomputed_steps().count());
    assert!(lean.recomputed_steps().count() >= 3 * (layers - 1));
}

#[test]
fn a_budget_is_used_up_and_equal_blocks_keep_more_the_later_they_are() {
    let graph = TINYLLAMA.lora(8, 512);
    let none = plan(&graph, Policy::None);
    for percent in [20, 35, 50, 65, 80] {
        let bytes = none.activation_bytes() * percent / 100;
        let plan = plan(&graph, Policy::Budget(bytes));
        assert!(plan.activation_bytes() as f64 >= 0.97 * bytes as f64, "{percent} %: {}", plan.activation_bytes());
        let kept = |layer: usize| -> usize {
            let region = format!("model.layers.{layer}");
            plan.saved_residuals().iter().filter(|r| r.region.as_deref() == Some(&region)).map(|r| r.bytes).sum()
        };
        // The first block has no gradient to hand on, so it is of another kind.
        for layer in 2..8 {
            assert!(kept(layer - 1) <= kept(layer), "{percent} %: layers {} and {layer}", layer - 1);
        }
        assert!(
            recomputed(&plan).all(|node| !node.name.starts_with("model.layers.7.")),
            "the last block repeats nothing"
        );
    }
}

#[test]
fn more_layers_than_fit_are_planned_in_segments_of_several_blocks() {
    let graph = TINYLLAMA.lora(12, 512);
    let full = plan(&graph, Policy::Full);
    let error = compile(graph.clone(), &Policy::Budget(0), &DeviceProfile::generic()).expect_err("nothing fits in 0");
    let smallest = error.smallest_bytes().expect("the budget is too small");
    assert!(smallest * 10 < full.activation_bytes() * 9, "{smallest} of {}", full.activation_bytes());
    let between = plan(&graph, Policy::Budget(usize::midpoint(smallest, full.activation_bytes())));
    let handed_on = |plan: &Plan| plan.saved_residuals().iter().filter(|r| r.name.ends_with("mlp_residual")).count();
    assert!(handed_on(&between) < handed_on(&full));
}

#[test]
fn large_models_have_a_frontier() {
    for (shape, layers) in [(LLAMA_8B, 32), (LLAMA_70B, 80)] {
        let points = frontier(shape.lora(layers, 4096), &DeviceProfile::generic(), 8).expect("a frontier");
        let (slowest, fastest) = (&points[0], &points[points.len() - 1]);
        assert!(slowest.arena_bytes * 5 < fastest.arena_bytes, "{}: {points:?}", shape.name);
    }
}
