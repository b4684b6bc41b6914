//! Changed plans, as many as there is time for: the first byte picks a case, the others the changes. What must be true of
//! each is said in `crates/plan/tests/mutation`, of which the test suite runs a few.
//!
//! `README.md` has the commands.
#![no_main]

#[path = "../../crates/plan/tests/case_file/mod.rs"]
mod case_file;
#[path = "../../crates/plan/tests/mutation/mod.rs"]
mod mutation;

use case_file::CaseFile;
use libfuzzer_sys::fuzz_target;
use mutation::{Draw, Seed};
use std::sync::LazyLock;

static SEEDS: LazyLock<Vec<Seed>> =
    LazyLock::new(|| CaseFile::all().iter().map(|case| Seed::new(case.plan(), case.source())).collect());

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let seed = &SEEDS[usize::from(first) % SEEDS.len()];
    let mut draw = Draw::new(rest);
    let text = seed.mutant(&mut draw);
    seed.examine(&text, &mut draw);
});
