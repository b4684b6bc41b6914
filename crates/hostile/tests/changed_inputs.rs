//! Every reader on inputs that it takes and on the same few hundred changes of them each time. The limits are far above
//! what the readers need and far below what a reader without a limit comes to.

#![allow(missing_docs)]

use remat_hostile::{Mutator, TARGETS, Target, target};
use remat_train::peak_resident_bytes;

/// Changes of each target's inputs; `REMAT_CHANGES` asks for more.
const CHANGES: u64 = 150;
/// What all readers together may add to the process.
const MOST_BYTES: u64 = 192 << 20;

fn changes() -> u64 {
    std::env::var("REMAT_CHANGES").map_or(CHANGES, |number| number.parse().expect("REMAT_CHANGES is a number"))
}

fn run(target: &Target) {
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{} has no inputs", target.name);
    for seed in &seeds {
        (target.examine)(seed);
    }
    let before = peak_resident_bytes().expect("a system that tells");
    for number in 0..changes() {
        let changed = Mutator::new(number).changed(&seeds);
        let examined = std::panic::catch_unwind(|| (target.examine)(&changed));
        let shown = String::from_utf8_lossy(&changed[..changed.len().min(4096)]);
        assert!(examined.is_ok(), "{}, change {number}: {shown}", target.name);
    }
    let grown = peak_resident_bytes().expect("a system that tells") - before;
    assert!(grown <= MOST_BYTES, "{} grew the process by {grown} bytes", target.name);
}

#[test]
fn every_reader_has_a_fuzz_target() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/Cargo.toml");
    let text = std::fs::read_to_string(file).expect("the fuzz targets");
    for target in TARGETS {
        assert!(text.contains(&format!("name = \"{}\"\n", target.name)), "{} has no fuzz target", target.name);
    }
}

macro_rules! readers {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(target(stringify!($name)));
            }
        )*

        #[test]
        fn every_reader_is_run() {
            let run = [$(stringify!($name)),*];
            assert!(TARGETS.iter().all(|target| run.contains(&target.name)) && run.len() == TARGETS.len());
        }
    };
}

readers! { adapter config gguf index rows run_folder safetensors settings template tokenizer }
