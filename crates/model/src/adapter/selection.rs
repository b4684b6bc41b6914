//! Which linears of a base have an adapter, and with which rank and scale each.
//!
//! Invariant: targets, what is excluded of them, and layers are matched as PEFT matches them, in this one place, whoever gave
//! them. Look next at `targets` for names and patterns, and at `patterns` for what differs by module.

use super::patterns::Patterns;
use super::targets::{Targets, no_target};
use super::variant::LoraConfig;
use crate::ModelError;

/// The layers that are adapted: PEFT's `layers_to_transform` and `layers_pattern`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layers {
    /// The only layers that are adapted; `None` if all are.
    pub only: Option<Vec<usize>>,
    /// What is named before a layer's number, where that is not clear; empty if it is.
    pub pattern: Vec<String>,
}

/// A linear that has an adapter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AdaptedModule {
    /// Its full name.
    pub name: String,
    /// Width of the bottleneck.
    pub rank: usize,
    /// Factor of what the adapter adds.
    pub scale: f32,
    /// Numerator of that.
    pub alpha: f32,
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

impl LoraConfig {
    /// Those of `linears` (full module names) that have an adapter, in their order.
    ///
    /// # Errors
    /// A pattern that does not parse or takes too long; a combination that PEFT refuses; nothing that is meant.
    pub(crate) fn modules(&self, linears: &[String]) -> Result<Vec<AdaptedModule>, ModelError> {
        self.check()?;
        if let (Some(_), Targets::Pattern(pattern)) = (&self.layers.only, &self.targets) {
            return Err(ModelError::LayersOfPattern { pattern: pattern.clone() });
        }
        let excluded = match &self.exclude {
            Some(exclude) => exclude.matching("exclude-modules", linears)?,
            None => Vec::new(),
        };
        let targets = self.targets.matching("targets", linears)?;
        let is_meant = |module: &&String| !excluded.contains(module) && self.layers.contain(module);
        let ranks = Patterns::new("rank-pattern", &self.rank_pattern)?;
        let alphas = Patterns::new("alpha-pattern", &self.alpha_pattern)?;
        let module = |name: &String| {
            let rank = ranks.of("rank-pattern", name)?.unwrap_or(self.rank);
            let alpha = alphas.of("alpha-pattern", name)?.unwrap_or(self.alpha);
            Ok(AdaptedModule { name: name.clone(), rank, scale: self.scale_of(rank, alpha), alpha })
        };
        let modules: Vec<_> = targets.iter().filter(is_meant).map(module).collect::<Result<_, ModelError>>()?;
        match (modules.is_empty(), targets.is_empty()) {
            (false, _) => Ok(modules),
            (true, true) => Err(no_target("targets", &self.targets.to_string(), linears)),
            (true, false) => Err(ModelError::AllExcluded { targets: self.targets.to_string() }),
        }
    }

    /// Keys of the patterns that match none of the modules: a slip, since they change nothing.
    pub(crate) fn unused_patterns(&self, modules: &[AdaptedModule]) -> Result<Vec<(&'static str, String)>, ModelError> {
        let names: Vec<String> = modules.iter().map(|module| module.name.clone()).collect();
        let ranks = Patterns::new("rank-pattern", &self.rank_pattern)?;
        let alphas = Patterns::new("alpha-pattern", &self.alpha_pattern)?;
        let of_ranks = ranks.unused(&names).into_iter().map(|name| ("rank-pattern", name.to_string()));
        let of_alphas = alphas.unused(&names).into_iter().map(|name| ("alpha-pattern", name.to_string()));
        Ok(of_ranks.chain(of_alphas).collect())
    }
}
