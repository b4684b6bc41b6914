//! Settings: derived defaults, ranges, what may differ on resume.

use super::*;
use crate::{Isa, PrecisionChoice, Warmup};
use remat_plan::{ByteSize, Policy};

fn valid() -> TrainConfig {
    TrainConfig { model: "model".into(), data: vec!["rows.jsonl".into()], out: "out".into(), ..TrainConfig::default() }
}

#[test]
fn derived_defaults_follow_what_they_derive_from() {
    let lora = TrainConfig { rank: 4, ..valid() }.resolved().expect("valid");
    assert_eq!((lora.alpha, lora.lr, lora.epochs, lora.steps), (Some(8.0), Some(2e-4), Some(1.0), None));
    let full = TrainConfig { method: MethodKind::Full, steps: Some(7), ..valid() }.resolved().expect("valid");
    assert_eq!((full.lr, full.epochs, full.steps), (Some(2e-5), None, Some(7)));
    assert_eq!(full.clone().resolved().expect("still valid"), full);
}

#[test]
fn a_card_reads_no_disk() {
    let device = "rtx-4090".parse().expect("a card");
    let disk = MaxMemory { disk: Some(ByteSize(1 << 30)), host: None };
    for (key, config) in [
        ("offload", TrainConfig { offload: Some("folder".into()), ..valid() }),
        ("device-map", TrainConfig { device_map: Some(DeviceMap::Auto), ..valid() }),
        ("max-memory", TrainConfig { max_memory: Some(disk), ..valid() }),
    ] {
        let error = TrainConfig { device, ..config }.resolved_to_plan().expect_err("refused").to_string();
        assert!(error.contains(key) && error.contains("which a card does not read"), "{error}");
    }
    let host = MaxMemory { host: Some(ByteSize(1 << 30)), disk: None };
    TrainConfig { device, max_memory: Some(host), ..valid() }.resolved_to_plan().expect("of the host's memory");
}

#[test]
fn every_rule_names_its_key() {
    let cases: Vec<(&str, TrainConfig)> = vec![
        ("model", TrainConfig { model: "".into(), ..valid() }),
        ("data", TrainConfig { data: vec![], ..valid() }),
        ("out", TrainConfig { out: "".into(), ..valid() }),
        ("rank", TrainConfig { rank: 0, ..valid() }),
        ("seq-len", TrainConfig { seq_len: Some(0), ..valid() }),
        ("batch-size", TrainConfig { batch_size: 0, ..valid() }),
        ("grad-accum", TrainConfig { grad_accum: 0, ..valid() }),
        ("epochs", TrainConfig { epochs: Some(0.0), ..valid() }),
        ("epochs", TrainConfig { epochs: Some(-0.5), ..valid() }),
        ("epochs", TrainConfig { epochs: Some(f64::NAN), ..valid() }),
        ("epochs", TrainConfig { epochs: Some(1e7), ..valid() }),
        ("steps", TrainConfig { steps: Some(0), ..valid() }),
        ("steps", TrainConfig { steps: Some(1), epochs: Some(1.0), ..valid() }),
        ("threads", TrainConfig { threads: Some(0), ..valid() }),
        ("device", TrainConfig { device: DeviceName::List, ..valid() }),
        ("device", TrainConfig { device: "rtx-4090".parse().expect("a card"), ..valid() }),
        ("device-memory", TrainConfig { device_memory: Some(ByteSize(1 << 30)), ..valid() }),
        ("lr", TrainConfig { lr: Some(f64::NAN), ..valid() }),
        ("lr", TrainConfig { lr: Some(-1.0), ..valid() }),
        ("weight-decay", TrainConfig { weight_decay: f64::INFINITY, ..valid() }),
        ("clip", TrainConfig { clip: -0.5, ..valid() }),
        ("clip", TrainConfig { clip: 1e39, ..valid() }),
        ("warmup", TrainConfig { warmup: Warmup(1e19), ..valid() }),
        ("warmup", TrainConfig { warmup: Warmup(1.5), ..valid() }),
        ("warmup", TrainConfig { warmup: Warmup(-1.0), ..valid() }),
        ("alpha", TrainConfig { alpha: Some(0.0), ..valid() }),
        ("rank", TrainConfig { rank: usize::MAX, ..valid() }),
        ("early-stop", TrainConfig { early_stop: Some(0), eval_data: vec!["e".into()], ..valid() }),
        ("early-stop", TrainConfig { early_stop: Some(2), ..valid() }),
        ("sample-every", TrainConfig { sample_every: Some(0), sample: vec!["a".into()], ..valid() }),
        ("sample-every", TrainConfig { sample_every: Some(2), ..valid() }),
        ("sample-tokens", TrainConfig { sample_tokens: Some(2), ..valid() }),
        ("save-total-limit", TrainConfig { save_total_limit: Some(usize::MAX), ..valid() }),
        ("dropout", TrainConfig { dropout: 1.0, ..valid() }),
        ("eval-every", TrainConfig { eval_every: Some(0), eval_data: vec!["e".into()], ..valid() }),
        ("eval-every", TrainConfig { eval_every: Some(5), ..valid() }),
        ("save-every", TrainConfig { save_every: Some(0), ..valid() }),
        ("early-stop", TrainConfig { early_stop: Some(0), eval_data: vec!["e".into()], ..valid() }),
        ("early-stop", TrainConfig { early_stop: Some(2), ..valid() }),
        ("sample-every", TrainConfig { sample_every: Some(0), sample: vec!["a".into()], ..valid() }),
        ("sample-every", TrainConfig { sample_every: Some(2), ..valid() }),
        ("sample-tokens", TrainConfig { sample_tokens: Some(2), ..valid() }),
        ("save-total-limit", TrainConfig { save_total_limit: Some(0), ..valid() }),
        ("quant", TrainConfig { quant: Some(QuantKind::Int8), ..valid() }),
        ("quant", TrainConfig { quant: Some(QuantKind::Nf4), method: MethodKind::Full, ..valid() }),
    ];
    for (key, config) in cases {
        let message = config.resolved().expect_err(key).to_string();
        assert!(message.contains(&format!("`{key}`")), "{key}: {message}");
    }
}

#[test]
fn a_models_own_dropout_is_on_unless_switched_off() {
    let method = remat_model::Method::Full;
    let shape = remat_model::BatchShape { batch: 1, seq_len: 8 };
    let draws = |no_model_dropout| {
        let mut config = TrainConfig { preset: Some("gpt2".to_string()), no_model_dropout, ..TrainConfig::default() };
        let training = config.open_model().and_then(|model| Ok(model.training(&method, shape)?)).expect("a preset");
        training.random
    };
    assert!(draws(false), "GPT-2 is published with dropout 0.1");
    assert!(!draws(true));
}

#[test]
fn updates_of_epochs_are_whole() {
    let updates = |epochs, per_epoch| TrainConfig { epochs, ..valid() }.total_updates(per_epoch).expect("few");
    assert_eq!([updates(None, 7), updates(Some(2.0), 7), updates(Some(0.5), 7), updates(Some(0.01), 7)], [7, 14, 4, 1]);
    // 0.1 · 30 is 3.0000000000000004.
    assert_eq!(updates(Some(0.1), 30), 3);
    let message =
        TrainConfig { epochs: Some(1e6), ..valid() }.total_updates(1 << 20).expect_err("too many").to_string();
    assert!(message.starts_with("`epochs`") && message.contains("at most 2147483647"), "{message}");
}

#[test]
fn auto_is_what_the_model_is_published_in() {
    let format = |preset: &str, isa, precision| {
        let preset = Some(preset.to_string());
        let mut config = TrainConfig { preset, isa: Some(isa), precision, ..TrainConfig::default() };
        let model = config.open_model().expect("a preset");
        assert_eq!(model.precision(), config.number_format().into());
        assert_ne!(config.precision, PrecisionChoice::Auto, "the run's settings hold what it came to");
        config.number_format().beside(model.stored_dtype())
    };
    // What every machine has that runs this, and what it has at best.
    let (plain, vectors) = (Isa::Portable, Isa::Avx2);
    assert_eq!(format("llama-3.1-8b", plain, PrecisionChoice::Auto), "f32 (stored in bf16)");
    assert_eq!(format("gpt2", plain, PrecisionChoice::Auto), "f32");
    assert_eq!(format("gpt2", plain, PrecisionChoice::Bf16), "bf16 (stored in f32)");
    if remat_step::device::Level::Avx2.is_available() {
        assert_eq!(format("llama-3.1-8b", vectors, PrecisionChoice::Auto), "bf16");
        assert_eq!(format("llama-2-7b", vectors, PrecisionChoice::Auto), "bf16 (stored in f16)");
        assert_eq!(format("llama-2-7b", vectors, PrecisionChoice::F32), "f32 (stored in f16)");
        assert_eq!(format("gpt2", vectors, PrecisionChoice::Auto), "f32");
    }
}

#[test]
fn a_model_may_be_named_by_another_path_on_resume() {
    let folder = tempfile::tempdir().expect("folder");
    let named = |model: std::path::PathBuf| TrainConfig { model, ..valid() }.resolved().expect("valid");
    let saved = named(folder.path().to_path_buf());
    named(folder.path().join(".")).check_resumes(&saved).expect("the same folder");
    assert!(named(folder.path().join("other")).check_resumes(&saved).is_err());
}

#[test]
fn resuming_allows_only_what_leaves_the_numbers_alone() {
    let saved = valid().resolved().expect("valid");
    let free = TrainConfig {
        threads: Some(3),
        epochs: None,
        steps: Some(9),
        save_every: Some(2),
        early_stop: Some(5),
        eval_data: vec!["e".into()],
        sample: vec!["a".into()],
        checkpointing: Policy::Full,
        ..saved.clone()
    };
    free.check_resumes(&saved).expect("nothing here changes a number");
    let cases = [
        ("lr", TrainConfig { lr: Some(1.0), ..saved.clone() }),
        ("seed", TrainConfig { seed: 1, ..saved.clone() }),
        ("init-adapter", TrainConfig { init_adapter: Some("a".into()), ..saved.clone() }),
        ("no-shuffle", TrainConfig { no_shuffle: true, ..saved.clone() }),
    ];
    for (key, changed) in cases {
        let message = changed.check_resumes(&saved).expect_err(key).to_string();
        assert!(message.contains(&format!("`{key}`")), "{key}: {message}");
    }
}
