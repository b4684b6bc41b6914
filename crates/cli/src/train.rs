//! The verb `train`: settings from flags and files, signals, and the end of a run as an exit code.
//!
//! Invariant: a flag wins over `--config`, which wins over the `config.toml` of the run that `--resume` goes on with.

use crate::console::Console;
use crate::exit::{INTERRUPTED, exit_code};
use crate::json_lines::JsonLines;
use crate::settings::SettingsArgs;
use crate::terminal;
use crate::{ranks, report, signals};
use clap::ArgMatches;
use remat_comm::Engine;
use remat_hub::Wanted;
use remat_train::{
    CONFIG_FILE, Checks, Event, Existing, Outcome, Reporter, RunControl, Summary, TrainConfig, TrainError,
    read_run_settings, train,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat train --model Llama-3.2-1B --data rows.jsonl --out run
  remat train --model Llama-3.2-1B --data rows.jsonl --out run --checkpointing full --save-every 100
  remat train --resume --out run

Rows, one JSON object per line: {\"messages\"}, {\"conversations\"}, {\"instruction\", \"output\"},
{\"prompt\", \"completion\"}, {\"text\"} or {\"input_ids\", \"labels\" (optional)}; see remat data check.
Exit codes: 0 done; 1 failed; 2 bad input or usage; 3 does not fit; 4 stopped by a numeric guard; 130 interrupted.";

/// Flags of `remat train`.
#[derive(Debug, clap::Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    settings: SettingsArgs,

    /// Go on from the newest complete checkpoint-N in --out, with the settings saved there
    #[arg(long, conflicts_with = "force")]
    resume: bool,

    /// Replace a run that is in --out already, once this one has something whole; files that no run wrote stay
    #[arg(long)]
    force: bool,

    /// Write the time of every step of the second update, in Chrome's trace format
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Hold recomputed values to the forward's bits, and every value of two updates to an f64 reference, which takes
    /// memory beyond the plan
    #[arg(long, conflicts_with = "trace")]
    validate: bool,

    /// Fill freed memory of the plan with NaN, so that a use after free shows
    #[arg(long)]
    poison: bool,

    /// Measure the peak memory of every phase by itself; tools that read this process's peak then see the last phase's
    #[arg(long)]
    phases_apart: bool,

    /// Where the disk is full, wait so many seconds for room before the run ends; 0 ends it at once
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    disk_wait: u32,

    /// Of several ranks (docs/clusters.md): end all of them where one has given no sign of life for so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=86400))]
    rank_timeout: u64,

    /// Of several ranks: compare parameters and weights of all after every so many updates
    #[arg(long, value_name = "STEPS", default_value = "100", value_parser = clap::value_parser!(u64).range(1..))]
    compare_ranks_every: u64,

    /// Print events as JSON lines on stdout
    #[arg(long)]
    json: bool,

    /// Print notes and errors only
    #[arg(long)]
    quiet: bool,
}

/// Prints for people or for programs.
enum Output {
    Console(Console),
    Json(JsonLines),
    /// Of a rank other than 0, which says what there is to say.
    Nothing,
}

impl Reporter for Output {
    fn report(&mut self, event: Event<'_>) {
        match self {
            Output::Console(console) => console.report(event),
            Output::Json(json) => json.report(event),
            Output::Nothing => {}
        }
    }
}

/// Trains and returns the exit code.
pub(crate) fn run(arguments: TrainArgs, matches: &ArgMatches) -> u8 {
    let json = arguments.json;
    let joined = match ranks::join(Duration::from_secs(arguments.rank_timeout)) {
        Ok(joined) => joined,
        Err(error) => return failed(&error.into(), None, json),
    };
    let joined = joined.map(|engine| Arc::new(engine) as Arc<dyn Engine>);
    let engine = joined.as_deref();
    if let Some(engine) = engine {
        let here = of_rank(engine);
        engine.on_failure(Box::new(move |error| terminal::error(&format!("{here}: {error}"))));
    }
    let mut output = match json {
        _ if engine.is_some_and(|engine| engine.rank() > 0) => Output::Nothing,
        true => Output::Json(JsonLines),
        false => Output::Console(Console::new(arguments.quiet)),
    };
    match start(arguments, matches, joined.as_ref(), &mut output) {
        Ok(_) if matches!(output, Output::Nothing) => 0,
        Ok(summary) => {
            let report = report::train::write(&summary);
            let code = finish(&summary, &output);
            let what = report::REPORT_FILE;
            let no_report =
                |error: TrainError| TrainError::NoRecord { out: summary.out, what, problem: error.to_string() };
            report.map_err(no_report).map_or_else(|error| failed(&error, engine, json), |()| code)
        }
        Err(error) => {
            let code = failed(&error, engine, json);
            engine.inspect(|engine| engine.abandon(code));
            code
        }
    }
}

fn of_rank(engine: &dyn Engine) -> String {
    format!("rank {} on {}", engine.rank(), engine.host())
}

/// Tells of the error that ended this process, and by name of the rank where there are several.
fn failed(error: &TrainError, engine: Option<&dyn Engine>, json: bool) -> u8 {
    let code = exit_code(error.kind());
    match engine {
        Some(engine) => terminal::error(&format!("{}: {error}", of_rank(engine))),
        None => terminal::error(&error.to_string()),
    }
    if json {
        JsonLines::error(&error.to_string(), code);
    }
    code
}

fn start(
    arguments: TrainArgs,
    matches: &ArgMatches,
    ranks: Option<&Arc<dyn Engine>>,
    output: &mut Output,
) -> Result<Summary, TrainError> {
    let (trace, phases_apart) = (arguments.trace.clone(), arguments.phases_apart);
    let disk_wait = Duration::from_secs(arguments.disk_wait.into());
    let checks = Checks {
        validate: arguments.validate,
        poison: arguments.poison,
        compare_ranks_every: arguments.compare_ranks_every,
    };
    let config_file = arguments.settings.file().map(Path::to_path_buf);
    let force = arguments.force;
    let (config, resumes) = merged(arguments, matches, output)?;
    let existing = match (resumes, force) {
        (true, _) => Existing::Resume,
        (false, true) => Existing::Replace,
        (false, false) => Existing::Refuse,
    };
    let control = RunControl {
        existing,
        interrupt: signals::save_on_interrupt(),
        trace: trace.as_deref(),
        config_file: config_file.as_deref(),
        checks,
        device: None,
        phases_apart,
        disk_wait,
        ranks,
    };
    train(config, control, output)
}

/// The settings from all sources, and whether there is a run to go on with.
fn merged(
    arguments: TrainArgs,
    matches: &ArgMatches,
    reporter: &mut dyn Reporter,
) -> Result<(TrainConfig, bool), TrainError> {
    let TrainArgs { settings, resume, .. } = arguments;
    let names = settings.names().clone();
    let (config, resumes) = unnamed(settings, resume, matches, reporter)?;
    Ok((names.settings(config, Wanted::Weights)?, resumes))
}

/// The same, before names of the Hub become folders.
fn unnamed(
    settings: SettingsArgs,
    resume: bool,
    matches: &ArgMatches,
    reporter: &mut dyn Reporter,
) -> Result<(TrainConfig, bool), TrainError> {
    // Where the run is may itself come from the file.
    let given = settings.clone().merged(matches)?;
    if !resume {
        return Ok((given, false));
    }
    let out = given.out.clone();
    if out.as_os_str().is_empty() {
        return Err(TrainError::MissingKey { key: "out", example: "--out DIR, the folder of the run to resume" });
    }
    let saved = out.join(CONFIG_FILE);
    if !saved.exists() {
        // A script may always say --resume; without settings of a run, the folder's name is more likely a slip.
        if given.clone().resolved().is_err() {
            return Err(TrainError::NothingToResume { out, notes: format!(", nor a {CONFIG_FILE}") });
        }
        let note = format!("{} holds no run to resume: this one starts from the beginning", out.display());
        reporter.report(Event::Note(&note));
        return Ok((given, false));
    }
    let config = settings.over(&saved, &read_run_settings(&out)?, matches)?.merged(matches)?;
    Ok((TrainConfig { out, ..config }, true))
}

fn finish(summary: &Summary, output: &Output) -> u8 {
    match output {
        Output::Console(console) => console.summary(summary),
        Output::Json(json) => json.summary(summary),
        Output::Nothing => {}
    }
    match &summary.outcome {
        Outcome::Finished => 0,
        Outcome::Interrupted { save } => {
            terminal::line(&format!("interrupted after update {}, saved {}", summary.updates, save.display()));
            terminal::line(&format!("go on with: remat train --resume --out {}", quoted(&summary.out)));
            INTERRUPTED
        }
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:@".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::quoted;
    use std::path::Path;

    #[test]
    fn paths_are_quoted_only_where_a_shell_needs_it() {
        for (path, text) in [("/a/b-1.c", "/a/b-1.c"), ("/a b", "'/a b'"), ("it's", r"'it'\''s'")] {
            assert_eq!(quoted(Path::new(path)), text);
        }
    }
}
