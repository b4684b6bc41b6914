//! What small graphs are compiled to, in files: `cases/*.ir`, each a graph, what is asked for, and the plan. `REMAT_UPDATE=1`
//! writes the plans anew; what changed is for a person to read.

#[path = "../../plan/tests/case_file/mod.rs"]
mod case_file;

use case_file::CaseFile;
use remat_compiler::{Pinned, Problem, WeightsOffMemory, compile_within, simplify, with_weights_off_memory};
use remat_ir::Storage;
use remat_plan::{DeviceProfile, KernelRules, Plan, SpillPrices, check};
use std::str::FromStr;

/// The number or policy that is set under a word, with nothing else in the head that this reader does not know.
fn setting<T: FromStr>(case: &CaseFile, word: &str) -> Option<T> {
    let read = |text: &str| text.parse().unwrap_or_else(|_| panic!("{}: {word} {text}", case.path.display()));
    case.setting(word).map(read)
}

fn compiled(case: &CaseFile) -> Plan {
    const KNOWN: [&str; 7] = ["#", "policy", "limit", "token_block", "spill", "weights", "states"];
    let unknown = case.head.iter().find(|line| !line.split(' ').next().is_some_and(|word| KNOWN.contains(&word)));
    assert_eq!(unknown, None, "{}: not a setting", case.path.display());
    let mut profile = DeviceProfile::generic();
    if let Some(token_block) = setting(case, "token_block") {
        profile.rules = KernelRules { token_block, ..profile.rules };
    }
    profile.prices.spill =
        setting(case, "spill").map(|rate| SpillPrices { write_bytes_per_second: rate, read_bytes_per_second: rate });
    let policy = setting(case, "policy").unwrap_or_else(|| panic!("{}: no policy", case.path.display()));
    if let Some(limit) = setting(case, "weights") {
        let problem = Problem::new(case.graph(), &profile).expect("a problem");
        let plan = problem.off_memory(&policy, &Pinned::default()).plan(limit, usize::MAX);
        return plan.unwrap_or_else(|error| panic!("{}: {error}", case.path.display())).0;
    }
    let plan = compile_within(case.graph(), &policy, &profile, setting(case, "limit"));
    let plan = plan.unwrap_or_else(|error| panic!("{}: {error}", case.path.display()));
    let Some(ahead_bytes) = setting(case, "states") else { return plan };
    let source = simplify(case.graph());
    let states = source.values.iter().filter(|value| value.storage == Storage::State && value.producer.is_none());
    let off = WeightsOffMemory { weights: states.map(|value| value.name.clone()).collect(), ahead_bytes };
    let moved = with_weights_off_memory(&plan, &source, &off, &profile);
    moved.unwrap_or_else(|error| panic!("{}: {error}", case.path.display()))
}

/// Compiles the graph of a file and holds simplified graph and plan to the text there; with `update`, writes them.
fn check_case(mut case: CaseFile, update: bool) -> Result<(), String> {
    let (graph, plan) = (case.graph(), compiled(&case));
    let source = simplify(graph.clone());
    let was = case.text();
    case.simplified = (source != graph).then(|| source.to_string());
    case.plan = Some(plan.to_string());
    assert_eq!(case.plan(), plan, "{}: the text does not say all of the plan", case.path.display());
    assert_eq!(check(&case.plan(), &case.source()), Ok(()), "{}", case.path.display());
    let is = case.text();
    if update {
        std::fs::write(&case.path, is).map_err(|error| format!("{}: {error}", case.path.display()))?;
    } else if was != is {
        let (line, (old, new)) = first_difference(&was, &is);
        let path = case.path.display();
        return Err(format!("{path}:{line} is stale (REMAT_UPDATE=1 writes it anew)\n  file: {old}\n  made: {new}"));
    }
    Ok(())
}

fn first_difference<'a>(a: &'a str, b: &'a str) -> (usize, (&'a str, &'a str)) {
    let end = std::iter::repeat("(nothing)");
    let pairs = a.lines().chain(end.clone()).zip(b.lines().chain(end));
    (1..).zip(pairs).find(|(_, (a, b))| a != b || *a == "(nothing)").expect("the lines do not end")
}

#[test]
fn every_case_is_compiled_to_the_plan_in_its_file() {
    let update = std::env::var_os("REMAT_UPDATE").is_some_and(|value| value == "1");
    let stale: Vec<String> = CaseFile::all().into_iter().filter_map(|case| check_case(case, update).err()).collect();
    assert!(stale.is_empty(), "{}", stale.join("\n"));
}

#[test]
fn a_changed_file_and_one_without_a_plan_are_stale() {
    let case = || CaseFile::named("full");
    assert_eq!(check_case(case(), false), Ok(()));
    let changes: [fn(&mut CaseFile); 3] = [
        |case| case.plan = None,
        |case| case.simplified = Some(case.graph.clone()),
        |case| case.plan = case.plan.as_ref().map(|plan| plan.replacen(", s0 to", ", s1 to", 1)),
    ];
    for change in changes {
        let mut changed = case();
        change(&mut changed);
        let error = check_case(changed, false).expect_err("a stale file");
        assert!(error.contains("is stale"), "{error}");
    }
}

/// The set as a whole shows what it is there to show.
#[test]
fn the_cases_show_every_kind_of_plan() {
    let plan = |name: &str| CaseFile::named(name).plan();
    assert_eq!(plan("none").recomputed_steps().count(), 0);
    for name in ["full", "every", "levels", "lora", "qlora", "budget"] {
        assert!(plan(name).recomputed_steps().count() > 0, "{name}");
    }
    assert!(plan("levels").most_repetitions() > 1);
    assert!(plan("tiles").tiles() > 1);
    assert!(plan("offload").offloaded_bytes() > 0);
    assert!(plan("weights").spilled_weight_bytes() > 0 && plan("weights").to_string().contains(" rows %"));
    let states = plan("states");
    let streams = states.steps.iter().filter(|step| states.is_streaming(step)).count();
    assert!(states.spilled_state_bytes() > 0 && streams == 2 && states.state_bytes_moved().1 > 0);
    assert!(CaseFile::named("lora").simplified.is_some_and(|text| text.contains("low_rank")));
    assert!(CaseFile::named("qlora").graph.contains("nf4["));
    for case in CaseFile::all() {
        assert!(case.text().lines().count() <= 165, "{} is too long to read", case.name());
    }
}
