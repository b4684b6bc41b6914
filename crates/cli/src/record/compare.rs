//! What differs between two records, leaf by leaf, and what that says.
//!
//! Method: both records become lists of (section, name, value); policies of a profile go by their name, not their place.
//! Invariant: every leaf that differs is in the list; keys that a later version adds are compared as well.

use serde_json::Value;
use std::collections::BTreeMap;

/// The sections, in the order of a page.
pub(super) const SECTIONS: [&str; 8] =
    ["program", "machine", "model", "data", "settings", "plan", "observed", "policies"];

/// A leaf that differs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    pub(super) section: &'static str,
    pub(super) name: String,
    /// Null where the record does not have it.
    pub(super) first: Value,
    pub(super) second: Value,
}

impl Difference {
    /// The second over the first, in percent more.
    pub(super) fn percent(&self) -> Option<f64> {
        percent(self.first.as_f64()?, self.second.as_f64()?)
    }
}

/// Two records side by side.
pub(super) struct Comparison {
    pub(super) differences: Vec<Difference>,
    /// Sections that both have, with equal content.
    pub(super) same: Vec<&'static str>,
    /// What it comes to, in sentences.
    pub(super) summary: Vec<String>,
}

type Leaves = BTreeMap<String, Value>;

/// Compares.
pub(super) fn compare(first: &super::read::RecordFile, second: &super::read::RecordFile) -> Comparison {
    let (first, second) = (&first.record, &second.record);
    let mut differences = Vec::new();
    let mut same = Vec::new();
    for section in SECTIONS {
        let (a, b) = (leaves(first, section), leaves(second, section));
        if a == b {
            if !a.is_empty() {
                same.push(section);
            }
            continue;
        }
        let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for name in names {
            let of = |leaves: &Leaves| leaves.get(name).cloned().unwrap_or(Value::Null);
            let (x, y) = (of(&a), of(&b));
            if x != y {
                differences.push(Difference { section, name: name.clone(), first: x, second: y });
            }
        }
    }
    let summary = summary(first, second, &differences, &same);
    Comparison { differences, same, summary }
}

/// The leaves of one section.
fn leaves(record: &Value, section: &'static str) -> Leaves {
    let mut found = Leaves::new();
    match section {
        "program" => {
            for key in ["remat_version", "commit", "build"] {
                flatten(key, &record[key], &mut found);
            }
        }
        "settings" => {
            if let Some(settings) = record["config"].as_object() {
                // Where the run was written is where the record lies.
                for (key, value) in settings.iter().filter(|(key, _)| *key != "out") {
                    flatten(&format!("--{key}"), value, &mut found);
                }
            }
        }
        "observed" => {
            flatten("", &record["observed"], &mut found);
            flatten("answers", &record["answers"], &mut found);
            flatten("bound_by", &record["bound_by"], &mut found);
        }
        "policies" => {
            let profile = &record["profile"];
            for key in ["footprint_bytes", "repeats"] {
                flatten(key, &profile[key], &mut found);
            }
            for row in profile["rows"].as_array().into_iter().flatten() {
                flatten(row["policy"].as_str().unwrap_or("unnamed"), row, &mut found);
            }
        }
        other => flatten("", &record[other], &mut found),
    }
    found
}

/// Adds the leaves of a value under names joined by blanks; nulls are as good as absent.
fn flatten(name: &str, value: &Value, found: &mut Leaves) {
    let join = |key: &str| if name.is_empty() { key.to_string() } else { format!("{name} {key}") };
    match value {
        Value::Null => {}
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(&join(key), value, found)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&join(&(index + 1).to_string()), item, found);
            }
        }
        leaf => {
            found.insert(name.to_string(), leaf.clone());
        }
    }
}

fn percent(first: f64, second: f64) -> Option<f64> {
    let percent = 100.0 * (second / first - 1.0);
    percent.is_finite().then_some(percent)
}

/// What it comes to.
fn summary(first: &Value, second: &Value, differences: &[Difference], same: &[&'static str]) -> Vec<String> {
    let causes = ["program", "machine", "model", "data", "settings"];
    let differing: Vec<&str> =
        causes.into_iter().filter(|section| differences.iter().any(|d| d.section == *section)).collect();
    let equal: Vec<&str> = causes.into_iter().filter(|section| same.contains(section)).collect();
    let mut sentences = vec![match (differing.as_slice(), equal.as_slice()) {
        ([], _) => "Program, machine, files and settings are the same.".to_string(),
        (_, []) => format!("Nothing is the same: {} differ.", listed(&differing)),
        _ => {
            let named: Vec<String> = differing.iter().map(|section| named(section, differences)).collect();
            let named: Vec<&str> = named.iter().map(String::as_str).collect();
            format!("The same {}; other {}.", listed(&equal), listed(&named))
        }
    }];
    let observed = |record: &Value, key: &str| record["observed"][key].as_f64();
    let more = |key: &str| percent(observed(first, key)?, observed(second, key)?);
    let compared = |percent: f64, up: &str, down: &str| {
        if percent.abs() < 0.05 {
            "the same".to_string()
        } else {
            format!("{:.1} % {}", percent.abs(), if percent > 0.0 { up } else { down })
        }
    };
    if let Some(percent) = more("tokens_per_second") {
        sentences.push(format!("Tokens per second: B is {}.", compared(percent, "faster", "slower")));
    }
    if let Some(percent) = more("peak_bytes") {
        sentences.push(format!("Peak memory of the process: B's is {}.", compared(percent, "higher", "lower")));
    }
    if first["build"] != second["build"] && differing.contains(&"program") {
        sentences.push("The builds differ (debug and release): their times do not compare.".to_string());
    }
    sentences.extend(losses(first, second, differences));
    sentences
}

/// Losses are equal in every bit under every plan and number of threads, on one program and instruction level.
fn losses(first: &Value, second: &Value, differences: &[Difference]) -> Option<String> {
    let last = |record: &Value| record["observed"]["last_loss"].as_f64();
    let (a, b) = (last(first)?, last(second)?);
    let free = ["--checkpointing", "--threads", "--memory", "--save-every", "--save-total-limit"];
    let could_change = |d: &&Difference| match d.section {
        "program" | "model" | "data" => !d.name.ends_with("path"),
        "machine" => d.name == "isa" || d.name == "backend",
        "settings" => !free.contains(&d.name.as_str()) && !["--model", "--data"].iter().any(|p| d.name.starts_with(p)),
        _ => false,
    };
    let reason = differences.iter().find(could_change);
    Some(match (a == b, reason) {
        (true, _) => "The last losses are equal in every digit.".to_string(),
        (false, None) => format!(
            "The last losses differ ({a} and {b}) although nothing differs that may change them: please report it."
        ),
        (false, Some(reason)) => {
            let change = percent(a, b).map_or(String::new(), |percent| format!(", {percent:+.2} %"));
            format!("The last losses are {a:.6} and {b:.6}{change}; {} differs, which may change them.", reason.name)
        }
    })
}

/// A section with what differs in it, where that is short.
fn named(section: &str, differences: &[Difference]) -> String {
    const MOST_NAMES: usize = 3;
    let names: Vec<&str> = differences.iter().filter(|d| d.section == section).map(|d| d.name.as_str()).collect();
    if names.len() > MOST_NAMES { section.to_string() } else { format!("{section} ({})", names.join(", ")) }
}

/// Words with commas and a final `and`.
fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_string(),
        [firsts @ .., last] => format!("{} and {last}", firsts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::read::RecordFile;
    use serde_json::json;

    fn record(change: impl FnOnce(&mut Value)) -> RecordFile {
        let mut record = json!({
            "schema": 1, "kind": "train", "remat_version": "0.1.0", "commit": "abc", "build": "release",
            "machine": { "cpu": "one", "isa": "avx2", "threads": 2 },
            "model": { "path": "m", "sha256": "00" },
            "data": [{ "path": "d", "sha256": "11", "samples": 3 }],
            "config": { "checkpointing": "none", "seed": 1, "out": "here" },
            "plan": { "policy": "none" },
            "observed": { "last_loss": 2.0, "tokens_per_second": 100.0, "peak_bytes": 1000 },
            "profile": { "rows": [{ "policy": "none", "step_seconds": 1.0 }, { "policy": "full", "step_seconds": 2.0 }] },
        });
        change(&mut record);
        RecordFile { path: "record.json".into(), record }
    }

    #[test]
    fn a_record_and_itself_have_no_difference() {
        let comparison = compare(&record(|_| ()), &record(|record| record["config"]["out"] = json!("there")));
        assert_eq!(comparison.differences, []);
        assert_eq!(comparison.same, SECTIONS);
        let page = comparison.summary.join(" ");
        assert!(page.contains("settings are the same") && page.contains("equal in every digit"), "{page}");
    }

    #[test]
    fn differences_are_found_by_name_with_their_change() {
        let other = record(|record| {
            record["config"]["checkpointing"] = json!("full");
            record["observed"]["tokens_per_second"] = json!(80.0);
            record["profile"]["rows"] = json!([{ "policy": "full", "step_seconds": 3.0 }]);
            record["machine"]["later_key"] = json!([1]);
        });
        let comparison = compare(&record(|_| ()), &other);
        let names: Vec<&str> = comparison.differences.iter().map(|d| d.name.as_str()).collect();
        let expected = [
            "later_key 1",
            "--checkpointing",
            "tokens_per_second",
            "full step_seconds",
            "none policy",
            "none step_seconds",
        ];
        assert_eq!(names, expected);
        assert_eq!(comparison.differences[3].percent(), Some(50.0));
        assert!(comparison.summary.iter().any(|s| s.contains("B is 20.0 % slower")), "{:?}", comparison.summary);
    }

    #[test]
    fn losses_that_must_be_equal_are_said_to_differ_only_with_a_reason() {
        let changed = |more: &dyn Fn(&mut Value)| {
            let other = record(|record| {
                record["observed"]["last_loss"] = json!(2.5);
                more(record);
            });
            compare(&record(|_| ()), &other).summary.join(" ")
        };
        assert!(changed(&|r| r["config"]["checkpointing"] = json!("full")).contains("please report it"));
        assert!(changed(&|r| r["config"]["seed"] = json!(2)).contains("--seed differs, which may change them"));
        assert!(changed(&|r| r["machine"]["isa"] = json!("avx512")).contains("isa differs"));
    }

    #[test]
    fn content_of_odd_types_is_compared_as_it_is() {
        let odd = record(|record| {
            record["machine"] = json!("a string");
            record["observed"] = json!([{ "last_loss": "NaN" }, [[]], {}]);
            record["profile"] = json!({ "rows": [7, { "policy": {} }] });
            record["config"] = json!(3);
        });
        assert!(!compare(&record(|_| ()), &odd).differences.is_empty());
        assert!(compare(&odd, &odd).differences.is_empty());
    }
}
