//! All settings of a run that say what is trained and how: one struct is flag, TOML key, documentation and default.
//!
//! Invariant: a setting is declared here and nowhere else. Look next at `rules` for what is refused and derived, and at
//! `config_file` for the TOML side.

use crate::settings::adapter_options::{ADAPTER_OPTIONS, AdapterOptions};
use crate::settings::device_map::DeviceMap;
use crate::settings::device_name::DeviceName;
use crate::settings::isa::Isa;
use crate::settings::kinds::{AccumulationKind, MethodKind, OptimizerKind, QuantKind, TrainedTurns};
use crate::settings::max_memory::MaxMemory;
use crate::settings::precision::PrecisionChoice;
use crate::settings::schedule::{self, ScheduleKind, Warmup, whole_updates};
use crate::{Precision, Schedule, TrainError};
use clap::builder::TypedValueParser;
use clap::{Args, FromArgMatches};
use remat_data::{BadRows, Column, Day, RowOptions};
use remat_model::{Model, ModelError, Quant};
use remat_plan::{ByteSize, Policy};
use remat_step::{Accumulation, DeviceOptions};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

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

    /// Add noise of this size to the embeddings in training (NEFTune): uniform within ±ALPHA / √(L D) for a row of L tokens;
    /// 5 to 15 [default: none]
    #[arg(long, allow_negative_numbers = true, value_name = "ALPHA", help_heading = "Method")]
    pub neftune_noise_alpha: Option<f64>,

    /// Add the loss that balances experts, times this factor, in training and evaluation; 0 for none [default: the model's
    /// router_aux_loss_coef where its config.json has output_router_logits true, else none]
    #[arg(long, allow_negative_numbers = true, value_name = "FACTOR", help_heading = "Method")]
    pub router_aux_loss_coef: Option<f64>,

    /// Add the tokens of this file to the tokenizer and the vocabulary: one a line, or of a .json file a list; their rows start as the
    /// mean of all and are trained
    #[arg(long, value_name = "FILE", help_heading = "Method")]
    pub add_tokens: Option<PathBuf>,

    /// Modules that get an adapter: all-linear, names such as q_proj,v_proj, or a regular expression
    #[arg(long, value_name = "TARGETS", default_value = "all-linear", help_heading = "Method")]
    pub targets: String,

    /// What is trained beside plain LoRA, and where.
    #[command(flatten)]
    #[serde(flatten)]
    pub adapter: AdapterOptions,

    /// Start from this PEFT adapter; rank, alpha, targets and what else an adapter's file says are then the adapter's
    #[arg(long, value_name = "DIR", conflicts_with_all = ADAPTER_OPTIONS, help_heading = "Method")]
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

    /// How the gradients of an update's micro-batches add up: apart, each from zero and then onto the sum, which takes one more
    /// set of gradients; or running, as runs went on from that were begun without this setting [default: apart]
    #[arg(long, value_enum, value_name = "RULE", help_heading = "Batches")]
    pub accumulation: Option<AccumulationKind>,

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

    /// Learning rate of the adapters' B, and of biases, over that of A (LoRA+), as in PEFT; some 16 [default: 1]
    #[arg(long, allow_negative_numbers = true, value_name = "RATIO", help_heading = "Optimizer")]
    pub loraplus_lr_ratio: Option<f64>,

    /// Learning rate of an embedding's adapter under LoRA+, as in PEFT [default: 1e-6]
    #[arg(long, allow_negative_numbers = true, value_name = "RATE", help_heading = "Optimizer")]
    pub loraplus_lr_embedding: Option<f64>,

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

    /// Most memory of each kind: host is --memory, disk what may lie in files of --offload, as host=6GiB,disk=40GiB
    #[arg(long, value_name = "KIND=SIZE,…", help_heading = "Machine")]
    pub max_memory: Option<MaxMemory>,

    /// Folder on a fast disk, or in memory as /dev/shm is, for kept values and frozen weights that find no room: they are
    /// copied while the step computes, where that is faster than recomputing or nothing else fits; nothing stays there
    #[arg(long, value_name = "DIR", help_heading = "Machine")]
    pub offload: Option<PathBuf>,

    /// Where frozen weights lie: auto places them by what it costs, without --offload in memory or the model's own files; a
    /// JSON file of modules, each "host" or "disk", is followed, and auto places the others; the result does not depend on it
    #[arg(long, value_name = "auto|FILE", help_heading = "Machine")]
    pub device_map: Option<DeviceMap>,

    /// What operations and copies to --offload's folder cost, as remat doctor --json printed it, in place of this machine's
    /// measured prices; the result does not depend on it
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    pub prices: Option<PathBuf>,

    /// Device to compute on: cpu, cuda or cuda:N; to plan for a card that is not here, its name, such as rtx-4090, or list for all
    /// that are known
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Machine")]
    #[serde(default)]
    pub device: DeviceName,

    /// Most of the device's own memory [default: what it has left]
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    pub device_memory: Option<ByteSize>,

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

    /// Stop after so many evaluations in a row without a lower loss than the lowest before; the best is in best/ either way
    #[arg(long, value_name = "N", help_heading = "Evaluation")]
    pub early_stop: Option<u64>,

    /// Text to continue by the model in training now and then, shown and kept in samples.jsonl; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Samples")]
    #[serde(default)]
    pub sample: Vec<String>,

    /// Sample after every so many updates, beside before the first and after the last [default: an epoch's]
    #[arg(long, value_name = "STEPS", help_heading = "Samples")]
    pub sample_every: Option<u64>,

    /// Tokens of a sample at most [default: 64]
    #[arg(long, value_name = "N", help_heading = "Samples")]
    pub sample_tokens: Option<usize>,

    /// Save checkpoint-N after every so many updates [default: when interrupted, and of adapters at the end]
    #[arg(long, value_name = "STEPS", help_heading = "Saving")]
    pub save_every: Option<u64>,

    /// Folder for the curves that TensorBoard reads, in place of --out
    #[arg(long, value_name = "DIR", help_heading = "Saving")]
    pub tensorboard: Option<PathBuf>,

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

impl TrainConfig {
    /// How the gradients of an update add up. One micro-batch is its own sum.
    pub(crate) fn accumulation_rule(&self) -> Accumulation {
        match self.accumulation {
            _ if self.grad_accum <= 1 => Accumulation::Running,
            kind => kind.unwrap_or(AccumulationKind::Apart).into(),
        }
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
        let model = match &self.add_tokens {
            Some(file) => model.with_added_tokens(file)?,
            None => model,
        };
        let precision = self.precision.of_model(&model, self.device_options().level);
        self.precision = precision.into();
        let model = model.in_precision(precision.into());
        let model = model.with_embedding_noise(self.neftune_noise_alpha.unwrap_or(0.0) as f32);
        let model = match self.router_aux_loss_coef {
            Some(_) if !model.has_experts() => {
                let problem = "balances the experts of a model, and this one has none; leave it out".to_string();
                return Err(TrainError::BadFlag { key: "router-aux-loss-coef", problem });
            }
            Some(factor) => model.with_router_loss(factor),
            None => model,
        };
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
        let memory = self.device_memory.map(|ByteSize(bytes)| bytes);
        let found = self.device.options(self.threads, self.isa, memory);
        found.expect("`resolved` refuses what this machine does not have")
    }

    /// The rate of an embedding's adapter over that of the others: LoRA+ has one of its own, PEFT's 1e-6 by default.
    pub(crate) fn loraplus_embedding_rate(&self) -> f64 {
        match (self.loraplus_lr_ratio, self.lr) {
            (Some(_), Some(lr)) if lr > 0.0 => self.loraplus_lr_embedding.unwrap_or(1e-6) / lr,
            _ => 1.0,
        }
    }

    /// The learning-rate schedule over `total_updates` updates.
    pub fn lr_schedule(&self, total_updates: u64) -> Schedule {
        let base = self.lr.expect("`resolved` fills in the learning rate");
        Schedule {
            decay: self.schedule.into(),
            base,
            warmup_updates: self.warmup.updates(total_updates),
            total_updates,
        }
    }
}
