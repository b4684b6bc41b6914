//! H: checkpointing is invisible but for memory and time.

use crate::models::{bits, block, chain, classifier, feed, runs_again, started};
use remat::{AdamWSettings, BatchShape, CheckpointPolicy, LoraConfig, Method, Model, Options, Step};
use std::path::PathBuf;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity").join(name)
}

fn lora() -> LoraConfig {
    LoraConfig { rank: 4, alpha: 8.0, dropout: 0.1, ..LoraConfig::default() }
}

fn trained(model: &Model, updates: usize) -> (Step, Vec<u32>) {
    let options = Options::new().threads(1).adamw(AdamWSettings::default()).seed(3);
    let shape = BatchShape { batch: 2, seq_len: 12 };
    let mut step = model.training_step(&Method::Lora(lora()), shape, options).expect("compiles");
    let ids: Vec<i32> = (0..24).map(|i| i * 7 % 20).collect();
    step.set_input("ids", &ids).expect("fits");
    step.set_input("targets", &ids).expect("fits");
    let mut losses = Vec::new();
    for _ in 0..updates {
        losses.push(step.run_scaled(1.0 / 24.0).expect("runs").to_bits());
        step.update(1e-2).expect("updates");
    }
    (step, losses)
}

#[test]
fn h_switching_changes_no_parameter_name_no_loss_and_no_saved_file() {
    for family in ["gpt2", "llama-gqa-tied"] {
        let mut model = Model::from_pretrained(fixture(family)).expect("opens");
        let save = |model: &Model, step: &Step| {
            let folder = tempfile::tempdir().expect("a folder");
            model.save_adapter(step, &lora(), folder.path()).expect("saves");
            ["adapter_model.safetensors", "adapter_config.json"]
                .map(|name| std::fs::read(folder.path().join(name)).expect(name))
        };
        let (plain, plain_losses) = trained(&model, 3);
        model.gradient_checkpointing_enable(CheckpointPolicy::full());
        let (checkpointed, losses) = trained(&model, 3);
        assert!(runs_again(&checkpointed) > 0 && runs_again(&plain) == 0, "{family}");
        assert_eq!(plain.parameter_names(), checkpointed.parameter_names());
        assert!(plain_losses == losses, "{family}: the losses of three updates");
        assert!(save(&model, &plain) == save(&model, &checkpointed), "{family}: the files");
    }
}

#[test]
fn h_a_region_names_its_parameters_as_a_scope_does() {
    let names =
        |marked: bool| {
            let (g, loss) = classifier(|g, x| {
                if marked { g.checkpoint("layer", |g| block(g, x)) } else { g.scope("layer", |g| block(g, x)) }
            });
            let step = g.compile(loss, Options::new()).expect("compiles");
            step.parameter_names().iter().map(|name| name.to_string()).collect::<Vec<_>>()
        };
    assert_eq!(names(true), names(false));
}

#[test]
fn h_enabling_twice_is_enabling_once_and_disabling_restores_the_plan_exactly() {
    let mut model = Model::from_pretrained(fixture("qwen2")).expect("opens");
    assert!(!model.is_gradient_checkpointing());
    let plain = trained(&model, 0).0;
    model.gradient_checkpointing_enable(CheckpointPolicy::full());
    let once = trained(&model, 0).0;
    model.gradient_checkpointing_enable(CheckpointPolicy::full());
    assert!(model.is_gradient_checkpointing());
    let twice = trained(&model, 0).0;
    assert!(once.plan() == twice.plan());
    assert!(once.plan() != plain.plan());
    model.gradient_checkpointing_disable();
    assert!(!model.is_gradient_checkpointing());
    assert!(trained(&model, 0).0.plan() == plain.plan());
}

#[test]
fn h_a_running_step_switches_its_policy_and_goes_on_with_the_same_bits() {
    let train = |switch: bool| {
        let (g, loss) = chain(4);
        let options = Options::new().adamw(AdamWSettings::default()).policy(CheckpointPolicy::none()).seed(1);
        let mut step = g.compile(loss, options).expect("compiles");
        let before = step.plan().clone();
        feed(&mut step);
        let mut losses = Vec::new();
        for update in 0..4 {
            if switch && update == 2 {
                step.set_policy(CheckpointPolicy::full()).expect("can be met");
                assert!(runs_again(&step) > 0);
            }
            losses.push(step.run().expect("runs").to_bits());
            step.update(1e-2).expect("updates");
        }
        if switch {
            step.set_policy(CheckpointPolicy::none()).expect("can be met");
            assert!(*step.plan() == before, "disabling restores the plan");
        }
        losses
    };
    assert!(train(true) == train(false));
}

#[test]
fn h_regions_are_chosen_by_a_predicate_on_layer_names() {
    let odd = CheckpointPolicy::predicate(|value| match value.layer {
        Some("layers.1" | "layers.3") => remat::Decision::PreferRecompute,
        _ => remat::Decision::PreferSave,
    });
    let mut step = started(chain(5), odd);
    assert_eq!(step.op_runs()["linear"].recomputed, 4, "two linears in each of two regions");
    assert!(bits(&mut step) == bits(&mut started(chain(5), CheckpointPolicy::none())));
}

#[test]
fn h_the_memory_footprint_is_what_transformers_says_and_does_not_change() {
    // get_memory_footprint() of transformers 5 on the published models and on the fixtures, in bf16.
    let bytes = |model: Model| model.in_precision(remat::Precision::Bf16).memory_footprint().expect("a graph");
    assert_eq!(bytes(Model::from_preset("gpt2").expect("known")), 248_879_616);
    assert_eq!(bytes(Model::from_preset("gpt2-medium").expect("known")), 709_646_336);
    for (name, expected) in [("gpt2", 190_368), ("llama-gqa-tied", 205_760), ("mistral", 100_368), ("qwen3", 109_728)] {
        let mut model = Model::from_pretrained(fixture(name)).expect("opens");
        model.gradient_checkpointing_enable(CheckpointPolicy::full());
        assert_eq!(bytes(model), expected, "{name}, enabled");
    }
}
