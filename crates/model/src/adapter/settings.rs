//! An adapter's settings as PEFT has them: read for a base model, and written.
//!
//! Invariants: modules are matched as PEFT matches them, here and now, so that every complaint names the file; what PEFT
//! tolerates with a warning is a note, what changes the adapter and is not supported is refused by name.

use super::adapter_start::AdapterStart;
use super::file_names::FileNames;
use super::layers::Layers;
use super::outer_modules::HEAD_MODULE;
use super::patterns::sorted;
use super::selection::AdaptedModule;
use super::table::VARIANTS;
use super::targets::{Targetable, Targets, ends_with_name, kinds};
use super::trained_base::ties_by_name;
use super::trained_tokens::TrainedTokens;
use super::variant::LoraConfig;
use crate::ModelError;
use remat_formats::{AdapterConfig, ModelConfig, SettingName, TargetModules, hub_name};
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
    if config.unsupported.iter().any(|key| key == "init_lora_weights") {
        return Err("init_lora_weights names a start that changes the base's weights, which this folder does not have; let PEFT \
                    save it for the original base (save_pretrained with path_initial_model_for_weight_conversion), or merge it \
                    into the base with PEFT first"
            .to_string());
    }
    if let Some(key) = config.unsupported.first() {
        return Err(format!("{key} makes the adapter more than plain LoRA, which is not supported"));
    }
    let Some(&variant) = VARIANTS.iter().find(|variant| variant.0.is_meant_by(&config)) else {
        return Err(format!("is of a kind of LoRA that is not supported; {MERGE}"));
    };
    let fan_in_fan_out = config.fan_in_fan_out;
    if !config.unknown.is_empty() {
        notes.push(format!("keys that PEFT 0.21 does not know are ignored: {}", config.unknown.join(", ")));
    }
    // PEFT counts all-linear among the patterns here.
    if let (Some(_), TargetModules::Pattern(pattern)) = (&config.layers_to_transform, &config.target_modules) {
        let problem = format!("layers_to_transform: PEFT allows it with names, and target_modules is \"{pattern}\"");
        return Err(problem);
    }
    let lora = LoraConfig {
        rank: config.r,
        alpha: config.lora_alpha as f32,
        dropout: config.lora_dropout as f32,
        rank_stabilised: config.use_rslora,
        targets: targets(base, &config, notes),
        exclude: config.exclude_modules.as_ref().map(as_targets),
        layers: Layers { only: config.layers_to_transform, pattern: config.layers_pattern },
        rank_pattern: config.rank_pattern,
        alpha_pattern: config.alpha_pattern.into_iter().map(|(name, alpha)| (name, alpha as f32)).collect(),
        bias: config.bias.parse().map_err(|problem| format!("bias {problem}"))?,
        modules_to_save: config.modules_to_save,
        ensure_weight_tying: config.ensure_weight_tying,
        start: match config.init_lora_weights.as_deref() {
            Some("gaussian") => AdapterStart::Gaussian,
            _ => AdapterStart::Default,
        },
        trained_tokens: config.trainable_token_indices,
        variant,
    };
    if lora.ensure_weight_tying && !(base.tie_word_embeddings && ties_by_name(&lora.modules_to_save)) {
        notes
            .push("ensure_weight_tying: nothing that modules_to_save names is tied by it, in PEFT neither".to_string());
    }
    let targetable = Targetable::of(base);
    let modules = lora.modules(&targetable).map_err(|error| in_words_of_peft(error, &targetable))?;
    // Of modules of both layouts neither value is wrong: PEFT sets it anew for each.
    let right = is_fan_in_fan_out(base, &modules);
    if fan_in_fan_out != right && right == base.block.weights_in_out {
        notes.push(format!(
            "fan_in_fan_out is {fan_in_fan_out}; for this base model it is {right}, as PEFT would set it, too"
        ));
    }
    for (key, name) in lora.unused_patterns(&modules).map_err(|error| in_words_of_peft(error, &targetable))? {
        notes.push(format!("{} \"{name}\": matches no module that has an adapter", peft_key(key)));
    }
    FileNames::of(base, &lora).map_err(|error| in_words_of_peft(error, &targetable))?;
    TrainedTokens::of_settings(base, &lora).map_err(|error| in_words_of_peft(error, &targetable))?;
    Ok(lora)
}

/// Refuses settings that name what the base does not have, although others of them match.
pub(crate) fn check(base: &ModelConfig, lora: &LoraConfig) -> Result<(), ModelError> {
    let targetable = Targetable::of(base);
    lora.targets.check_names("targets", &targetable)?;
    lora.exclude.as_ref().map_or(Ok(()), |exclude| exclude.check_names("exclude-modules", &targetable))?;
    if lora.ensure_weight_tying && !(base.tie_word_embeddings && ties_by_name(&lora.modules_to_save)) {
        let (key, saved) = (SettingName("ensure-weight-tying"), SettingName("modules-to-save"));
        let why = match base.tie_word_embeddings {
            true => format!("ties what {saved} calls embed_tokens or lm_head, as in PEFT; name lm_head there"),
            false => "the head of this model is not tied to the embedding; leave it out".to_string(),
        };
        return Err(ModelError::Setting(format!("{key}: {why}")));
    }
    let layers = base.num_hidden_layers;
    if let Some(layer) = lora.layers.only.iter().flatten().find(|layer| **layer >= layers) {
        let (key, last) = (SettingName("layers-to-transform"), layers - 1);
        return Err(ModelError::Setting(format!("{key} {layer}: this model has layers 0 to {last}")));
    }
    match lora.unused_patterns(&lora.modules(&targetable)?)?.first() {
        None => Ok(()),
        Some((key, name)) => {
            let problem = "matches no module that has an adapter; it is the end of a module's name";
            Err(ModelError::Setting(format!("{} {name}: {problem}", SettingName(key))))
        }
    }
}

/// Whether PEFT leaves `fan_in_fan_out` set: GPT-2's linears are stored so, and its head, the last module that PEFT meets, is not.
fn is_fan_in_fan_out(base: &ModelConfig, modules: &[AdaptedModule]) -> bool {
    base.block.weights_in_out && !modules.iter().any(|module| module.name == HEAD_MODULE)
}

/// PEFT's key of a setting.
fn peft_key(key: &str) -> String {
    if key == "targets" { "target_modules".to_string() } else { key.replace('-', "_") }
}

/// A complaint about settings, as of the file that they are in.
fn in_words_of_peft(error: ModelError, modules: &Targetable) -> String {
    let available = || format!("this base model has {}", kinds(modules.all()).join(", "));
    match error {
        ModelError::BadRegex { key, given, problem } => {
            format!("{} \"{given}\": not a usable regular expression: {problem}", peft_key(key))
        }
        ModelError::NoTarget { .. } => format!("target_modules: matches no linear module; {}", available()),
        ModelError::AllExcluded { .. } => {
            format!("target_modules: matches no linear module that is not excluded; {}", available())
        }
        ModelError::LayersOfPattern { pattern } => {
            format!("layers_to_transform: PEFT allows it with names, and target_modules is \"{pattern}\"")
        }
        other => other.to_string(),
    }
}

fn as_targets(modules: &TargetModules) -> Targets {
    match modules {
        TargetModules::Names(names) => Targets::Names(names.clone()),
        TargetModules::Pattern(pattern) => Targets::Pattern(pattern.clone()),
    }
}

fn as_modules(targets: &Targets, base: &ModelConfig) -> TargetModules {
    match targets {
        Targets::Pattern(pattern) => TargetModules::Pattern(pattern.clone()),
        Targets::Names(names) => TargetModules::Names(names.clone()),
        Targets::AllLinear => TargetModules::Names(kinds(&base.linear_names())),
    }
}

/// The targets that the base has; others are noted, unless there is none.
fn targets(base: &ModelConfig, config: &AdapterConfig, notes: &mut Vec<String>) -> Targets {
    let modules = Targetable::of(base);
    match &config.target_modules {
        TargetModules::Pattern(pattern) if pattern == "all-linear" => Targets::AllLinear,
        TargetModules::Pattern(pattern) => Targets::Pattern(pattern.clone()),
        TargetModules::Names(names) => {
            let is_there = |name: &&String| modules.all().iter().any(|module| ends_with_name(module, name));
            let (found, missing): (Vec<_>, Vec<_>) = names.iter().partition(is_there);
            if !missing.is_empty() && !found.is_empty() {
                let missing = missing.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
                let available = kinds(modules.all()).join(", ");
                notes.push(format!(
                    "target_modules {missing}: no linear module of that name; this base model has {available}"
                ));
            }
            Targets::Names(found.into_iter().cloned().collect())
        }
    }
}

/// The same as PEFT's settings, for a base that lies in a folder.
///
/// # Errors
/// Settings that do not fit the base.
pub(crate) fn to_peft(
    (base, base_folder): (&ModelConfig, &Path),
    lora: &LoraConfig,
) -> Result<AdapterConfig, ModelError> {
    let targets = as_modules(&lora.targets, base);
    // By its name where it has one: a folder of a cache says nothing on another machine.
    let (base_name, revision) = match hub_name(base_folder) {
        Some((name, commit)) => (name, Some(commit)),
        None => (base_folder.display().to_string(), None),
    };
    let modules = lora.modules(&Targetable::of(base))?;
    let fan_in_fan_out = is_fan_in_fan_out(base, &modules);
    let modules: Vec<String> = modules.into_iter().map(|module| module.name).collect();
    let alphas = sorted(&lora.alpha_pattern, &modules).into_iter().map(|(name, alpha)| (name, f64::from(alpha)));
    Ok(AdapterConfig {
        fan_in_fan_out,
        base_model_name_or_path: Some(base_name),
        revision,
        exclude_modules: lora.exclude.as_ref().map(|exclude| as_modules(exclude, base)),
        layers_to_transform: lora.layers.only.clone(),
        layers_pattern: lora.layers.pattern.clone(),
        rank_pattern: sorted(&lora.rank_pattern, &modules),
        alpha_pattern: alphas.collect(),
        bias: lora.bias.to_string(),
        modules_to_save: lora.modules_to_save.clone(),
        ensure_weight_tying: lora.ensure_weight_tying,
        trainable_token_indices: lora.trained_tokens.clone(),
        ..lora.variant.0.to_peft(lora, targets)
    })
}
