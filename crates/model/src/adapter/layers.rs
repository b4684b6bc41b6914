//! In which layers modules are adapted, by the numbers in their names.
//!
//! Invariant: a number is found where PEFT finds it. Look next at `selection`, which asks.

/// The layers that are adapted: PEFT's `layers_to_transform` and `layers_pattern`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layers {
    /// The only layers that are adapted; `None` if all are.
    pub only: Option<Vec<usize>>,
    /// What is named before a layer's number, where that is not clear; empty if it is.
    pub pattern: Vec<String>,
}

impl Layers {
    /// Whether a module is left in: the first number among the parts of its name is in the list. The number stands behind
    /// two names at least, or behind one of `pattern`, and before another.
    pub(super) fn contain(&self, module: &str) -> bool {
        let Some(layers) = &self.only else { return true };
        let number = |text: &str| {
            let digits = text.split('.').next().filter(|_| text.contains('.'))?;
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<usize>().ok())?
        };
        let starts = || std::iter::once(0).chain(module.match_indices('.').map(|(at, _)| at + 1));
        let layer = if self.pattern.is_empty() {
            starts().skip(2).find_map(|at| number(&module[at..]))
        } else {
            let behind = |pattern: &String| {
                starts().find_map(|at| number(module[at..].strip_prefix(pattern.as_str())?.strip_prefix('.')?))
            };
            self.pattern.iter().find_map(behind)
        };
        layer.is_some_and(|layer| layers.contains(&layer))
    }
}
