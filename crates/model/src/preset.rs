//! Published shapes by name, so that a model can be planned with nothing to download.
//!
//! Invariant: each is the `config.json` its makers published, reduced to the keys that shape the computation; the tests
//! hold their parameter counts to the published ones. Look next at `build::training`, which plans from a configuration.

use crate::ModelError;
use remat_formats::ModelConfig;
use std::path::Path;

/// Name and `config.json`.
const PRESETS: [(&str, &str); 10] = [
    ("gpt2", r#"{"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "eos_token_id": 50256}"#),
    ("gpt2-medium", r#"{"model_type": "gpt2", "n_embd": 1024, "n_layer": 24, "n_head": 16, "eos_token_id": 50256}"#),
    (
        "llama-160m",
        r#"{"model_type": "llama", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "vocab_size": 32000, "rms_norm_eps": 1e-6, "max_position_embeddings": 2048,
            "eos_token_id": 2}"#,
    ),
    (
        "tinyllama-1.1b",
        r#"{"model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
            "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 2048, "eos_token_id": 2}"#,
    ),
    (
        "qwen2.5-0.5b",
        r#"{"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
            "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0, "tie_word_embeddings": true, "max_position_embeddings": 32768,
            "use_sliding_window": false, "eos_token_id": 151643}"#,
    ),
    (
        "llama-2-7b",
        r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "vocab_size": 32000, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096,
            "eos_token_id": 2}"#,
    ),
    (
        "llama-3.1-8b",
        r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}, "max_position_embeddings": 131072,
            "eos_token_id": 128001}"#,
    ),
    (
        "mistral-7b",
        r#"{"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "sliding_window": 4096, "max_position_embeddings": 32768, "eos_token_id": 2}"#,
    ),
    (
        "qwen3-8b",
        r#"{"model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
            "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": false,
            "max_position_embeddings": 40960, "eos_token_id": 151645}"#,
    ),
    (
        "llama-3.1-70b",
        r#"{"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
            "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256, "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}, "max_position_embeddings": 131072,
            "eos_token_id": 128001}"#,
    ),
];

/// The names of all presets.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// The configuration of a preset.
///
/// # Errors
/// A name that is not in [`preset_names`].
pub fn preset(name: &str) -> Result<ModelConfig, ModelError> {
    Ok(ModelConfig::parse(Path::new(name), preset_json(name)?)?)
}

/// The `config.json` of a preset.
///
/// # Errors
/// A name that is not in [`preset_names`].
pub fn preset_json(name: &str) -> Result<&'static str, ModelError> {
    match PRESETS.iter().find(|(known, _)| *known == name) {
        Some((_, config)) => Ok(config),
        None => {
            let known = preset_names().collect::<Vec<_>>().join(", ");
            Err(ModelError::Setting(format!("--preset {name}: there is no such preset; there are {known}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchShape, Method, Precision, training};

    #[test]
    fn presets_have_the_published_number_of_parameters() {
        let published = [
            124_439_808,
            354_823_168,
            162_417_408,
            1_100_048_384,
            494_032_768,
            6_738_415_616,
            8_030_261_248,
            7_241_732_096,
            8_190_735_360,
            70_553_706_496,
        ];
        for (name, expected) in preset_names().zip(published) {
            let config = preset(name).expect("parses");
            let shape = BatchShape { batch: 1, seq_len: 8 };
            let training = training(&config, Precision::Bf16, &Method::Full, shape).expect("builds");
            let count: usize = training.parameters.iter().map(|parameter| parameter.ty.shape.numel()).sum();
            assert_eq!(count, expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_preset_is_refused_with_those_there_are() {
        let error = preset("gpt5").expect_err("unknown").to_string();
        assert!(error.starts_with("--preset gpt5: there is no such preset; there are gpt2, gpt2-medium, "), "{error}");
    }
}
