//! Training states off memory: they come for the ops that read them, are updated and go back, or pass through an op block by
//! block; nothing else changes. Every plan passes the checker, and whatever trains ends in the same bits as with all in memory.

mod case;

use case::Case;
use remat_compiler::{WeightsOffMemory, compile, simplify, with_weights_off_memory};
use remat_cpu::{CpuExecutor, CpuOptions};
use remat_ir::{Graph, Parameter, ParameterKind, StateRole, Storage, Type, ValueId};
use remat_model::Precision;
use remat_plan::{
    Action, CheckError, Device, DeviceError, DeviceProfile, Plan, Policy, Queue, STREAM_ELEMENTS, SpillPrices, Step,
    check,
};
use remat_step::{
    Accumulation, AdamWSettings, Clip, LionSettings, MomentFormat, Optimizer, SgdSettings, TrainingStep, UpdateRule,
    update_graph,
};
use remat_tensor::DType;
use remat_testkit::{fill_sources, source_values};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

fn profile() -> DeviceProfile {
    let mut profile = CpuOptions::new(2).profile();
    profile.prices.spill = Some(SpillPrices { write_bytes_per_second: 1e9, read_bytes_per_second: 1e9 });
    profile
}

fn states_of(graph: &Graph) -> impl Iterator<Item = &remat_ir::Value> {
    graph.values.iter().filter(|value| value.storage == Storage::State && value.producer.is_none())
}

/// The plan of a graph, and the same with some states off memory.
fn planned(graph: &Graph, policy: &Policy, off: &HashSet<String>, ahead_bytes: usize) -> Plan {
    let plan = compile(graph.clone(), policy, &profile()).expect("compiles");
    let off = WeightsOffMemory { weights: off.clone(), ahead_bytes };
    let plan = with_weights_off_memory(&plan, &simplify(graph.clone()), &off, &profile()).expect("checked");
    assert_eq!(plan.to_string().parse(), Ok(plan.clone()), "its text is read back");
    plan
}

/// A device with these plans and the same numbers in all their sources.
fn loaded(plans: &[Plan], folder: &Path, threads: usize, poison: bool) -> CpuExecutor {
    let mut executor = CpuExecutor::new(CpuOptions::new(threads));
    executor.set_spill_folder(Some(folder));
    executor.set_poison(poison);
    executor.load(plans.to_vec()).expect("loads");
    for plan in plans {
        fill_sources(&mut executor, &plan.graph, &source_values(&plan.graph, 3)).expect("filled");
    }
    executor
}

/// All states, by name.
fn read(device: &dyn Device, plans: &[Plan]) -> BTreeMap<String, Vec<u8>> {
    let names = plans.iter().flat_map(|plan| states_of(&plan.graph)).map(|value| value.name.clone());
    let bytes = |name: &str| device.read_all(device.known(Storage::State, name).expect("a state")).expect("read");
    names.map(|name| (name.clone(), bytes(&name))).collect()
}

/// Two updates of two micro-batches; the plans are micro-step, update, and accumulation if there is one.
fn trained(plans: &[Plan], folder: &Path, threads: usize, poison: bool) -> BTreeMap<String, Vec<u8>> {
    let mut executor = loaded(plans, folder, threads, poison);
    let programs: Vec<_> = (0..plans.len() as u32).map(remat_plan::ProgramId).collect();
    for _ in 0..2 {
        for _ in 0..2 {
            executor.run(programs[0]).expect("runs");
            programs.get(2).map_or(Ok(()), |&accumulation| executor.run(accumulation)).expect("runs");
        }
        executor.run(programs[1]).expect("runs");
    }
    read(&executor, plans)
}

fn rules() -> Vec<UpdateRule> {
    let adamw = |moments| Optimizer::AdamW(AdamWSettings { moments, weight_decay: 0.1, ..AdamWSettings::default() });
    let rule = |optimizer, clip, accumulation| UpdateRule { clip, accumulation, ..UpdateRule::of(optimizer) };
    vec![
        rule(adamw(MomentFormat::F32), Clip::Norm(0.01), Accumulation::Apart),
        rule(adamw(MomentFormat::Blocks8), Clip::None, Accumulation::Running),
        rule(
            Optimizer::Sgd(SgdSettings { momentum: 0.9, ..SgdSettings::default() }),
            Clip::Value(1e-3),
            Accumulation::Apart,
        ),
        rule(
            Optimizer::Lion(LionSettings { beta1: 0.9, beta2: 0.99, weight_decay: 0.0 }),
            Clip::Norm(1.0),
            Accumulation::Running,
        ),
    ]
}

/// Names of the states of some graphs with one of these roles.
fn names(graphs: &[&Graph], roles: &[StateRole]) -> HashSet<String> {
    let has = |value: &&remat_ir::Value| match value.role {
        Some(remat_ir::SourceRole::Parameter(_, role)) => roles.contains(&role),
        _ => false,
    };
    graphs.iter().flat_map(|graph| states_of(graph)).filter(has).map(|value| value.name.clone()).collect()
}

#[test]
fn no_bit_changes_whatever_states_are_off_memory() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (name, precision) in [("llama-gqa-tied", Precision::F32), ("gpt2", Precision::Bf16)] {
        let case = Case::open_in(name, precision);
        // All rules on one model, one on the other.
        let count = if precision == Precision::F32 { 4 } else { 1 };
        for (index, rule) in rules()[..count].iter().enumerate() {
            let step = TrainingStep::new(case.training(&case.full()), Some(rule)).expect("differentiable");
            let (update, accumulation) = (step.trained.update.clone().expect("an update"), step.trained.accumulation);
            let graphs: Vec<&Graph> = [&step.graph, &update].into_iter().chain(accumulation.as_deref()).collect();
            let plans = |off: &HashSet<String>, policy: &Policy, ahead_bytes: usize| -> Vec<Plan> {
                graphs.iter().map(|graph| planned(graph, policy, off, ahead_bytes)).collect()
            };
            let all = names(&graphs, &StateRole::ALL);
            let gradients = names(&graphs, &[StateRole::Gradient, StateRole::GradientSum, StateRole::WorkingCopy]);
            let reference = trained(&plans(&HashSet::new(), &Policy::None, 0), folder.path(), 1, false);
            for (off, policy, ahead_bytes, threads, poison) in [
                (&all, Policy::None, 0, 1, true),
                (&all, Policy::Full, 1 << 16, 2, false),
                (&gradients, Policy::None, usize::MAX, 2, true),
            ] {
                let result = trained(&plans(off, &policy, ahead_bytes), folder.path(), threads, poison);
                assert!(result == reference, "{name} {index} {policy} {ahead_bytes}");
            }
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0, "the files have no name");
}

/// A parameter whose update is longer than a block that is streamed, and does not end with one.
fn update_of(elements: usize, rule: &UpdateRule) -> Graph {
    let parameter = |name: &str, elements: usize| Parameter {
        name: name.to_string(),
        kind: ParameterKind::Base,
        gated_by: None,
        ty: Type::new(DType::F32, [elements]),
        value: ValueId(0),
        has_working_copy: true,
        gradient: ValueId(0),
        decay: true,
    };
    update_graph(&[parameter("a", elements), parameter("b", 5000)], rule).expect("an update")
}

#[test]
fn an_update_in_many_blocks_has_the_bits_of_one_in_memory() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for rule in &rules()[..2] {
        let graph = update_of(STREAM_ELEMENTS + 70_003, rule);
        let sum = rule.accumulation.sum();
        let run = |off: &HashSet<String>, threads: usize| {
            let plans = [planned(&graph, &Policy::None, off, 0)];
            let mut executor = loaded(&plans, folder.path(), threads, false);
            for (index, name) in ["a", "b"].iter().enumerate() {
                let device: &mut dyn Device = &mut executor;
                let state = device.known(Storage::State, &sum.name(name)).expect("a gradient");
                let elements = device.source_type(state).shape.numel();
                let gradient: Vec<f32> = (0..elements).map(|i| ((i * 37 + index) % 97) as f32 * 1e-3 - 0.05).collect();
                device.write_all(state, &gradient).expect("written");
            }
            executor.run(remat_plan::ProgramId(0)).expect("runs");
            let norm = (&executor as &dyn Device).read_number(remat_plan::ProgramId(0), "grad_norm").expect("a number");
            (read(&executor, &plans), norm.to_bits())
        };
        let reference = run(&HashSet::new(), 1);
        let all = names(&[&graph], &StateRole::ALL);
        let only_moments = names(&[&graph], &[StateRole::FirstMoment, StateRole::SecondMoment]);
        let only_a = all.iter().filter(|name| name.starts_with('a')).cloned().collect();
        for off in [&all, &only_moments, &only_a] {
            assert!(run(off, 2) == reference, "{:?}", rule.optimizer.name());
        }
    }
}

#[test]
fn what_is_not_written_back_raced_or_read_from_elsewhere_is_refused() {
    let case = Case::open("gpt2");
    let step = TrainingStep::new(case.training(&case.full()), Some(&rules()[0])).expect("differentiable");
    let all = names(&[&step.graph], &StateRole::ALL);
    let (source, plan) = (simplify(step.graph.clone()), planned(&step.graph, &Policy::Full, &all, 1 << 16));
    assert_eq!(check(&plan, &source), Ok(()));
    let of_state = |value: ValueId| plan.graph.value(value).storage == Storage::State;
    let evicts = |step: &Step| matches!(step.action, Action::Evict { value, .. } if of_state(value));
    let evictions: Vec<usize> = (0..plan.steps.len()).filter(|&at| evicts(&plan.steps[at])).collect();
    assert!(evictions.len() > 4);
    for &at in &evictions {
        // Without its wait, and those of copies before it for the same, it may copy what is not made yet.
        let mut raced = plan.clone();
        let made = plan.steps[at].waits.iter().copied().max().expect("it waits");
        let copies = raced.steps[..=at].iter_mut().filter(|step| step.queue == Queue::Copy);
        copies.for_each(|step| step.waits.retain(|wait| *wait < made));
        assert!(matches!(check(&raced, &source), Err(CheckError::MissingWait { .. })), "step {at}");
        // Another state's home.
        let mut elsewhere = plan.clone();
        let Action::Evict { value, tier } = plan.steps[at].action else { unreachable!() };
        let other = plan.spilled.iter().copied().find(|&other| of_state(other) && other != value);
        elsewhere.steps[at].action = Action::Evict { value: other.expect("another"), tier };
        assert!(matches!(check(&elsewhere, &source), Err(CheckError::WrongPlace { .. })), "step {at}");
    }
    // A gradient that is fetched again in place of being written back.
    let last = *evictions.last().expect("some");
    let mut lost = plan.clone();
    let Action::Evict { value, tier } = lost.steps[last].action else { unreachable!() };
    let buffer = lost.steps[last].reads[0];
    lost.steps[last].action = Action::Fetch { value, tier, rows: None };
    (lost.steps[last].reads, lost.steps[last].writes) = (Vec::new(), vec![buffer]);
    assert!(check(&lost, &source).is_err());
    let update = step.trained.update.expect("an update");
    let off = names(&[&update], &StateRole::ALL);
    let (source, plan) = (simplify(Graph::clone(&update)), planned(&update, &Policy::None, &off, 0));
    // What is streamed has its place in the workspace, and cannot be read where it does not lie.
    let streams = plan.steps.iter().position(|step| plan.is_streaming(step)).expect("a norm of gradients");
    let mut narrow = plan.clone();
    narrow.steps[streams].workspace = None;
    assert!(matches!(check(&narrow, &source), Err(CheckError::WrongSize { .. })));
    let mut resident = plan.clone();
    for place in &mut resident.steps[streams].reads {
        if let remat_plan::Place::Spilled(root) = *place {
            *place = remat_plan::Place::State(root);
        }
    }
    assert!(matches!(check(&resident, &source), Err(CheckError::WrongPlace { .. })));
}

#[test]
fn plans_that_disagree_and_a_folder_that_is_not_there_are_refused_at_load() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let graph = update_of(10_000, &rules()[0]);
    let off = planned(&graph, &Policy::None, &names(&[&graph], &StateRole::ALL), 0);
    let resident = planned(&graph, &Policy::None, &HashSet::new(), 0);
    let load = |plans: Vec<Plan>, folder: Option<&Path>| {
        let mut executor = CpuExecutor::new(CpuOptions::new(1));
        executor.set_spill_folder(folder);
        executor.load(plans).expect_err("refused")
    };
    for folder in [None, Some(Path::new("/proc/no-such-folder"))] {
        let error = load(vec![off.clone()], folder);
        assert!(matches!(error, DeviceError::BadSpillFolder { .. }), "{error}");
    }
    let error = load(vec![resident, off.clone()], Some(folder.path()));
    assert!(matches!(error, DeviceError::Unsupported { .. }), "{error}");
    let mut executor = CpuExecutor::new(CpuOptions::new(1));
    executor.set_spill_folder(Some(folder.path()));
    executor.load(vec![off.clone()]).expect("loads");
    let memory = executor.memory();
    assert!(memory.states_file >= off.spilled_state_bytes() && memory.weights_file == 0, "{memory:?}");
    let small: HashMap<String, usize> =
        states_of(&off.graph).map(|value| (value.name.clone(), value.ty.bytes())).collect();
    assert!(memory.states < small.values().sum::<usize>() / 100, "nothing of them is in memory: {memory:?}");
}
