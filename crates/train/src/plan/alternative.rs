//! One setting that needs less memory, as data and as a line of a message. Look next at `alternatives`, which finds them.

use serde::Serialize;

/// A setting that needs less memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alternative {
    /// The settings that make it, as they are given.
    pub change: String,
    /// Bytes of the planned peak that it saves.
    pub saves_bytes: usize,
    /// More time for the same number of tokens, in percent; negative if it is faster.
    pub costs_percent: f64,
}

/// The alternatives as the end of a message, one per line.
pub(crate) fn listed(alternatives: &[Alternative]) -> String {
    let line = |a: &Alternative| {
        let mebibytes = a.saves_bytes.div_ceil(1 << 20);
        format!("\n  {:<34} saves {mebibytes} MiB, {:+.0} % time per token", a.change, a.costs_percent)
    };
    match alternatives {
        [] => String::new(),
        _ => format!("; or, by what they cost:{}", alternatives.iter().map(line).collect::<String>()),
    }
}
