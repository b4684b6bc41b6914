//! Tiles: where a limit asks for them wide values are cut, the independent checker accepts every such plan, and it means what
//! the graph means. That bits agree is tested on the executor (`testkit`).

mod shapes;

use proptest::prelude::*;
use remat_compiler::{Problem, compile, simplify};
use remat_ir::{Array, Graph, Interpreter, Storage};
use remat_plan::{DeviceProfile, KernelRules, Plan, Policy, lower_bound_bytes};
use remat_testkit::{random_model, random_model_of_functions, source_values};
use shapes::{GPT2_FEW_WORDS, LLAMA_8B, Shape};
use std::collections::BTreeMap;

/// The model of a seed: of the layers of decoders alone, or of layers of single ops besides.
fn model(seed: u64, of_functions: bool) -> Graph {
    let model = if of_functions { random_model_of_functions(seed) } else { random_model(seed) };
    model.with_backward()
}

/// A machine whose sums over tokens can be interrupted after so many rows.
fn with_token_block(token_block: usize) -> DeviceProfile {
    DeviceProfile { rules: KernelRules { token_block, ..KernelRules::GENERIC }, ..DeviceProfile::generic() }
}

/// A machine whose sums over tokens can be interrupted after every second row.
fn profile() -> DeviceProfile {
    with_token_block(2)
}

/// The smallest plan of `auto`.
fn smallest(graph: &Graph, profile: &DeviceProfile) -> Plan {
    let problem = Problem::new(graph.clone(), profile).expect("valid");
    let auto = |cap| problem.plan(&Policy::Auto, Some(cap));
    let bytes = auto(0).expect_err("nothing fits into nothing").smallest_bytes().expect("only the cap can be wrong");
    auto(bytes).expect("the smallest arena named is feasible")
}

fn untiled() -> DeviceProfile {
    with_token_block(usize::MAX / 2)
}

/// Every output and final state.
fn meaning(graph: &Graph) -> BTreeMap<String, Array> {
    let values = Interpreter::exact().run(graph, &source_values(graph, 1)).expect("all sources are given");
    let last = |&id: &remat_ir::ValueId| graph.values.iter().all(|value| value.donated_from != Some(id));
    let state = |&id: &remat_ir::ValueId| graph.value(id).storage == Storage::State && last(&id);
    let ids = graph.value_ids().filter(|id| graph.outputs.contains(id) || state(id));
    ids.map(|id| (graph.value(graph.storage_root(id)).name.clone(), values[id.index()].clone())).collect()
}

/// Sums over rows are made in parts, so the last digits of an f64 may differ.
fn differs(a: &BTreeMap<String, Array>, b: &BTreeMap<String, Array>) -> Option<String> {
    let scale = a.values().flat_map(|array| &array.data).fold(1.0f64, |m, v| m.max(v.abs()));
    let near = |(x, y): (&f64, &f64)| (x - y).abs() <= 1e-9 * scale || x.is_nan() == y.is_nan() && x.is_nan();
    if a.len() != b.len() {
        return Some("the results have other names".to_string());
    }
    let far = |(name, x): &(&String, &Array)| !x.data.iter().zip(&b[*name].data).all(near);
    a.iter().find(far).map(|(name, _)| name.clone())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_in_tiles_are_checked_and_mean_the_same(
        seed in any::<u64>(), of_functions in any::<bool>(),
    ) {
        let graph = model(seed, of_functions);
        let source = simplify(graph.clone());
        // `compile` runs the checker itself.
        let plan = smallest(&graph, &profile());
        prop_assert_eq!(differs(&meaning(&source), &meaning(&plan.graph)), None);
        prop_assert!(plan.arena_bytes >= lower_bound_bytes(&plan));
        prop_assert_eq!(plan.to_string().parse(), Ok(plan.clone()));
        prop_assert!(plan.arena_bytes <= smallest(&graph, &untiled()).arena_bytes);
    }

    #[test]
    fn budgets_are_kept_down_to_the_smallest_and_named_policies_never_cut(
        seed in any::<u64>(), of_functions in any::<bool>(),
    ) {
        let graph = model(seed, of_functions);
        let profile = profile();
        let problem = Problem::new(graph.clone(), &profile).expect("valid");
        let budget = |bytes| problem.plan(&Policy::Budget(bytes), None);
        if let Err(error) = budget(0) {
            let smallest = error.smallest_bytes().expect("only the budget can be wrong");
            let plan = budget(smallest).expect("the smallest budget named is feasible");
            prop_assert!(plan.activation_bytes() <= smallest);
            let whole = compile(graph.clone(), &Policy::Budget(0), &untiled()).expect_err("as small");
            prop_assert!(smallest <= whole.smallest_bytes().expect("only the budget can be wrong"));
        }
        for policy in [Policy::None, Policy::Full, Policy::Every(2)] {
            let plan = problem.plan(&policy, Some(usize::MAX)).expect("compiles");
            prop_assert_eq!(plan.tiles(), 1, "{}", policy);
        }
    }
}

/// The random models must have something to cut, or the tests above say nothing.
#[test]
fn many_random_models_are_cut() {
    for (of_functions, seeds) in [(false, 60), (true, 100)] {
        let cut = (0..seeds).filter(|&seed| smallest(&model(seed, of_functions), &profile()).tiles() > 1).count();
        assert!(cut >= 5, "{cut} of {seeds}, of functions: {of_functions}");
    }
}

/// Values of the plan's graph that have this shape.
fn of_shape(plan: &Plan, shape: &[usize]) -> Vec<String> {
    let wide = |value: &&remat_ir::Value| value.storage == Storage::Arena && value.ty.shape.dims() == shape;
    plan.graph.values.iter().filter(wide).map(|value| value.name.clone()).collect()
}

fn cut_last_region(shape: &Shape, inner: usize) {
    let graph = shape.lora(3, 2048);
    let profile = DeviceProfile::generic();
    let (plan, whole) = (smallest(&graph, &profile), smallest(&graph, &untiled()));
    let full = compile(graph, &Policy::Full, &profile).expect("compiles");
    assert_eq!((plan.tiles(), whole.tiles()), (4, 1), "{}", shape.name);
    // Levels alone make the arena smaller, too.
    let [tiled_bytes, whole_bytes, full_bytes] = [&plan, &whole, &full].map(|plan| plan.arena_bytes as f64);
    assert!(
        tiled_bytes < 0.85 * whole_bytes && whole_bytes <= full_bytes,
        "{tiled_bytes}, {whole_bytes}, {full_bytes}"
    );
    assert!(tiled_bytes < 0.8 * full_bytes, "{tiled_bytes} of {full_bytes}");
    // Backward of the last block holds the peak; nothing as wide as an MLP is whole there.
    let wide = of_shape(&plan, &[1, 2048, inner]);
    let last = |name: &&String| name.contains(".2.") && (name.ends_with('~') || name.starts_with("grad"));
    assert_eq!(wide.iter().find(last), None);
    assert!(of_shape(&plan, &[512, inner]).iter().any(|name| name.contains(".2.") && name.contains('~')));
    assert_eq!(of_shape(&whole, &[512, inner]), Vec::<String>::new());
}

#[test]
fn the_mlps_of_llama_and_gpt2_are_cut() {
    cut_last_region(&LLAMA_8B, 14336);
    cut_last_region(&GPT2_FEW_WORDS, 4096);
}
