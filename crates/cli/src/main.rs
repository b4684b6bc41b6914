//! The binary `remat`: parses the command line, runs a verb, prints, and turns errors into exit codes.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the run failed |
//! | 2 | bad input or usage |
//! | 3 | does not fit into memory |
//! | 4 | stopped by a guard on the numbers |
//! | 130 | interrupted, after saving |
//!
//! Invariant: data goes to stdout, everything else to stderr; nothing below this crate prints. One file per verb.

mod answer;
mod chat;
mod completions;
mod console;
mod data_check;
mod doctor;
mod eval;
mod exit;
mod export;
mod file_notes;
mod folded;
mod generate;
mod inference;
mod inspect;
mod json_lines;
mod memory_rows;
mod merge;
mod names;
mod plan;
mod profile;
mod progress;
mod quantize;
mod quickstart;
mod ranks;
mod record;
mod report;
mod run_header;
mod schema;
mod settings;
mod signals;
mod template_args;
mod terminal;
mod train;
mod units;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;

/// Fine-tune language models in the memory you have
#[derive(Debug, Parser)]
#[command(name = "remat", version, max_term_width = 100, arg_required_else_help = true, disable_help_flag = true)]
struct Cli {
    /// Print help
    // One page of one-line entries: the long form spreads the flags of `train` over three screens.
    #[arg(short, long, global = true, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,

    #[command(subcommand)]
    verb: Verb,
}

// There is one value of it in a process.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
enum Verb {
    /// Fine-tune a model on rows of text or tokens
    #[command(after_help = train::AFTER_HELP)]
    Train(train::TrainArgs),

    /// Will it fit, how, and how fast: from config.json or a preset alone
    #[command(after_help = plan::AFTER_HELP)]
    Plan(plan::PlanArgs),

    /// Talk with a model in its chat template
    #[command(after_help = chat::AFTER_HELP)]
    Chat(chat::ChatArgs),

    /// Continue a prompt, or many
    #[command(after_help = generate::AFTER_HELP)]
    Generate(generate::GenerateArgs),

    /// Loss and perplexity on rows of text or tokens
    #[command(after_help = eval::AFTER_HELP)]
    Eval(eval::EvalArgs),

    /// Fold an adapter into its base: a model folder that needs no adapter
    #[command(after_help = merge::AFTER_HELP)]
    Merge(merge::MergeArgs),

    /// Write a model or an adapter for another program
    Export(export::ExportArgs),

    /// Write a model in four or eight bits, as bitsandbytes stores it
    #[command(after_help = quantize::AFTER_HELP)]
    Quantize(quantize::QuantizeArgs),

    /// Measure policies side by side before committing to one
    #[command(after_help = profile::AFTER_HELP)]
    Profile(profile::ProfileArgs),

    /// See it all in a minute or two, on a small model that is in this program
    #[command(after_help = quickstart::AFTER_HELP)]
    Quickstart(quickstart::QuickstartArgs),

    /// What differs between two runs or machines, by their lab records
    #[command(after_help = record::AFTER_HELP)]
    Record(record::RecordArgs),

    /// What this machine offers, and what operations cost on it
    #[command(after_help = doctor::AFTER_HELP)]
    Doctor(doctor::DoctorArgs),

    /// What a file or folder of weights holds: tensors, settings, totals
    #[command(after_help = inspect::AFTER_HELP)]
    Inspect(inspect::InspectArgs),

    /// Look at training data as a run would see it
    Data(data_check::DataArgs),

    /// Print the JSON schema of a settings file, for editors
    #[command(after_help = schema::AFTER_HELP)]
    Schema,

    /// Print completions of this command line for a shell
    Completions(completions::CompletionsArgs),
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        // A library that was given a malformed file: its guard makes an error of it.
        if remat_formats::panic_is_caught() {
            return;
        }
        eprintln!("internal error, please report it: {info}");
        std::process::exit(i32::from(exit::FAILED));
    }));
    give_up_on_endless_calls();
    if let Some(commit) = option_env!("REMAT_COMMIT") {
        remat_train::name_commit(commit);
    }
    remat_train::spell_settings(|key| format!("--{key}"));
    signals::make_file_size_limits_errors();
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let verb_matches = matches.subcommand().map(|(_, matches)| matches).expect("clap requires a verb");
    ExitCode::from(match cli.verb {
        Verb::Train(arguments) => train::run(arguments, verb_matches),
        Verb::Plan(arguments) => plan::run(arguments, verb_matches),
        Verb::Chat(arguments) => chat::run(&arguments),
        Verb::Generate(arguments) => generate::run(&arguments),
        Verb::Eval(arguments) => eval::run(arguments),
        Verb::Merge(arguments) => merge::run(&arguments),
        Verb::Export(arguments) => export::run(&arguments),
        Verb::Quantize(arguments) => quantize::run(&arguments),
        Verb::Profile(arguments) => profile::run(arguments, verb_matches),
        Verb::Quickstart(arguments) => quickstart::run(&arguments),
        Verb::Record(arguments) => record::run(&arguments),
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Inspect(arguments) => inspect::run(&arguments),
        Verb::Data(arguments) => data_check::run(arguments),
        Verb::Schema => schema::run(),
        Verb::Completions(arguments) => completions::run(&arguments, &mut Cli::command()),
    })
}

/// A library that runs without end on a malformed file cannot be stopped, but the program can: the file is bad input.
fn give_up_on_endless_calls() {
    let watch = || {
        while !remat_formats::guard_is_overdue() {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        terminal::error(
            "a library does not end on what it was given (tokenizer.json, or a table of rows); use the original file",
        );
        std::process::exit(i32::from(exit::exit_code(remat_train::ErrorKind::Input)));
    };
    // Without a thread for it, nobody watches.
    drop(std::thread::Builder::new().name("watch".to_string()).spawn(watch));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
