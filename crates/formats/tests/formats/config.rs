//! `config.json`: what transformers writes, both spellings of rope, and everything that is refused by name.

use crate::bytes::{fixture, folder, message};
use proptest::prelude::*;
use remat_formats::{Dropouts, GeluForm, Mlp, ModelConfig, Norm, Positions, Projections, QkNorm, RopeScaling, Rotary};
use serde_json::{Value, json};
use std::path::Path;

fn parse(json: &Value) -> Result<ModelConfig, remat_formats::FormatsError> {
    ModelConfig::parse(Path::new("config.json"), &json.to_string())
}

/// The JSON of an architecture with some keys set.
fn with(model_type: &str, keys: &Value) -> Value {
    let mut json = json!({ "model_type": model_type });
    for (key, value) in keys.as_object().expect("an object") {
        json[key] = value.clone();
    }
    json
}

fn llama(keys: &Value) -> ModelConfig {
    parse(&with("llama", keys)).unwrap_or_else(|error| panic!("{error}"))
}

fn gpt2(keys: &Value) -> ModelConfig {
    parse(&with("gpt2", keys)).unwrap_or_else(|error| panic!("{error}"))
}

/// Theta and scaling.
fn rope(config: &ModelConfig) -> (f64, RopeScaling) {
    let Rotary { theta, scaling, .. } = config.rotary().expect("rotary positions").clone();
    (theta, scaling)
}

/// Asserts what is said of a config with these keys.
fn check(model_type: &str, keys: &Value, expected: &str) {
    let error = parse(&with(model_type, keys)).expect_err("an error").to_string();
    assert_eq!(error, format!("config.json: {expected}"));
}

#[test]
fn defaults_are_those_of_transformers() {
    let config = llama(&json!({}));
    let sizes = [config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers];
    assert_eq!((config.family, sizes), ("llama", [32000, 4096, 11008, 32]));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (32, 32, 128));
    assert_eq!((rope(&config), config.max_position_embeddings), ((10000.0, RopeScaling::None), 2048));
    assert_eq!((config.sliding_window, config.dropout, config.tie_word_embeddings), (None, Dropouts::default(), false));
    assert_eq!((config.bos_token_ids, config.eos_token_ids), (vec![1], vec![2]));
    let block = config.block;
    assert_eq!((block.norm, block.norm_eps, block.qk_norm), (Norm::Rms, 1e-6, None::<QkNorm>));
    assert_eq!([block.qkv_bias, block.output_bias, block.mlp_bias, block.weights_in_out], [false; 4]);

    let config = gpt2(&json!({}));
    let sizes = [config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers];
    assert_eq!((config.family, sizes), ("gpt2", [50257, 768, 3072, 12]));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (12, 12, 64));
    assert_eq!((config.positions, config.max_position_embeddings), (Positions::Learned("wpe"), 1024));
    let dropout = Dropouts { embedding: 0.1, attention: 0.1, residual: 0.1 };
    assert_eq!((config.sliding_window, config.dropout, config.tie_word_embeddings), (None, dropout, true));
    assert_eq!((config.bos_token_ids, config.eos_token_ids), (vec![50256], vec![50256]));
    let block = config.block;
    assert_eq!((block.norm, block.norm_eps, block.projections), (Norm::Layer, 1e-5, Projections::Fused("c_attn")));
    assert_eq!(block.mlp, Mlp::Plain { up: "c_fc", down: "c_proj", gelu: GeluForm::Tanh });
    assert_eq!([block.qkv_bias, block.output_bias, block.mlp_bias, block.weights_in_out], [true; 4]);
}

#[test]
fn folders_of_transformers_are_read() {
    let config = ModelConfig::from_dir(&fixture("llama-rope3-bias")).expect("read");
    assert_eq!((config.head_dim, config.num_attention_heads, config.num_key_value_heads), (24, 4, 2));
    let block = &config.block;
    assert!(block.qkv_bias && block.output_bias && block.mlp_bias && !config.tie_word_embeddings);
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 32,
    };
    assert_eq!(rope(&config).1, scaling);
    let config = ModelConfig::from_dir(&fixture("llama-gqa-tied")).expect("read");
    assert_eq!((config.family, config.vocab_size, &config.eos_token_ids[..]), ("llama", 160, &[1][..]));
    let config = ModelConfig::from_dir(&fixture("gpt2")).expect("read");
    assert_eq!((config.family, config.vocab_size, &config.bos_token_ids[..]), ("gpt2", 150, &[0][..]));
}

#[test]
fn both_spellings_of_rope_are_one() {
    let plain = (500000.0, RopeScaling::None);
    let linear = (500000.0, RopeScaling::Linear { factor: 4.0 });
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let inner = json!({
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3",
    });
    let mut inner_with_theta = inner.clone();
    inner_with_theta["rope_theta"] = 500000.into();
    for (keys, expected) in [
        (json!({ "rope_theta": 500000.0 }), plain.clone()),
        (json!({ "rope_theta": 500000.0, "rope_scaling": null }), plain.clone()),
        (json!({ "rope_parameters": { "rope_theta": 500000.0, "rope_type": "default" } }), plain.clone()),
        (json!({ "rope_theta": 500000.0, "rope_scaling": {}, "rope_parameters": {} }), plain.clone()),
        (json!({ "rope_theta": 500000.0, "rope_scaling": { "type": "linear", "factor": 4 } }), linear.clone()),
        (json!({ "rope_theta": 500000.0, "rope_scaling": { "rope_type": "linear", "factor": 4.0 } }), linear.clone()),
        (json!({ "rope_theta": 500000.0, "rope_scaling": inner }), (500000.0, llama3.clone())),
        (json!({ "rope_theta": 1.0, "rope_scaling": inner_with_theta }), (500000.0, llama3.clone())),
        (json!({ "rope_parameters": inner_with_theta }), (500000.0, llama3.clone())),
        (json!({ "rope_parameters": inner }), (10000.0, llama3.clone())),
    ] {
        let config = llama(&keys);
        assert_eq!(rope(&config), expected, "{keys}");
    }
    // As in transformers, the original context falls back to the whole one.
    let keys = json!({
        "max_position_embeddings": 4096,
        "rope_scaling": { "type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4 },
    });
    let RopeScaling::Llama3 { original_max_position_embeddings, .. } = rope(&llama(&keys)).1 else {
        panic!("another scaling");
    };
    assert_eq!(original_max_position_embeddings, 4096);
}

#[test]
fn token_ids_may_be_one_many_or_none() {
    assert_eq!(llama(&json!({ "eos_token_id": [128001, 128009] })).eos_token_ids, [128001, 128009]);
    assert_eq!(llama(&json!({ "eos_token_id": 5 })).eos_token_ids, [5]);
    assert_eq!(llama(&json!({ "eos_token_id": null })).eos_token_ids, [0; 0]);
    check("llama", &json!({ "eos_token_id": -1 }), r#""eos_token_id" is -1; it must be a token id or a list of them"#);
    let list = json!({ "eos_token_id": [1, "2"] });
    check("llama", &list, r#""eos_token_id" is "2"; it must be a token id or a list of them"#);
}

#[test]
fn explicit_head_size_frees_the_width() {
    assert_eq!(llama(&json!({ "hidden_size": 50, "num_attention_heads": 4, "head_dim": 8 })).head_dim, 8);
    let keys = json!({ "hidden_size": 50, "num_attention_heads": 4, "head_dim": null });
    check("llama", &keys, r#""hidden_size" is 50, not a multiple of num_attention_heads = 4"#);
    assert_eq!(gpt2(&json!({ "n_inner": null, "n_embd": 24 })).intermediate_size, 96);
    assert_eq!(gpt2(&json!({ "n_inner": 100, "activation_function": "gelu_pytorch_tanh" })).intermediate_size, 100);
}

#[test]
fn architectures_that_are_not_supported_are_named() {
    let families = ModelConfig::families().map(|(model_type, ..)| model_type).collect::<Vec<_>>().join(", ");
    assert!(families.starts_with("llama, ") && families.ends_with(", gpt2"), "{families}");
    let unknown = r#""model_type" is "mamba", an architecture that is not supported; supported are "#;
    check("mamba", &json!({}), &format!("{unknown}{families}"));
    let error = parse(&json!({})).expect_err("an error").to_string();
    assert_eq!(error, format!(r#"config.json: "model_type" is missing; supported are {families}"#));
    let error = parse(&json!({ "model_type": 7 })).expect_err("an error").to_string();
    assert_eq!(error, r#"config.json: "model_type" is 7; it must be a string"#);
    let unsupported =
        "weights quantised otherwise than to bitsandbytes' nf4 or int8 are not supported; use the unquantised model";
    for (config, key, found) in [
        (json!({ "quant_method": "gptq", "bits": 4 }), "quant_method", "gptq"),
        (json!({ "quant_method": "bitsandbytes", "load_in_4bit": true }), "bnb_4bit_quant_type", "fp4"),
    ] {
        let problem = format!(r#""quantization_config.{key}" is "{found}"; {unsupported}"#);
        check("llama", &json!({ "quantization_config": config }), &problem);
    }
    let weights = json!({ "transformers_weights": "consolidated.safetensors" });
    let problem =
        r#""transformers_weights" is "consolidated.safetensors"; weights are read from model.safetensors or its index"#;
    check("llama", &weights, problem);
    let neither = json!({ "quant_method": "bitsandbytes", "load_in_8bit": false, "bnb_4bit_quant_type": "nf4" });
    let problem = r#""quantization_config.load_in_4bit" must be true, or load_in_8bit; use the unquantised model"#;
    check("llama", &json!({ "quantization_config": neither }), problem);
}

#[test]
fn llama_features_that_are_not_supported_are_named() {
    let rope = |parameters: Value| json!({ "rope_parameters": parameters });
    let scaling = |parameters: Value| json!({ "rope_scaling": parameters });
    for (keys, expected) in [
        (json!({ "hidden_act": "gelu" }), r#""hidden_act" is "gelu"; only "silu" is supported for this architecture"#),
        (
            scaling(json!({ "type": "mrope" })),
            r#""rope_scaling.type" is "mrope", which is not supported; supported are default, linear, llama3, dynamic, yarn and longrope"#,
        ),
        (
            rope(json!({ "rope_type": "longrope", "short_factor": [1.0] })),
            r#""rope_parameters.short_factor" is a list of 1; it must be a list of 64 numbers above 0, one per pair of a head"#,
        ),
        (
            rope(json!({ "rope_type": "longrope" })),
            r#""rope_parameters.short_factor" is missing; it must be a list of 64 numbers above 0, one per pair of a head"#,
        ),
        (
            rope(json!({ "rope_type": "longrope", "short_factor": vec![1.0; 64], "long_factor": vec![0.0; 64] })),
            r#""rope_parameters.long_factor" holds what is no number above 0; it must be a list of 64 numbers above 0, one per pair of a head"#,
        ),
        (
            rope(json!({ "rope_type": "longrope", "original_max_position_embeddings": 1 })),
            r#""rope_parameters.original_max_position_embeddings" is 1; with longrope it must be larger"#,
        ),
        (scaling(json!({ "type": "yarn" })), r#""rope_scaling.factor" is missing; it must be a number above 0"#),
        (
            scaling(json!({ "type": "yarn", "factor": 4, "rope_theta": 1.0 })),
            r#""rope_scaling.rope_theta" is 1; with yarn it must be above 1"#,
        ),
        (
            scaling(json!({ "type": "yarn", "factor": 4, "beta_fast": 1, "beta_slow": 2 })),
            r#""rope_scaling.beta_fast" is 1; it must not be below beta_slow = 2"#,
        ),
        (
            scaling(json!({ "type": "yarn", "factor": 1e30, "mscale": -0.2, "mscale_all_dim": 1 })),
            r#""rope_scaling.attention_factor" is -4.825023566555537e-2 by the keys beside it; give one above 0"#,
        ),
        (scaling(json!({ "type": "dynamic" })), r#""rope_scaling.factor" is missing; it must be a number above 0"#),
        (
            json!({ "head_dim": 2, "rope_scaling": { "type": "dynamic", "factor": 2 } }),
            r#""rope_scaling.type" is "dynamic", which no head of size 2 can have"#,
        ),
        (
            rope(json!({ "full_attention": { "rope_type": "yarn" } })),
            r#""rope_parameters.full_attention" is an object; rotary positions that differ between layers are not supported"#,
        ),
        (
            json!({ "partial_rotary_factor": 0.5 }),
            r#""partial_rotary_factor" is 0.5; only 1, which rotates the whole head, is supported"#,
        ),
        (
            rope(json!({ "rope_type": "default", "partial_rotary_factor": 0.25 })),
            r#""rope_parameters.partial_rotary_factor" is 0.25; only 1, which rotates the whole head, is supported"#,
        ),
        (scaling(json!({ "type": "linear" })), r#""rope_scaling.factor" is missing; it must be a number above 0"#),
        (
            scaling(json!({ "type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4 })),
            r#""rope_scaling.low_freq_factor" is 4; it must be below high_freq_factor = 4"#,
        ),
        (json!({ "rope_scaling": "linear" }), r#""rope_scaling" is "linear"; it must be an object"#),
    ] {
        check("llama", &keys, expected);
    }
}

#[test]
fn names_of_one_function_are_one() {
    for (name, form) in [
        ("gelu", GeluForm::Exact),
        ("gelu_python", GeluForm::Exact),
        ("gelu_new", GeluForm::Tanh),
        ("gelu_fast", GeluForm::Tanh),
        ("gelu_accurate", GeluForm::Tanh),
        ("gelu_pytorch_tanh", GeluForm::Tanh),
        ("gelu_python_tanh", GeluForm::Tanh),
    ] {
        assert_eq!(gelu_of(name), form, "{name}");
    }
    assert_eq!(llama(&json!({ "hidden_act": "swish" })), llama(&json!({ "hidden_act": "silu" })));
}

fn gelu_of(name: &str) -> GeluForm {
    match gpt2(&json!({ "activation_function": name })).block.mlp {
        Mlp::Plain { gelu, .. } => gelu,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sizes_of_gpt2_go_by_two_names() {
    let second = json!({
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64,
    });
    let first = json!({ "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64, "hidden_size": 48 });
    assert_eq!(gpt2(&second), gpt2(&first));
    assert_eq!((gpt2(&second).intermediate_size, gpt2(&second).max_position_embeddings), (192, 64));
}

#[test]
fn sizes_out_of_range_are_named() {
    let layers = "it must be a whole number from 1 to 4096";
    for bad in [json!(0), json!(-1), json!(1.5), json!(4097), json!(u64::MAX), json!("32"), json!(true)] {
        let expected = format!(r#""num_hidden_layers" is {bad}; {layers}"#);
        check("llama", &json!({ "num_hidden_layers": bad }), &expected);
    }
    check("gpt2", &json!({ "n_layer": vec![12; 50] }), &format!(r#""n_layer" is a list of 50; {layers}"#));
    for (keys, expected) in [
        (
            json!({ "num_key_value_heads": 5 }),
            r#""num_key_value_heads" is 5, which does not divide num_attention_heads = 32"#,
        ),
        (
            json!({ "num_key_value_heads": 64 }),
            r#""num_key_value_heads" is 64, which does not divide num_attention_heads = 32"#,
        ),
        (
            json!({ "num_attention_heads": 0 }),
            r#""num_attention_heads" is 0; it must be a whole number from 1 to 16384"#,
        ),
        (
            json!({ "num_key_value_heads": 0 }),
            r#""num_key_value_heads" is 0; it must be a whole number from 1 to 16384"#,
        ),
        (json!({ "head_dim": 0 }), r#""head_dim" is 0; it must be a whole number from 1 to 1048576"#),
        (json!({ "hidden_size": 16 }), r#""hidden_size" is 16, not a multiple of num_attention_heads = 32"#),
        (
            json!({ "vocab_size": u64::MAX }),
            r#""vocab_size" is 18446744073709551615; it must be a whole number from 1 to 67108864"#,
        ),
        (
            json!({ "vocab_size": i64::MIN }),
            r#""vocab_size" is -9223372036854775808; it must be a whole number from 1 to 67108864"#,
        ),
        (json!({ "head_dim": 7 }), r#""head_dim" is 7; rotary positions need an even head size"#),
        (
            json!({ "head_dim": 1048576 }),
            r#""num_attention_heads" is 32; that many heads of size 1048576 are wider than 1048576"#,
        ),
        (json!({ "attention_dropout": 1.0 }), r#""attention_dropout" is 1; it must be at least 0 and below 1"#),
        (json!({ "rms_norm_eps": 0 }), r#""rms_norm_eps" is 0e0; it must be above 0 and fit 32-bit floating point"#),
        (json!({ "rope_theta": 1e300 }), r#""rope_theta" is 1e300; it must be above 0 and fit 32-bit floating point"#),
        (json!({ "tie_word_embeddings": 1 }), r#""tie_word_embeddings" is 1; it must be true or false"#),
    ] {
        check("llama", &keys, expected);
    }
}

#[test]
fn gpt2_features_that_are_not_supported_are_named() {
    for (keys, expected) in [
        (json!({ "n_embd": 50 }), r#""n_embd" is 50, not a multiple of n_head = 12"#),
        (
            json!({ "activation_function": "relu" }),
            r#""activation_function" is "relu"; supported are gelu, gelu_python, gelu_new, gelu_pytorch_tanh, gelu_python_tanh, gelu_fast, gelu_accurate"#,
        ),
        (
            json!({ "n_embd": 96, "hidden_size": 48 }),
            r#""n_embd" is 96, and hidden_size, which means the same, is 48; keep one"#,
        ),
        (json!({ "hidden_size": 50 }), r#""n_embd" is 50, not a multiple of n_head = 12"#),
        (json!({ "num_hidden_layers": 0 }), r#""num_hidden_layers" is 0; it must be a whole number from 1 to 4096"#),
        (
            json!({ "scale_attn_weights": false }),
            r#""scale_attn_weights" is false; only scaled attention is supported"#,
        ),
        (
            json!({ "scale_attn_by_inverse_layer_idx": true }),
            r#""scale_attn_by_inverse_layer_idx" is true; only attention scaled alike in all layers is supported"#,
        ),
        (json!({ "add_cross_attention": true }), r#""add_cross_attention" is true; only decoders alone are supported"#),
        (json!({ "attn_pdrop": -0.1 }), r#""attn_pdrop" is -0.1; it must be at least 0 and below 1"#),
    ] {
        check("gpt2", &keys, expected);
    }
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let read = |bytes: &[u8]| {
        let dir = folder(&[("config.json", bytes)]);
        message(dir.path(), ModelConfig::from_dir(dir.path()))
    };
    assert_eq!(read(b"{\n \"a\": }"), "DIR/config.json: is not valid JSON: expected value at line 2 column 7");
    assert_eq!(read(b"[1, 2]"), "DIR/config.json: must hold a JSON object, not a list of 2");
    assert_eq!(read(b"{\"a\": \"\xff\"}"), "DIR/config.json: is not UTF-8 text: byte 7 begins no character");
    assert!(read("[".repeat(100_000).as_bytes()).contains("recursion limit exceeded"));
    let large = vec![b' '; (16 << 20) + 1];
    assert_eq!(read(&large), "DIR/config.json: holds 16777217 bytes, more than the 16777216 such a file may have");
    let dir = folder(&[]);
    let missing = message(dir.path(), ModelConfig::from_dir(dir.path()));
    let remedy = "give the folder of a model as Hugging Face writes it, with config.json in it";
    assert_eq!(missing, format!("DIR/config.json: does not exist; {remedy}"));
}

/// A JSON value as hostile as it is small.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0u64..70_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z3]{0,6}".prop_map(Value::from),
        proptest::collection::vec(0u64..9, 0..3).prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_parses_can_be_multiplied(
        values in proptest::collection::vec(any_value(), 7),
        chosen in proptest::collection::vec(any::<bool>(), 7),
    ) {
        let names = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim"];
        let mut json = json!({ "model_type": "llama" });
        for ((name, value), _) in names.iter().zip(values).zip(chosen).filter(|(_, chosen)| *chosen) {
            json[*name] = value;
        }
        if let Ok(c) = parse(&json) {
            let parameters = (|| {
                let attention = c.hidden_size.checked_mul(2 * c.head_dim * (c.num_attention_heads + c.num_key_value_heads))?;
                let mlp = c.hidden_size.checked_mul(3 * c.intermediate_size)?;
                let blocks = attention.checked_add(mlp)?.checked_mul(c.num_hidden_layers)?;
                blocks.checked_add(c.vocab_size.checked_mul(2 * c.hidden_size)?)
            })();
            prop_assert!(parameters.is_some_and(|p| p < 1 << 60), "{c:?}");
            prop_assert!(c.head_dim % 2 == 0 && c.num_attention_heads % c.num_key_value_heads == 0);
        }
    }
}
