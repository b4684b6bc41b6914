//! The verb `profile`: the same step under several policies, planned and measured, and a verdict.
//!
//! Invariant: the report goes to stdout, as text or as one JSON object (schema 1; keys are only ever added), and to the
//! folder of --out; every figure was planned or measured in this run. Look next at `remat_train::profile` for the method.

use crate::settings::SettingsArgs;
use crate::train::exit_code;
use crate::{console, units};
use clap::ArgMatches;
use remat_plan::Policy;
use remat_train::{ProfileJob, ProfileRow, ProfileSetup, TrainError, build, now_utc, profile};
use serde_json::{Value, json};
use std::io::Write;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat profile --preset gpt2-medium --precision bf16 --seq-len 512 --batch-size 1
  remat profile --model Llama-3.2-1B --policies none,full,every:2 --repeats 10 --json
  remat profile --preset gpt2 --memory 1GiB --policies none,full,auto";

/// Flags of `remat profile`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProfileArgs {
    #[command(flatten)]
    settings: SettingsArgs,

    /// The policies to compare; the first is what the others are compared with
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "none,every:2,full")]
    policies: Vec<Policy>,

    /// Counted steps of each policy, after one to warm up; they take turns
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeats: u32,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Profiles and returns the exit code.
pub(crate) fn run(arguments: ProfileArgs, matches: &ArgMatches) -> u8 {
    match start(arguments, matches) {
        Ok(page) => {
            // A reader that went away is no failure of the profile.
            drop(write!(std::io::stdout(), "{page}"));
            0
        }
        Err(error) => {
            console::error(&error.to_string());
            exit_code(error.kind())
        }
    }
}

fn start(arguments: ProfileArgs, matches: &ArgMatches) -> Result<String, TrainError> {
    let started_at = now_utc();
    let setup = ProfileSetup::of(arguments.settings.merged(matches)?)?;
    let footprint = footprint(&setup)?;
    let ProfileSetup { model, method, shape, options, limit, .. } = &setup;
    let (policies, repeats) = (arguments.policies.as_slice(), arguments.repeats as usize);
    let rows =
        profile(&ProfileJob { model, method, shape: *shape, policies, repeats, options: *options, limit: *limit })?;
    let report = Report { setup: &setup, footprint, verdict: verdict(&setup, &rows), rows, started_at, repeats };
    let out = &setup.config.out;
    if !out.as_os_str().is_empty() {
        let io = |source| TrainError::OutUnwritable { path: out.clone(), source };
        std::fs::create_dir_all(out).map_err(io)?;
        std::fs::write(out.join("record.json"), format!("{:#}\n", report.json())).map_err(io)?;
        std::fs::write(out.join("record.md"), format!("# Lab record: profile\n\n```\n{}```\n", report.text()))
            .map_err(io)?;
    }
    Ok(if arguments.json { format!("{}\n", report.json()) } else { report.text() })
}

/// Bytes of parameters and buffers, as transformers counts them.
fn footprint(setup: &ProfileSetup) -> Result<usize, TrainError> {
    let model = match &setup.config.preset {
        Some(name) => remat::Model::from_preset(name),
        None => remat::Model::from_pretrained(&setup.config.model),
    };
    let bytes = model.and_then(|model| model.in_precision(setup.model.precision()).memory_footprint());
    bytes.map_err(|error| TrainError::BadFlag { key: "model", problem: error.to_string() })
}

/// Whether checkpointing pays here, which policy, and when that would change.
fn verdict(setup: &ProfileSetup, rows: &[ProfileRow]) -> String {
    let Some(limit) = setup.limit else { return "What this machine has is unknown; give --memory.".to_string() };
    let (whose, has) = (limit.whose, units::bytes(limit.bytes as u64));
    let fits = |row: &&ProfileRow| row.planned_peak_bytes <= limit.bytes as u64;
    let fastest = rows.iter().filter(fits).min_by(|a, b| a.step_seconds.total_cmp(&b.step_seconds));
    let Some(best) = fastest else {
        return format!(
            "None of these fits: {whose} {has}. `remat plan` with the same flags names the smallest plan and what else to change."
        );
    };
    let shape = setup.shape;
    let samples = |row: &ProfileRow| {
        // What grows with the batch is what is kept; the rest is taken as it is.
        let per_sample = (row.activation_bytes / shape.batch).max(1);
        (limit.bytes as u64 - row.planned_peak_bytes) as usize / per_sample + shape.batch
    };
    let tokens = shape.seq_len;
    if best.recomputed_steps == 0 {
        let most = samples(best);
        return format!(
            "Checkpointing does not pay for this job here: without it the step needs {} and {whose} {has}. It begins to \
             pay above about {most} sequences of {tokens} tokens a batch (now {}).",
            units::bytes(best.planned_peak_bytes),
            shape.batch
        );
    }
    let first = &rows[0];
    format!(
        "Checkpointing pays here: {} does not fit ({} of {has}), and {} is the fastest that does: {} less for {:+.0} % time. \
         With {} of memory it would not be needed.",
        first.policy,
        units::bytes(first.planned_peak_bytes),
        best.policy,
        units::bytes(first.planned_peak_bytes.saturating_sub(best.planned_peak_bytes)),
        100.0 * (best.step_seconds / first.step_seconds - 1.0),
        units::bytes(first.planned_peak_bytes),
    )
}

struct Report<'a> {
    setup: &'a ProfileSetup,
    footprint: usize,
    rows: Vec<ProfileRow>,
    verdict: String,
    started_at: String,
    repeats: usize,
}

impl Report<'_> {
    fn model(&self) -> String {
        self.setup.config.preset.clone().unwrap_or_else(|| self.setup.model.folder().display().to_string())
    }

    fn json(&self) -> Value {
        let (version, commit, profile) = build();
        let config = &self.setup.config;
        json!({
            "schema": 1,
            "model": self.model(),
            "method": config.method,
            "precision": config.precision,
            "seq_len": self.setup.shape.seq_len,
            "batch_size": self.setup.shape.batch,
            "threads": self.setup.machine.threads,
            "footprint_bytes": self.footprint,
            "footprint_bytes_with_checkpointing": self.footprint,
            "rows": self.rows,
            "verdict": self.verdict,
            "record": {
                "remat_version": version,
                "commit": commit,
                "build": profile,
                "started_at": self.started_at,
                "machine": &self.setup.machine,
                "repeats": self.repeats,
                "data": "random tokens",
                "config": config,
            },
        })
    }

    fn text(&self) -> String {
        let config = &self.setup.config;
        let shape = self.setup.shape;
        let machine = &self.setup.machine;
        let mut lines = vec![
            format!("model      {} ({}), {} in {}", self.model(), self.setup.model.config().family(), name(&json!(config.method)), name(&json!(config.precision))),
            format!("step       {} × {} tokens, {} counted steps of each policy, taking turns", shape.batch, shape.seq_len, self.repeats),
            format!(
                "machine    {}, {}, {}",
                machine.cpu.as_deref().unwrap_or("unknown CPU"),
                machine.isa,
                units::counted(machine.threads, "thread")
            ),
            format!(
                "footprint  {} bytes of parameters and buffers; {} with checkpointing, too: it drops activations, not parameters",
                units::count(self.footprint),
                units::count(self.footprint)
            ),
            String::new(),
            "policy        activations   logits      weights and    peak of the process        step time                      more      tokens".to_string(),
            "              kept          (a chunk)   their state    planned      measured     planned     measured           FLOPs     per second".to_string(),
        ];
        for row in &self.rows {
            let measured = row.measured_peak_bytes.map_or("unknown".to_string(), units::bytes);
            let more =
                if row.policy == self.rows[0].policy { String::new() } else { format!("{:+.1} %", row.extra_percent) };
            lines.push(format!(
                "{:<13} {:<13} {:<11} {:<14} {:<12} {measured:<12} {:<11} {:<10} {more:<8}{:<9} {:.0}",
                row.policy,
                units::bytes(row.activation_bytes as u64),
                units::bytes(row.head_bytes as u64),
                units::bytes(row.model_bytes as u64),
                units::bytes(row.planned_peak_bytes),
                seconds(row.planned_step_seconds),
                seconds(row.step_seconds),
                format!("{:+.1} %", row.extra_flops_percent),
                row.tokens_per_second,
            ));
        }
        let same = self.rows.iter().all(|row| row.trained_hash == self.rows[0].trained_hash);
        let equal = if same { "equal in every bit" } else { "NOT equal, which must never be: please report it" };
        lines.push(String::new());
        lines.push(format!("After two updates, what was trained is {equal} under all of them."));
        lines.push(self.verdict.clone());
        lines.join("\n") + "\n"
    }
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", 1e3 * seconds) } else { format!("{seconds:.3} s") }
}

/// A setting's value as its flag has it.
fn name(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
