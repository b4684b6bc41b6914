//! Plans in tiles on the CPU executor: loss and gradients have the bits of the plan that keeps everything, at every kernel
//! level this machine runs and on any number of threads, for MLPs as Llama and GPT-2 have them and for random models.

use proptest::prelude::*;
use remat_compiler::{CompileError, compile, compile_within};
use remat_cpu::{CpuExecutor, CpuOptions, Level};
use remat_formats::ModelConfig;
use remat_ir::Graph;
use remat_model::{BatchShape, LoraConfig, Method, Precision, Quant, training};
use remat_plan::{Device, Plan, Policy, validate};
use remat_testkit::{fill_sources, random_model_of, run_plan, source_values, with_backward};
use std::path::Path;

const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 32, "intermediate_size": 112, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 40}"#;
const GPT2: &str = r#"{"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 1024, "vocab_size": 40,
    "attn_pdrop": 0.0, "resid_pdrop": 0.1, "embd_pdrop": 0.0}"#;

fn lora() -> LoraConfig {
    LoraConfig { rank: 4, alpha: 8.0, dropout: 0.1, ..LoraConfig::default() }
}

/// One micro-step on 1180 tokens: two whole tiles and a shorter one.
fn backward(config: &str, precision: Precision, method: &Method) -> Graph {
    let config = ModelConfig::parse(Path::new("config.json"), config).expect("a configuration");
    let training = training(&config, precision, method, BatchShape { batch: 2, seq_len: 590 }).expect("a graph");
    with_backward(training)
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

/// The plan with the smallest arena.
fn smallest(graph: &Graph, options: CpuOptions) -> Plan {
    let auto = |cap| compile_within(graph.clone(), &Policy::Auto, &options.profile(), Some(cap));
    let least = auto(0).expect_err("nothing fits into nothing").smallest_bytes().expect("only the cap can be wrong");
    auto(least).expect("the smallest that was named")
}

#[test]
fn a_step_in_tiles_has_the_bits_of_one_that_keeps_everything() {
    let methods =
        [Method::Lora(lora()), Method::Qlora(lora(), Quant::Nf4), Method::Qlora(lora(), Quant::Int8), Method::Full];
    for (config, precision, method) in [LLAMA, GPT2].into_iter().flat_map(|config| {
        let both = [Precision::F32, Precision::Bf16].into_iter();
        let methods = &methods;
        both.flat_map(move |precision| methods.iter().map(move |method| (config, precision, method)))
    }) {
        let graph = backward(config, precision, method);
        let sources = source_values(&graph, 3);
        for level in levels() {
            let of = |threads, policy: Option<&Policy>| {
                let options = CpuOptions { threads, level };
                let plan = match policy {
                    Some(policy) => compile(graph.clone(), policy, &options.profile()).expect("compiles"),
                    None => smallest(&graph, options),
                };
                (plan.tiles(), run_plan(&mut CpuExecutor::new(options), plan, &sources).expect("runs"))
            };
            let (_, reference) = of(1, Some(&Policy::None));
            for threads in [1, 2] {
                let (tiles, result) = of(threads, None);
                assert_eq!(tiles, 3, "{precision} {method:?}\n{config}");
                let differs = result.bytes.iter().find(|(name, bytes)| reference.bytes[*name] != **bytes);
                let name = differs.map(|(name, _)| name);
                assert_eq!(name, None, "{level}, {threads} threads, {precision}, {method:?}\n{config}");
            }
        }
    }
}

/// What is made again in tiles has the bits of the first time, and every value is what the interpreter says.
#[test]
fn a_step_in_tiles_is_validated_value_by_value() {
    for config in [LLAMA, GPT2] {
        let graph = backward(config, Precision::F32, &Method::Lora(lora()));
        let plan = smallest(&graph, CpuOptions::new(2));
        let (planned, sources) = (plan.graph.clone(), source_values(&graph, 3));
        let mut executor = CpuExecutor::new(CpuOptions::new(2));
        run_plan(&mut executor, plan.clone(), &sources).expect("runs");
        let mut executor = CpuExecutor::new(CpuOptions::new(2));
        let program = executor.load(vec![plan]).expect("loads")[0];
        fill_sources(&mut executor, &planned, &sources).expect("filled");
        let validation = validate(&mut executor, program, true).unwrap_or_else(|error| panic!("{error}"));
        assert!(validation.replayed_values > 10, "{validation:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_models_in_tiles_have_the_bits_of_none(seed in any::<u64>()) {
        let graph = random_model_of(seed, 300).with_backward();
        let sources = source_values(&graph, 3);
        let none = CpuOptions::new(1);
        let plan = compile(graph.clone(), &Policy::None, &none.profile()).expect("compiles");
        let reference = run_plan(&mut CpuExecutor::new(none), plan, &sources).expect("runs");
        let bytes = match compile(graph.clone(), &Policy::Budget(0), &none.profile()) {
            Ok(plan) => plan.activation_bytes(),
            Err(CompileError::BudgetDoesNotFit { smallest_bytes, .. }) => smallest_bytes,
            Err(error) => panic!("{error}"),
        };
        for threads in [1, 2] {
            let options = CpuOptions::new(threads);
            let budget = compile(graph.clone(), &Policy::Budget(bytes), &options.profile()).expect("feasible");
            prop_assert!(budget.activation_bytes() <= bytes);
            for plan in [smallest(&graph, options), budget] {
                let tiles = plan.tiles();
                let result = run_plan(&mut CpuExecutor::new(options), plan, &sources).expect("runs");
                prop_assert!(result == reference, "{} tiles on {} threads", tiles, threads);
            }
        }
    }
}
