//! The verb `plan`: will it fit, how, how fast; from `config.json` or a preset alone.
//!
//! Invariant: the plan goes to stdout, as text or as one JSON object (schema 1; keys are only ever added); the exit code is
//! 0 if it fits and 3 if it does not. One file per view: `text`, `json`, `explain`, `timeline`, `diff`.

mod cards;
mod chart;
mod diff;
mod explain;
mod json;
mod placement;
mod text;
mod timeline;

use crate::exit::exit_code;
use crate::settings::SettingsArgs;
use crate::{report, terminal};
use clap::ArgMatches;
use remat_formats::{OutputFile, Places};
use remat_hub::Wanted;
use remat_train::{Cluster, DeviceName, ErrorKind, Fit, LinkSpeed, TrainError, plan, plan_on_ranks};
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat plan --preset llama-3.1-8b --precision bf16 --seq-len 4096 --memory 24GiB
  remat plan --model Llama-3.2-1B --data rows.jsonl --memory 6GiB --timeline step.svg
  remat plan --preset llama-3.1-8b --method qlora --seq-len 4096 --device rtx-3060
  remat plan --preset llama-3.1-8b --method qlora --seq-len 4096 --device list
  remat plan --preset llama-3.1-8b --method qlora --grad-accum 8 --ranks 4 --hosts 2 --link 10Gbit/s
  remat plan --preset gpt2 --json > a.json; remat plan --preset gpt2 --rank 64 --json > b.json; remat plan --diff a.json b.json

Exit codes: 0 it fits; 2 bad input or usage; 3 it does not fit.";

/// Flags of `remat plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    settings: SettingsArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// List every value that backward reads: its bytes, whether it is kept, recomputed or offloaded, and why; or, with
    /// placement, where frozen weights and training states lie
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, default_missing_value = "values")]
    explain: Option<Explained>,

    /// Draw the arena over the time of a micro-step
    #[arg(long, value_name = "FILE.svg")]
    timeline: Option<PathBuf>,

    /// Write a page with the frontier, the timeline and the memory of every phase
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,

    /// Plan for so many ranks (docs/clusters.md): threads and memory count for each
    #[arg(long, value_name = "W")]
    ranks: Option<usize>,

    /// Hosts that the ranks are on, all like this one [default: 1]
    #[arg(long, value_name = "H", requires = "ranks")]
    hosts: Option<usize>,

    /// What joins the hosts: the speed of each one's link, in each direction, such as 10Gbit/s or 1.2GB/s
    #[arg(long, value_name = "SPEED", requires = "hosts")]
    link: Option<LinkSpeed>,

    /// Compare two plans that --json wrote
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    diff: Option<Vec<PathBuf>>,
}

/// What is explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Explained {
    /// What backward reads
    Values,
    /// Where weights and training states lie
    Placement,
}

/// Plans and returns the exit code.
pub(crate) fn run(arguments: PlanArgs, matches: &ArgMatches) -> u8 {
    match start(arguments, matches) {
        Ok((page, code)) => {
            // A reader that went away is no failure of the plan.
            drop(write!(std::io::stdout(), "{page}"));
            code
        }
        Err(error) => {
            terminal::error(&error.to_string());
            exit_code(error.kind())
        }
    }
}

/// The page to print, and the exit code.
fn start(arguments: PlanArgs, matches: &ArgMatches) -> Result<(String, u8), TrainError> {
    if let Some([a, b]) = arguments.diff.as_deref() {
        Places::new().reads("--diff", a).reads("--diff", b).check()?;
        return Ok((diff::page(a, b)?, 0));
    }
    let config_file = arguments.settings.file().map(Path::to_path_buf);
    let config = arguments.settings.found(matches, Wanted::Shape)?;
    if config.device == DeviceName::List {
        return Ok((cards::page(&config)?, 0));
    }
    let mut places = config.inputs(config_file.as_deref());
    for (flag, path) in [("--timeline", &arguments.timeline), ("--report", &arguments.report)] {
        if let Some(path) = path {
            places = places.writes_file(flag, path)?;
        }
    }
    places.check()?;
    let open = |flag, path: Option<PathBuf>| path.map(|path| OutputFile::open(flag, &path)).transpose();
    let (timeline, report) = (open("--timeline", arguments.timeline)?, open("--report", arguments.report)?);
    let plan = match arguments.ranks {
        Some(ranks) => plan_on_ranks(config, &Cluster::new(ranks, arguments.hosts.unwrap_or(1), arguments.link)?)?,
        None => plan(config)?,
    };
    plan.notes.iter().for_each(|note| terminal::note(note));
    if let Some(file) = timeline {
        file.write(timeline::svg(&plan).as_bytes())?;
    }
    if let Some(file) = report {
        file.write(report::plan::html(&plan, &text::page(&plan)).as_bytes())?;
    }
    let page = match (arguments.json, arguments.explain) {
        (true, explained) => format!("{}\n", json::object(&plan, explained == Some(Explained::Values))),
        (false, Some(Explained::Values)) => text::page(&plan) + &explain::table(&plan),
        (false, Some(Explained::Placement)) => text::page(&plan) + &placement::table(&plan),
        (false, None) => text::page(&plan),
    };
    let code = if plan.fit == Fit::DoesNotFit { exit_code(ErrorKind::DoesNotFit) } else { 0 };
    Ok((page, code))
}
