//! Which modules get an adapter: names, a pattern, or all; matching as in PEFT.
//!
//! Invariant: a pattern, whoever wrote it, is given up after a bounded number of steps.

use super::outer_modules::{HEAD_MODULE, embedding_module};
use crate::ModelError;
use fancy_regex::{Regex, RegexBuilder};
use remat_formats::ModelConfig;
use std::fmt;

/// Steps back that a pattern may take on one module's name: names are short, so what needs more is made to be slow.
const BACKTRACK_LIMIT: usize = 100_000;

/// The modules of a base that can have an adapter, by their names in transformers' model.
pub(crate) struct Targetable {
    /// The linears of all blocks, then the embedding and the head.
    names: Vec<String>,
    linears: usize,
}

impl Targetable {
    /// Of a base.
    pub(crate) fn of(base: &ModelConfig) -> Self {
        let mut names = base.linear_names();
        let linears = names.len();
        names.extend([embedding_module(base), HEAD_MODULE.to_string()]);
        Targetable { names, linears }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[String] {
        &self.names
    }

    /// The linears of all blocks.
    pub(super) fn linears(&self) -> &[String] {
        &self.names[..self.linears]
    }
}

/// Which linear modules get an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// Every linear of every block, the head excluded.
    AllLinear,
    /// Exact names or suffixes behind a dot.
    Names(Vec<String>),
    /// A regular expression that matches a whole module name.
    Pattern(String),
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Targets::AllLinear => f.write_str("all-linear"),
            Targets::Names(names) => f.write_str(&names.join(",")),
            Targets::Pattern(pattern) => f.write_str(pattern),
        }
    }
}

impl std::str::FromStr for Targets {
    type Err = String;

    /// `all-linear`, a comma-separated list of names, or (if it holds anything else) a regular expression.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
        if text == "all-linear" {
            return Ok(Targets::AllLinear);
        }
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        if names.iter().all(|name| is_name(name)) {
            return Ok(Targets::Names(names.into_iter().map(str::to_string).collect()));
        }
        match Pattern::new(text) {
            Ok(_) if !text.is_empty() => Ok(Targets::Pattern(text.to_string())),
            Ok(_) => {
                Err("no target given: use all-linear, names such as q_proj,v_proj, or a regular expression".into())
            }
            Err(problem) => {
                Err(format!("'{text}' is neither a list of module names nor a regular expression: {problem}"))
            }
        }
    }
}

impl Targets {
    /// Those of a base's modules that are meant; a message names the setting by `key`.
    ///
    /// # Errors
    /// A pattern that does not parse or takes too long.
    pub(super) fn matching(&self, key: &'static str, modules: &Targetable) -> Result<Vec<String>, ModelError> {
        let all = modules.all();
        match self {
            Targets::AllLinear => Ok(modules.linears().to_vec()),
            Targets::Names(names) => {
                let is_meant = |module: &&String| names.iter().any(|name| ends_with_name(module, name));
                Ok(all.iter().filter(is_meant).cloned().collect())
            }
            Targets::Pattern(pattern) => {
                let matched = Pattern::new(pattern).and_then(|whole| whole.among(all));
                matched.map_err(|problem| ModelError::BadRegex { key, given: pattern.clone(), problem })
            }
        }
    }

    /// Refuses a name that none of a base's modules has.
    ///
    /// # Errors
    /// That.
    pub(super) fn check_names(&self, key: &'static str, modules: &Targetable) -> Result<(), ModelError> {
        let Targets::Names(names) = self else { return Ok(()) };
        let is_missing = |name: &&String| !modules.all().iter().any(|module| ends_with_name(module, name));
        names.iter().find(is_missing).map_or(Ok(()), |name| Err(no_target(key, name, modules)))
    }
}

/// A regular expression that matches whole names.
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Parses one; the error says what is wrong with it.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        // Parsed by itself first: inside the group, a pattern such as `a)(b` would mean something.
        Regex::new(pattern).map_err(|error| error.to_string())?;
        let whole = format!("^(?:{pattern})$");
        let built = RegexBuilder::new(&whole).backtrack_limit(BACKTRACK_LIMIT).build();
        Ok(Pattern(built.map_err(|error| error.to_string())?))
    }

    /// Whether it matches all of a name.
    pub(super) fn matches(&self, name: &str) -> Result<bool, String> {
        self.0.is_match(name).map_err(|_| format!("takes more than {BACKTRACK_LIMIT} steps back on \"{name}\""))
    }

    fn among(&self, names: &[String]) -> Result<Vec<String>, String> {
        let mut matched = Vec::new();
        for name in names {
            if self.matches(name)? {
                matched.push(name.clone());
            }
        }
        Ok(matched)
    }
}

/// Whether a module has this name, or this end behind a dot.
pub(super) fn ends_with_name(module: &str, name: &str) -> bool {
    module == name || module.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

/// The error of a target that matches nothing.
pub(super) fn no_target(key: &'static str, given: &str, modules: &Targetable) -> ModelError {
    ModelError::NoTarget { key, given: given.to_string(), available: kinds(modules.all()).join(", ") }
}

/// The last components of module names, once each.
pub(super) fn kinds(modules: &[String]) -> Vec<String> {
    let mut kinds: Vec<String> = modules.iter().filter_map(|m| m.rsplit('.').next()).map(str::to_string).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
