//! Which modules get an adapter: names, a pattern, or all; matching as in PEFT.

use crate::ModelError;
use regex::Regex;
use std::fmt;

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
        match Regex::new(text) {
            Ok(_) if !text.is_empty() => Ok(Targets::Pattern(text.to_string())),
            Ok(_) => {
                Err("no target given: use all-linear, names such as q_proj,v_proj, or a regular expression".into())
            }
            Err(error) => Err(format!("'{text}' is neither a list of module names nor a regular expression: {error}")),
        }
    }
}

impl Targets {
    /// Those of `linears` (full module names) that are meant.
    ///
    /// # Errors
    /// A name that none of them has, a pattern that does not parse.
    pub(super) fn among(&self, linears: &[String]) -> Result<Vec<String>, ModelError> {
        match self {
            Targets::AllLinear => Ok(linears.to_vec()),
            Targets::Names(names) => {
                for name in names {
                    if !linears.iter().any(|module| ends_with_name(module, name)) {
                        return Err(no_target(name, linears));
                    }
                }
                let is_meant = |module: &&String| names.iter().any(|name| ends_with_name(module, name));
                Ok(linears.iter().filter(is_meant).cloned().collect())
            }
            Targets::Pattern(pattern) => {
                let whole = Regex::new(&format!("^(?:{pattern})$"))
                    .map_err(|error| ModelError::BadRegex { given: pattern.clone(), problem: error.to_string() })?;
                Ok(linears.iter().filter(|module| whole.is_match(module)).cloned().collect())
            }
        }
    }
}

fn ends_with_name(module: &str, name: &str) -> bool {
    module == name || module.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

/// The error of a target that matches nothing.
pub(super) fn no_target(given: &str, linears: &[String]) -> ModelError {
    ModelError::NoTarget { given: given.to_string(), available: kinds(linears).join(", ") }
}

/// The last components of module names, once each.
pub(super) fn kinds(modules: &[String]) -> Vec<String> {
    let mut kinds: Vec<String> = modules.iter().filter_map(|m| m.rsplit('.').next()).map(str::to_string).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
