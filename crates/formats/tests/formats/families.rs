//! Mistral, Qwen 2 and Qwen 3: their own defaults, windows layer by layer, and what is refused.

use crate::bytes::fixture;
use remat_formats::{DecoderConfig, FormatsError, ModelConfig, RopeScaling};
use serde_json::{Value, json};
use std::path::Path;

fn parse(family: &str, keys: &Value) -> Result<DecoderConfig, FormatsError> {
    let mut json = keys.clone();
    json["model_type"] = family.into();
    let config = ModelConfig::parse(Path::new("config.json"), &json.to_string())?;
    assert_eq!(config.family(), family);
    Ok(config.decoder().expect("a Llama-like family").clone())
}

fn read(family: &str, keys: &Value) -> DecoderConfig {
    parse(family, keys).unwrap_or_else(|error| panic!("{family} {keys}: {error}"))
}

/// The windows of the first layers.
fn windows(family: &str, keys: &Value, layers: usize) -> Vec<Option<usize>> {
    let config = read(family, keys);
    (0..layers).map(|layer| config.window(layer)).collect()
}

#[test]
fn defaults_are_those_of_transformers() {
    let mistral = DecoderConfig {
        vocab_size: 32000,
        hidden_size: 4096,
        intermediate_size: 14336,
        num_hidden_layers: 32,
        num_attention_heads: 32,
        num_key_value_heads: 8,
        head_dim: 128,
        rms_norm_eps: 1e-6,
        rope_theta: 10000.0,
        rope_scaling: RopeScaling::None,
        attention_bias: false,
        mlp_bias: false,
        sliding_window: read("mistral", &json!({})).sliding_window,
        attention_dropout: 0.0,
        tie_word_embeddings: false,
        max_position_embeddings: 131_072,
        bos_token_ids: vec![1],
        eos_token_ids: vec![2],
    };
    assert_eq!(read("mistral", &json!({})), mistral);
    assert_eq!([mistral.window(0), mistral.window(31)], [Some(4096); 2]);
    let qwen = DecoderConfig {
        vocab_size: 151_936,
        intermediate_size: 22016,
        num_key_value_heads: 32,
        sliding_window: None,
        max_position_embeddings: 32768,
        bos_token_ids: vec![],
        eos_token_ids: vec![],
        ..mistral
    };
    assert_eq!(read("qwen2", &json!({})), qwen);
    assert_eq!(read("qwen3", &json!({})), qwen);
    let sizes = json!({ "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": null });
    assert_eq!((read("qwen2", &sizes).head_dim, read("qwen3", &sizes).head_dim), (16, 128));
    assert_eq!((read("qwen2", &sizes).num_key_value_heads, read("mistral", &sizes).num_key_value_heads), (4, 4));
}

#[test]
fn biases_are_keys_of_the_families_that_have_them() {
    let keys = json!({ "attention_bias": true, "mlp_bias": true });
    let biases = |family| {
        let config = read(family, &keys);
        (config.attention_bias, config.mlp_bias)
    };
    assert_eq!(biases("llama"), (true, true));
    assert_eq!(biases("qwen3"), (true, false));
    assert_eq!([biases("mistral"), biases("qwen2")], [(false, false); 2]);
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
fn what_is_not_supported_is_named() {
    let layers = |kinds: Value| json!({ "num_hidden_layers": 2, "layer_types": kinds });
    let windowed = |kinds: Value| json!({ "use_sliding_window": true, "num_hidden_layers": 2, "layer_types": kinds });
    let yarn = json!({ "rope_scaling": { "rope_type": "yarn", "factor": 4.0 } });
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
            yarn,
            r#""rope_scaling.rope_type" is "yarn", which is not supported; supported are default, linear and llama3"#,
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
    assert_eq!((mistral.family(), mistral.vocab_size(), mistral.max_positions()), ("mistral", 160, 128));
    assert_eq!(mistral.decoder().and_then(|config| config.window(1)), Some(8));
    for (name, head_dim, tied) in [("qwen2", 12, true), ("qwen3", 16, false)] {
        let config = open(name);
        let config = config.decoder().expect("a Llama-like family");
        assert_eq!((config.head_dim, config.tie_word_embeddings, config.window(0)), (head_dim, tied, None), "{name}");
    }
}
