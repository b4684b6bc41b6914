//! What a compiled LoRA step does not do: no work for frozen weights, none below the lowest adapter, and no
//! recomputation of what backward does not read.

mod case;

use case::Case;
use remat_compiler::compile;
use remat_ir::{Node, Op, Phase};
use remat_model::{LoraConfig, Method, Targets};
use remat_plan::{Action, DeviceProfile, Plan, Policy};
use remat_testkit::with_backward;

fn lora(targets: Targets) -> Method {
    Method::Lora(LoraConfig { rank: 4, alpha: 8.0, targets, ..LoraConfig::default() })
}

fn plan(case: &Case, method: &Method, policy: &Policy) -> Plan {
    let training = case.training(method);
    compile(with_backward(training), policy, &DeviceProfile::generic()).expect("compiles")
}

fn steps(plan: &Plan, wanted: impl Fn(&Node) -> bool) -> Vec<&str> {
    let node = |action: &Action| match *action {
        Action::Compute(op) => Some(plan.graph.node(op)),
        _ => None,
    };
    plan.steps.iter().filter_map(|step| node(&step.action)).filter(|n| wanted(n)).map(|n| n.name.as_str()).collect()
}

fn is_weight_gradient(node: &Node) -> bool {
    matches!(node.op, Op::LinearDw(_) | Op::BiasGrad(_) | Op::RmsNormDw(_) | Op::LayerNormDw(_) | Op::EmbeddingGrad(_))
}

#[test]
fn frozen_weights_cost_no_gradient() {
    for name in ["llama-gqa-tied", "gpt2"] {
        let case = Case::open(name);
        let plan = plan(&case, &lora(Targets::AllLinear), &Policy::None);
        // Two weight gradients per adapted linear (A and B), and no other.
        let adapted = case.linear_names().len();
        assert_eq!(steps(&plan, is_weight_gradient).len(), 2 * adapted, "{name}");
        let head_gradient = |node: &Node| match &node.op {
            Op::LinearCrossEntropyGrad(op) => op.dw || op.db,
            Op::LinearCrossEntropyWithGrad(op) => op.0.dw || op.0.db,
            _ => false,
        };
        assert_eq!(steps(&plan, head_gradient), Vec::<&str>::new(), "{name}: the head is frozen");
    }
}

#[test]
fn nothing_runs_below_the_lowest_adapter() {
    let case = Case::open("llama-gqa-tied");
    let targets = Targets::Pattern(r"model\.layers\.2\..*".to_string());
    let plan = plan(&case, &lora(targets), &Policy::Full);
    let region = |node: &Node| node.region.map(|id| plan.graph.regions[id.index()].name.clone());
    let below =
        steps(&plan, |node| node.phase == Phase::Backward && region(node).is_some_and(|name| name != "model.layers.2"));
    assert_eq!(below, Vec::<&str>::new());
    assert_eq!(plan.recomputed_steps().count(), 0, "the last block is never recomputed, the others have no backward");
    // In the lowest adapted block no gradient flows to its input: q, k and v need no dx of the base weight.
    let into_input = steps(&plan, |node| node.name.contains("input_layernorm.dx"));
    assert_eq!(into_input, Vec::<&str>::new());
}

#[test]
fn full_checkpointing_repeats_only_what_backward_reads() {
    for (name, last_linear, last_block) in
        [("llama-gqa-tied", "mlp.down_proj", "model.layers.2."), ("gpt2", "mlp.c_proj", "transformer.h.2.")]
    {
        let case = Case::open(name);
        let plan = plan(&case, &lora(Targets::AllLinear), &Policy::Full);
        let repeated = steps(&plan, |node| node.recompute_of.is_some());
        assert!(!repeated.is_empty(), "{name}: full recomputes");
        for step in &repeated {
            assert!(!step.contains(last_block), "{name}: {step} is in the last block");
            let base_product = step.trim_end_matches('~').ends_with(last_linear);
            assert!(!base_product, "{name}: {step} is a block's last linear, which backward does not read");
            assert!(!step.contains("mlp_residual"), "{name}: {step} is the block's result");
        }
        // The adapter's own u = x·Aᵀ of that linear is read by backward, so it is repeated.
        let thin = repeated.iter().filter(|step| step.contains(&format!("{last_linear}.lora_A"))).count();
        assert_eq!(thin, 2, "{name}: one in each of the first two blocks");
        let every = plan_steps_per_node(&plan);
        assert!(every.iter().all(|&count| count <= 2), "{name}: a node runs at most twice");
    }
}

/// How often each original node runs.
fn plan_steps_per_node(plan: &Plan) -> Vec<usize> {
    let mut counts = vec![0; plan.graph.nodes.len()];
    for step in &plan.steps {
        if let Action::Compute(op) = step.action {
            counts[plan.graph.node(op).recompute_of.unwrap_or(op).index()] += 1;
        }
    }
    counts
}

#[test]
fn checkpointing_needs_less_memory_the_more_it_recomputes() {
    let case = Case::open("llama-gqa-tied");
    let arena = |policy| plan(&case, &lora(Targets::AllLinear), &policy).arena_bytes;
    let (none, every, full) = (arena(Policy::None), arena(Policy::Every(2)), arena(Policy::Full));
    assert!(full < none, "full {full}, none {none}");
    assert!(every < none, "every:2 {every}, none {none}");
}
