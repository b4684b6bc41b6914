//! What was passed over in a file of rows, in words: for `data check` and the head of a run. Invariant: what comes from the
//! file is printed without control characters, and long lists are cut.

use crate::units::{count, counted};
use remat_data::SampleStats;
use std::collections::BTreeSet;
use std::fmt::Display;

/// Names of a list that are printed.
const MOST_NAMES: usize = 20;

/// Notes on a file, each with a label.
pub(crate) fn notes(stats: &SampleStats) -> Vec<(&'static str, String)> {
    let file = &stats.file;
    let mut notes = Vec::new();
    if !file.columns.is_empty() {
        notes.push(("columns", names(&file.columns)));
    }
    if !file.ignored.is_empty() {
        notes.push(("ignored", format!("{}: they say nothing that is learnt", names(&file.ignored))));
    }
    if stats.not_taken > 0 {
        notes.push(("share", format!("{} not taken", counted(stats.not_taken, "row"))));
    }
    if file.bad_rows > 0 {
        let told = file.bad.iter().map(|bad| format!("line {}: {}", bad.line, visible(&bad.reason)));
        let more = match file.bad_rows - file.bad.len() {
            0 => String::new(),
            more => format!("; and {} more", count(more)),
        };
        let told = told.collect::<Vec<_>>().join("; ");
        notes.push(("bad", format!("{} dropped: {told}{more}", counted(file.bad_rows, "row"))));
    }
    notes
}

fn names(list: &BTreeSet<impl Display>) -> String {
    let more = if list.len() > MOST_NAMES { ", …" } else { "" };
    let shown = list.iter().take(MOST_NAMES).map(|name| visible(&name.to_string())).collect::<Vec<_>>();
    format!("{}{more}", shown.join(", "))
}

fn visible(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}
