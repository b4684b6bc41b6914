//! `TrainConfig` as TOML: the file a user writes, and `config.toml` as the run resolved it.
//!
//! Invariant: the file's keys are the flags' names; a key that is no flag is an error that names the nearest one. What
//! was given on the command line wins over the file, and `epochs` and `steps` win over each other as one setting. Settings
//! that are accepted come back from their file as they were; one that lost its end is noticed where a run goes on from it.

use crate::{TrainConfig, TrainError};
use clap::Args;
use remat_formats::edit_distance;
use std::path::Path;
use toml::{Table, Value};

/// The last line of a file that this program wrote: keys that are missing may be unset, or cut off.
pub(crate) const END: &str = "# end of settings";

impl TrainConfig {
    /// The keys of a file: the flags' names.
    pub fn keys() -> Vec<String> {
        let command = TrainConfig::augment_args(clap::Command::new("train"));
        command.get_arguments().filter_map(|argument| argument.get_long()).map(str::to_string).collect()
    }

    pub(crate) fn to_table(&self) -> Table {
        Table::try_from(self).expect("every field has a TOML form once paths are checked")
    }

    /// The settings as a TOML file with an end. Panics on a path that is not UTF-8, which [`resolved`](Self::resolved)
    /// refuses.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field has a TOML form") + END + "\n"
    }

    /// Reads a file of settings.
    ///
    /// # Errors
    /// As [`overlaid`](Self::overlaid), or a file that cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, TrainError> {
        TrainConfig::default().overlaid(path, &read(path)?, &|_| false)
    }

    /// These settings, with those of the file at `path` in place of all that `is_given` (by key) does not claim.
    ///
    /// # Errors
    /// Text that is not TOML, a key that does not exist, a value of the wrong type; each with file and line.
    pub fn overlaid(self, path: &Path, text: &str, is_given: &dyn Fn(&str) -> bool) -> Result<Self, TrainError> {
        self.check_writable()?;
        let file: Table = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = 1 + text.as_bytes()[..start.min(text.len())].iter().filter(|&&byte| byte == b'\n').count();
            TrainError::NotToml { place: format!("{}:{line}", path.display()), problem: error.message().to_string() }
        })?;
        let keys = Self::keys();
        let mut merged = self.to_table();
        // The length of a run is one setting with two names: what the file says replaces both.
        let names_length = |name: &&str| file.contains_key(*name);
        if ["epochs", "steps"].iter().any(names_length) && !is_given("epochs") && !is_given("steps") {
            merged.remove("epochs");
            merged.remove("steps");
        }
        for (written, value) in file {
            let place = || place_of(path, text, &written);
            let key = written.replace('_', "-");
            if !keys.contains(&key) {
                let nearest = nearest(&key, &keys).map_or(String::new(), |key| format!("; did you mean `{key}`?"));
                return Err(TrainError::UnknownKey { place: place(), key: written.clone(), nearest });
            }
            let claimed = match key.as_str() {
                "epochs" | "steps" => is_given("epochs") || is_given("steps"),
                _ => is_given(&key),
            };
            check_type(&key, &value).map_err(|problem| TrainError::BadValue {
                place: place(),
                key: key.clone(),
                problem,
            })?;
            if !claimed {
                merged.insert(key, value);
            }
        }
        let config = TrainConfig::deserialize_table(merged);
        Ok(config.expect("each key was checked on its own"))
    }

    fn deserialize_table(table: Table) -> Result<Self, toml::de::Error> {
        Value::Table(table).try_into()
    }
}

/// The text of a settings file.
///
/// # Errors
/// A file that cannot be read.
pub fn read(path: &Path) -> Result<String, TrainError> {
    let failed = |source| TrainError::Io { path: path.to_path_buf(), what: "read", source };
    remat_formats::read_text_file(path, remat_formats::SETTINGS_LIMIT_BYTES).map_err(failed)
}

/// Checks one value by putting it into otherwise valid settings.
fn check_type(key: &str, value: &Value) -> Result<(), String> {
    let mut table = TrainConfig::default().to_table();
    table.insert(key.to_string(), value.clone());
    TrainConfig::deserialize_table(table).map(drop).map_err(|error| error.message().trim().to_string())
}

/// File and line of a key, for messages.
fn place_of(path: &Path, text: &str, key: &str) -> String {
    let is_key = |line: &str| {
        let line = line.trim_start().trim_start_matches(['[', '"', '\'']);
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', '.', ']', '"', '\'']))
    };
    match text.lines().position(is_key) {
        Some(index) => format!("{}:{}", path.display(), index + 1),
        None => path.display().to_string(),
    }
}

/// The known key with the fewest edits, if few enough to be a slip.
fn nearest<'a>(key: &str, known: &'a [String]) -> Option<&'a str> {
    let scored = known.iter().map(|candidate| (edit_distance(key, candidate), candidate.as_str()));
    scored.min().filter(|&(edits, candidate)| edits <= 1 + candidate.len() / 3).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Warmup;
    use proptest::prelude::*;
    use remat_plan::{ByteSize, Policy};

    fn overlay(text: &str) -> Result<TrainConfig, TrainError> {
        TrainConfig::default().overlaid(Path::new("run.toml"), text, &|_| false)
    }

    fn check(text: &str, message: &str) {
        assert_eq!(overlay(text).expect_err(text).to_string(), message);
    }

    #[test]
    fn settings_survive_their_file() {
        let config = TrainConfig {
            model: "m".into(),
            data: vec!["a.jsonl".into(), "b.jsonl".into()],
            out: "o".into(),
            lr: Some(1.5e-5),
            init_adapter: Some("x".into()),
            packing: true,
            ..TrainConfig::default()
        };
        assert_eq!(overlay(&config.to_toml()).expect("our own file"), config);
        let resolved = config.resolved().expect("valid");
        assert_eq!(overlay(&resolved.to_toml()).expect("our own file"), resolved);
    }

    /// Counts and numbers at the edges of what their types and a file can hold, and texts that a file has to escape.
    fn settings() -> impl Strategy<Value = TrainConfig> {
        let count = || prop_oneof![0_u64..5, Just(i64::MAX as u64), Just(1 << 63), Just(u64::MAX), any::<u64>()];
        let some = || proptest::option::of(count());
        let number = || {
            let edges = [0.0, -0.0, f64::MIN_POSITIVE, 5e-324, 1e-300, 0.1, 1e22, f64::from(f32::MAX), 1e39, f64::NAN];
            prop_oneof![proptest::sample::select(edges.to_vec()), 0.0..10.0, any::<f64>()]
        };
        let text = || prop_oneof!["[a-z_,.]{0,9}", any::<String>(), Just("\"'\n\\\u{7f}\u{0}# end".to_string())];
        let counts = (some(), some(), some(), count(), count(), count());
        let numbers = (number(), number(), number(), proptest::option::of(number()), proptest::option::of(number()));
        let texts = (text(), text(), text(), proptest::option::of(text()), proptest::collection::vec(text(), 0..3));
        let lengths = (proptest::option::of(number()), number());
        (counts, numbers, texts, any::<[bool; 4]>(), lengths).prop_map(
            |(counts, numbers, texts, flags, (epochs, warmup))| TrainConfig {
                steps: counts.0,
                epochs: epochs.filter(|_| counts.0.is_none()),
                save_every: counts.1,
                save_total_limit: counts.2.map(|limit| limit as usize),
                warmup: Warmup(warmup),
                rank: counts.3 as usize,
                seed: counts.4,
                batch_size: counts.5 as usize,
                weight_decay: numbers.0,
                clip: numbers.1,
                dropout: numbers.2,
                lr: numbers.3,
                alpha: numbers.4,
                model: texts.0.into(),
                out: texts.1.into(),
                targets: texts.2,
                memory: texts.3.map(|text| ByteSize(text.len() << 20)),
                checkpointing: if flags[0] { Policy::Budget(counts.3 as usize) } else { Policy::Auto },
                data: texts.4.into_iter().map(Into::into).collect(),
                packing: flags[0],
                no_shuffle: flags[1],
                no_model_dropout: flags[2],
                method: if flags[3] { crate::MethodKind::Full } else { crate::MethodKind::Qlora },
                ..TrainConfig::default()
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_accepted_comes_back_from_its_file(config in settings()) {
            // With a file over them no settings panic, accepted or not.
            drop(config.clone().overlaid(Path::new("run.toml"), "rank = 4", &|_| false));
            if let Ok(accepted) = config.resolved() {
                let read = overlay(&accepted.to_toml()).expect("our own file");
                prop_assert_eq!(&read, &accepted);
                prop_assert_eq!(read.resolved().expect("accepted before"), accepted);
            }
        }
    }

    #[test]
    fn every_key_is_a_field_and_every_field_a_key() {
        let config = TrainConfig {
            alpha: Some(1.0),
            preset: Some("gpt2".to_string()),
            seq_len: Some(1),
            chat_date: Some(remat_data::Day::default()),
            chat_template: Some("x".into()),
            chat_template_kwargs: Some("{}".to_string()),
            quant: Some(crate::QuantKind::Nf4),
            accumulation: Some(crate::AccumulationKind::Apart),
            init_adapter: Some("x".into()),
            epochs: Some(1.0),
            steps: Some(1),
            lr: Some(1.0),
            loraplus_lr_ratio: Some(2.0),
            loraplus_lr_embedding: Some(1e-5),
            neftune_noise_alpha: Some(5.0),
            router_aux_loss_coef: Some(0.01),
            add_tokens: Some("x".into()),
            adapter: crate::AdapterOptions {
                init_lora_weights: Some("x".to_string()),
                exclude_modules: Some("x".to_string()),
                layers_to_transform: Some("0".to_string()),
                ..crate::AdapterOptions::default()
            },
            threads: Some(1),
            isa: Some(crate::Isa::Avx2),
            memory: Some(ByteSize(1 << 30)),
            max_memory: Some(crate::MaxMemory { disk: Some(ByteSize(1)), ..Default::default() }),
            device_map: Some(crate::DeviceMap::Auto),
            device_memory: Some(ByteSize(1 << 30)),
            offload: Some("x".into()),
            eval_every: Some(1),
            early_stop: Some(1),
            sample_every: Some(1),
            sample_tokens: Some(1),
            save_every: Some(1),
            tensorboard: Some("x".into()),
            save_total_limit: Some(1),
            prices: Some("x".into()),
            ..TrainConfig::default()
        };
        let mut fields: Vec<String> = config.to_table().keys().cloned().collect();
        let mut keys = TrainConfig::keys();
        fields.sort_unstable();
        keys.sort_unstable();
        assert_eq!(fields, keys);
    }

    /// What is trained, by its flags: the table of the README is what the flags say of themselves.
    #[test]
    fn the_readme_has_every_flag_of_methods() {
        let command = TrainConfig::augment_args(clap::Command::new("train"));
        let is_method = |argument: &&clap::Arg| {
            let id = argument.get_id().as_str();
            argument.get_help_heading() == Some("Method") || id.starts_with("loraplus_lr")
        };
        let rows = command.get_arguments().filter(is_method).map(|argument| {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "or");
            format!("| `--{}` | {help} |\n", argument.get_long().expect("a flag"))
        });
        let table = format!("| flag | what it does |\n|---|---|\n{}", rows.collect::<String>());
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
        let readme = std::fs::read_to_string(readme).expect("the README");
        assert!(readme.contains(&table), "README.md should have this table:\n{table}");
    }

    #[test]
    fn the_command_line_wins() {
        let given = TrainConfig { rank: 8, steps: Some(3), ..TrainConfig::default() };
        let text = "rank = 4\nbatch_size = 5\nepochs = 2";
        let merged = given.overlaid(Path::new("run.toml"), text, &|key| ["rank", "steps"].contains(&key));
        let merged = merged.expect("valid");
        assert_eq!((merged.rank, merged.batch_size, merged.steps, merged.epochs), (8, 5, Some(3), None));
        let replaced = merged.overlaid(Path::new("run.toml"), "epochs = 2", &|_| false).expect("valid");
        assert_eq!((replaced.steps, replaced.epochs), (None, Some(2.0)));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        check("rank = 4\nrnak = 5", "run.toml:2: unknown key `rnak`; did you mean `rank`?");
        check("save-evry = 5", "run.toml:1: unknown key `save-evry`; did you mean `save-every`?");
        check("colour = 5", "run.toml:1: unknown key `colour`");
        check("\n\nrank = \"four\"", "run.toml:3: rank: invalid type: string \"four\", expected usize");
        check("rank = 4\nrank == 5", "run.toml:2: not TOML: extra `=`, expected nothing");
        check(
            "precision = \"f16\"",
            "run.toml:1: precision: unknown variant `f16`, expected one of `auto`, `f32`, `bf16`",
        );
        check("seed = -1", "run.toml:1: seed: invalid value: integer `-1`, expected u64");
    }

    #[test]
    fn distances_are_those_of_the_literature() {
        for (a, b, edits) in [("kitten", "sitting", 3), ("", "abc", 3), ("flaw", "lawn", 2), ("same", "same", 0)] {
            assert_eq!(edit_distance(a, b), edits);
            assert_eq!(edit_distance(b, a), edits);
        }
    }
}
