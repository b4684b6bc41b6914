//! Random models under random policies: every plan passes the checker, and the rematerialised graph means what the
//! source graph means. (Executors run the same plans in their own tests.)

use proptest::prelude::*;
use remat_compiler::{Kept, compile, rematerialise, simplify};
use remat_ir::{Array, Graph, Interpreter, Storage, verify};
use remat_plan::{DeviceProfile, Policy, lower_bound_bytes};
use remat_testkit::{random_model, random_model_of_functions, source_values};
use std::collections::BTreeMap;

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::None), Just(Policy::Full), (1usize..4).prop_map(Policy::Every)]
}

/// Outputs and final states, by name.
fn meaning(graph: &Graph, seed: u64) -> BTreeMap<String, Array> {
    let values = Interpreter::exact().run(graph, &source_values(graph, seed)).expect("all sources are given");
    let mut results = BTreeMap::new();
    for &output in &graph.outputs {
        results.insert(graph.value(output).name.clone(), values[output.index()].clone());
    }
    for id in graph.value_ids().filter(|&id| graph.value(id).storage == Storage::State) {
        let root = graph.value(graph.storage_root(id)).name.clone();
        results.insert(format!("{root} at the end"), values[id.index()].clone());
    }
    results
}

fn nearly_equal(a: &BTreeMap<String, Array>, b: &BTreeMap<String, Array>) -> Result<(), String> {
    if a.keys().ne(b.keys()) {
        return Err("the results have other names".to_string());
    }
    // Gradients that vanish but for cancellation (a bias of keys) carry the rounding of the numbers that cancel.
    let scale = a.values().flat_map(|array| &array.data).fold(1.0f64, |m, v| m.max(v.abs()));
    for (name, x) in a {
        let y = &b[name];
        if x.data.iter().zip(&y.data).any(|(p, q)| (p - q).abs() > 1e-9 * scale || p.is_nan() != q.is_nan()) {
            return Err(format!("{name} differs"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_policy_gives_a_plan_that_means_the_same(seed in any::<u64>(), policy in policies()) {
        let graph = random_model_of_functions(seed).with_backward();
        verify(&graph).expect("differentiation keeps graphs valid");
        let source = simplify(graph.clone());
        verify(&source).expect("simplification keeps graphs valid");
        // Simplification may reassociate sums; it does so the same way for every policy.
        prop_assert_eq!(nearly_equal(&meaning(&graph, 1), &meaning(&source, 1)), Ok(()));
        let rematerialised = rematerialise(&source, &Kept::of(&source, &policy).expect("needs no search"));
        verify(&rematerialised).expect("rematerialisation keeps graphs valid");
        prop_assert_eq!(meaning(&source, 1), meaning(&rematerialised, 1));
        // `compile` runs the checker itself.
        let plan = compile(graph, &policy, &DeviceProfile::generic()).expect("compiles and passes the checker");
        prop_assert_eq!(meaning(&source, 1), meaning(&plan.graph, 1));
        prop_assert!(plan.arena_bytes >= lower_bound_bytes(&plan));
        prop_assert_eq!(plan.to_string().parse(), Ok(plan.clone()));
    }

    #[test]
    fn each_node_is_repeated_at_most_once_per_level_and_the_last_block_never(seed in any::<u64>(), policy in policies()) {
        let source = simplify(random_model_of_functions(seed).with_backward());
        let graph = rematerialise(&source, &Kept::of(&source, &policy).expect("needs no search"));
        let mut repeated = std::collections::HashMap::new();
        let last = graph.nodes.iter().filter(|n| n.phase == remat_ir::Phase::Forward && n.region.is_some());
        let last = last.map(|node| graph.region_path(node.region)).max().unwrap_or_default();
        for node in &graph.nodes {
            let Some(origin) = node.recompute_of else { continue };
            let times = repeated.entry(origin).or_insert(0);
            *times += 1;
            let path = graph.region_path(node.region);
            prop_assert!(*times <= path.len(), "{} is repeated {times} times in {} regions", node.name, path.len());
            prop_assert!(path != last, "{} is in the last block", node.name);
            let read = graph.nodes.iter().any(|user| node.outputs.iter().any(|o| user.inputs.contains(o)));
            prop_assert!(read, "{} is repeated and read by nothing", node.name);
        }
    }
}

#[test]
fn no_policy_recomputes_under_none() {
    for seed in 0..20 {
        let plan = compile(random_model(seed).with_backward(), &Policy::None, &DeviceProfile::generic());
        assert_eq!(plan.expect("compiles").recomputed_steps().count(), 0);
    }
}
