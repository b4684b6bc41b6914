//! The verb `profile`: the same step under several policies, planned and measured, and a verdict.
//!
//! Invariant: the report goes to stdout, as text or as one JSON object (schema 1; keys are only ever added), and its lab
//! record to --out, or without it to the folder for records; every figure was planned or measured in this run. Look next
//! at `remat_train::profile` for the method and at `verdict` for what it concludes.

mod verdict;

use self::verdict::verdict;
use crate::exit::exit_code;
use crate::report::{self, REPORT_FILE};
use crate::settings::SettingsArgs;
use crate::{terminal, units};
use clap::ArgMatches;
use remat_formats::probe_folder;
use remat_hub::Wanted;
use remat_model::Precision;
use remat_plan::Policy;
use remat_train::{
    PolicyRows, ProfileJob, ProfileSetup, Profiled, RECORD_FILE, RECORD_FILES, Record, TrainConfig, TrainError,
    now_utc, own_files, plan, profile, record_folder,
};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat profile --preset gpt2-medium --precision bf16 --seq-len 512 --batch-size 1
  remat profile --model Llama-3.2-1B --policies none,full,every:2 --repeats 10 --json
  remat profile --preset gpt2 --memory 1GiB --policies none,full,auto

The lab record (record.json, record.md) goes to --out; without it, to a folder of its own in $XDG_STATE_HOME/remat/records
(~/.local/state/remat/records). remat record diff A B compares two of them.";

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

    /// Replace the record that is in --out already
    #[arg(long)]
    force: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Profiles and returns the exit code.
pub(crate) fn run(arguments: ProfileArgs, matches: &ArgMatches) -> u8 {
    match start(arguments, matches) {
        Ok((page, fault)) => {
            // A reader that went away is no failure of the profile.
            drop(write!(std::io::stdout(), "{page}"));
            fault.map_or(0, |error| failed(&error))
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &TrainError) -> u8 {
    terminal::error(&error.to_string());
    exit_code(error.kind())
}

/// The page to print, and what kept its record from being written.
fn start(arguments: ProfileArgs, matches: &ArgMatches) -> Result<(String, Option<TrainError>), TrainError> {
    let started_at = now_utc();
    let config_file = arguments.settings.file().map(Path::to_path_buf);
    let config = arguments.settings.found(matches, Wanted::Weights)?;
    let out = config.out.clone();
    let asked_for = !out.as_os_str().is_empty();
    let places = config.inputs(config_file.as_deref());
    if asked_for {
        places.writes_folder("--out", &out, RECORD_FILES.iter().copied())?.check()?;
        may_be_written(&out, arguments.force)?;
    } else {
        places.check()?;
    }
    let setup = ProfileSetup::of(config)?;
    let footprint_bytes = footprint(&setup, setup.model.precision())?;
    let footprint_16_bit_bytes = footprint(&setup, Precision::Bf16)?;
    let ProfileSetup { model, method, shape, rows, options, limits, prices, spill, .. } = &setup;
    let spill = setup.config.offload.as_deref().zip(*spill);
    let batch = rows.as_ref().map(|rows| &rows.batch);
    let (policies, repeats) = (arguments.policies.as_slice(), arguments.repeats as usize);
    let (shape, options, limits, prices) = (*shape, *options, *limits, prices.clone());
    let job = ProfileJob { model, method, shape, batch, policies, repeats, options, limits, prices, spill };
    let PolicyRows { rows, refused, note } = profile(&job)?;
    note.iter().for_each(|note| terminal::line(&format!("note: {note}")));
    let (chosen, verdict) = verdict(&setup, &rows);
    let profiled = Profiled { footprint_bytes, footprint_16_bit_bytes, repeats, rows, refused, chosen, verdict };
    let record = profiled.record(&setup, started_at)?;
    let kept = if asked_for { write(&record, &out).map(|()| Some(out)) } else { Ok(keep(&record)) };
    // A disk that is full takes nothing from what was measured.
    let written = kept.and_then(|kept| {
        write_report(kept.as_deref(), &profiled, &record)?;
        Ok(kept)
    });
    let (kept, fault) = match written {
        Ok(kept) => (kept, None),
        Err(error) => (None, Some(error)),
    };
    let report = Report { setup: &setup, profiled: &profiled, record: &record };
    let page = if arguments.json { format!("{}\n", report.json()) } else { report.text(kept.as_deref()) };
    Ok((page, fault))
}

/// Writes the page beside a record that was kept.
fn write_report(kept: Option<&Path>, profiled: &Profiled, record: &Record) -> Result<(), TrainError> {
    let Some(folder) = kept else { return Ok(()) };
    // A step of a profile is one micro-batch and the update, and so is the plan beside it.
    let config = TrainConfig {
        checkpointing: record.plan.policy.parse().expect("a policy's own name"),
        grad_accum: 1,
        out: PathBuf::new(),
        ..record.config.clone()
    };
    // Without the plan, the page lacks its timeline.
    let plan = plan(config).ok();
    report::write(&folder.join(REPORT_FILE), &report::profile::html(profiled, record, plan.as_ref()))
}

/// Refuses a folder that cannot be written, holds a record already or somebody else's files under the names of one,
/// before anything is measured.
fn may_be_written(out: &Path, force: bool) -> Result<(), TrainError> {
    match out.metadata() {
        Ok(found) if !found.is_dir() => return Err(TrainError::OutIsFile { path: out.to_path_buf() }),
        _ => {}
    }
    if out.join(RECORD_FILE).exists() && !force {
        let problem = format!("{} holds a record already; choose another folder or give --force", out.display());
        return Err(TrainError::BadFlag { key: "out", problem });
    }
    own_files(out)?.refuse_foreign("--out", RECORD_FILES.iter().copied())?;
    probe_folder(out).map_err(|source| TrainError::OutUnwritable { path: out.to_path_buf(), source })
}

fn write(record: &Record, out: &Path) -> Result<(), TrainError> {
    std::fs::create_dir_all(out).map_err(|source| TrainError::OutUnwritable { path: out.to_path_buf(), source })?;
    own_files(out)?.add(RECORD_FILES.iter().copied())?;
    record.write(out)
}

/// Writes the record to where records go that no folder was given for. A home that cannot be written is no failure.
fn keep(record: &Record) -> Option<PathBuf> {
    let folder = record_folder("profile", &record.started_at)?;
    match write(record, &folder) {
        Ok(()) => Some(folder),
        Err(error) => {
            terminal::line(&format!("note: the lab record was not kept ({error}); give --out DIR"));
            None
        }
    }
}

/// Bytes of parameters and buffers, as transformers counts them.
fn footprint(setup: &ProfileSetup, precision: Precision) -> Result<usize, TrainError> {
    let model = match &setup.config.preset {
        Some(name) => remat::Model::from_preset(name),
        None => remat::Model::from_pretrained(&setup.config.model),
    };
    let bytes = model.and_then(|model| model.in_precision(precision).memory_footprint());
    bytes.map_err(|error| TrainError::BadFlag { key: "model", problem: error.to_string() })
}

struct Report<'a> {
    setup: &'a ProfileSetup,
    profiled: &'a Profiled,
    record: &'a Record,
}

impl Report<'_> {
    fn model(&self) -> String {
        self.setup.config.preset.clone().unwrap_or_else(|| self.setup.model.folder().display().to_string())
    }

    fn json(&self) -> Value {
        let config = &self.setup.config;
        let mut record = json!(self.record);
        if let Some(record) = record.as_object_mut() {
            // It is the object around the record.
            record.remove("profile");
        }
        json!({
            "schema": 1,
            "model": self.model(),
            "method": config.method,
            "quant": config.quant,
            "precision": config.precision,
            "seq_len": self.setup.shape.seq_len,
            "batch_size": self.setup.shape.batch,
            "threads": self.setup.machine.threads,
            "footprint_bytes": self.profiled.footprint_bytes,
            "footprint_bytes_with_checkpointing": self.profiled.footprint_bytes,
            "footprint_16_bit_bytes": self.profiled.footprint_16_bit_bytes,
            "rows": self.profiled.rows,
            "refused": self.profiled.refused,
            "verdict": self.profiled.verdict,
            "record": record,
        })
    }

    fn text(&self, kept: Option<&Path>) -> String {
        let mut lines = self.head();
        lines.extend(self.table());
        let rows = &self.profiled.rows;
        let same = rows.iter().all(|row| row.trained_hash == rows[0].trained_hash);
        let equal = if same { "equal in every bit" } else { "NOT equal, which must never be: please report it" };
        lines.push(String::new());
        lines.push(format!("After two updates, what was trained is {equal} under all of them."));
        for row in rows.iter().filter(|row| row.offloaded_bytes > 0) {
            let folder = self.setup.config.offload.as_deref().unwrap_or(Path::new("")).display();
            let away = units::bytes(row.offloaded_bytes as u64);
            lines.push(format!("{} had {away} of each step offloaded to {folder}, out and back.", row.policy));
        }
        for refused in &self.profiled.refused {
            lines.push(format!("{} was not measured: {}.", refused.policy, refused.reason));
        }
        lines.push(self.profiled.verdict.clone());
        if let Some(folder) = kept {
            lines.push(format!("Lab record: {}", folder.join(RECORD_FILE).display()));
            lines.push(format!("Report: {}", folder.join(REPORT_FILE).display()));
        }
        lines.join("\n") + "\n"
    }

    fn head(&self) -> Vec<String> {
        let (config, shape, machine) = (&self.setup.config, self.setup.shape, &self.setup.machine);
        let family = self.setup.model.config().family;
        let precision = json!(config.precision);
        let footprint = units::count(self.profiled.footprint_bytes);
        let mut lines = vec![
            format!("model      {} ({family}), {} in {}", self.model(), config.method_name(), name(&precision)),
            format!(
                "step       {} × {} {}tokens, {} of each policy, taking turns",
                shape.batch,
                shape.seq_len,
                if self.setup.rows.is_some() { "" } else { "random " },
                units::counted(self.profiled.repeats, "counted step")
            ),
            format!(
                "machine    {}, {}, {}",
                machine.cpu.as_deref().unwrap_or("unknown CPU"),
                machine.isa,
                units::counted(machine.threads, "thread")
            ),
            format!(
                "footprint  {footprint} bytes of parameters and buffers, and {footprint} with checkpointing: it drops"
            ),
            "           activations, which are not counted there, and never parameters".to_string(),
        ];
        if self.profiled.footprint_16_bit_bytes != self.profiled.footprint_bytes {
            let in_16_bit = units::count(self.profiled.footprint_16_bit_bytes);
            lines.push(format!("           ({in_16_bit} bytes in 16 bit, likewise)"));
        }
        lines.push(String::new());
        lines
    }

    fn table(&self) -> Vec<String> {
        let rows = &self.profiled.rows;
        let known = |bytes: Option<u64>| bytes.map_or("unknown".to_string(), units::bytes);
        let mut cells = vec![
            [
                "",
                "activations kept",
                "",
                "logits",
                "weights,",
                "peak of process",
                "",
                "time of a step",
                "",
                "",
                "more",
                "tokens",
            ]
            .map(str::to_string),
            [
                "policy", "planned", "measured", "a chunk", "states", "planned", "measured", "planned", "measured", "",
                "FLOPs", "a second",
            ]
            .map(str::to_string),
        ];
        for (index, row) in rows.iter().enumerate() {
            let more = if index == 0 { String::new() } else { format!("{:+.1} %", row.extra_percent) };
            cells.push([
                row.policy.clone(),
                units::bytes(row.activation_bytes as u64),
                known(row.measured_activation_bytes),
                units::bytes(row.head_bytes as u64),
                units::bytes(row.model_bytes as u64),
                units::bytes(row.planned_peak_bytes),
                known(row.measured_peak_bytes),
                seconds(row.planned_step_seconds),
                seconds(row.step_seconds),
                more,
                format!("{:+.1} %", row.extra_flops_percent),
                format!("{:.0}", row.tokens_per_second),
            ]);
        }
        aligned(&cells)
    }
}

/// Rows of cells as lines, each column as wide as its widest cell needs; a heading reaches over empty cells behind it.
fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let own_width = |row: &[String; N], column: usize| {
        let runs_over = row.get(column + 1).is_some_and(String::is_empty) && column + 2 < N;
        if runs_over { 0 } else { row[column].chars().count() }
    };
    let width = |column| rows.iter().map(|row| own_width(row, column)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let mut line = String::new();
        let mut column_start = 0;
        for (cell, width) in row.iter().zip(&widths) {
            if !cell.is_empty() {
                let gap = column_start - line.chars().count().min(column_start);
                line.push_str(&" ".repeat(gap));
                line.push_str(cell);
            }
            column_start += width + 2;
        }
        line
    };
    rows.iter().map(line).collect()
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", 1e3 * seconds) } else { format!("{seconds:.3} s") }
}

/// A setting's value as its flag has it.
fn name(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
