//! `cargo xtask <chore>`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => {
            let faults = remat_xtask::tidy::faults(&root);
            for fault in &faults {
                eprintln!("{fault}");
            }
            if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        other => {
            eprintln!("unknown chore {other:?}; the chores are: tidy (floors, file heads, sizes, matches on ops)");
            ExitCode::from(2)
        }
    }
}
