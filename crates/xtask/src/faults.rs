//! `cargo xtask faults [--kills N]`: every file call of short runs fails, meets a full disk or ends the process; or N runs
//! are killed at random moments. The tests are `crates/cli/tests/faults`, of which the suite runs a few.

use std::path::Path;
use std::process::Command;

/// Runs them and passes on what they print; whether all held.
///
/// # Errors
/// Arguments that are no such.
pub fn run(root: &Path, arguments: &[String]) -> Result<bool, Box<dyn std::error::Error>> {
    let kills: Option<u64> = match arguments {
        [] => None,
        [flag, count] if flag == "--kills" => Some(count.parse()?),
        _ => return Err("faults takes nothing, or --kills N".into()),
    };
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(["test", "--profile", "ci", "-p", "remat-cli", "--test", "faults", "--"]);
    match kills {
        None => command.env("REMAT_FAULTS", "all").args(["--nocapture", "--test-threads", "2"]),
        Some(kills) => {
            command.env("REMAT_KILLS", kills.to_string()).args(["--ignored", "--nocapture", "killed_at_random_moments"])
        }
    };
    Ok(command.status()?.success())
}
