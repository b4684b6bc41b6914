//! `adapter_config.json`: what is taken and written again is the same.

use crate::fixtures;
use remat_formats::AdapterConfig;
use std::path::Path;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![fixtures::bytes("parity/llama-gqa-tied/adapter/adapter_config.json")];
    for folder in std::fs::read_dir(fixtures::path("methods")).expect("fixtures of methods") {
        let path = folder.expect("an entry").path().join("adapter_config.json");
        seeds.extend(std::fs::read(path));
    }
    seeds.sort();
    seeds
}

pub(crate) fn examine(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let config = match AdapterConfig::parse(Path::new("adapter_config.json"), text) {
        Ok(config) => config,
        Err(error) => return crate::refusal::refused(&error),
    };
    // What is not known is named and what is not supported refused: neither is written.
    if !config.unknown.is_empty() || !config.unsupported.is_empty() {
        return;
    }
    let folder = fixtures::folder(&[]);
    config.write(folder.path()).expect("what was read can be written");
    let again = AdapterConfig::from_dir(folder.path()).unwrap_or_else(|error| panic!("{error}, of {text}"));
    assert_eq!(format!("{again:?}"), format!("{config:?}"), "of {text}");
}
