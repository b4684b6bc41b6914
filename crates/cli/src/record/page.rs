//! A comparison as a page to read or as JSON. Invariant: text from a record cannot move a terminal's cursor or break a line.

use super::compare::{Comparison, SECTIONS};
use super::read::RecordFile;
use crate::{terminal, units};
use serde_json::{Value, json};

/// Longer values end in an ellipsis; `--json` has them whole.
const MOST_CHARS: usize = 40;
const HASH_CHARS: usize = 12;

/// The page.
pub(super) fn text(first: &RecordFile, second: &RecordFile, comparison: &Comparison) -> String {
    let mut page = String::new();
    for (name, file) in [("A", first), ("B", second)] {
        page.push_str(&format!("{name}  {}, {}\n", shown_path(file), plain(&file.heading())));
    }
    page.push('\n');
    for sentence in &comparison.summary {
        page.push_str(&plain(sentence));
        page.push('\n');
    }
    let cells: Vec<[String; 4]> = comparison
        .differences
        .iter()
        .map(|difference| {
            let change = difference.percent().map_or(String::new(), |percent| format!("{percent:+.1} %"));
            let shown = |value: &Value| shown(&difference.name, value);
            [cut(&plain(&difference.name)), shown(&difference.first), shown(&difference.second), change]
        })
        .collect();
    let width =
        |column: usize, least: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(least);
    let (name_width, first_width, second_width) = (width(0, 8), width(1, 1), width(2, 1));
    for section in SECTIONS {
        let rows = comparison.differences.iter().zip(&cells).filter(|(difference, _)| difference.section == section);
        for (index, (_, [name, a, b, change])) in rows.enumerate() {
            if index == 0 {
                page.push_str(&format!("\n{section:<name_width$}    {:<first_width$}  B\n", "A"));
            }
            let line = format!("  {name:<name_width$}  {a:<first_width$}  {b:<second_width$}  {change}");
            page.push_str(line.trim_end());
            page.push('\n');
        }
    }
    page
}

/// The JSON object, schema 1.
pub(super) fn json(first: &RecordFile, second: &RecordFile, comparison: &Comparison) -> Value {
    let side = |file: &RecordFile| json!({ "path": file.path, "kind": file.record["kind"], "started_at": file.record["started_at"] });
    let differences = comparison.differences.iter().map(|difference| {
        json!({
            "section": difference.section,
            "name": difference.name,
            "a": difference.first,
            "b": difference.second,
            "change_percent": difference.percent(),
        })
    });
    json!({
        "schema": 1,
        "a": side(first),
        "b": side(second),
        "same": comparison.same,
        "summary": comparison.summary,
        "differences": differences.collect::<Vec<_>>(),
    })
}

fn shown_path(file: &RecordFile) -> String {
    plain(&file.path.display().to_string())
}

/// A value in the unit that its name says.
fn shown(name: &str, value: &Value) -> String {
    let number = value.as_f64();
    let text = match value {
        Value::Null => "-".to_string(),
        Value::String(text) if name.ends_with("sha256") => text.chars().take(HASH_CHARS).collect(),
        Value::String(text) => plain(text),
        Value::Number(_) if name.ends_with("_bytes") && value.is_u64() => units::bytes(value.as_u64().unwrap_or(0)),
        Value::Number(_) if name.ends_with("seconds") => format!("{:.4} s", number.unwrap_or(0.0)),
        Value::Number(_) if name.ends_with("percent") => format!("{:.1} %", number.unwrap_or(0.0)),
        Value::Number(_) if name.ends_with("_per_second") => format!("{:.1}", number.unwrap_or(0.0)),
        other => other.to_string(),
    };
    cut(&plain(&text))
}

/// Without characters that a terminal would act on.
fn plain(text: &str) -> String {
    text.chars().map(|c| if terminal::steers(c) || c == '\n' { '\u{fffd}' } else { c }).collect()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= MOST_CHARS {
        return text.to_string();
    }
    text.chars().take(MOST_CHARS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_units_and_cannot_act_on_a_terminal() {
        for (name, value, text) in [
            ("peak_bytes", json!(3 << 20), "3.0 MiB"),
            ("full step_seconds", json!(0.25), "0.2500 s"),
            ("seconds", json!(2), "2.0000 s"),
            ("extra_percent", json!(-1.25), "-1.2 %"),
            ("sha256", json!("0123456789abcdef"), "0123456789ab"),
            ("cpu", json!("\u{1b}[2J\nx"), "\u{fffd}[2J\u{fffd}x"),
            ("cpu", Value::Null, "-"),
        ] {
            assert_eq!(shown(name, &value), text);
        }
        assert_eq!(shown("cpu", &json!("x".repeat(99))).chars().count(), MOST_CHARS);
    }
}
