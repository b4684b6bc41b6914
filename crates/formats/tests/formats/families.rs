//! Mistral, Qwen 2 and Qwen 3: their own defaults, windows layer by layer, and what is refused.

use crate::bytes::fixture;
use remat_formats::{
    Activation, Dropouts, FormatsError, GeluForm, Mlp, ModelConfig, Norm, NormPlaces, Positions, Projections, QkNorm,
    RopeScaling, Rotary,
};
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
        let rotary = Rotary::plain(10000.0, RopeScaling::None, 128);
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

fn activation(config: &ModelConfig) -> Activation {
    match config.block.mlp {
        Mlp::Gated { activation, .. } | Mlp::GatedFused { activation, .. } => activation,
        ref other => panic!("{other:?}"),
    }
}

/// The message of a configuration that is refused.
fn refusal(family: &str, keys: &Value) -> String {
    let error = parse(family, keys).expect_err("an error").to_string();
    error.strip_prefix("config.json: ").expect("the file's name first").to_string()
}

#[test]
fn gemmas_scale_embeddings_and_offset_norms() {
    for (family, width) in [("gemma", 3072.0f64), ("gemma2", 2304.0), ("gemma3_text", 2304.0)] {
        let config = read(family, &json!({}));
        assert_eq!(
            (config.embedding_multiplier, config.rounded_embedding_multiplier),
            (width.sqrt(), true),
            "{family}"
        );
        assert_eq!((config.block.norm, config.head_dim), (Norm::RmsUnitOffset, 256), "{family}");
        assert!(config.tie_word_embeddings && activation(&config) == Activation::Gelu(GeluForm::Tanh), "{family}");
        assert_eq!((&config.bos_token_ids[..], &config.eos_token_ids[..]), (&[2][..], &[1][..]), "{family}");
        let both_ways = refusal(family, &json!({ "use_bidirectional_attention": true }));
        let expected = r#""use_bidirectional_attention" is true; only attention to earlier tokens is supported"#;
        assert_eq!(both_ways, expected, "{family}");
    }
    // Gemma's own files say "gelu" and mean the tanh form; later ones mean what they say.
    let of = |family, key: &str, name: &str| activation(&read(family, &json!({ key: name })));
    assert_eq!(of("gemma", "hidden_act", "gelu"), Activation::Gelu(GeluForm::Tanh));
    assert_eq!(of("gemma", "hidden_act", "gelu_python"), Activation::Gelu(GeluForm::Exact));
    assert_eq!(of("gemma2", "hidden_activation", "gelu"), Activation::Gelu(GeluForm::Exact));
    let silu = refusal("gemma", &json!({ "hidden_act": "silu" }));
    assert!(silu.starts_with(r#""hidden_act" is "silu"; supported are gelu, "#), "{silu}");
}

#[test]
fn gemma2_caps_scores_and_logits() {
    let caps = |family, keys: &Value| {
        let config = read(family, keys);
        (config.block.attention_softcap, config.logits_softcap)
    };
    assert_eq!(caps("gemma2", &json!({})), (Some(50.0), Some(30.0)));
    assert_eq!(caps("gemma3_text", &json!({})), (None, None));
    let keys = json!({ "attn_logit_softcapping": null, "final_logit_softcapping": 20 });
    assert_eq!(caps("gemma2", &keys), (None, Some(20.0)));
    let zero = refusal("gemma2", &json!({ "attn_logit_softcapping": 0 }));
    assert_eq!(zero, r#""attn_logit_softcapping" is 0e0; it must be above 0 and fit 32-bit floating point"#);
    let config = read("gemma2", &json!({ "query_pre_attn_scalar": 64, "sliding_window": 8 }));
    assert_eq!(config.block.attention_scale, Some(0.125));
    assert_eq!([0, 1, 2].map(|layer| config.window(layer)), [Some(8), None, Some(8)]);
    let NormPlaces { before, after } = config.block.names.mlp_norms;
    assert_eq!((before, after), (Some("pre_feedforward_layernorm"), Some("post_feedforward_layernorm")));
    let null = refusal("gemma2", &json!({ "sliding_window": null }));
    let expected =
        r#""sliding_window" is null, but this architecture has a window in some layers; list all as full_attention"#;
    assert_eq!(null, expected);
}

#[test]
fn gemma3_has_wavelengths_for_each_kind_of_layer() {
    let rotary = |keys: &Value| read("gemma3_text", keys).rotary().expect("rotary positions").clone();
    let of = |theta, scaling, local| Rotary { local_theta: Some(local), ..Rotary::plain(theta, scaling, 256) };
    assert_eq!(rotary(&json!({})), of(1e6, RopeScaling::None, 10000.0));
    let linear = RopeScaling::Linear { factor: 8.0 };
    let older = json!({
        "rope_theta": 5e5, "rope_scaling": { "rope_type": "linear", "factor": 8 }, "rope_local_base_freq": 100,
    });
    assert_eq!(rotary(&older), of(5e5, linear.clone(), 100.0));
    let newer = json!({ "rope_parameters": {
        "full_attention": { "rope_type": "linear", "factor": 8, "rope_theta": 5e5 },
        "sliding_attention": { "rope_type": "default", "rope_theta": 100 },
    } });
    assert_eq!(rotary(&newer), of(5e5, linear, 100.0));
    let windows: Vec<bool> = windows("gemma3_text", &json!({}), 7).iter().map(Option::is_some).collect();
    assert_eq!(windows, [true, true, true, true, true, false, true]);
    let every_other = read("gemma3_text", &json!({ "sliding_window_pattern": 2, "sliding_window": 8 }));
    assert_eq!([0, 1, 2].map(|layer| every_other.window(layer)), [Some(8), None, Some(8)]);
    assert_eq!(every_other.block.qk_norm, Some(QkNorm::Head));
    let stretched = json!({ "rope_parameters": { "sliding_attention": { "rope_type": "linear", "factor": 2 } } });
    let expected =
        r#""rope_parameters.sliding_attention.rope_type" stretches layers with a window; only "default" is supported"#;
    assert_eq!(refusal("gemma3_text", &stretched), expected);
    let flat = refusal("gemma3_text", &json!({ "rope_parameters": { "rope_theta": 7 } }));
    assert!(flat.starts_with(r#""rope_parameters.rope_theta" stands beside no kind of layer"#), "{flat}");
    // Elsewhere such an object is refused.
    let llama = refusal("llama", &newer);
    assert!(llama.ends_with("is an object; rotary positions that differ between layers are not supported"), "{llama}");
}

#[test]
fn phi3_has_fused_projections_and_longrope() {
    let config = read("phi3", &json!({ "sliding_window": 8 }));
    assert_eq!(config.block.projections, Projections::Fused("qkv_proj"));
    let mlp = Mlp::GatedFused { inner: "gate_up_proj", down: "down_proj", activation: Activation::Silu };
    assert_eq!((&config.block.mlp, config.window(1), config.head_dim), (&mlp, Some(8), 96));
    assert_eq!(config.linear_names()[..2], ["model.layers.0.self_attn.qkv_proj", "model.layers.0.self_attn.o_proj"]);
    let sizes = json!({ "hidden_size": 48, "num_attention_heads": 4 });
    let with = |more: Value| {
        let mut keys = sizes.clone();
        keys.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        keys
    };
    let long = |name: &str| json!({ "type": name, "short_factor": [1, 1, 1], "long_factor": [2, 3, 4] });
    let of = |keys: &Value| read("phi3", keys).rotary().expect("rotary positions").clone();
    let half = with(json!({ "partial_rotary_factor": 0.5, "rope_scaling": long("longrope") }));
    let rotary = of(&half);
    assert_eq!(rotary.dims, 6);
    let RopeScaling::LongRope { original_max_position_embeddings, .. } = rotary.scaling else { panic!("{rotary:?}") };
    assert_eq!(original_max_position_embeddings, 4096, "its own default");
    for older in ["su", "yarn"] {
        assert_eq!(of(&with(json!({ "partial_rotary_factor": 0.5, "rope_scaling": long(older) }))), rotary, "{older}");
    }
    let whole = refusal("phi3", &with(json!({ "rope_scaling": long("longrope") })));
    assert!(whole.contains("it must be a list of 6 numbers above 0, one per pair"), "{whole}");
    let linear = refusal("phi3", &json!({ "rope_scaling": { "type": "linear", "factor": 2 } }));
    assert_eq!(linear, r#""rope_scaling.type" is "linear"; this architecture has default and longrope"#);
    let odd = refusal("phi3", &with(json!({ "partial_rotary_factor": 0.25 })));
    let expected = r#""partial_rotary_factor" is 0.25, which rotates 3 of a head's 12 elements; it must be an even number of them"#;
    assert_eq!(odd, expected);
}

#[test]
fn some_families_rotate_a_part_of_each_head() {
    let dims = |family, keys: Value| read(family, &keys).rotary().expect("rotary positions").dims;
    assert_eq!([dims("stablelm", json!({})), dims("gpt_neox", json!({}))], [20, 24]);
    assert_eq!(dims("stablelm", json!({ "partial_rotary_factor": 0.5 })), 40);
    assert_eq!(dims("gpt_neox", json!({ "rotary_pct": 1.0 })), 96);
    let inside = json!({ "rotary_pct": 1.0, "rope_parameters": { "partial_rotary_factor": 0.5, "rope_theta": 7 } });
    assert_eq!(dims("gpt_neox", inside.clone()), 48);
    assert_eq!(read("gpt_neox", &inside).rotary().expect("rotary positions").theta, 7.0);
    assert_eq!(read("gpt_neox", &json!({ "rotary_emb_base": 9 })).rotary().expect("rotary positions").theta, 9.0);
    assert_eq!(dims("starcoder2", json!({})), 128);
    let starcoder = refusal("starcoder2", &json!({ "partial_rotary_factor": 0.5 }));
    assert_eq!(starcoder, r#""partial_rotary_factor" is 0.5; only 1, which rotates the whole head, is supported"#);
}

#[test]
fn families_with_layer_norm_have_their_own_keys() {
    let neox = read("gpt_neox", &json!({ "layer_norm_eps": 1e-3, "hidden_dropout": 0.1, "attention_bias": false }));
    assert_eq!((neox.block.norm, neox.block.norm_eps, neox.block.parallel_residual), (Norm::Layer, 1e-3, true));
    assert_eq!(neox.dropout, Dropouts { embedding: 0.1, attention: 0.0, residual: 0.1 });
    assert_eq!([neox.block.qkv_bias, neox.block.output_bias, neox.block.mlp_bias], [false, false, true]);
    assert_eq!(neox.block.projections, Projections::FusedByHead("query_key_value"));
    let plain = Mlp::Plain { up: "dense_h_to_4h", down: "dense_4h_to_h", gelu: GeluForm::Exact };
    assert_eq!((&neox.block.mlp, neox.block.names.head), (&plain, "embed_out"));
    assert!(!read("gpt_neox", &json!({ "use_parallel_residual": false })).block.parallel_residual);
    let grouped = refusal("gpt_neox", &json!({ "num_key_value_heads": 8 }));
    assert_eq!(grouped, r#""num_key_value_heads" differs from num_attention_heads; this architecture has as many"#);

    let stablelm = read("stablelm", &json!({ "use_qkv_bias": true }));
    assert_eq!((stablelm.block.norm, stablelm.block.qkv_bias, stablelm.block.output_bias), (Norm::Layer, true, false));
    assert_eq!(stablelm.block.names.mlp_norms.before, Some("post_attention_layernorm"));
    let parallel = read("stablelm", &json!({ "use_parallel_residual": true })).block;
    assert_eq!((parallel.parallel_residual, parallel.names.mlp_norms.before), (true, None));
    let per_head = refusal("stablelm", &json!({ "qk_layernorm": true }));
    assert_eq!(per_head, r#""qk_layernorm" is true; LayerNorms of single heads of q and k are not supported"#);
    let dropout = refusal("stablelm", &json!({ "hidden_dropout": 0.1 }));
    assert_eq!(dropout, r#""hidden_dropout" is not 0; dropout of the MLP alone is not supported"#);

    let phi = read("phi", &json!({ "resid_pdrop": 0.1, "embd_pdrop": 0.2, "attention_dropout": 0.3 }));
    assert_eq!((phi.block.norm, phi.block.parallel_residual, phi.head_bias), (Norm::Layer, true, true));
    assert_eq!([phi.block.qkv_bias, phi.block.output_bias, phi.block.mlp_bias], [true; 3]);
    assert_eq!((phi.block.names.output, phi.block.names.final_norm), ("dense", "final_layernorm"));
    assert_eq!(phi.block.names.mlp_norms.before, None);
    assert_eq!(phi.dropout, Dropouts { embedding: 0.2, attention: 0.3, residual: 0.1 });
    assert_eq!(phi.rotary().expect("rotary positions").dims, 32);
    let per_head = refusal("phi", &json!({ "qk_layernorm": true }));
    assert_eq!(per_head, r#""qk_layernorm" is true; LayerNorms of single heads of q and k are not supported"#);

    let keys = json!({ "residual_dropout": 0.1, "embedding_dropout": 0.2, "sliding_window": 8, "use_bias": false });
    let starcoder = read("starcoder2", &keys);
    assert_eq!(starcoder.dropout, Dropouts { embedding: 0.2, attention: 0.0, residual: 0.1 });
    assert_eq!((starcoder.window(3), starcoder.tie_word_embeddings, starcoder.block.mlp_bias), (Some(8), true, false));
}

#[test]
fn families_with_experts_have_their_own_keys() {
    let experts = |family: &str, keys: &Value| read(family, keys).block.experts.expect("experts");
    let mixtral = experts("mixtral", &json!({ "num_hidden_layers": 3 }));
    assert_eq!((mixtral.count, mixtral.per_token, mixtral.inner_size, mixtral.normalised), (8, 2, 14336, true));
    assert_eq!((mixtral.shared_inner_size, &mixtral.layers[..]), (None, &[true; 3][..]));
    assert_eq!(windows("mixtral", &json!({}), 1), [None]);
    assert_eq!(windows("mixtral", &json!({ "sliding_window": 8 }), 2), [Some(8); 2]);
    let qwen2 = experts("qwen2_moe", &json!({}));
    assert_eq!((qwen2.count, qwen2.per_token, qwen2.inner_size, qwen2.normalised), (60, 4, 1408, false));
    assert_eq!((qwen2.shared_inner_size, read("qwen2_moe", &json!({})).block.qkv_bias), (Some(5632), true));
    let qwen3 = experts("qwen3_moe", &json!({ "norm_topk_prob": true, "num_experts": 16 }));
    assert_eq!((qwen3.count, qwen3.per_token, qwen3.inner_size, qwen3.normalised), (16, 8, 768, true));
    assert_eq!(qwen3.shared_inner_size, None);
    // Either name of the key; layers counted from 1, some of them taken out.
    let keys = json!({
        "num_local_experts": 9, "num_hidden_layers": 6, "decoder_sparse_step": 2, "mlp_only_layers": [3, 77],
    });
    for family in ["qwen2_moe", "qwen3_moe"] {
        let sparse = experts(family, &keys);
        assert_eq!((sparse.count, &sparse.layers[..]), (9, &[false, true, false, false, false, true][..]), "{family}");
    }
    let window = json!({ "use_sliding_window": true, "sliding_window": 8, "max_window_layers": 3 });
    assert_eq!(windows("qwen3_moe", &window, 2), [Some(8); 2]);
    assert_eq!(windows("qwen2_moe", &window, 5), [Some(8), None, Some(8), None, None]);
}

#[test]
fn linears_of_experts_are_known_by_layer_and_place() {
    let config = read("qwen2_moe", &json!({ "num_hidden_layers": 2, "num_experts": 4, "mlp_only_layers": [0] }));
    let names = config.linear_names();
    assert_eq!(names.len(), 7 + 4 + 3 * 4 + 3 + 1);
    assert_eq!(names[4], "model.layers.0.mlp.gate_proj");
    let experts = config.expert_linears();
    assert_eq!((experts.len(), experts[2][3].as_str()), (3, "model.layers.1.mlp.experts.3.down_proj"));
    let first_shared = "model.layers.1.mlp.shared_expert.gate_proj";
    assert_eq!((names[23].as_str(), names[26].as_str()), (first_shared, "model.layers.1.mlp.shared_expert_gate"));
    assert!(!names.iter().any(|name| name.ends_with("mlp.gate")), "a router is no linear");
}

#[test]
fn what_is_not_supported_of_experts_is_named() {
    for (family, keys, expected) in [
        ("mixtral", json!({ "num_experts_per_tok": 9 }), r#""num_experts_per_tok" is 9; there are 8 experts"#),
        (
            "mixtral",
            json!({ "router_jitter_noise": 0.1 }),
            r#""router_jitter_noise" is not 0; noise on what routers read is not supported"#,
        ),
        (
            "qwen3_moe",
            json!({ "output_router_logits": true }),
            r#""output_router_logits" is true, which adds a loss that balances experts; this loss is not supported: set it to false"#,
        ),
        ("qwen2_moe", json!({ "mlp_only_layers": 1 }), r#""mlp_only_layers" is 1; it must be a list of layers"#),
        ("qwen2_moe", json!({ "mlp_only_layers": [-1] }), r#""mlp_only_layers" has -1; it must be a list of layers"#),
        (
            "qwen3_moe",
            json!({ "num_experts": 4096, "moe_intermediate_size": 2048 }),
            r#""num_experts" and the experts' width: 4096 experts of 2048 are wider than 4194304"#,
        ),
    ] {
        let error = parse(family, &keys).expect_err("an error").to_string();
        assert_eq!(error, format!("config.json: {expected}"), "{family}");
    }
    let harmless = json!({ "output_router_logits": true, "router_aux_loss_coef": 0.0 });
    assert_eq!(read("qwen3_moe", &harmless).block.experts.map(|experts| experts.count), Some(128));
}
