//! Offload: kept values go through a file and come back, and nothing else changes. Every plan passes the checker, its arena
//! falls below what keeping or recomputing alone needs, and all results are equal in every bit, on any number of threads,
//! also when freed memory is poisoned while copies are under way.

mod case;

use case::Case;
use remat_compiler::{CompileError, compile, compile_or_smallest, compile_within, simplify, survey};
use remat_cpu::{CpuExecutor, CpuOptions, measure_spill};
use remat_ir::Graph;
use remat_model::Precision;
use remat_plan::{
    Action, CheckError, Device, DeviceError, DeviceProfile, Plan, Policy, Queue, SpillPrices, Step, check,
};
use remat_testkit::{RunResult, run_plan, source_values, with_backward};
use std::path::Path;

const FREE: SpillPrices = SpillPrices { write_bytes_per_second: 1e15, read_bytes_per_second: 1e15 };
const FAST: SpillPrices = SpillPrices { write_bytes_per_second: 4e9, read_bytes_per_second: 4e9 };
const SLOW: SpillPrices = SpillPrices { write_bytes_per_second: 1e6, read_bytes_per_second: 1e6 };

fn backward(name: &str, precision: Precision) -> Graph {
    let case = Case::open_in(name, precision);
    let training = case.training(&case.lora());
    with_backward(training)
}

fn profile(spill: Option<SpillPrices>) -> DeviceProfile {
    let mut profile = CpuOptions::new(2).profile();
    profile.prices.spill = spill;
    profile
}

fn run(plan: &Plan, folder: &Path, threads: usize, poison: bool) -> RunResult {
    let mut executor = CpuExecutor::new(CpuOptions::new(threads));
    executor.set_spill_folder(Some(folder));
    executor.set_poison(poison);
    let result = run_plan(&mut executor, plan.clone(), &source_values(&plan.graph, 3)).expect("runs");
    assert_eq!(executor.memory().spill_file, plan.spill_file_bytes(), "the file is as large as was planned");
    result
}

fn copies(plan: &Plan) -> usize {
    plan.copy_steps().count()
}

/// The smallest arena there is.
fn smallest(graph: &Graph, policy: &Policy, spill: Option<SpillPrices>) -> usize {
    compile_or_smallest(graph.clone(), policy, &profile(spill), 0).expect("a plan").arena_bytes
}

/// The plan with as much offloaded as can be.
fn most_offloaded(graph: &Graph) -> Plan {
    compile_or_smallest(graph.clone(), &Policy::None, &profile(Some(FAST)), 0).expect("a plan")
}

#[test]
fn what_is_offloaded_comes_back_with_every_bit_below_what_boundaries_alone_need() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (name, precision) in [("llama-gqa-tied", Precision::F32), ("gpt2", Precision::Bf16)] {
        let graph = backward(name, precision);
        let none = compile(graph.clone(), &Policy::None, &profile(None)).expect("compiles");
        let reference = run(&none, folder.path(), 1, false);
        for spill in [FAST, SLOW] {
            for policy in [Policy::None, Policy::Full, Policy::Auto] {
                let least = smallest(&graph, &policy, Some(spill));
                let alone = smallest(&graph, &policy, None);
                assert!(least < alone, "{name} {policy}: {least} of {alone}");
                for cap in [least, least + (alone - least) / 2] {
                    let plan = compile_within(graph.clone(), &policy, &profile(Some(spill)), Some(cap)).expect("fits");
                    assert!(plan.arena_bytes <= cap, "{name} {policy}");
                    assert!(copies(&plan) > 0 && copies(&plan).is_multiple_of(2), "each copy out has one back");
                    assert!(plan.offloaded_bytes() > 0 && plan.policy == policy);
                    for (threads, poison) in [(1, false), (2, false), (2, true)] {
                        let result = run(&plan, folder.path(), threads, poison);
                        assert!(result == reference, "{name} {policy} arena {cap}, {threads} threads, {poison}");
                    }
                }
            }
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0, "the file has no name");
}

#[test]
fn a_budget_below_what_boundaries_alone_keep_is_met_by_offloading() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let graph = backward("llama-gqa-tied", Precision::F32);
    let within = |bytes, spill| compile(graph.clone(), &Policy::Budget(bytes), &profile(spill));
    let least = |spill| match within(0, spill) {
        Err(CompileError::BudgetDoesNotFit { smallest_bytes, .. }) => smallest_bytes,
        other => panic!("something is kept: {:?}", other.map(|plan| plan.activation_bytes())),
    };
    let (alone, offloading) = (least(None), least(Some(FAST)));
    assert!(offloading < alone, "{offloading} of {alone}");
    let none = compile(graph.clone(), &Policy::None, &profile(None)).expect("compiles");
    let reference = run(&none, folder.path(), 1, false);
    for bytes in [offloading, (offloading + alone) / 2] {
        assert!(within(bytes, None).is_err());
        let plan = within(bytes, Some(FAST)).expect("fits");
        assert!(plan.activation_bytes() <= bytes, "{} of {bytes}", plan.activation_bytes());
        assert!(run(&plan, folder.path(), 2, true) == reference);
        let listed = plan.saved_residuals();
        let bytes_of = |offloaded| listed.iter().filter(|r| r.offloaded == offloaded).map(|r| r.bytes).sum::<usize>();
        assert_eq!((bytes_of(false), bytes_of(true)), (plan.activation_bytes(), plan.offloaded_bytes()));
    }
    let found = survey(graph.clone(), &Policy::Auto, &profile(Some(FAST)), 2).expect("surveyed");
    assert_eq!(found.smallest_activation_bytes, offloading);
    assert_eq!(found.smallest_arena_bytes, smallest(&graph, &Policy::Auto, Some(FAST)));
}

#[test]
fn auto_takes_the_cheaper_of_recomputing_and_copying() {
    let graph = backward("llama-gqa-tied", Precision::F32);
    let plan =
        |cap, spill| compile_within(graph.clone(), &Policy::Auto, &profile(Some(spill)), Some(cap)).expect("fits");
    let none = compile(graph.clone(), &Policy::None, &profile(None)).expect("compiles");
    let full = compile(graph.clone(), &Policy::Full, &profile(None)).expect("compiles");
    assert_eq!(copies(&plan(none.arena_bytes, FAST)), 0, "what fits stays where it is");
    let middle = (none.arena_bytes + full.arena_bytes) / 2;
    let copied = plan(middle, FREE);
    assert!(copies(&copied) > 0 && copied.recomputed_steps().next().is_none(), "copies that cost nothing win");
    let recomputed = plan(middle, SLOW);
    assert!(copies(&recomputed) == 0 && recomputed.recomputed_steps().next().is_some(), "and slow ones lose");
}

#[test]
fn copies_run_beside_kernels_and_cost_what_does_not_fit_beside_them() {
    let graph = backward("llama-gqa-tied", Precision::F32);
    let none = compile(graph.clone(), &Policy::None, &profile(None)).expect("compiles");
    let cap = (none.arena_bytes + smallest(&graph, &Policy::None, Some(FREE))) / 2;
    let plan = |spill| compile_within(graph.clone(), &Policy::None, &profile(Some(spill)), Some(cap)).expect("fits");
    let seconds = |plan: &Plan, spill| plan.step_seconds(&profile(Some(spill)).prices);
    let kernels = seconds(&none, FREE);
    let (overlapped, slow) = (seconds(&plan(FREE), FREE), seconds(&plan(SLOW), SLOW));
    assert!(overlapped < 1.001 * kernels, "{overlapped} s of {kernels} s");
    let copied = 2.0 * plan(SLOW).offloaded_bytes() as f64 / SLOW.write_bytes_per_second;
    assert!(slow > kernels && slow < kernels + copied, "{slow} s is neither free nor one after the other: {copied} s");
}

/// The error of a plan after one mutation.
fn refused(plan: &Plan, source: &Graph, mutate: impl FnOnce(&mut Plan)) -> CheckError {
    let mut mutated = plan.clone();
    mutate(&mut mutated);
    check(&mutated, source).expect_err("the mutated plan must be refused")
}

/// Whether a kernel's wait for a copy is the first for that copy or a later one: any other is one too many.
fn is_first_to_wait(plan: &Plan, at: usize, copy: usize) -> bool {
    let earlier = plan.steps[..at].iter().filter(|step| step.queue == Queue::Compute);
    let later_too = plan.steps[at].waits.iter().any(|wait| wait.index() > copy);
    !later_too && !earlier.flat_map(|step| &step.waits).any(|wait| wait.index() >= copy)
}

fn fetches(plan: &Plan) -> Vec<usize> {
    let is_fetch = |step: &Step| matches!(step.action, Action::Fetch { .. });
    (0..plan.steps.len()).filter(|&at| is_fetch(&plan.steps[at])).collect()
}

#[test]
fn a_missing_or_late_fetch_is_refused() {
    let graph = backward("llama-gqa-tied", Precision::F32);
    let (plan, source) = (most_offloaded(&graph), simplify(graph));
    assert_eq!(check(&plan, &source), Ok(()));
    let reader_of = |fetch: usize| {
        let waits = |step: &Step| step.waits.iter().any(|wait| wait.index() == fetch);
        plan.steps.iter().position(waits).expect("somebody waits for it")
    };
    let mut readers = 0;
    for fetch in fetches(&plan) {
        // In place of the fetch, a copy of the same bytes to nowhere: the numbers of all steps stay.
        let missing = refused(&plan, &source, |plan| {
            let Action::Fetch { value, tier, .. } = plan.steps[fetch].action else { unreachable!() };
            plan.steps[fetch].action = Action::Evict { value, tier };
            plan.steps[fetch].reads = std::mem::take(&mut plan.steps[fetch].writes);
        });
        assert!(matches!(missing, CheckError::NotYetComputed { .. }), "without fetch {fetch}: {missing}");
        let reader = reader_of(fetch);
        if !is_first_to_wait(&plan, reader, fetch) {
            continue;
        }
        readers += 1;
        let early = refused(&plan, &source, |plan| plan.steps[reader].waits.retain(|wait| wait.index() != fetch));
        assert!(matches!(early, CheckError::MissingWait { .. }), "step {reader} before fetch {fetch}: {early}");
    }
    assert!(readers > 0, "somebody waits for what it reads");
}

#[test]
fn a_slot_that_is_reused_while_it_is_copied_is_refused() {
    let graph = backward("llama-gqa-tied", Precision::F32);
    let (plan, source) = (most_offloaded(&graph), simplify(graph));
    let is_evict = |at: usize| matches!(plan.steps[at].action, Action::Evict { .. });
    let mut takers = 0;
    for at in (0..plan.steps.len()).filter(|&at| plan.steps[at].queue == Queue::Compute) {
        let evicts: Vec<usize> =
            plan.steps[at].waits.iter().map(|wait| wait.index()).filter(|&on| is_evict(on)).collect();
        if !evicts.iter().max().is_some_and(|&last| is_first_to_wait(&plan, at, last)) {
            continue;
        }
        let error = refused(&plan, &source, |plan| plan.steps[at].waits.retain(|wait| !is_evict(wait.index())));
        assert!(matches!(error, CheckError::MissingWait { .. }), "step {at}: {error}");
        takers += 1;
    }
    assert!(takers > 0, "somebody takes a slot that is copied");
    let evict = (0..plan.steps.len()).find(|&at| is_evict(at)).expect("there is one");
    let early = refused(&plan, &source, |plan| plan.steps[evict].waits.clear());
    assert!(matches!(early, CheckError::MissingWait { .. }), "a copy before its value is there: {early}");
}

#[test]
fn a_folder_that_cannot_hold_it_is_an_error_at_load() {
    let plan = most_offloaded(&backward("llama-gqa-tied", Precision::F32));
    for folder in [None, Some(Path::new("/proc/no-such-folder"))] {
        let mut executor = CpuExecutor::new(CpuOptions::new(1));
        executor.set_spill_folder(folder);
        let error = executor.load(vec![plan.clone()]).expect_err("no room");
        assert!(matches!(error, DeviceError::BadSpillFolder { .. }), "{error}");
    }
}

#[test]
fn a_folder_is_measured_and_left_as_it_was() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let SpillPrices { write_bytes_per_second, read_bytes_per_second } = measure_spill(folder.path()).expect("writable");
    // Between a floppy disk and any memory there is.
    assert!((1e4..1e13).contains(&write_bytes_per_second) && (1e4..1e13).contains(&read_bytes_per_second));
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);
    let absent = measure_spill(&folder.path().join("absent")).expect_err("not there");
    assert!(matches!(absent, DeviceError::BadSpillFolder { .. }), "{absent}");
}
