//! `config.json` and `generation_config.json` of models.

use crate::fixtures;
use remat_formats::{GenerationConfig, ModelConfig};
use std::path::Path;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![fixtures::bytes("parity/llama-gqa-tied/generation_config.json")];
    for case in String::from_utf8(fixtures::bytes("parity/cases.txt")).expect("a text").lines() {
        let name = case.split_whitespace().next().unwrap_or("#");
        if !name.starts_with('#') {
            seeds.push(fixtures::bytes(&format!("parity/{name}/config.json")));
        }
    }
    seeds
}

pub(crate) fn examine(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Err(error) = ModelConfig::parse(Path::new("config.json"), text) {
        crate::refusal::refused(&error);
    }
    if let Err(error) = GenerationConfig::parse(Path::new("generation_config.json"), text) {
        crate::refusal::refused(&error);
    }
}
