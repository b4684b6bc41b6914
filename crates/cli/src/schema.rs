//! The verb `schema`: the settings file of `train` as a JSON schema, for editors.
//!
//! Invariant: a key's types are those that the reader of the file accepts, found by asking it, and its words are the flag's;
//! nothing about a setting is said here.

use crate::terminal;
use clap::{Arg, Args, Command};
use remat_train::TrainConfig;
use serde_json::{Map, Value, json};
use std::path::Path;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat schema > remat.schema.json

The keys are the flags of remat train; in the file, write `#:schema ./remat.schema.json` in the first line.";

/// Texts that settings of some form want.
const FORMS: [&str; 6] = ["x", "1GiB", "host=1GiB", "2026-01-31", "prompt=column", "{}"];

/// Prints the schema and returns the exit code.
pub(crate) fn run() -> u8 {
    // A closed pipe, as of `head`, is no error.
    terminal::say(&format!("{:#}", schema()));
    0
}

fn schema() -> Value {
    let command = TrainConfig::augment_args(Command::new("train"));
    let keys = TrainConfig::keys();
    let of = |key: &String| {
        let argument = command.get_arguments().find(|argument| argument.get_long() == Some(key.as_str()));
        (key.clone(), property(key, argument.expect("the keys are the flags' names")))
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of remat train",
        "type": "object",
        "additionalProperties": false,
        "properties": keys.iter().map(of).collect::<Map<String, Value>>(),
    })
}

fn property(key: &str, argument: &Arg) -> Value {
    let accepts = |value: &str| {
        let settings = TrainConfig::default().overlaid(Path::new("schema"), &format!("{key} = {value}\n"), &|_| false);
        settings.is_ok()
    };
    let choices: Vec<String> =
        argument.get_possible_values().iter().map(|value| value.get_name().to_string()).collect();
    let defaults = argument.get_default_values().iter().filter_map(|value| value.to_str());
    let texts =
        || choices.iter().map(String::as_str).chain(defaults.clone()).chain(FORMS).map(|text| format!("{text:?}"));
    let mut types = Vec::new();
    match (accepts("0.5"), accepts("1")) {
        (true, _) => types.push("number"),
        (false, true) => types.push("integer"),
        (false, false) => {}
    }
    if accepts("true") {
        types.push("boolean");
    }
    if texts().any(|text| accepts(&text)) {
        types.push("string");
    }
    let is_list = texts().any(|text| accepts(&format!("[{text}]")));
    let mut property = Map::new();
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    property.insert("description".to_string(), json!(help));
    let is_choice = types == ["string"] && !choices.is_empty();
    if is_list {
        types.push("array");
        property.insert("items".to_string(), json!({"type": "string"}));
    }
    property.insert("type".to_string(), if let [one] = types[..] { json!(one) } else { json!(types) });
    if is_choice {
        property.insert("enum".to_string(), json!(choices));
    }
    Value::Object(property)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_the_types_that_its_reader_takes() {
        let schema = schema();
        let properties = schema["properties"].as_object().expect("keys");
        assert_eq!(properties.len(), TrainConfig::keys().len());
        for (key, types) in [
            ("model", json!("string")),
            ("data", json!("array")),
            ("rank", json!("integer")),
            ("alpha", json!("number")),
            ("seq-len", json!("integer")),
            ("packing", json!("boolean")),
            ("checkpointing", json!("string")),
            ("chat-date", json!("string")),
            ("bad-rows", json!("string")),
            ("columns", json!("array")),
            ("method", json!("string")),
        ] {
            assert_eq!(properties[key]["type"], types, "{key}");
        }
        for (key, property) in properties {
            assert!(property["type"] != json!([]) && property["description"] != "", "{key}: {property}");
        }
        assert_eq!(properties["method"]["enum"], json!(["lora", "qlora", "full"]));
        // What a run writes, with all its keys, is what the schema allows.
        let written = serde_json::to_value(TrainConfig::default()).expect("settings");
        for (key, value) in written.as_object().expect("keys") {
            let of = &properties[key]["type"];
            let is = |name: &str| of == name || of.as_array().is_some_and(|types| types.iter().any(|of| of == name));
            let fits = match value {
                Value::Number(number) => is("number") || (is("integer") && number.is_u64()),
                Value::Bool(_) => is("boolean"),
                Value::String(_) => is("string"),
                Value::Array(_) => is("array"),
                Value::Null => true,
                Value::Object(_) => false,
            };
            assert!(fits, "{key} = {value}: {of}");
        }
    }
}
