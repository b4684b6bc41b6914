//! All settings of a run that say what is trained and how: one struct is flag, TOML key, documentation and default.
//!
//! Invariant: a value that came through [`TrainConfig::resolved`] has every rule of this file checked and every derived
//! default filled in, and is what `config.toml` in the run folder holds. Look next at `config_file` for the TOML side.

use crate::settings::isa::Isa;
use crate::settings::precision::PrecisionChoice;
use crate::settings::schedule::{self, ScheduleKind, Warmup, whole_updates};
use crate::{Precision, Schedule, TrainError};
use clap::builder::TypedValueParser;
use clap::{Args, FromArgMatches};
use remat_data::{BadRows, Column, Day, RowOptions};
use remat_model::{Model, ModelError, Quant};
use remat_plan::{ByteSize, Policy};
use remat_step::DeviceOptions;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum MethodKind {
    /// Low-rank adapters on a frozen base.
    Lora,
    /// The same on a base whose linears are held in few bits (see --quant); embeddings and head stay as they are.
    Qlora,
    /// Every parameter.
    Full,
}

/// What linears of the base are held in under qlora.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum QuantKind {
    /// 4 bits in blocks of 64, with double quantisation.
    Nf4,
    /// 8 bits with a scale per row; products are of the precision chosen, as with nf4.
    Int8,
}

impl From<QuantKind> for Quant {
    fn from(kind: QuantKind) -> Self {
        match kind {
            QuantKind::Nf4 => Quant::Nf4,
            QuantKind::Int8 => Quant::Int8,
        }
    }
}

/// What makes an update of gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// AdamW with moments of 32 bits.
    #[default]
    Adamw,
    /// AdamW with moments of 8 bits in blocks of 256; parameters of fewer than 4096 elements keep 32 bits.
    #[value(name = "adamw8bit")]
    Adamw8bit,
}

impl From<OptimizerKind> for remat_step::MomentFormat {
    fn from(kind: OptimizerKind) -> Self {
        match kind {
            OptimizerKind::Adamw => remat_step::MomentFormat::F32,
            OptimizerKind::Adamw8bit => remat_step::MomentFormat::Blocks8,
        }
    }
}

/// Which turns of a conversation are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TrainedTurns {
    /// Every token, prompts too.
    All,
    /// The assistant's turns, and completions.
    Assistant,
    /// The assistant's last turn, and completions.
    Last,
}

impl From<TrainedTurns> for remat_data::TrainOn {
    fn from(turns: TrainedTurns) -> Self {
        match turns {
            TrainedTurns::All => remat_data::TrainOn::All,
            TrainedTurns::Assistant => remat_data::TrainOn::Assistant,
            TrainedTurns::Last => remat_data::TrainOn::Last,
        }
    }
}

/// More epochs than this are a slip.
const MOST_EPOCHS: f64 = 1e6;

/// A key that has to come from somewhere, the command line or a file, but from neither in particular.
const FROM_FILE: &str = "";

/// A path that may be empty, which clap's own parser of paths refuses.
fn path_parser() -> impl TypedValueParser<Value = PathBuf> {
    clap::builder::OsStringValueParser::new().map(PathBuf::from)
}

/// The settings of a run. Every field is a flag of `remat train` and, under the same name, a key of its TOML file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Args)]
#[serde(rename_all = "kebab-case")]
pub struct TrainConfig {
    /// Model folder as Hugging Face writes it: config.json, safetensors, tokenizer.json
    #[arg(long, value_name = "DIR", default_value = FROM_FILE, hide_default_value = true, value_parser = path_parser())]
    pub model: PathBuf,

    /// Shape of a published model by its name instead of a model folder, such as llama-3.1-8b; weights are random, and so
    /// are the rows without --data
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    pub preset: Option<String>,

    /// File of training rows (see docs/data.md for what is read), or FILE:0.3 for three of ten of its rows; may be given
    /// several times
    #[arg(long, value_name = "FILE")]
    pub data: Vec<PathBuf>,

    /// Folder to write: the result, metrics.jsonl, checkpoint-N
    #[arg(long, value_name = "DIR", default_value = FROM_FILE, hide_default_value = true, value_parser = path_parser())]
    pub out: PathBuf,

    /// What to train: adapters on a frozen base, or every parameter
    #[arg(long, value_enum, default_value = "lora", help_heading = "Method")]
    pub method: MethodKind,

    /// What qlora quantises the linears of the base to [default: nf4]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Method")]
    pub quant: Option<QuantKind>,

    /// Rank of the adapters
    #[arg(long, value_name = "R", default_value = "16", help_heading = "Method")]
    pub rank: usize,

    /// Scale of the adapters: their output is multiplied by ALPHA / R [default: 2 R]
    #[arg(long, allow_negative_numbers = true, value_name = "ALPHA", help_heading = "Method")]
    pub alpha: Option<f64>,

    /// Dropout on the input of the adapters; the model's own, such as GPT-2's, is another: see --no-model-dropout
    #[arg(long, allow_negative_numbers = true, value_name = "P", default_value = "0", help_heading = "Method")]
    pub dropout: f64,

    /// Switch off the dropout that the model's config.json asks for in training, such as GPT-2's of 0.1
    #[arg(long, help_heading = "Method")]
    #[serde(default)]
    pub no_model_dropout: bool,

    /// Modules that get an adapter: all-linear, names such as q_proj,v_proj, or a regular expression
    #[arg(long, value_name = "TARGETS", default_value = "all-linear", help_heading = "Method")]
    pub targets: String,

    /// Start from this PEFT adapter; rank, alpha and targets are then the adapter's
    #[arg(long, value_name = "DIR", conflicts_with_all = ["rank", "alpha", "targets"], help_heading = "Method")]
    pub init_adapter: Option<PathBuf>,

    /// Longest sequence in tokens; longer rows are cut [default: 1024, or the model's positions if fewer]
    #[arg(long, value_name = "T", help_heading = "Batches")]
    pub seq_len: Option<usize>,

    /// What is trained on: every token, the assistant's turns and completions, or the assistant's last turn
    #[arg(long, value_enum, value_name = "TURNS", default_value = "assistant", help_heading = "Batches")]
    pub train_on: TrainedTurns,

    /// Columns of the rows under other names than a format's, such as prompt=question,completion=answer
    #[arg(long, value_name = "NAME=COLUMN", value_delimiter = ',', help_heading = "Batches")]
    #[serde(default)]
    pub columns: Vec<Column>,

    /// Keys of the rows that mean nothing for training, beside those that are known to
    #[arg(long, value_name = "KEYS", value_delimiter = ',', help_heading = "Batches")]
    #[serde(default)]
    pub ignore_columns: Vec<String>,

    /// What becomes of rows that cannot be read or encoded: stop before the first step, drop up to half of a file's, or
    /// drop:SHARE for up to that share; what was dropped is told
    #[arg(long, value_name = "CHOICE", default_value = "stop", help_heading = "Batches")]
    #[serde(default)]
    pub bad_rows: BadRows,

    /// Day that a chat template which asks sees as today's, as 2026-01-31 [default: the day the run begins, in UTC]
    #[arg(long, value_name = "DATE", help_heading = "Batches")]
    pub chat_date: Option<Day>,

    /// Chat template to use in place of the model's own, a file of Jinja
    #[arg(long, value_name = "FILE", help_heading = "Batches")]
    pub chat_template: Option<PathBuf>,

    /// Variables for the chat template as a JSON object, such as {"enable_thinking": false}; a row's own go before them
    #[arg(long, value_name = "JSON", help_heading = "Batches")]
    pub chat_template_kwargs: Option<String>,

    /// Sequences of a micro-batch
    #[arg(long, value_name = "B", default_value = "2", help_heading = "Batches")]
    pub batch_size: usize,

    /// Micro-batches of an update
    #[arg(long, value_name = "K", default_value = "4", help_heading = "Batches")]
    pub grad_accum: usize,

    /// Put several short rows into one sequence; they do not see each other
    #[arg(long, help_heading = "Batches")]
    pub packing: bool,

    /// Take the rows in file order instead of a new random order in every epoch
    #[arg(long, help_heading = "Batches")]
    pub no_shuffle: bool,

    /// How often to go through the data; 0.5 takes half of it [default: 1]
    #[arg(long, allow_negative_numbers = true, value_name = "N", conflicts_with = "steps", help_heading = "Length")]
    #[serde(serialize_with = "schedule::whole_or_fraction")]
    pub epochs: Option<f64>,

    /// How many updates to make, over as many epochs as that takes
    #[arg(long, value_name = "N", help_heading = "Length")]
    pub steps: Option<u64>,

    /// What makes an update of gradients
    #[arg(long, value_enum, default_value = "adamw", help_heading = "Optimizer")]
    #[serde(default)]
    pub optimizer: OptimizerKind,

    /// Highest learning rate [default: 2e-4 for lora, 2e-5 for full]
    #[arg(long, allow_negative_numbers = true, value_name = "RATE", help_heading = "Optimizer")]
    pub lr: Option<f64>,

    /// How the learning rate goes after the warm-up
    #[arg(long, value_enum, default_value = "linear", help_heading = "Optimizer")]
    pub schedule: ScheduleKind,

    /// Updates over which the learning rate rises from 0; below 1, their share of the run's
    #[arg(long, value_name = "STEPS|SHARE", default_value = "0", help_heading = "Optimizer")]
    pub warmup: Warmup,

    /// Decoupled weight decay of AdamW; not on biases and norm weights
    #[arg(long, allow_negative_numbers = true, value_name = "DECAY", default_value = "0", help_heading = "Optimizer")]
    pub weight_decay: f64,

    /// Largest norm of all gradients together; 0 switches clipping off
    #[arg(long, allow_negative_numbers = true, value_name = "NORM", default_value = "1", help_heading = "Optimizer")]
    pub clip: f64,

    /// Number format of weights and activations: auto takes bf16 where the model is stored in 16 bits and the instruction
    /// set has vectors, else f32
    #[arg(long, value_enum, default_value = "auto", help_heading = "Machine")]
    pub precision: PrecisionChoice,

    /// What is recomputed instead of kept: auto (the fastest that fits into memory), none, full, every:N for segments of N
    /// blocks, or budget:SIZE for what may be kept; the result does not depend on it
    #[arg(long, value_name = "POLICY", default_value = "auto", help_heading = "Machine")]
    pub checkpointing: Policy,

    /// Most memory for the whole process: 6GiB or 6G is 6 x 2^30 bytes, 6GB is 6 x 10^9 [default: what the machine has]
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    pub memory: Option<ByteSize>,

    /// Folder on a fast disk, or in memory as /dev/shm is, for kept values that find no room: they are copied out and back
    /// while the step computes, where that is faster than recomputing or nothing else fits; nothing stays there
    #[arg(long, value_name = "DIR", help_heading = "Machine")]
    pub offload: Option<PathBuf>,

    /// What operations and copies to --offload's folder cost, as remat doctor --json printed it, in place of this machine's
    /// measured prices; the result does not depend on it
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    pub prices: Option<PathBuf>,

    /// Threads to compute with [default: all]; the result does not depend on it
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub threads: Option<usize>,

    /// Instruction set to compute with [default: the strongest this machine has]; results differ by roundings
    #[arg(long, value_enum, help_heading = "Machine")]
    pub isa: Option<Isa>,

    /// Seed of initial adapters, order and dropout
    #[arg(long, value_name = "N", default_value = "42", help_heading = "Machine",
          value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: u64,

    /// File of held-out rows to evaluate on; may be given several times
    #[arg(long, value_name = "FILE", help_heading = "Evaluation")]
    #[serde(default)]
    pub eval_data: Vec<PathBuf>,

    /// Evaluate after every so many updates, and after the last [default: an epoch's]
    #[arg(long, value_name = "STEPS", help_heading = "Evaluation")]
    pub eval_every: Option<u64>,

    /// Save checkpoint-N after every so many updates [default: when interrupted, and of adapters at the end]
    #[arg(long, value_name = "STEPS", help_heading = "Saving")]
    pub save_every: Option<u64>,

    /// How many checkpoint-N to keep; the oldest goes once a newer one is complete [default: all]
    #[arg(long, value_name = "N", help_heading = "Saving")]
    pub save_total_limit: Option<usize>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        let command = TrainConfig::augment_args(clap::Command::new("train").no_binary_name(true));
        let matches = command.get_matches_from::<_, &str>([]);
        TrainConfig::from_arg_matches(&matches).expect("no argument is required")
    }
}

/// Keys that may differ between a save and the run that resumes it, because they do not change what is computed.
/// Other data is refused by its content, whatever its path.
const FREE_ON_RESUME: &[&str] = &[
    "data",
    "columns",
    "ignore-columns",
    "bad-rows",
    "out",
    "epochs",
    "steps",
    "checkpointing",
    "memory",
    "offload",
    "prices",
    "threads",
    "eval-data",
    "eval-every",
    "save-every",
    "save-total-limit",
];

impl TrainConfig {
    /// The settings with every rule checked and derived defaults filled in. Paths stay as given: an adapter names its
    /// base model by this path.
    ///
    /// # Errors
    /// The first key that is missing or out of range.
    pub fn resolved(self) -> Result<Self, TrainError> {
        self.check_writable()?;
        self.check_presence()?;
        self.resolved_to_plan()
    }

    /// As [`resolved`](Self::resolved), for a plan: data and a folder to write are not asked for, and a preset does in
    /// place of a model folder.
    ///
    /// # Errors
    /// The first key that is missing or out of range.
    pub fn resolved_to_plan(mut self) -> Result<Self, TrainError> {
        self.check_writable()?;
        if self.model.as_os_str().is_empty() && self.preset.is_none() {
            return Err(TrainError::MissingKey { key: "model", example: "--model DIR or --preset NAME" });
        }
        if let (false, Some(name)) = (self.model.as_os_str().is_empty(), &self.preset) {
            let problem = format!("{name} and --model {} are two models; give one of them", self.model.display());
            return Err(TrainError::BadFlag { key: "preset", problem });
        }
        self.check_ranges()?;
        match (self.method, self.quant) {
            (MethodKind::Qlora, quant) => self.quant = Some(quant.unwrap_or(QuantKind::Nf4)),
            (MethodKind::Lora | MethodKind::Full, None) => {}
            (MethodKind::Lora | MethodKind::Full, Some(_)) => {
                let problem =
                    "needs --method qlora, which quantises the base; add it, or leave --quant out".to_string();
                return Err(TrainError::BadFlag { key: "quant", problem });
            }
        }
        self.alpha.get_or_insert(2.0 * self.rank as f64);
        self.lr.get_or_insert(match self.method {
            MethodKind::Lora | MethodKind::Qlora => 2e-4,
            MethodKind::Full => 2e-5,
        });
        if self.steps.is_none() {
            self.epochs.get_or_insert(1.0);
        }
        Ok(self)
    }

    /// Refuses paths and counts that a TOML file cannot hold, or not give back.
    pub(crate) fn check_writable(&self) -> Result<(), TrainError> {
        self.check_paths()?;
        // Every field is asked, those that are added later, too.
        let fields = serde_json::to_value(self).ok();
        let counts = fields.as_ref().and_then(|fields| fields.as_object()).into_iter().flatten();
        let mut counts = counts.filter_map(|(key, value)| Some((key, value.as_u64()?)));
        match counts.find(|(_, count)| i64::try_from(*count).is_err()) {
            Some((key, count)) => Err(TrainError::TooLarge { key: key.clone(), value: count }),
            None => Ok(()),
        }
    }

    fn check_paths(&self) -> Result<(), TrainError> {
        let single =
            [("model", Some(&self.model)), ("out", Some(&self.out)), ("init-adapter", self.init_adapter.as_ref())];
        let single = single.into_iter().chain([("offload", self.offload.as_ref())]);
        let paths = single.filter_map(|(key, path)| Some((key, path?)));
        let lists = [("data", &self.data), ("eval-data", &self.eval_data)];
        let listed = lists.into_iter().flat_map(|(key, paths)| paths.iter().map(move |path| (key, path)));
        match paths.chain(listed).find(|(_, path)| path.to_str().is_none()) {
            Some((key, path)) => {
                let value = path.to_string_lossy().into_owned();
                Err(TrainError::OutOfRange { key, value, rule: "a path in UTF-8; rename it or use a link" })
            }
            None => Ok(()),
        }
    }

    fn check_presence(&self) -> Result<(), TrainError> {
        let absent = |key, example| Err(TrainError::MissingKey { key, example });
        if self.model.as_os_str().is_empty() && self.preset.is_none() {
            return absent("model", "--model DIR");
        }
        // A preset, whose weights are random, may learn random tokens.
        if self.data.is_empty() && self.preset.is_none() {
            return absent("data", "--data FILE.jsonl");
        }
        if self.out.as_os_str().is_empty() {
            return absent("out", "--out DIR");
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), TrainError> {
        let bad = |key, value: String, rule| Err(TrainError::OutOfRange { key, value, rule });
        let counts: [(&'static str, Option<u64>); 8] = [
            ("rank", Some(self.rank as u64)),
            ("seq-len", self.seq_len.map(|tokens| tokens as u64)),
            ("batch-size", Some(self.batch_size as u64)),
            ("grad-accum", Some(self.grad_accum as u64)),
            ("steps", self.steps),
            ("eval-every", self.eval_every),
            ("save-every", self.save_every),
            ("save-total-limit", self.save_total_limit.map(|limit| limit as u64)),
        ];
        for (key, count) in counts {
            if count == Some(0) {
                return bad(key, "0".to_string(), "at least 1");
            }
        }
        if let Some(epochs) = self.epochs.filter(|epochs| !(*epochs > 0.0 && *epochs <= MOST_EPOCHS)) {
            return bad("epochs", epochs.to_string(), "above 0 and at most a million");
        }
        if !self.warmup.is_valid() {
            return bad("warmup", self.warmup.to_string(), "a whole number of updates, or a share from 0 to below 1");
        }
        if self.alpha == Some(0.0) {
            return bad("alpha", "0".to_string(), "above 0; with 0 the adapters change nothing and never learn");
        }
        if self.eval_every.is_some() && self.eval_data.is_empty() {
            return bad("eval-every", "given without eval-data".to_string(), "both; add --eval-data FILE");
        }
        if self.epochs.is_some() && self.steps.is_some() {
            return bad("steps", "given together with epochs".to_string(), "one of the two");
        }
        if let Some(threads) = self.threads.filter(|threads| !(1..=1024).contains(threads)) {
            return bad("threads", threads.to_string(), "1 to 1024");
        }
        crate::device_options(None, self.isa)?;
        let numbers = [
            ("lr", self.lr.unwrap_or(0.0)),
            ("weight-decay", self.weight_decay),
            ("clip", self.clip),
            ("alpha", self.alpha.unwrap_or(0.0)),
        ];
        for (key, number) in numbers {
            // It is computed with in 32 bits.
            if !(number as f32).is_finite() || number < 0.0 {
                return bad(key, number.to_string(), "a finite number of at least 0, below 3.4e38");
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return bad("dropout", self.dropout.to_string(), "at least 0 and below 1");
        }
        Ok(())
    }

    /// How rows are read.
    pub(crate) fn row_options(&self) -> RowOptions {
        let (columns, ignored) = (self.columns.clone(), self.ignore_columns.clone());
        // What is long is kept where the run writes, or as near to it as there is a folder yet.
        let here =
            |folder: &Path| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_path_buf() };
        let near = self.out.ancestors().map(here).find(|folder| folder.is_dir());
        let near = near.filter(|_| !self.out.as_os_str().is_empty());
        RowOptions { columns, ignored, bad_rows: self.bad_rows, folder: near }
    }

    /// The model of these settings, none of its weights read yet. What `auto` comes to for it is part of the settings from
    /// then on.
    pub(crate) fn open_model(&mut self) -> Result<Model, TrainError> {
        self.opened(Model::open)
    }

    /// The same to plan for: weight files need not be there.
    pub(crate) fn open_model_to_plan(&mut self) -> Result<Model, TrainError> {
        self.opened(Model::open_to_plan)
    }

    fn opened(&mut self, open: fn(&Path) -> Result<Model, ModelError>) -> Result<Model, TrainError> {
        let model = match &self.preset {
            Some(name) => Model::from_preset(name)?,
            None => open(&self.model)?,
        };
        let precision = self.precision.of_model(&model, self.device_options().level);
        self.precision = precision.into();
        let model = model.in_precision(precision.into());
        Ok(if self.no_model_dropout { model.without_dropout() } else { model })
    }

    /// The number format of settings whose model was opened.
    pub(crate) fn number_format(&self) -> Precision {
        self.precision.chosen().expect("opening the model replaces `auto`")
    }

    /// How many updates these settings are, where an epoch is `per_epoch` of them. A part of an update is one.
    ///
    /// # Errors
    /// More than fit a step's number.
    pub(crate) fn total_updates(&self, per_epoch: u64) -> Result<u64, TrainError> {
        let (key, updates) = match self.steps {
            Some(steps) => ("steps", steps as f64),
            None => ("epochs", whole_updates(self.epochs.unwrap_or(1.0) * per_epoch as f64)),
        };
        if updates > f64::from(i32::MAX) {
            return Err(TrainError::OutOfRange { key, value: updates.to_string(), rule: "at most 2147483647 updates" });
        }
        Ok(updates as u64)
    }

    /// What is trained, as users call it: `lora`, `qlora nf4`, `qlora int8` or `full`.
    pub fn method_name(&self) -> String {
        match (self.method, self.quant) {
            (MethodKind::Full, _) => "full".to_string(),
            (MethodKind::Lora, _) => "lora".to_string(),
            (MethodKind::Qlora, quant) => format!("qlora {}", quant.map(Quant::from).unwrap_or_default()),
        }
    }

    /// How the executor of such a run computes.
    pub(crate) fn device_options(&self) -> DeviceOptions {
        crate::device_options(self.threads, self.isa).expect("`resolved` refuses what this machine does not have")
    }

    /// Refuses to go on from a save made with `saved` if that would compute something else than one long run would.
    ///
    /// # Errors
    /// The first key that differs and may not.
    pub fn check_resumes(&self, saved: &TrainConfig) -> Result<(), TrainError> {
        let (saved, now) = (saved.to_table(), self.to_table());
        for key in Self::keys() {
            let (before, after) = (saved.get(&key), now.get(&key));
            if before != after && !FREE_ON_RESUME.contains(&key.as_str()) && !same_file(before, after) {
                let show = |value: Option<&toml::Value>| value.map_or("unset".to_string(), |value| value.to_string());
                return Err(TrainError::ResumeChanged { key, saved: show(before), given: show(after) });
            }
        }
        Ok(())
    }

    /// The learning-rate schedule over `total_updates` updates.
    pub fn lr_schedule(&self, total_updates: u64) -> Schedule {
        let base = self.lr.expect("`resolved` fills in the learning rate");
        Schedule { kind: self.schedule, base, warmup_updates: self.warmup.updates(total_updates), total_updates }
    }
}

/// Whether two values are paths to one and the same file or folder.
fn same_file(a: Option<&toml::Value>, b: Option<&toml::Value>) -> bool {
    let canonical = |value: Option<&toml::Value>| std::fs::canonicalize(value?.as_str()?).ok();
    canonical(a).is_some_and(|path| Some(path) == canonical(b))
}

#[cfg(test)]
mod tests;
