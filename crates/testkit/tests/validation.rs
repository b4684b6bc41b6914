//! Validation finds what is wrong and nothing else: sound steps of each family pass in either precision, and bytes that
//! change between a value and its reader, as under a plan that gives one place to two values, are found.

use remat_compiler::compile;
use remat_cpu::{CpuExecutor, CpuOptions, Level};
use remat_formats::ModelConfig;
use remat_ir::Graph;
use remat_model::{BatchShape, LoraConfig, Method, Precision, training};
use remat_plan::{Plan, Policy, ProgramId, Validation, ValidationError, validate};
use remat_testkit::{run_plan, source_values, with_backward};
use std::path::Path;

const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 40}"#;
const GPT2: &str = r#"{"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 40,
    "attn_pdrop": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1}"#;

fn backward(config: &str, precision: Precision, method: &Method) -> Graph {
    let config = ModelConfig::parse(Path::new("config.json"), config).expect("a configuration");
    let training = training(&config, precision, method, BatchShape { batch: 2, seq_len: 24 }).expect("a graph");
    with_backward(training)
}

/// Runs a plan and validates the run that follows.
fn validated(plan: Plan, options: CpuOptions) -> Result<Validation, ValidationError> {
    let graph = plan.graph.clone();
    let mut executor = CpuExecutor::new(options);
    run_plan(&mut executor, plan, &source_values(&graph, 3)).expect("runs");
    validate(&mut executor, ProgramId(0), true)
}

#[test]
fn sound_steps_are_valid_at_every_level_in_either_precision() {
    let lora = LoraConfig { rank: 4, alpha: 8.0, dropout: 0.1, ..LoraConfig::default() };
    for (config, method) in [(LLAMA, Method::Lora(lora.clone())), (GPT2, Method::Lora(lora)), (GPT2, Method::Full)] {
        for precision in [Precision::F32, Precision::Bf16] {
            for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
                let options = CpuOptions { threads: 2, level };
                let graph = backward(config, precision, &method);
                let plan = compile(graph, &Policy::Full, &options.profile()).expect("compiles");
                let found = validated(plan, options).unwrap_or_else(|error| panic!("{level} {precision}: {error}"));
                assert!(found.reference_values > 50 && found.replayed_values > 5, "{found:?}");
            }
        }
    }
}

#[test]
fn bytes_that_change_between_a_value_and_its_reader_are_found() {
    for precision in [Precision::F32, Precision::Bf16] {
        let options = CpuOptions::new(2);
        let graph = backward(LLAMA, precision, &Method::Full);
        let plan = compile(graph, &Policy::None, &options.profile()).expect("compiles");
        validated(plan.clone(), options).expect("sound");
        // Each of the values that wait longest goes where something else lies meanwhile.
        let mut waiting: Vec<usize> = (0..plan.buffers.len()).collect();
        waiting.sort_by_key(|&at| plan.buffers[at].first.0.abs_diff(plan.buffers[at].last.0));
        let mut found = 0;
        for &victim in waiting.iter().rev().take(8) {
            let of = &plan.buffers[victim];
            let meanwhile = plan
                .buffers
                .iter()
                .find(|other| other.first > of.first && other.last < of.last && other.slot.bytes >= of.slot.bytes);
            let Some(other) = meanwhile else { continue };
            let mut broken = plan.clone();
            broken.buffers[victim].slot.offset = other.slot.offset;
            let error = validated(broken, options).expect_err("two values in one place").to_string();
            assert!(error.contains("differs from its definition"), "{error}");
            found += 1;
        }
        assert!(found > 2, "only {found} plans were broken");
    }
}
