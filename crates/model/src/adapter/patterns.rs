//! Values that differ by module: PEFT's `rank_pattern` and `alpha_pattern`.
//!
//! A key is a regular expression for the end of a module's name, behind a dot or from its beginning, as peft's
//! `get_pattern_key` has it; of several that match, the first counts. Invariant: what is written means the same in the order
//! of the alphabet, which is the order that PEFT's files have.

use super::targets::Pattern;
use crate::ModelError;

/// Values by the ends of module names.
pub type ModulePattern<T> = Vec<(String, T)>;

/// Patterns that were parsed.
pub(super) struct Patterns<'a, T>(Vec<(Pattern, &'a str, T)>);

impl<'a, T: Copy + PartialEq> Patterns<'a, T> {
    /// Parses the keys of a setting, which a message names by `key`.
    pub(super) fn new(key: &'static str, pattern: &'a ModulePattern<T>) -> Result<Self, ModelError> {
        let parse = |(name, value): &'a (String, T)| {
            let bad = |problem| ModelError::BadRegex { key, given: name.clone(), problem };
            // By itself first, as it is in `Pattern`.
            Pattern::new(name).map_err(bad)?;
            let whole = Pattern::new(&format!(r"(?:.*\.)?(?:{name})")).map_err(bad)?;
            Ok((whole, name.as_str(), *value))
        };
        Ok(Patterns(pattern.iter().map(parse).collect::<Result<_, ModelError>>()?))
    }

    /// The value of a module, if a key matches it.
    pub(super) fn of(&self, key: &'static str, module: &str) -> Result<Option<T>, ModelError> {
        for (pattern, given, value) in &self.0 {
            let matched = pattern.matches(module);
            let bad = |problem| ModelError::BadRegex { key, given: (*given).to_string(), problem };
            if matched.map_err(bad)? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }

    /// The keys that match none of these modules.
    pub(super) fn unused(&self, modules: &[String]) -> Vec<&'a str> {
        let is_used = |pattern: &Pattern| modules.iter().any(|module| pattern.matches(module).unwrap_or(false));
        self.0.iter().filter(|(pattern, ..)| !is_used(pattern)).map(|(_, given, _)| *given).collect()
    }
}

/// The same pattern for a file whose keys are sorted: where another order of keys would give one of these modules another
/// value, the modules by their whole names.
pub(super) fn sorted<T: Copy + PartialEq>(pattern: &ModulePattern<T>, modules: &[String]) -> ModulePattern<T> {
    let mut sorted = pattern.clone();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    let values = |pattern: &ModulePattern<T>| -> Result<Vec<Option<T>>, ModelError> {
        let patterns = Patterns::new("", pattern)?;
        modules.iter().map(|module| patterns.of("", module)).collect()
    };
    match (values(pattern), values(&sorted)) {
        (Ok(given), Ok(after)) if given != after => {
            let named = modules.iter().zip(given).filter_map(|(module, value)| Some((whole(module), value?)));
            named.collect()
        }
        _ => sorted,
    }
}

/// The regular expression of a name.
fn whole(module: &str) -> String {
    module.replace('.', r"\.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(entries: &[(&str, usize)]) -> ModulePattern<usize> {
        entries.iter().map(|(name, value)| ((*name).to_string(), *value)).collect()
    }

    fn of(entries: &[(&str, usize)], module: &str) -> Option<usize> {
        Patterns::new("rank-pattern", &pattern(entries)).expect("parsed").of("rank-pattern", module).expect("matched")
    }

    #[test]
    fn keys_match_ends_of_names_as_in_peft() {
        let module = "model.layers.1.self_attn.q_proj";
        for (key, expected) in [
            ("q_proj", true),
            ("self_attn.q_proj", true),
            ("proj", false),
            ("model.layers.1.self_attn.q_proj", true),
            (r"layers\.\d+\..*", true),
            ("q_proj|v_proj", true),
            ("layers.1", false),
        ] {
            assert_eq!(of(&[(key, 3)], module).is_some(), expected, "{key}");
        }
        assert_eq!(of(&[("q_proj", 3), (".*q_proj", 5)], module), Some(3));
    }

    #[test]
    fn what_is_written_sorted_means_the_same() {
        let modules = ["a.0.q_proj", "a.1.q_proj", "a.1.v_proj"].map(str::to_string);
        let plain = pattern(&[("q_proj", 4), ("a.1.v_proj", 2)]);
        assert_eq!(sorted(&plain, &modules), pattern(&[("a.1.v_proj", 2), ("q_proj", 4)]));
        // In the order of the alphabet the whole name would come first.
        let hidden = pattern(&[("q_proj", 4), ("a.1.q_proj", 2)]);
        assert_eq!(sorted(&hidden, &modules), pattern(&[(r"a\.0\.q_proj", 4), (r"a\.1\.q_proj", 4)]));
    }

    #[test]
    fn a_key_that_does_not_parse_is_named() {
        let error = Patterns::new("rank-pattern", &pattern(&[("(q", 1)])).err().expect("an error").to_string();
        assert!(error.starts_with("`rank-pattern` (q: not a valid regular expression: "), "{error}");
    }
}
