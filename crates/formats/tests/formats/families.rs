//! Mistral, Qwen 2 and Qwen 3: their own defaults, windows layer by layer, and what is refused.

use crate::bytes::fixture;
use remat_formats::{Dropouts, FormatsError, ModelConfig, NormPlaces, Positions, QkNorm, RopeScaling, Rotary};
use serde_json::{Value, json};
use std::path::Path;

fn parse(family: &str, keys: &Value) -> Result<ModelConfig, FormatsError> {
    let mut json = keys.clone();
    json["model_type"] = family.into();
    let config = ModelConfig::parse(Path::new("config.json"), &json.to_string())?;
    assert_eq!(config.family, family);
    Ok(config)
}

fn read(family: &str, keys: &Value) -> ModelConfig {
    parse(family, keys).unwrap_or_else(|error| panic!("{family} {keys}: {error}"))
}

/// The windows of the first layers.
fn windows(family: &str, keys: &Value, layers: usize) -> Vec<Option<usize>> {
    let config = read(family, keys);
    (0..layers).map(|layer| config.window(layer)).collect()
}

#[test]
fn defaults_are_those_of_transformers() {
    let all = |config: &ModelConfig| {
        let heads = [config.num_attention_heads, config.num_key_value_heads, config.head_dim];
        ([config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers], heads)
    };
    let mistral = read("mistral", &json!({}));
    assert_eq!(all(&mistral), ([32000, 4096, 14336, 32], [32, 8, 128]));
    assert_eq!(mistral.max_position_embeddings, 131_072);
    assert_eq!((&mistral.bos_token_ids[..], &mistral.eos_token_ids[..]), (&[1][..], &[2][..]));
    assert_eq!([mistral.window(0), mistral.window(31)], [Some(4096); 2]);
    for family in ["qwen2", "qwen3"] {
        let qwen = read(family, &json!({}));
        assert_eq!(all(&qwen), ([151_936, 4096, 22016, 32], [32, 32, 128]), "{family}");
        assert_eq!((qwen.max_position_embeddings, &qwen.sliding_window), (32768, &None), "{family}");
        assert!(qwen.bos_token_ids.is_empty() && qwen.eos_token_ids.is_empty(), "{family}");
    }
    for family in ["mistral", "qwen2", "qwen3"] {
        let config = read(family, &json!({}));
        let rotary = Rotary { theta: 10000.0, scaling: RopeScaling::None, unrotated_layers: Vec::new() };
        assert_eq!((config.positions, config.block.norm_eps), (Positions::Rotary(rotary), 1e-6), "{family}");
        assert_eq!((config.dropout, config.tie_word_embeddings), (Dropouts::default(), false), "{family}");
    }
    let sizes = json!({ "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": null });
    assert_eq!((read("qwen2", &sizes).head_dim, read("qwen3", &sizes).head_dim), (16, 128));
    assert_eq!((read("qwen2", &sizes).num_key_value_heads, read("mistral", &sizes).num_key_value_heads), (4, 4));
}

#[test]
fn biases_are_keys_of_the_families_that_have_them() {
    let keys = json!({ "attention_bias": true, "mlp_bias": true });
    let biases = |family| {
        let block = read(family, &keys).block;
        [block.qkv_bias, block.output_bias, block.mlp_bias]
    };
    assert_eq!(biases("llama"), [true; 3]);
    assert_eq!(biases("qwen3"), [true, true, false]);
    assert_eq!([biases("mistral"), biases("qwen2")], [[false; 3], [true, false, false]]);
    assert_eq!(read("qwen3", &keys).block.qk_norm, Some(QkNorm::Head));
}

#[test]
fn windows_are_those_of_transformers() {
    assert_eq!(windows("llama", &json!({ "sliding_window": 8 }), 1), [None]);
    assert_eq!(windows("mistral", &json!({ "sliding_window": 8 }), 2), [Some(8); 2]);
    assert_eq!(windows("mistral", &json!({ "sliding_window": null }), 2), [None; 2]);
    for family in ["qwen2", "qwen3"] {
        let off = json!({ "use_sliding_window": false, "sliding_window": 8, "max_window_layers": 1 });
        assert_eq!(windows(family, &off, 3), [None; 3]);
        let from = json!({ "use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1 });
        assert_eq!(windows(family, &from, 3), [None, Some(8), Some(8)]);
        let all = json!({ "use_sliding_window": true, "max_window_layers": 0 });
        assert_eq!(windows(family, &all, 2), [Some(4096); 2]);
        let late = json!({ "use_sliding_window": true });
        assert_eq!(windows(family, &late, 29)[26..], [None, None, Some(4096)]);
        let listed = json!({
            "use_sliding_window": true, "sliding_window": 8, "num_hidden_layers": 3, "max_window_layers": 0,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        });
        assert_eq!(windows(family, &listed, 4), [Some(8), None, Some(8), None]);
    }
}

#[test]
fn olmo2_has_its_norms_behind_the_parts() {
    let config = read("olmo2", &json!({ "attention_bias": true }));
    assert_eq!((config.vocab_size, config.block.norm_eps, &config.eos_token_ids[..]), (50304, 1e-5, &[50279][..]));
    assert!(config.bos_token_ids.is_empty());
    let NormPlaces { before, after } = config.block.names.mlp_norms;
    assert_eq!((before, after), (None, Some("post_feedforward_layernorm")));
    assert_eq!(config.block.names.attention_norms, NormPlaces { before, after: Some("post_attention_layernorm") });
    assert_eq!(
        (config.block.qk_norm, config.block.qkv_bias, config.block.output_bias),
        (Some(QkNorm::Width), true, true)
    );
}

#[test]
fn granite_has_four_factors() {
    let factors = |keys: &Value| {
        let config = read("granite", keys);
        let block = config.block;
        (config.embedding_multiplier, block.attention_scale, block.residual_multiplier, config.logits_divisor)
    };
    assert_eq!(factors(&json!({})), (1.0, Some(1.0), 1.0, 1.0));
    let keys = json!({
        "embedding_multiplier": 12, "attention_multiplier": 0.015625, "residual_multiplier": 0.22, "logits_scaling": 8,
    });
    assert_eq!(factors(&keys), (12.0, Some(0.015625), 0.22, 8.0));
    let error = parse("granite", &json!({ "logits_scaling": 0 })).expect_err("an error").to_string();
    assert_eq!(error, r#"config.json: "logits_scaling" is 0e0; it must be above 0 and fit 32-bit floating point"#);
}

#[test]
fn smollm3_rotates_some_layers() {
    let rotated = |keys: Value| {
        let config = read("smollm3", &keys);
        let rotary = config.rotary().expect("rotary positions").clone();
        ((0..5).map(|layer| rotary.rotates(layer)).collect::<Vec<_>>(), rotary.theta)
    };
    assert_eq!(rotated(json!({})), (vec![true, true, true, false, true], 2_000_000.0));
    assert_eq!(rotated(json!({ "no_rope_layer_interval": 2 })).0, [true, false, true, false, true]);
    let listed = json!({ "num_hidden_layers": 3, "no_rope_layers": [0, 1, 0, 1], "rope_theta": 7.0 });
    assert_eq!(rotated(listed), (vec![false, true, false, true, true], 7.0));
    let short = parse("smollm3", &json!({ "num_hidden_layers": 3, "no_rope_layers": [1, 1] })).expect_err("short");
    let problem = r#""no_rope_layers" must be a list of 3 zeros and ones, one per layer"#;
    assert_eq!(short.to_string(), format!("config.json: {problem}"));
    // Layers without rotation have the window, unless a list says otherwise.
    assert_eq!(windows("smollm3", &json!({ "sliding_window": 8 }), 4), [None; 4]);
    let window = json!({ "use_sliding_window": true, "sliding_window": 8 });
    assert_eq!(windows("smollm3", &window, 4), [None, None, None, Some(8)]);
    let listed = json!({
        "use_sliding_window": true, "sliding_window": 8, "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
    });
    assert_eq!(windows("smollm3", &listed, 2), [Some(8), None]);
}

#[test]
fn what_is_not_supported_is_named() {
    let layers = |kinds: Value| json!({ "num_hidden_layers": 2, "layer_types": kinds });
    let windowed = |kinds: Value| json!({ "use_sliding_window": true, "num_hidden_layers": 2, "layer_types": kinds });
    let su = json!({ "rope_scaling": { "rope_type": "su", "factor": 4.0 } });
    for (family, keys, expected) in [
        ("qwen2", layers(json!(["full_attention"])), r#""layer_types" lists 1 layers; num_hidden_layers is 2"#),
        (
            "qwen2",
            layers(json!(["full_attention", "sliding_attention"])),
            r#""layer_types" has "sliding_attention", but use_sliding_window is false or sliding_window is null"#,
        ),
        (
            "qwen3",
            windowed(json!(["linear_attention", "full_attention"])),
            r#""layer_types" has "linear_attention"; supported are full_attention, sliding_attention"#,
        ),
        (
            "mistral",
            layers(json!(["full_attention", "sliding_attention"])),
            r#""layer_types" has "full_attention"; with this sliding_window all layers have "sliding_attention""#,
        ),
        (
            "mistral",
            json!({ "sliding_window": 0 }),
            r#""sliding_window" is 0; it must be a whole number from 1 to 1073741824"#,
        ),
        (
            "qwen3",
            json!({ "hidden_act": "gelu" }),
            r#""hidden_act" is "gelu"; only "silu" is supported for this architecture"#,
        ),
        (
            "qwen2",
            su,
            r#""rope_scaling.rope_type" is "su", which is not supported; supported are default, linear, llama3, dynamic, yarn and longrope"#,
        ),
    ] {
        let error = parse(family, &keys).expect_err("an error").to_string();
        assert_eq!(error, format!("config.json: {expected}"), "{family}");
    }
}

#[test]
fn folders_of_transformers_are_read() {
    let open = |name: &str| ModelConfig::from_dir(&fixture(name)).expect("read");
    let mistral = open("mistral");
    assert_eq!((mistral.family, mistral.vocab_size, mistral.max_position_embeddings), ("mistral", 160, 128));
    assert_eq!(mistral.window(1), Some(8));
    for (name, head_dim, tied) in [("qwen2", 12, true), ("qwen3", 16, false)] {
        let config = open(name);
        assert_eq!((config.head_dim, config.tie_word_embeddings, config.window(0)), (head_dim, tied, None), "{name}");
    }
}
