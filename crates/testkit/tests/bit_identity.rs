//! Loss, gradients and trained parameters are byte-equal under every policy and number of threads, with dropout and
//! gradient accumulation: on the parity models, and on random ones.

mod case;

use case::{Case, Run};
use proptest::prelude::*;
use remat_compiler::compile;
use remat_cpu::{CpuExecutor, CpuOptions};
use remat_ir::Graph;
use remat_model::{Method, Precision};
use remat_plan::{DeviceProfile, Policy};
use remat_testkit::{Definition, random_model, random_model_of_functions, run_plan, source_values, with_backward};

/// Named policies, and three budgets between the smallest that the graph can be trained in and keeping everything.
fn policies(graph: &Graph) -> Vec<Policy> {
    let bytes = |policy| compile(graph.clone(), &policy, &DeviceProfile::generic()).map(|plan| plan.activation_bytes());
    let most = bytes(Policy::None).expect("compiles");
    let least = match bytes(Policy::Budget(0)) {
        Ok(bytes) => bytes,
        Err(error) => error.smallest_bytes().expect("only the budget can be wrong"),
    };
    let budgets = [least, least + (most - least) / 3, least + (most - least) * 2 / 3].map(Policy::Budget);
    [Policy::None, Policy::Full, Policy::Every(2)].into_iter().chain(budgets).collect()
}

fn backward(case: &Case, method: &Method) -> Graph {
    let training = case.training(method);
    with_backward(training)
}

/// Losses of three updates, the gradients before each update, and the parameters at the end, as bits.
fn trace(case: &Case, method: &Method, policy: &Policy, threads: usize) -> Vec<u64> {
    let mut run = Run::on_threads(case, method, policy, threads);
    let mut bits = Vec::new();
    for update in 0..3 {
        bits.push(run.accumulate(update).to_bits());
        let names: Vec<String> = run.parameters().map(str::to_string).collect();
        for name in &names {
            bits.extend(run.state(&format!("{name}.grad")).iter().map(|x| u64::from(x.to_bits())));
        }
        bits.push(run.update(update, 1e-2).to_bits());
        for name in &names {
            bits.extend(run.state(name).iter().map(|x| u64::from(x.to_bits())));
        }
    }
    bits
}

#[test]
fn the_tolerance_is_tight_for_most_random_models() {
    let tolerance = |graph: Graph| Definition::of(&graph, &source_values(&graph, 3)).tolerance;
    let mut tolerances: Vec<f64> = (0..60).map(|seed| tolerance(random_model(seed).with_backward())).collect();
    tolerances.sort_by(f64::total_cmp);
    assert!(tolerances[50] < 0.05, "{tolerances:?}");
}

#[test]
fn training_is_byte_equal_under_every_policy_and_thread_count() {
    for (name, precision) in [
        ("llama-gqa-tied", Precision::F32),
        ("gpt2", Precision::F32),
        ("llama-gqa-tied", Precision::Bf16),
        ("gpt2", Precision::Bf16),
        ("qwen3_moe", Precision::F32),
    ] {
        let case = Case::open_in(name, precision);
        let Method::Lora(mut lora) = case.lora() else { unreachable!("lora() makes one") };
        lora.dropout = 0.1;
        for method in [Method::Lora(lora), Method::Full] {
            let reference = trace(&case, &method, &Policy::None, 1);
            for policy in policies(&backward(&case, &method)) {
                for threads in [1, 2, 4] {
                    let other = trace(&case, &method, &policy, threads);
                    assert!(reference == other, "{name} {precision} {method:?}: {policy} on {threads} threads differs");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_models_run_like_the_interpreter_and_bit_identically_under_every_policy(seed in any::<u64>()) {
        let graph = random_model_of_functions(seed).with_backward();
        let sources = source_values(&graph, 3);
        let definition = Definition::of(&graph, &sources);
        let mut first = None;
        for policy in policies(&graph) {
            for threads in [1, 2] {
                let options = CpuOptions::new(threads);
                let plan = compile(graph.clone(), &policy, &options.profile()).expect("compiles");
                let result = run_plan(&mut CpuExecutor::new(options), plan, &sources).expect("runs");
                let first = first.get_or_insert_with(|| result.clone());
                prop_assert!(*first == result, "{} on {} threads", policy, threads);
            }
        }
        let result = first.expect("policies were run");
        if definition.resolves() {
            let checked = definition.check(&graph, &result);
            prop_assert!(checked.is_ok(), "{:?}", checked);
        }
    }
}
