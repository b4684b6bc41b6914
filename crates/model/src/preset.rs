//! Published shapes by name, so that a model can be planned with nothing to download.
//!
//! Invariant: each stands in its family's file; the tests hold their parameter counts to the published ones. Look next at
//! `build::training`, which plans from a configuration.

use crate::ModelError;
use remat_formats::{ModelConfig, Preset, SettingName};
use std::path::Path;

/// The names of all presets.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    ModelConfig::presets().map(|preset| preset.name)
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
    match ModelConfig::presets().find(|preset| preset.name == name) {
        Some(Preset { config, .. }) => Ok(config),
        None => {
            let known = preset_names().collect::<Vec<_>>().join(", ");
            Err(ModelError::Setting(format!(
                "{} {name}: there is no such preset; there are {known}",
                SettingName("preset")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchShape, LoraConfig, Method, Precision, Quant, training};
    use remat_formats::GgufArchitecture;
    use remat_tensor::DType;

    #[test]
    fn presets_have_the_published_number_of_parameters() {
        for known in ModelConfig::presets() {
            let config = preset(known.name).expect("parses");
            assert_eq!(parameters(&config), known.parameters, "{}", known.name);
        }
    }

    /// As transformers counts them: published shapes, and its own defaults.
    #[test]
    fn configurations_have_the_parameters_that_transformers_counts() {
        let olmo2 = |width: usize, inner: usize, layers: usize, heads: usize, kv_heads: usize| {
            format!(
                r#"{{"model_type": "olmo2", "hidden_size": {width}, "intermediate_size": {inner}, "num_hidden_layers":
                {layers}, "num_attention_heads": {heads}, "num_key_value_heads": {kv_heads}, "vocab_size": 100352}}"#
            )
        };
        for (config, expected) in [
            (olmo2(4096, 11008, 32, 32, 32), 7_298_617_344),
            (olmo2(5120, 13824, 40, 40, 40), 13_716_198_400),
            (olmo2(5120, 27648, 64, 40, 8), 32_234_279_936),
            (r#"{"model_type": "granite"}"#.to_string(), 6_738_415_616),
            (r#"{"model_type": "smollm3"}"#.to_string(), 3_075_098_624),
        ] {
            let parsed = ModelConfig::parse(Path::new("config.json"), &config).expect("parses");
            let shape = BatchShape { batch: 1, seq_len: 8 };
            let training = training(&parsed, Precision::Bf16, &Method::Full, shape).expect("builds");
            let count: usize = training.parameters.iter().map(|parameter| parameter.ty.shape.numel()).sum();
            assert_eq!(count, expected, "{config}");
        }
    }

    /// The words of those methods that a model of this shape can be trained by.
    fn methods(config: &ModelConfig) -> Vec<&'static str> {
        let lora = LoraConfig::default;
        let all = [
            ("full", Method::Full),
            ("lora", Method::Lora(lora())),
            ("qlora", Method::Qlora(lora(), Quant::default())),
        ];
        let shape = BatchShape { batch: 1, seq_len: 8 };
        let is_built = |(_, method): &(&str, Method)| training(config, Precision::Bf16, method, shape).is_ok();
        all.into_iter().filter(is_built).map(|(word, _)| word).collect()
    }

    /// The formats that linears of a model of this shape are held in when they are quantised.
    fn quantised(config: &ModelConfig) -> Vec<&'static str> {
        let shape = BatchShape { batch: 1, seq_len: 8 };
        let is_held = |quant: &Quant| {
            let method = Method::Qlora(LoraConfig::default(), *quant);
            let graph = training(config, Precision::Bf16, &method, shape).map(|training| training.graph);
            let dtype = quant.format().dtype();
            graph.is_ok_and(|graph| graph.values.iter().any(|value| value.ty.dtype == dtype))
        };
        [Quant::Nf4, Quant::Int8].into_iter().filter(is_held).map(Quant::name).collect()
    }

    #[test]
    fn the_readme_has_every_family_and_what_can_be_done_with_it() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
        let readme = std::fs::read_to_string(readme).expect("the README");
        let rows = ModelConfig::families().map(|(model_type, title, presets)| {
            let config = preset(presets[0].name).expect("a preset");
            let gguf = GgufArchitecture::of(&config).map_or("–".to_string(), |known| format!("`{}`", known.name()));
            let (methods, quantised) = (methods(&config).join(", "), quantised(&config).join(", "));
            let presets: Vec<String> = presets.iter().map(|preset| format!("`{}`", preset.name)).collect();
            format!("| {title} | `{model_type}` | {methods} | {quantised} | {gguf} | {} |\n", presets.join(", "))
        });
        let head = "| family | `model_type` | methods | quantised to | GGUF | presets |\n|---|---|---|---|---|---|\n";
        let table = format!("{head}{}", rows.collect::<String>());
        assert!(readme.contains(&table), "README.md should have this table:\n{table}");
    }

    fn parameters(config: &ModelConfig) -> usize {
        let shape = BatchShape { batch: 1, seq_len: 8 };
        let training = training(config, Precision::Bf16, &Method::Full, shape).expect("builds");
        training.parameters.iter().map(|parameter| parameter.ty.shape.numel()).sum()
    }

    /// `fixtures/configs/published.jsonl`: configurations as their makers published them, with transformers' counts.
    #[test]
    fn published_configurations_have_the_published_number_of_parameters_or_are_refused_by_name() {
        let rows = include_str!("../../../fixtures/configs/published.jsonl");
        let mut planned = 0;
        for row in rows.lines() {
            let row: serde_json::Value = serde_json::from_str(row).expect("JSON");
            let family = row["config"]["model_type"].as_str().expect("a family");
            match ModelConfig::parse(Path::new("config.json"), &row["config"].to_string()) {
                Ok(config) => {
                    assert_eq!(Some(parameters(&config) as u64), row["parameters"].as_u64(), "{}", row["config"]);
                    planned += 1;
                }
                Err(error) => {
                    let error = error.to_string();
                    let refusal = format!(
                        "config.json: \"model_type\" is {family:?}, an architecture that is not supported; supported are "
                    );
                    let supported = error.strip_prefix(&refusal).unwrap_or_else(|| panic!("{family}: {error}"));
                    assert!(supported.split(", ").all(|supported| supported != family), "{family}: {error}");
                }
            }
        }
        assert!(planned >= 59, "{planned} were planned");
    }

    #[test]
    fn presets_know_what_their_weights_are_published_in() {
        let dtype = |name: &str| crate::Model::from_preset(name).expect("a preset").stored_dtype();
        let published = [("gpt2", DType::F32), ("llama-2-7b", DType::F16), ("llama-3.1-8b", DType::BF16)];
        published.iter().for_each(|&(name, expected)| assert_eq!(dtype(name), expected, "{name}"));
    }

    #[test]
    fn an_unknown_preset_is_refused_with_those_there_are() {
        let error = preset("gpt5").expect_err("unknown").to_string();
        assert!(error.starts_with("`preset` gpt5: there is no such preset; there are llama-160m, "), "{error}");
    }
}
