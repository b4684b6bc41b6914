//! LoRA: which modules get an adapter, of which rank and scale. Hu et al., *LoRA*, 2021; matching as in PEFT.
//!
//! Invariant: a target that matches nothing is an error, never a run that trains less than was asked for.

use crate::ModelError;
use regex::Regex;
use std::fmt;

/// Settings of the adapters.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Width of the bottleneck.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f32,
    /// Dropout on the adapter's input.
    pub dropout: f32,
    /// Scale α/√r instead of α/r (Kalajdzievski, *rsLoRA*, 2023).
    pub rank_stabilised: bool,
    /// Which modules.
    pub targets: Targets,
}

impl LoraConfig {
    /// α/r, or α/√r.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f64;
        let divisor = if self.rank_stabilised { rank.sqrt() } else { rank };
        (f64::from(self.alpha) / divisor) as f32
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
        match Regex::new(text) {
            Ok(_) if !text.is_empty() => Ok(Targets::Pattern(text.to_string())),
            Ok(_) => {
                Err("no target given: use all-linear, names such as q_proj,v_proj, or a regular expression".into())
            }
            Err(error) => Err(format!("'{text}' is neither a list of module names nor a regular expression: {error}")),
        }
    }
}

/// The adapters of one graph: the settings and the modules they apply to.
pub(crate) struct Adapters<'a> {
    config: Option<&'a LoraConfig>,
    modules: Vec<String>,
    available: Vec<String>,
}

impl<'a> Adapters<'a> {
    /// No adapters.
    pub fn none() -> Self {
        Adapters { config: None, modules: Vec::new(), available: Vec::new() }
    }

    /// Adapters for those of `linears` (full module names) that the targets match.
    pub fn new(config: &'a LoraConfig, linears: Vec<String>) -> Result<Self, ModelError> {
        if config.rank == 0 {
            return Err(ModelError::Setting("--rank 0: an adapter needs a rank of at least 1".to_string()));
        }
        if !(0.0..1.0).contains(&config.dropout) {
            let message = format!("--dropout {}: must be at least 0 and below 1", config.dropout);
            return Err(ModelError::Setting(message));
        }
        let modules = match &config.targets {
            Targets::AllLinear => linears.clone(),
            Targets::Names(names) => {
                for name in names {
                    if !linears.iter().any(|module| ends_with_name(module, name)) {
                        return Err(no_target(name, &linears));
                    }
                }
                linears.iter().filter(|m| names.iter().any(|name| ends_with_name(m, name))).cloned().collect()
            }
            Targets::Pattern(pattern) => {
                let whole = Regex::new(&format!("^(?:{pattern})$"))
                    .map_err(|error| ModelError::BadRegex { given: pattern.clone(), problem: error.to_string() })?;
                linears.iter().filter(|module| whole.is_match(module)).cloned().collect()
            }
        };
        Ok(Adapters { config: Some(config), modules, available: linears })
    }

    /// The settings for a module, if it is a target.
    pub fn of(&self, module: &str) -> Option<&'a LoraConfig> {
        self.config.filter(|_| self.modules.iter().any(|target| target == module))
    }

    /// Refuses targets that matched nothing.
    pub fn all_matched(&self) -> Result<(), ModelError> {
        match self.config {
            Some(config) if self.modules.is_empty() => Err(no_target(&config.targets.to_string(), &self.available)),
            _ => Ok(()),
        }
    }
}

fn ends_with_name(module: &str, name: &str) -> bool {
    module == name || module.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

fn no_target(given: &str, linears: &[String]) -> ModelError {
    let mut kinds: Vec<&str> = linears.iter().filter_map(|module| module.rsplit('.').next()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    ModelError::NoTarget { given: given.to_string(), available: kinds.join(", ") }
}
