//! Published shapes by name, so that a model can be planned with nothing to download.
//!
//! Invariant: each stands in its family's file; the tests hold their parameter counts to the published ones. Look next at
//! `build::training`, which plans from a configuration.

use crate::ModelError;
use remat_formats::{ModelConfig, Preset};
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
        for known in ModelConfig::presets() {
            let config = preset(known.name).expect("parses");
            let shape = BatchShape { batch: 1, seq_len: 8 };
            let training = training(&config, Precision::Bf16, &Method::Full, shape).expect("builds");
            let count: usize = training.parameters.iter().map(|parameter| parameter.ty.shape.numel()).sum();
            assert_eq!(count, known.parameters, "{}", known.name);
        }
    }

    #[test]
    fn an_unknown_preset_is_refused_with_those_there_are() {
        let error = preset("gpt5").expect_err("unknown").to_string();
        assert!(error.starts_with("--preset gpt5: there is no such preset; there are llama-160m, "), "{error}");
    }
}
