//! Which linears of a base have an adapter, and with which rank and scale each.
//!
//! Invariant: targets, what is excluded of them, and layers are matched as PEFT matches them, in this one place, whoever gave
//! them. Look next at `targets` for names and patterns, and at `patterns` for what differs by module.

use super::patterns::Patterns;
use super::targets::{Targetable, Targets, no_target};
use super::variant::LoraConfig;
use crate::ModelError;

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

impl LoraConfig {
    /// Those of a base's modules that have an adapter, in their order.
    ///
    /// # Errors
    /// A pattern that does not parse or takes too long; a combination that PEFT refuses; nothing that is meant.
    pub(crate) fn modules(&self, modules: &Targetable) -> Result<Vec<AdaptedModule>, ModelError> {
        self.check()?;
        if let (Some(_), Targets::Pattern(pattern)) = (&self.layers.only, &self.targets) {
            return Err(ModelError::LayersOfPattern { pattern: pattern.clone() });
        }
        let excluded = match &self.exclude {
            Some(exclude) => exclude.matching("exclude-modules", modules)?,
            None => Vec::new(),
        };
        let targets = self.targets.matching("targets", modules)?;
        let is_meant = |module: &&String| !excluded.contains(module) && self.layers.contain(module);
        let ranks = Patterns::new("rank-pattern", &self.rank_pattern)?;
        let alphas = Patterns::new("alpha-pattern", &self.alpha_pattern)?;
        let module = |name: &String| {
            let rank = ranks.of("rank-pattern", name)?.unwrap_or(self.rank);
            let alpha = alphas.of("alpha-pattern", name)?.unwrap_or(self.alpha);
            Ok(AdaptedModule { name: name.clone(), rank, scale: self.scale_of(rank, alpha), alpha })
        };
        let adapted: Vec<_> = targets.iter().filter(is_meant).map(module).collect::<Result<_, ModelError>>()?;
        match (adapted.is_empty(), targets.is_empty()) {
            (false, _) => Ok(adapted),
            (true, true) => Err(no_target("targets", &self.targets.to_string(), modules)),
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
