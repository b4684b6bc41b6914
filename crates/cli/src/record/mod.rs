//! The verb `record`: what differs between two runs or machines, by the lab records that they left.
//!
//! Invariant: a record is a file that somebody else may have written: whatever it holds, the end is a page or an error with
//! exit code 2. Look next at `read` for what is accepted, `compare` for the differences and `page` for how they read.

mod compare;
mod page;
mod read;

use crate::exit::exit_code;
use crate::terminal;
use remat_formats::Places;
use remat_train::TrainError;
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat record diff run-a run-b
  remat record diff laptop/record.json server/record.json --json

train, profile and quickstart write record.json and record.md into their --out.";

/// Flags of `remat record`.
#[derive(Debug, clap::Args)]
pub(crate) struct RecordArgs {
    #[command(subcommand)]
    action: RecordAction,
}

#[derive(Debug, clap::Subcommand)]
enum RecordAction {
    /// Compare two records: program, machine, files, settings, plan and what was observed
    Diff(DiffArgs),
}

#[derive(Debug, clap::Args)]
struct DiffArgs {
    /// A record.json, or the folder it is in
    #[arg(value_name = "A")]
    first: PathBuf,

    /// Another one
    #[arg(value_name = "B")]
    second: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Compares and returns the exit code.
pub(crate) fn run(arguments: &RecordArgs) -> u8 {
    let RecordAction::Diff(diff) = &arguments.action;
    match differences(&diff.first, &diff.second, diff.json) {
        Ok(page) => {
            // A reader that went away is no failure of the comparison.
            drop(write!(std::io::stdout(), "{page}"));
            0
        }
        Err(error) => {
            terminal::error(&error.to_string());
            exit_code(error.kind())
        }
    }
}

fn differences(first: &Path, second: &Path, as_json: bool) -> Result<String, TrainError> {
    Places::new().reads("A", first).reads("B", second).check()?;
    let (first, second) = (read::record(first)?, read::record(second)?);
    let comparison = compare::compare(&first, &second);
    Ok(if as_json {
        format!("{}\n", page::json(&first, &second, &comparison))
    } else {
        page::text(&first, &second, &comparison)
    })
}
