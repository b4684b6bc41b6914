//! Settings of adapters beside rank, alpha, dropout and targets, under PEFT's names.
//!
//! Invariant: each is a flag and a key of the settings file, and comes back from an adapter's folder as it was given or as
//! what means the same. Look next at `remat_model::LoraConfig`, which they come to.

use crate::TrainError;
use crate::settings::kinds::BiasKind;
use remat_formats::{SettingName, TokenIndices};
use remat_model::{AdapterStart, Layers, LoraConfig, LoraVariant, ModulePattern, Targets};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::str::FromStr;

/// More layers than this are a slip.
const MOST_LAYERS: usize = 1 << 16;

/// What is trained beside plain LoRA, and where.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, clap::Args)]
#[serde(rename_all = "kebab-case", default)]
pub struct AdapterOptions {
    /// Scale adapters by ALPHA / √R instead of ALPHA / R (rsLoRA)
    #[arg(long, help_heading = "Method")]
    pub rslora: bool,

    /// Train a norm for each row of the adapted weights, too (DoRA)
    #[arg(long, help_heading = "Method")]
    pub dora: bool,

    /// What adapters start with: default, gaussian, pissa, pissa_niter_N or olora; the last three take their start out of the
    /// base's weights, and are saved as plain LoRA of twice the rank
    #[arg(long, value_name = "START", help_heading = "Method")]
    pub init_lora_weights: Option<String>,

    /// Rank of some modules, as q_proj=8 or a JSON object; NAME is the end of a module's name or a regular expression, and
    /// the first that matches counts; may be given several times
    #[arg(long, value_name = "NAME=R", help_heading = "Method")]
    pub rank_pattern: Vec<String>,

    /// Alpha of some modules, in the same way
    #[arg(long, value_name = "NAME=ALPHA", help_heading = "Method")]
    pub alpha_pattern: Vec<String>,

    /// Modules that get no adapter although --targets names them: names or a regular expression
    #[arg(long, value_name = "TARGETS", help_heading = "Method")]
    pub exclude_modules: Option<String>,

    /// The only layers that get adapters, counted from 0, such as 0,2 or 8-15
    #[arg(long, value_name = "LAYERS", help_heading = "Method")]
    pub layers_to_transform: Option<String>,

    /// What is named before a layer's number, where a module's name has several numbers
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Method")]
    pub layers_pattern: Vec<String>,

    /// Biases of the base that are trained, too: none, all, or those of the linears that have an adapter
    #[arg(long, value_enum, default_value = "none", help_heading = "Method")]
    pub bias: BiasKind,

    /// Modules of the base that are trained whole beside the adapters, such as embed_tokens,lm_head
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Method")]
    pub modules_to_save: Vec<String>,

    /// Train an embedding and a head that are tied as one, where --modules-to-save names one of them; without it each that is
    /// named is trained as a copy of its own, as in PEFT
    #[arg(long, help_heading = "Method")]
    pub ensure_weight_tying: bool,

    /// Tokens whose rows of the embedding, and of a head that is tied to it, are trained alone: ids such as 3,5, or
    /// NAME=IDS with embed_tokens or lm_head for NAME; may be given several times
    #[arg(long, value_name = "IDS", help_heading = "Method")]
    pub trainable_token_indices: Vec<String>,
}

/// The flags' identifiers, for flags that exclude all of them.
pub(crate) const ADAPTER_OPTIONS: [&str; 15] = [
    "rank",
    "alpha",
    "targets",
    "rslora",
    "dora",
    "init_lora_weights",
    "rank_pattern",
    "alpha_pattern",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "bias",
    "modules_to_save",
    "ensure_weight_tying",
    "trainable_token_indices",
];

impl AdapterOptions {
    /// The settings of an adapter with these, where `plain` has the others.
    ///
    /// # Errors
    /// A text that cannot be read, by its key.
    pub(crate) fn of_lora(&self, plain: LoraConfig) -> Result<LoraConfig, TrainError> {
        let bad = |key| move |problem| TrainError::BadFlag { key, problem };
        let exclude = self.exclude_modules.as_deref().map(Targets::from_str).transpose();
        let exclude = exclude.map_err(bad("exclude-modules"))?;
        if exclude == Some(Targets::AllLinear) {
            return Err(bad("exclude-modules")("all-linear leaves no module for an adapter".to_string()));
        }
        let only = self.layers_to_transform.as_deref().map(layers).transpose().map_err(bad("layers-to-transform"))?;
        let pattern = self.layers_pattern.clone();
        if only.is_none() && !pattern.is_empty() {
            let layers = SettingName("layers-to-transform");
            return Err(bad("layers-pattern")(format!("given without {layers}: must be both; add {layers} LAYERS")));
        }
        if self.ensure_weight_tying && self.modules_to_save.is_empty() {
            let saved = SettingName("modules-to-save");
            return Err(bad("ensure-weight-tying")(format!(
                "says how {saved} trains a tied head; add {saved} lm_head"
            )));
        }
        let start = self.init_lora_weights.as_deref().map(AdapterStart::from_str).transpose();
        let start = start.map_err(bad("init-lora-weights"))?;
        Ok(LoraConfig {
            rank_stabilised: self.rslora,
            variant: if self.dora { LoraVariant::DORA } else { plain.variant },
            start: start.unwrap_or_default(),
            exclude,
            layers: Layers { only, pattern },
            rank_pattern: pattern_of(&self.rank_pattern).map_err(bad("rank-pattern"))?,
            alpha_pattern: pattern_of(&self.alpha_pattern).map_err(bad("alpha-pattern"))?,
            bias: self.bias.into(),
            modules_to_save: self.modules_to_save.clone(),
            ensure_weight_tying: self.ensure_weight_tying,
            trained_tokens: tokens_of(&self.trainable_token_indices).map_err(bad("trainable-token-indices"))?,
            ..plain
        })
    }

    /// The options that an adapter's settings come from.
    pub(crate) fn from_lora(lora: &LoraConfig) -> Self {
        let numbers = |layers: &Vec<usize>| layers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        AdapterOptions {
            rslora: lora.rank_stabilised,
            dora: lora.variant == LoraVariant::DORA,
            init_lora_weights: Some(lora.start)
                .filter(|start| *start != AdapterStart::Default)
                .map(|start| start.to_string()),
            rank_pattern: texts_of(&lora.rank_pattern),
            alpha_pattern: texts_of(&lora.alpha_pattern),
            exclude_modules: lora.exclude.as_ref().map(ToString::to_string),
            layers_to_transform: lora.layers.only.as_ref().map(numbers),
            layers_pattern: lora.layers.pattern.clone(),
            bias: lora.bias.into(),
            modules_to_save: lora.modules_to_save.clone(),
            ensure_weight_tying: lora.ensure_weight_tying,
            trainable_token_indices: lora.trained_tokens.as_ref().map(texts_of_tokens).unwrap_or_default(),
        }
    }

    /// The first key that is given, for what has no adapters.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [
            ("rslora", self.rslora),
            ("dora", self.dora),
            ("init-lora-weights", self.init_lora_weights.is_some()),
            ("rank-pattern", !self.rank_pattern.is_empty()),
            ("alpha-pattern", !self.alpha_pattern.is_empty()),
            ("exclude-modules", self.exclude_modules.is_some()),
            ("layers-to-transform", self.layers_to_transform.is_some()),
            ("layers-pattern", !self.layers_pattern.is_empty()),
            ("bias", self.bias != BiasKind::None),
            ("modules-to-save", !self.modules_to_save.is_empty()),
            ("ensure-weight-tying", self.ensure_weight_tying),
            ("trainable-token-indices", !self.trainable_token_indices.is_empty()),
        ];
        given.iter().find(|(_, is_given)| *is_given).map(|(key, _)| *key)
    }

    /// What people see of them, each behind a comma; nothing of plain LoRA.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        if self.rslora {
            words.push("rsLoRA".to_string());
        }
        if self.dora {
            words.push("DoRA".to_string());
        }
        words.extend(self.init_lora_weights.iter().map(|start| format!("start {start}")));
        for (name, pattern) in [("rank", &self.rank_pattern), ("alpha", &self.alpha_pattern)] {
            words.extend(pattern.iter().map(|entry| format!("{name} of {entry}")));
        }
        words.extend(self.exclude_modules.iter().map(|modules| format!("without {modules}")));
        words.extend(self.layers_to_transform.iter().map(|layers| format!("layers {layers}")));
        if self.bias != BiasKind::None {
            words.push(format!("biases {}", remat_model::TrainedBiases::from(self.bias)));
        }
        if !self.modules_to_save.is_empty() {
            let tied = if self.ensure_weight_tying { " tied" } else { "" };
            words.push(format!("{} whole{tied}", self.modules_to_save.join(" and ")));
        }
        words.extend(self.trainable_token_indices.iter().map(|tokens| format!("tokens {tokens}")));
        words.iter().map(|word| format!(", {word}")).collect()
    }
}

/// Layers of a list of numbers and ranges.
fn layers(text: &str) -> Result<Vec<usize>, String> {
    let problem = || format!("'{text}' is no list of layers: give numbers from 0 on and ranges, such as 0,2 or 8-15");
    let number =
        |text: &str| text.trim().parse::<usize>().ok().filter(|&layer| layer < MOST_LAYERS).ok_or_else(problem);
    let mut layers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(problem());
        }
        layers.extend(first..=last);
    }
    Ok(layers)
}

/// Entries NAME=VALUE, or JSON objects of them.
fn pattern_of<T: FromStr>(texts: &[String]) -> Result<ModulePattern<T>, String> {
    let mut pattern = Vec::new();
    let value = |name: &str, text: &str| match (name.trim(), text.trim().parse()) {
        ("", _) => Err(format!("'={text}' names no module; give NAME=NUMBER, such as q_proj=8")),
        (name, Ok(value)) => Ok((name.to_string(), value)),
        (name, Err(_)) => Err(format!("'{name}={text}' is no number; give NAME=NUMBER, such as q_proj=8")),
    };
    for text in texts {
        if text.trim_start().starts_with('{') {
            let json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)
                .map_err(|error| format!("'{text}' is no JSON object of numbers: {error}"))?;
            for (name, number) in &json {
                pattern.push(value(name, &number.to_string())?);
            }
        } else {
            let (name, number) = text
                .rsplit_once('=')
                .ok_or_else(|| format!("'{text}' has no '='; give NAME=NUMBER, such as q_proj=8"))?;
            pattern.push(value(name, number)?);
        }
    }
    Ok(pattern)
}

/// Token ids, or NAME=IDS, of which each name is given once.
fn tokens_of(texts: &[String]) -> Result<Option<TokenIndices>, String> {
    let ids = |text: &str| -> Result<Vec<usize>, String> {
        let id = |part: &str| part.trim().parse().ok();
        let ids: Option<Vec<usize>> = text.split(',').map(id).collect();
        ids.ok_or_else(|| format!("'{text}' is no list of token ids; give such as 3,5 or lm_head=3,5"))
    };
    match texts {
        [] => Ok(None),
        [text] if !text.contains('=') => Ok(Some(TokenIndices::Embedding(ids(text)?))),
        _ => {
            let mut modules: Vec<(String, Vec<usize>)> = Vec::new();
            for text in texts {
                let Some((name, list)) = text.split_once('=') else {
                    return Err(format!("'{text}' beside others must say of which module, as in embed_tokens={text}"));
                };
                if modules.iter().any(|(other, _)| other == name) {
                    return Err(format!("'{name}' is given twice; give one list of it"));
                }
                modules.push((name.to_string(), ids(list)?));
            }
            modules.sort();
            Ok(Some(TokenIndices::Modules(modules)))
        }
    }
}

fn texts_of_tokens(tokens: &TokenIndices) -> Vec<String> {
    let list = |ids: &[usize]| ids.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    match tokens {
        TokenIndices::Embedding(ids) => vec![list(ids)],
        TokenIndices::Modules(modules) => modules.iter().map(|(name, ids)| format!("{name}={}", list(ids))).collect(),
    }
}

fn texts_of<T: Display>(pattern: &ModulePattern<T>) -> Vec<String> {
    pattern.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> AdapterOptions {
        AdapterOptions {
            rslora: true,
            dora: true,
            init_lora_weights: Some("gaussian".into()),
            rank_pattern: vec!["q_proj=8".into(), r#"{"layers\\.1\\..*": 2}"#.into()],
            alpha_pattern: vec!["a=b=0.5".into()],
            exclude_modules: Some("k_proj,mlp.up_proj".into()),
            layers_to_transform: Some("0,2-4".into()),
            layers_pattern: vec!["layers".into()],
            bias: BiasKind::LoraOnly,
            modules_to_save: vec!["embed_tokens".into()],
            ensure_weight_tying: true,
            trainable_token_indices: vec!["lm_head=3,5".into()],
        }
    }

    #[test]
    fn options_become_an_adapters_settings_and_come_back() {
        let lora = options().of_lora(LoraConfig::default()).expect("valid");
        assert_eq!(lora.rank_pattern, [("q_proj".to_string(), 8), (r"layers\.1\..*".to_string(), 2)]);
        assert_eq!(lora.alpha_pattern, [("a=b".to_string(), 0.5)]);
        assert_eq!(lora.layers.only, Some(vec![0, 2, 3, 4]));
        let again = AdapterOptions::from_lora(&lora);
        assert_eq!(again.of_lora(LoraConfig::default()).expect("valid"), lora);
        assert_eq!(AdapterOptions::from_lora(&LoraConfig::default()), AdapterOptions::default());
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_key() {
        let refused = |options: AdapterOptions, expected: &str| {
            let error = options.of_lora(LoraConfig::default()).expect_err(expected).to_string();
            assert_eq!(error, expected);
        };
        let with = |change: &dyn Fn(&mut AdapterOptions)| {
            let mut options = AdapterOptions::default();
            change(&mut options);
            options
        };
        refused(
            with(&|o| o.rank_pattern = vec!["q_proj".into()]),
            "`rank-pattern`: 'q_proj' has no '='; give NAME=NUMBER, such as q_proj=8",
        );
        refused(
            with(&|o| o.rank_pattern = vec!["q_proj=1.5".into()]),
            "`rank-pattern`: 'q_proj=1.5' is no number; give NAME=NUMBER, such as q_proj=8",
        );
        refused(
            with(&|o| o.layers_to_transform = Some("4-2".into())),
            "`layers-to-transform`: '4-2' is no list of layers: give numbers from 0 on and ranges, such as 0,2 or 8-15",
        );
        refused(
            with(&|o| o.layers_pattern = vec!["h".into()]),
            "`layers-pattern`: given without `layers-to-transform`: must be both; add `layers-to-transform` LAYERS",
        );
        refused(
            with(&|o| o.trainable_token_indices = vec!["3,x".into()]),
            "`trainable-token-indices`: '3,x' is no list of token ids; give such as 3,5 or lm_head=3,5",
        );
        refused(
            with(&|o| o.ensure_weight_tying = true),
            "`ensure-weight-tying`: says how `modules-to-save` trains a tied head; add `modules-to-save` lm_head",
        );
    }

    #[test]
    fn words_tell_what_is_not_plain() {
        assert_eq!(AdapterOptions::default().words(), "");
        let words = AdapterOptions { rank_pattern: vec!["q_proj=8".into()], ..options() }.words();
        let expected = ", rsLoRA, DoRA, start gaussian, rank of q_proj=8, alpha of a=b=0.5, without k_proj,mlp.up_proj, layers 0,2-4, \
                        biases lora_only, embed_tokens whole tied, tokens lm_head=3,5";
        assert_eq!(words, expected);
    }
}
