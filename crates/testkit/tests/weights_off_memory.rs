//! Weights off memory: they come to the arena before their readers, and nothing else changes. Every plan passes the checker,
//! a step reads no more than it has to, and all results are equal in every bit to those of resident weights, on any number
//! of threads, also when freed memory is poisoned while copies are under way.

mod case;

use case::Case;
use remat_compiler::{CompileError, Pinned, Problem, WeightsOffMemory, compile, simplify, with_weights_off_memory};
use remat_cpu::{CpuExecutor, CpuOptions};
use remat_ir::{Graph, Op, Storage};
use remat_model::Precision;
use remat_plan::{
    Action, CheckError, Device, DeviceError, DeviceProfile, FileRange, Place, Plan, Policy, ProgramId, Queue,
    SpillPrices, Step, Tier, WeightPart, check,
};
use remat_testkit::{RunResult, fill_sources, run_plan, source_values, with_backward};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

const AHEAD_BYTES: usize = 1 << 17;

fn backward(name: &str, precision: Precision) -> Graph {
    let case = Case::open_in(name, precision);
    let training = case.training(&case.lora());
    with_backward(training)
}

fn profile() -> DeviceProfile {
    let mut profile = CpuOptions::new(2).profile();
    profile.prices.spill = Some(SpillPrices { write_bytes_per_second: 1e9, read_bytes_per_second: 1e9 });
    profile
}

fn run(plan: &Plan, folder: &Path, threads: usize, poison: bool) -> RunResult {
    let mut executor = CpuExecutor::new(CpuOptions::new(threads));
    executor.set_spill_folder(Some(folder));
    executor.set_poison(poison);
    let result = run_plan(&mut executor, plan.clone(), &source_values(&plan.graph, 3)).expect("runs");
    let memory = executor.memory();
    assert!(memory.weights_file >= plan.spilled_weight_bytes());
    assert_eq!(memory.spill_file, plan.spill_file_bytes());
    result
}

/// The plan with every weight off memory that it reads.
fn all_off(plan: &Plan, source: &Graph, ahead_bytes: usize) -> Plan {
    let weights = source.values.iter().filter(|value| value.storage == Storage::Weight);
    let weights = weights.map(|value| value.name.clone()).collect();
    with_weights_off_memory(plan, source, &WeightsOffMemory { weights, ahead_bytes }, &profile()).expect("checked")
}

#[test]
fn no_bit_changes_whatever_is_off_memory() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (name, precision) in [("llama-gqa-tied", Precision::F32), ("gpt2", Precision::Bf16)] {
        let graph = backward(name, precision);
        let source = simplify(graph.clone());
        let none = compile(graph.clone(), &Policy::None, &profile()).expect("compiles");
        let reference = run(&none, folder.path(), 1, false);
        let full = compile(graph.clone(), &Policy::Full, &profile()).expect("compiles");
        let offloading = compile_offloading(&graph);
        for base in [&none, &full, &offloading] {
            for ahead_bytes in [0, AHEAD_BYTES, usize::MAX] {
                let plan = all_off(base, &source, ahead_bytes);
                assert!(plan.fetched_weight_bytes() > 0 && plan.spilled_weight_bytes() > 0);
                assert_eq!(plan.to_string().parse(), Ok(plan.clone()), "its text is read back");
                for (threads, poison) in [(1, false), (2, false), (2, true)] {
                    let result = run(&plan, folder.path(), threads, poison);
                    assert!(result == reference, "{name} {} {ahead_bytes}, {threads} threads, {poison}", base.policy);
                }
            }
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0, "the file has no name");
}

/// A plan that offloads kept values, too.
fn compile_offloading(graph: &Graph) -> Plan {
    let plan = remat_compiler::compile_or_smallest(graph.clone(), &Policy::None, &profile(), 0).expect("a plan");
    assert!(plan.offloaded_bytes() > 0);
    plan
}

#[test]
fn a_step_reads_blocks_twice_the_head_once_and_of_a_table_its_rows() {
    let graph = backward("gpt2", Precision::F32);
    let source = simplify(graph.clone());
    for policy in [Policy::None, Policy::Full] {
        let base = compile(graph.clone(), &policy, &profile()).expect("compiles");
        let plan = all_off(&base, &source, AHEAD_BYTES);
        let (mut blocks, mut others, mut rows_bytes) = (0, 0, 0);
        for &weight in &plan.spilled {
            let readers = plan.graph.nodes.iter().filter(|node| node.inputs.contains(&weight));
            let in_block = readers.clone().any(|node| node.region.is_some());
            let looked_up = readers.clone().any(|node| matches!(node.op, Op::Embedding(_)));
            let bytes = plan.graph.ty(weight).bytes();
            // A norm behind the blocks is read before the head, and behind it by backward.
            let twice = in_block || (!looked_up && plan.graph.ty(weight).shape.len() == 1);
            *(if twice { &mut blocks } else { &mut others }) += bytes;
        }
        for step in &plan.steps {
            if let Action::Fetch { value, rows: Some(ids), .. } = step.action {
                rows_bytes += plan.fetch_bytes(value, Some(ids));
                assert_eq!(plan.fetch_bytes(value, Some(ids)) % plan.graph.ty(ids).shape.numel(), 0);
            }
        }
        assert!(rows_bytes > 0, "tables come by their rows");
        let fetched = plan.fetched_weight_bytes();
        assert!(fetched <= 2 * blocks + others + rows_bytes, "{policy}: {fetched} of 2 · {blocks} + {others}");
    }
}

#[test]
fn a_limit_is_met_with_weights_off_memory_and_more_of_it_never_costs_time() {
    let graph = backward("llama-gqa-tied", Precision::F32);
    let profile = profile();
    let problem = Problem::new(graph, &profile).expect("a problem");
    let resident = problem.plan(&Policy::Auto, None).expect("compiles").arena_bytes + problem.weight_bytes();
    let choice = problem.off_memory(&Policy::Auto, &Pinned::default());
    let refused = choice.plan(0, usize::MAX).expect_err("nothing fits");
    let CompileError::ArenaDoesNotFit { smallest_bytes, .. } = refused else { panic!("{refused}") };
    assert!(smallest_bytes < resident);
    let mut before = f64::INFINITY;
    for part in 0..=8 {
        let limit = smallest_bytes + (resident - smallest_bytes) / 8 * part;
        let (plan, off) = choice.plan(limit, usize::MAX).expect("fits");
        let held = problem.weight_bytes() - plan.spilled_weight_bytes() + plan.arena_bytes;
        assert!(held <= limit && !off.weights.is_empty(), "{held} of {limit}");
        let now = plan.step_seconds(&profile.prices);
        assert!(now <= before, "part {part}: {now} s after {before} s");
        before = now;
    }
}

fn refused(plan: &Plan, source: &Graph, mutate: impl FnOnce(&mut Plan)) -> CheckError {
    let mut mutated = plan.clone();
    mutate(&mut mutated);
    check(&mutated, source).expect_err("the mutated plan must be refused")
}

#[test]
fn fetches_that_are_late_elsewhere_undeclared_or_of_other_rows_are_refused() {
    let graph = backward("gpt2", Precision::F32);
    let source = simplify(graph.clone());
    let base = compile(graph, &Policy::Full, &profile()).expect("compiles");
    let plan = all_off(&base, &source, AHEAD_BYTES);
    assert_eq!(check(&plan, &source), Ok(()));
    let is_fetch = |step: &Step| matches!(step.action, Action::Fetch { .. });
    let fetches: Vec<usize> = (0..plan.steps.len()).filter(|&at| is_fetch(&plan.steps[at])).collect();
    // Without its wait, the first reader of what comes may run before it is there.
    let unawaited = fetches.iter().filter(|&&fetch| {
        let mut raced = plan.clone();
        let kernels = raced.steps.iter_mut().filter(|step| step.queue == Queue::Compute);
        kernels.for_each(|step| step.waits.retain(|wait| wait.index() < fetch));
        matches!(check(&raced, &source), Err(CheckError::MissingWait { .. }))
    });
    assert_eq!(unawaited.count(), fetches.len(), "whoever reads it waits for it or a later one");
    // Without its own waits, a fetch may write over what is still read.
    let early = fetches.iter().filter(|&&fetch| {
        let mut early = plan.clone();
        early.steps[fetch].waits.clear();
        matches!(check(&early, &source), Err(CheckError::MissingWait { .. }))
    });
    assert!(early.count() > 0, "fetches wait for their bytes");
    let undeclared = refused(&plan, &source, |plan| {
        plan.spilled.remove(0);
    });
    assert!(matches!(undeclared, CheckError::NotInTier { .. }), "{undeclared}");
    let first = fetches[0];
    let elsewhere = refused(&plan, &source, |plan| {
        if let Action::Fetch { tier, .. } = &mut plan.steps[first].action {
            *tier = Tier::Resident;
        }
    });
    assert!(matches!(elsewhere, CheckError::NotInTier { .. }), "{elsewhere}");
    let listed = refused(&plan, &source, |plan| plan.spilled.swap(0, 1));
    assert!(matches!(listed, CheckError::Named(_)), "{listed}");
    // A whole weight where rows were fetched, rows where all is read.
    for &at in &fetches {
        let other = refused(&plan, &source, |plan| {
            let ids = plan.graph.value_ids().find(|&id| plan.graph.value(id).name == "ids").expect("token ids");
            let Action::Fetch { rows, .. } = &mut plan.steps[at].action else { unreachable!() };
            let reads = if rows.is_some() { Vec::new() } else { vec![Place::Input(ids)] };
            *rows = if rows.is_some() { None } else { Some(ids) };
            plan.steps[at].reads = reads;
        });
        let right = matches!(
            other,
            CheckError::WrongSize { .. } | CheckError::WrongPlace { .. } | CheckError::NotInTier { .. }
        );
        assert!(right, "step {at}: {other}");
    }
    // Resident where the plan says that it is not.
    let read = plan.steps.iter().position(|step| {
        let of_weight =
            |place: &Place| matches!(place, Place::Arena(id) if plan.buffers[id.index()].value == plan.spilled[0]);
        matches!(step.action, Action::Compute(_)) && step.reads.iter().any(of_weight)
    });
    let resident = refused(&plan, &source, |plan| {
        let (at, value) = (read.expect("it is read"), plan.spilled[0]);
        let held = |place: &&mut Place| matches!(place, Place::Arena(id) if plan.buffers[id.index()].value == value);
        let layout = remat_plan::WeightLayout::RowMajor;
        let weight = remat_plan::WeightOperand { value, tier: Tier::Resident, layout };
        *plan.steps[at].reads.iter_mut().find(held).expect("found above") = Place::Weight(weight);
    });
    assert!(matches!(resident, CheckError::WrongPlace { .. }), "{resident}");
}

#[test]
fn a_folder_that_is_not_there_and_plans_that_disagree_are_refused_at_load() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let graph = backward("gpt2", Precision::F32);
    let resident = compile(graph.clone(), &Policy::None, &profile()).expect("compiles");
    let off = all_off(&resident, &simplify(graph), 0);
    let load = |plans: Vec<Plan>, folder: Option<&Path>| {
        let mut executor = CpuExecutor::new(CpuOptions::new(1));
        executor.set_spill_folder(folder);
        executor.load(plans).expect_err("refused")
    };
    for folder in [None, Some(Path::new("/proc/no-such-folder"))] {
        let error = load(vec![off.clone()], folder);
        assert!(matches!(error, DeviceError::BadSpillFolder { .. }), "{error}");
    }
    let error = load(vec![resident, off], Some(folder.path()));
    assert!(matches!(error, DeviceError::Unsupported { .. }), "{error}");
}

/// The weights of a plan's graph in a file, one behind the other from an odd byte on; every second one in three parts, of which
/// the middle one is in no file.
fn in_a_file(plan: &Plan, path: &Path) -> HashMap<String, Vec<WeightPart>> {
    let device: &mut dyn Device = &mut CpuExecutor::new(CpuOptions::new(1));
    device.load(vec![plan.clone()]).expect("loads");
    fill_sources(device, &plan.graph, &source_values(&plan.graph, 3)).expect("filled");
    let mut bytes = vec![7_u8; 13];
    let mut ranges = Vec::new();
    for value in plan.graph.values.iter().filter(|value| value.storage == Storage::Weight) {
        let source = device.known(Storage::Weight, &value.name).expect("a weight");
        ranges.push((value.name.clone(), bytes.len() as u64, value.ty.bytes() as u64));
        bytes.extend(device.read_all::<u8>(source).expect("read"));
    }
    std::fs::write(path, bytes).expect("written");
    let file = Arc::new(File::open(path).expect("it is there"));
    let whole = std::fs::read(path).expect("read");
    let range = |offset, bytes| {
        WeightPart::InFile(FileRange { file: Arc::clone(&file), path: path.to_path_buf(), offset, bytes })
    };
    let parts = |index: usize, offset: u64, bytes: u64| match index % 2 {
        0 => vec![range(offset, bytes)],
        _ => {
            let known = whole[offset as usize + 5..][..10].to_vec();
            vec![range(offset, 5), WeightPart::Known(known), range(offset + 15, bytes - 15)]
        }
    };
    let numbered = ranges.into_iter().enumerate();
    numbered.map(|(index, (name, offset, bytes))| (name, parts(index, offset, bytes))).collect()
}

#[test]
fn weights_are_read_from_files_that_hold_them_and_one_that_is_cut_short_ends_the_run_with_an_error() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("weights");
    let graph = backward("gpt2", Precision::Bf16);
    let resident = compile(graph.clone(), &Policy::Full, &profile()).expect("compiles");
    let ranges = in_a_file(&resident, &path);
    let plan = all_off(&resident, &simplify(graph), AHEAD_BYTES);
    let reference = run(&resident, folder.path(), 1, false);
    let mut executor = CpuExecutor::new(CpuOptions::new(2));
    executor.set_weights_in_files(ranges);
    // No folder is needed, since nothing is written.
    let result = run_plan(&mut executor, plan.clone(), &source_values(&plan.graph, 3)).expect("runs");
    assert!(result == reference);
    assert_eq!((executor.memory().weights_file, executor.memory().weights), (0, 0));
    let program = ProgramId(0);
    let whole = std::fs::read(&path).expect("read");
    let file = OpenOptions::new().write(true).open(&path).expect("opened");
    for length in [whole.len() as u64 - 1, 0] {
        file.set_len(length).expect("cut");
        let error = executor.run(program).expect_err("weights are missing");
        assert!(
            matches!(&error, DeviceError::Spill { folder, .. } if *folder == path.display().to_string()),
            "{error}"
        );
    }
    std::fs::write(&path, &whole).expect("written");
    executor.run(program).expect("what ended with an error can run again");
}
