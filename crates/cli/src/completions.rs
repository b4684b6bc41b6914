//! The verb `completions`: what a shell needs to complete a command line of remat's. Made from the command line's own
//! definition, so it names every verb and flag there is.

use clap::Command;
use clap_complete::{Shell, generate};
use std::io::Write;

/// Flags of `remat completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to write them for; for bash: remat completions bash > ~/.local/share/bash-completion/completions/remat
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the completions and returns the exit code.
pub(crate) fn run(arguments: &CompletionsArgs, command: &mut Command) -> u8 {
    let mut script = Vec::new();
    generate(arguments.shell, command, "remat", &mut script);
    // A closed pipe, as of `head`, is no error.
    drop(std::io::stdout().write_all(&script));
    0
}
