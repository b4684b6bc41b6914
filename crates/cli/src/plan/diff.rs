//! Two plans side by side: what differs in settings, memory and time. Reads what `plan --json` wrote.

use crate::terminal;
use crate::units::bytes;
use remat_formats::{SETTINGS_LIMIT_BYTES, read_text_file};
use remat_train::TrainError;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// The comparison of two files.
///
/// # Errors
/// A file that cannot be read or is no plan.
pub(super) fn page(a: &Path, b: &Path) -> Result<String, TrainError> {
    let (first, second) = (read(a)?, read(b)?);
    let mut page = format!("{:<34}{:>16}{:>16}{:>16}\n", "", "A", "B", "B - A");
    let keys = |plan: &Value| plan["config"].as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    let (mut names, more): (Vec<String>, Vec<String>) = (keys(&first), keys(&second));
    names.extend(more);
    names.sort_unstable();
    names.dedup();
    let top = ["model", "batch_size", "seq_len", "verdict", "policy", "device", "threads"];
    let pairs = top.iter().map(|key| ((*key).to_string(), &first[*key], &second[*key]));
    let settings = names.iter().map(|name| (format!("--{name}"), &first["config"][name], &second["config"][name]));
    // Writing to a string cannot fail.
    for (name, x, y) in pairs.chain(settings).filter(|(_, x, y)| x != y) {
        let _ = writeln!(page, "{name:<34}{:>16}{:>16}", plain(x), plain(y));
    }
    for (key, name) in [
        ("peak_bytes", "peak"),
        ("smallest_budget_bytes", "smallest --memory"),
        ("activation_bytes", "kept for backward"),
        ("arena_bytes", "arena"),
    ] {
        page.push_str(&sizes(name, &first[key], &second[key]));
    }
    for key in ["step_seconds", "recompute_seconds"] {
        if let (Some(x), Some(y)) = (first[key].as_f64(), second[key].as_f64()) {
            let name = key.replace('_', " ");
            let change = if x > 0.0 { format!("{:+.1}%", 100.0 * (y / x - 1.0)) } else { String::new() };
            let _ = writeln!(page, "{name:<34}{x:>16.4}{y:>16.4}{change:>16}");
        }
    }
    page.push_str(&phases(&first, &second));
    Ok(page)
}

/// The parts that differ, phase by phase; phases that differ alike are shown once.
fn phases(first: &Value, second: &Value) -> String {
    let list = |plan: &Value| plan["phases"].as_array().cloned().unwrap_or_default();
    let mut alike: Vec<(Vec<String>, String)> = Vec::new();
    for phase in list(first) {
        let other = list(second).into_iter().find(|other| other["name"] == phase["name"]).unwrap_or(Value::Null);
        let parts = phase["parts"].as_object().into_iter().flatten();
        let differ = parts.filter(|(part, bytes)| **bytes != other["parts"][*part]);
        let lines =
            differ.map(|(part, bytes)| sizes(&format!("  {}", part.replace('_', " ")), bytes, &other["parts"][part]));
        let (name, lines) = (plain(&phase["name"]), lines.collect::<String>());
        match alike.iter_mut().find(|(_, known)| *known == lines) {
            Some((names, _)) => names.push(name),
            None => alike.push((vec![name], lines)),
        }
    }
    let shown = alike.iter().filter(|(_, lines)| !lines.is_empty());
    shown.map(|(names, lines)| format!("{}\n{lines}", names.join(", "))).collect()
}

fn read(path: &Path) -> Result<Value, TrainError> {
    let failed = |source| TrainError::Io { path: path.to_path_buf(), what: "read", source };
    let text = read_text_file(path, SETTINGS_LIMIT_BYTES).map_err(failed)?;
    let refuse = |problem: String| TrainError::BadFlag {
        key: "diff",
        problem: format!("{}: {problem}; write it with remat plan --json", path.display()),
    };
    let plan: Value = serde_json::from_str(&text).map_err(|error| refuse(format!("not a plan: {error}")))?;
    match plan["phases"].as_array() {
        Some(_) if plan["schema"] == 1 => Ok(plan),
        _ => Err(refuse("not a plan of schema 1".to_string())),
    }
}

fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let text: String = text.chars().map(|c| if terminal::steers(c) || c == '\n' { '\u{fffd}' } else { c }).collect();
    if text.chars().count() <= 15 { text } else { text.chars().take(14).chain(['…']).collect() }
}

fn sizes(name: &str, x: &Value, y: &Value) -> String {
    let (Some(x), Some(y)) = (x.as_u64(), y.as_u64()) else { return String::new() };
    let sign = if y < x { '-' } else { '+' };
    format!("{name:<34}{:>16}{:>16}{:>16}\n", bytes(x), bytes(y), format!("{sign}{}", bytes(y.abs_diff(x))))
}
