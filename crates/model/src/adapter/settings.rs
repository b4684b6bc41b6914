//! An adapter's settings as PEFT has them: read for a base model, and written.
//!
//! Invariants: modules are matched as PEFT matches them, here and now, so that every complaint names the file; what PEFT
//! tolerates with a warning is a note, what changes the adapter and is not supported is refused by name.

use super::table::VARIANTS;
use super::targets::{Pattern, Targets, ends_with_name, kinds};
use super::variant::LoraConfig;
use crate::ModelError;
use remat_formats::{AdapterConfig, ModelConfig, TargetModules, hub_name};
use std::path::Path;

/// What to do with an adapter that is more than plain LoRA.
const MERGE: &str = "merge it into the base with PEFT first";

/// The settings of a PEFT folder.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterSettings {
    /// What they come to for the base model.
    pub config: LoraConfig,
    /// What is not as it looks, for people.
    pub notes: Vec<String>,
}

/// Reads the settings of a PEFT folder, for a base of this configuration.
pub(crate) fn read(base: &ModelConfig, folder: &Path) -> Result<AdapterSettings, ModelError> {
    let config = AdapterConfig::from_dir(folder)?;
    let file = folder.join("adapter_config.json").display().to_string();
    let mut notes = Vec::new();
    let settings = interpreted(base, config, &mut notes);
    match settings {
        Ok(config) => {
            Ok(AdapterSettings { config, notes: notes.into_iter().map(|note| format!("{file}: {note}")).collect() })
        }
        Err(problem) => Err(ModelError::Adapter { folder: file, problem }),
    }
}

fn interpreted(base: &ModelConfig, config: AdapterConfig, notes: &mut Vec<String>) -> Result<LoraConfig, String> {
    if config.peft_type != "LORA" {
        return Err(format!("peft_type is {}: only LORA adapters are supported", config.peft_type));
    }
    if let Some(key) = config.unsupported.first() {
        return Err(format!("{key} makes the adapter more than plain LoRA, which is not supported"));
    }
    let Some(&variant) = VARIANTS.iter().find(|variant| variant.0.is_meant_by(&config)) else {
        return Err(format!("use_dora is true: DoRA is not supported; {MERGE}"));
    };
    if config.bias != "none" {
        return Err(format!("bias is \"{}\": only \"none\" is supported; {MERGE}", config.bias));
    }
    if !config.rank_pattern.is_empty() || !config.alpha_pattern.is_empty() {
        let problem = "rank_pattern and alpha_pattern are not supported: all adapters share one rank and alpha";
        return Err(format!("{problem}; {MERGE}"));
    }
    if !config.modules_to_save.is_empty() {
        return Err(format!("modules_to_save is not supported: only adapters of linear modules are; {MERGE}"));
    }
    if config.fan_in_fan_out != base.block.weights_in_out {
        let (is, right) = (config.fan_in_fan_out, base.block.weights_in_out);
        notes.push(format!("fan_in_fan_out is {is}; for this base model it is {right}, as PEFT would set it, too"));
    }
    if !config.unknown.is_empty() {
        notes.push(format!("keys that PEFT 0.21 does not know are ignored: {}", config.unknown.join(", ")));
    }
    Ok(LoraConfig {
        rank: config.r,
        alpha: config.lora_alpha as f32,
        dropout: config.lora_dropout as f32,
        rank_stabilised: config.use_rslora,
        targets: targets(base, &config, notes)?,
        variant,
    })
}

/// The targets, which match something.
fn targets(base: &ModelConfig, config: &AdapterConfig, notes: &mut Vec<String>) -> Result<Targets, String> {
    let linears = base.linear_names();
    let of_pattern = |key: &str, pattern: &str, module: &str| {
        let matched = Pattern::new(pattern).and_then(|whole| whole.matches(module));
        matched.map_err(|problem| format!("{key} \"{pattern}\": not a usable regular expression: {problem}"))
    };
    let available = || format!("this base model has {}", kinds(&linears).join(", "));
    if let (Some(_), TargetModules::Pattern(pattern)) = (&config.layers_to_transform, &config.target_modules) {
        let problem = format!("layers_to_transform: PEFT allows it with names, and target_modules is \"{pattern}\"");
        return Err(problem);
    }
    let targets = match &config.target_modules {
        TargetModules::Pattern(pattern) if pattern == "all-linear" => Targets::AllLinear,
        TargetModules::Pattern(pattern) => Targets::Pattern(pattern.clone()),
        TargetModules::Names(names) => {
            let is_there = |name: &&String| linears.iter().any(|module| ends_with_name(module, name));
            let (found, missing): (Vec<_>, Vec<_>) = names.iter().partition(is_there);
            if !missing.is_empty() && !found.is_empty() {
                let missing = missing.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
                notes.push(format!("target_modules {missing}: no linear module of that name; {}", available()));
            }
            Targets::Names(found.into_iter().cloned().collect())
        }
    };
    let mut modules = Vec::new();
    let mut is_cut = false;
    for module in &linears {
        let is_target = match &targets {
            Targets::AllLinear => true,
            Targets::Names(names) => names.iter().any(|name| ends_with_name(module, name)),
            Targets::Pattern(pattern) => of_pattern("target_modules", pattern, module)?,
        };
        let is_excluded = match &config.exclude_modules {
            None => false,
            Some(TargetModules::Names(names)) => names.iter().any(|name| ends_with_name(module, name)),
            Some(TargetModules::Pattern(pattern)) => of_pattern("exclude_modules", pattern, module)?,
        };
        if is_target && !is_excluded && config.transforms(module) {
            modules.push(module.clone());
        } else if is_target {
            is_cut = true;
        }
    }
    if modules.is_empty() {
        let (key, cut) = ("target_modules", if is_cut { " that is not excluded" } else { "" });
        return Err(format!("{key}: matches no linear module{cut}; {}", available()));
    }
    Ok(if is_cut { Targets::Names(modules) } else { targets })
}

/// The same as PEFT's settings, for a base that lies in a folder.
pub(crate) fn to_peft((base, base_folder): (&ModelConfig, &Path), lora: &LoraConfig) -> AdapterConfig {
    let targets = match &lora.targets {
        Targets::Pattern(pattern) => TargetModules::Pattern(pattern.clone()),
        Targets::Names(names) => TargetModules::Names(names.clone()),
        Targets::AllLinear => TargetModules::Names(kinds(&base.linear_names())),
    };
    // By its name where it has one: a folder of a cache says nothing on another machine.
    let (base_name, revision) = match hub_name(base_folder) {
        Some((name, commit)) => (name, Some(commit)),
        None => (base_folder.display().to_string(), None),
    };
    AdapterConfig {
        fan_in_fan_out: base.block.weights_in_out,
        base_model_name_or_path: Some(base_name),
        revision,
        ..lora.variant.0.to_peft(lora, targets)
    }
}
