//! Adapters of experts: which settings go with them.
//!
//! Invariant: the experts of a layer run as one op, so that in one linear all of them have an adapter of one rank and scale, or none has.

use super::selection::AdaptedModule;
use super::variant::LoraConfig;
use crate::ModelError;
use remat_formats::{ModelConfig, SettingName};
use std::collections::BTreeMap;

/// Refuses adapters that differ among the experts of a linear, and a kind that has no form for experts.
///
/// # Errors
/// That.
pub(super) fn check(config: &LoraConfig, modules: &[AdaptedModule], base: &ModelConfig) -> Result<(), ModelError> {
    let by_name: BTreeMap<&str, &AdaptedModule> = modules.iter().map(|module| (module.name.as_str(), module)).collect();
    for experts in base.expert_linears() {
        let adapted: Vec<_> = experts.iter().map(|name| by_name.get(name.as_str())).collect();
        let Some(first) = adapted.iter().flatten().next() else { continue };
        if config.variant.0.of_experts().is_none() {
            let (key, kind, name) = (SettingName("targets"), config.variant.0.name(), &first.name);
            let problem = "adapters of this kind are not supported on experts; target other modules";
            return Err(ModelError::Setting(format!("{key}: {kind} of {name}: {problem}")));
        }
        let is_like = |other: &Option<&&AdaptedModule>| {
            other.is_some_and(|other| (other.rank, other.scale) == (first.rank, first.scale))
        };
        if let Some(other) = adapted.iter().position(|other| !is_like(other)) {
            let (name, other, has) =
                (&first.name, &experts[other], if adapted[other].is_some() { "another" } else { "none" });
            let problem = "the experts of a layer run as one; give all of them the same adapter, or none of them one";
            let key = SettingName("targets");
            return Err(ModelError::Setting(format!("{key}: {name} has an adapter, and {other} has {has}: {problem}")));
        }
    }
    Ok(())
}
