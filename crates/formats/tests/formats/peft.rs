//! `adapter_config.json`: what PEFT writes is read, what is written PEFT reads.

use crate::bytes::{fixture, folder, message};
use remat_formats::{AdapterConfig, FormatsError, TargetModules, TokenIndices};
use serde_json::{Value, json};
use std::path::Path;

fn parse(json: &Value) -> Result<AdapterConfig, FormatsError> {
    AdapterConfig::parse(Path::new("adapter_config.json"), &json.to_string())
}

fn names(names: &[&str]) -> TargetModules {
    TargetModules::Names(names.iter().map(|name| name.to_string()).collect())
}

#[test]
fn adapters_of_peft_are_read_without_a_warning() {
    let config = AdapterConfig::from_dir(&fixture("gpt2/adapter")).expect("read");
    let mut expected = AdapterConfig::lora(4, 8.0, names(&["c_attn", "c_proj", "c_fc"]));
    expected.fan_in_fan_out = true;
    expected.base_model_name_or_path = Some("fixtures/parity/gpt2".to_string());
    assert_eq!(config, expected);
    let config = AdapterConfig::from_dir(&fixture("llama-gqa-tied/adapter")).expect("read");
    assert!(!config.fan_in_fan_out && config.unknown.is_empty() && config.unsupported.is_empty());
}

#[test]
fn defaults_are_those_of_peft() {
    let config = parse(&json!({ "target_modules": "all-linear" })).expect("parsed");
    assert_eq!(config, AdapterConfig::lora(8, 8.0, TargetModules::Pattern("all-linear".to_string())));
}

#[test]
fn what_is_written_is_read_back() {
    let dir = folder(&[]);
    let mut config = AdapterConfig::lora(16, 24.5, names(&["q_proj", "v_proj"]));
    config.lora_dropout = 0.05;
    config.use_rslora = true;
    config.rank_pattern = vec![("layers.0.q_proj".to_string(), 4)];
    config.alpha_pattern = vec![("q_proj".to_string(), 0.5), ("v_proj".to_string(), 3.0)];
    config.modules_to_save = vec!["lm_head".to_string()];
    config.layers_to_transform = Some(vec![0, 1]);
    config.exclude_modules = Some(names(&["lm_head"]));
    config.layers_pattern = vec!["layers".to_string()];
    config.base_model_name_or_path = Some("a \"model\"".to_string());
    config.write(dir.path()).expect("written");
    assert_eq!(AdapterConfig::from_dir(dir.path()).expect("read"), config);
}

#[test]
fn the_file_is_as_peft_lays_it_out() {
    let dir = folder(&[]);
    AdapterConfig::lora(4, 8.0, TargetModules::Pattern("all-linear".to_string())).write(dir.path()).expect("written");
    let text = std::fs::read_to_string(dir.path().join("adapter_config.json")).expect("there");
    let expected = r#"{
  "alpha_pattern": {},
  "base_model_name_or_path": null,
  "bias": "none",
  "exclude_modules": null,
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": true,
  "layers_pattern": null,
  "layers_to_transform": null,
  "lora_alpha": 8,
  "lora_dropout": 0.0,
  "modules_to_save": null,
  "peft_type": "LORA",
  "r": 4,
  "rank_pattern": {},
  "revision": null,
  "target_modules": "all-linear",
  "task_type": "CAUSAL_LM",
  "use_dora": false,
  "use_rslora": false
}
"#;
    assert_eq!(text, expected);
}

#[test]
fn keys_that_change_the_adapter_are_told_from_unknown_ones() {
    let config = parse(&json!({
        "target_modules": ["q_proj"],
        "init_lora_weights": "pissa_niter_4",
        "lora_bias": true,
        "use_qalora": false,
        "trainable_token_indices": [1, 2],
        "layer_replication": [],
        "megatron_core": "megatron.core",
        "peft_version": "0.99.0",
        "from_the_future": 3,
    }));
    let config = config.expect("parsed");
    assert_eq!(config.unsupported, ["init_lora_weights", "lora_bias"]);
    assert_eq!(config.trainable_token_indices, Some(TokenIndices::Embedding(vec![1, 2])));
    assert_eq!(config.unknown, ["from_the_future"]);
    for plain in [json!(true), json!(false), json!("gaussian"), json!(null)] {
        let config = parse(&json!({ "target_modules": ["q_proj"], "init_lora_weights": plain })).expect("parsed");
        assert!(config.unsupported.is_empty(), "{plain}");
    }
}

#[test]
fn what_model_decides_on_is_carried() {
    let config = parse(&json!({
        "peft_type": "IA3", "target_modules": ["q_proj"], "use_dora": true, "bias": "all",
        "alpha_pattern": { "q_proj": 3 }, "exclude_modules": "lm_head",
    }));
    let config = config.expect("parsed");
    assert_eq!((&*config.peft_type, config.use_dora, &*config.bias), ("IA3", true, "all"));
    assert_eq!(config.alpha_pattern, [("q_proj".to_string(), 3.0)]);
    assert_eq!(config.exclude_modules, Some(TargetModules::Pattern("lm_head".to_string())));
}

#[test]
fn keys_of_another_type_are_named() {
    for (key, value, expected) in [
        ("r", json!(0), "is 0; it must be a whole number from 1 to 65536"),
        ("r", json!(1u64 << 40), "is 1099511627776; it must be a whole number from 1 to 65536"),
        ("lora_alpha", json!("16"), "is \"16\"; it must be a number"),
        ("lora_dropout", json!(1.5), "is 1.5; it must be at least 0 and below 1"),
        ("use_dora", json!("yes"), "is \"yes\"; it must be true or false"),
        ("rank_pattern", json!([1]), "is a list of 1; it must be an object"),
        ("modules_to_save", json!("lm_head"), "is \"lm_head\"; it must be a list of strings"),
        ("target_modules", json!([1]), "is a list of 1; it must be a list of strings"),
        ("target_modules", json!([]), "is empty; it names the adapted modules"),
        ("target_modules", json!(null), "is missing; it names the adapted modules"),
        ("base_model_name_or_path", json!(7), "is 7; it must be a string"),
    ] {
        let mut json = json!({ "target_modules": ["q_proj"] });
        json[key] = value;
        let error = parse(&json).expect_err("an error").to_string();
        assert_eq!(error, format!("adapter_config.json: {key:?} {expected}"));
    }
    let dir = folder(&[]);
    let missing = message(dir.path(), AdapterConfig::from_dir(dir.path()));
    let remedy = "give the folder of a PEFT adapter, with adapter_config.json in it";
    assert_eq!(missing, format!("DIR/adapter_config.json: does not exist; {remedy}"));
}

#[test]
fn patterns_keep_the_order_of_the_file() {
    let text = r#"{"target_modules": ["q_proj"], "rank_pattern": {"q_proj": 4, "a.q_proj": 2, "b": 3},
        "alpha_pattern": {"z": 1.5, "k": 2}}"#;
    let config = AdapterConfig::parse(Path::new("adapter_config.json"), text).expect("parsed");
    let names = |pattern: &[(String, usize)]| pattern.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&config.rank_pattern), ["q_proj", "a.q_proj", "b"]);
    assert_eq!(config.alpha_pattern, [("z".to_string(), 1.5), ("k".to_string(), 2.0)]);
}

#[test]
fn ranks_and_alphas_of_another_type_are_named() {
    for (key, value, expected) in [
        ("rank_pattern", json!(0), "is 0; it must be a whole number from 1 to 65536"),
        ("rank_pattern", json!(2.5), "is 2.5; it must be a whole number from 1 to 65536"),
        ("rank_pattern", json!(null), "is null; it must be a number"),
        ("alpha_pattern", json!("2"), "is \"2\"; it must be a number"),
    ] {
        let error = parse(&json!({ "target_modules": ["q_proj"], key: { "v": value } })).expect_err("an error");
        assert_eq!(error.to_string(), format!("adapter_config.json: \"{key}.v\" {expected}"));
    }
}
