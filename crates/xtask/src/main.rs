//! `cargo xtask <chore>`.

use remat_xtask::{arenas, new_op, peers, prices, quickstart_model, ranks, tidy};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const CHORES: &str = "\
tidy                                     checks floors, file heads, sizes, matches on ops
new-op NAME                              writes the files and lines of an op, the identity to begin with
arenas                                   every preset's arena against its lower bound (run with --release)
peers [products] --python PATH [--model M]  the same step beside PyTorch's (run with --release; bench/peers)
prices [--by-op]   [MODEL:SEQ_LEN…]      predicted against measured step times (run with --release)
ranks [openmpi] [mpich]                  trains on one to four ranks by mpirun: the same bytes; a killed rank ends all
quickstart-model [WORDNET_DIR [UPDATES]] makes the model and data of `remat quickstart` (run with --release)";

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("tidy") => {
            let faults = tidy::faults(&root);
            for fault in &faults {
                eprintln!("{fault}");
            }
            if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Some("new-op") => verdict(arguments.get(1).ok_or("new-op takes a name".into()).and_then(|name| {
            let written = new_op::add(&root, name)?;
            written.iter().for_each(|path| println!("{}", path.display()));
            Ok(true)
        })),
        Some("arenas") => verdict(arenas::run()),
        Some("peers") => verdict(peers::run(&root, &arguments[1..])),
        Some("ranks") => verdict(ranks::run(&root, &arguments[1..])),
        Some("prices") => verdict(prices::run(&arguments[1..])),
        Some("quickstart-model") => {
            let [wordnet, work, assets] = quickstart_model::defaults(&root);
            let wordnet = arguments.get(1).map_or(wordnet, PathBuf::from);
            let updates = arguments.get(2).and_then(|updates| updates.parse().ok()).unwrap_or(4000);
            match quickstart_model::make(&wordnet, &work, &assets, updates) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("error: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        other => {
            eprintln!("unknown chore {other:?}; the chores are:\n{CHORES}");
            ExitCode::from(2)
        }
    }
}

/// Whether a chore that checks something found it so.
fn verdict(result: Result<bool, Box<dyn std::error::Error>>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
