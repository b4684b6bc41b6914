//! What ranks do together, as plans: the same bits on one process and on two, three and four ranks, and plans in which bytes that
//! are under way are touched, or ranks come to a collective in another order, are refused.

use remat_comm::{Engine, ThreadEngine};
use remat_compiler::compile;
use remat_cpu::{CpuExecutor, CpuOptions};
use remat_ir::{Graph, OpDef, Parameter, ParameterKind, StateRole, Storage, Type, ValueId, World};
use remat_plan::{CheckError, Device, Plan, Policy, Queue, check};
use remat_step::{
    Accumulation, AdamWSettings, Clip, MomentFormat, Optimizer, PRESENT, Shards, UpdateRule, accumulation_graph,
    exchange_graph, sharded_update_graph, update_graph,
};
use remat_tensor::DType;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

/// Two groups; tensors of one block, of several, and one whose moments keep 32 bits.
const LENGTHS: [usize; 6] = [300, 3 * 4096 + 5, (1 << 20) + 7, 4096, 37, 5 * 4096];

const MICRO_BATCHES: usize = 3;

const UPDATES: i32 = 2;

fn parameters() -> Vec<Parameter> {
    let parameter = |(index, &length): (usize, &usize)| Parameter {
        name: format!("p{index}"),
        kind: ParameterKind::Base,
        gated_by: None,
        ty: Type::new(DType::F32, [length]),
        value: ValueId(0),
        has_working_copy: index % 2 == 1,
        gradient: ValueId(0),
        decay: true,
    };
    LENGTHS.iter().enumerate().map(parameter).collect()
}

fn rule(moments: MomentFormat, max_norm: f32, world: World) -> UpdateRule {
    let settings = AdamWSettings { moments, weight_decay: 0.1, ..AdamWSettings::default() };
    let (clip, accumulation) = (Clip::Norm(max_norm), Accumulation::Apart);
    UpdateRule { clip, accumulation, world, ..UpdateRule::of(Optimizer::AdamW(settings)) }
}

/// The plans of what follows a micro-step, or a round of them, and of the update.
fn plans(rule: &UpdateRule) -> [Plan; 2] {
    let (parameters, profile) = (parameters(), CpuOptions::new(1).profile());
    let graphs = match rule.world.is_alone() {
        true => [accumulation_graph(&parameters), update_graph(&parameters, rule)],
        false => [exchange_graph(&parameters, rule.world), sharded_update_graph(&parameters, rule)],
    };
    graphs.map(|graph| compile(graph.expect("a graph"), &Policy::None, &profile).expect("a plan"))
}

/// Numbers of any size, the same for everyone.
fn numbers(stream: u64, count: usize) -> Vec<f32> {
    // From -1 to 1, every fifth small: Knuth's generator, as there are millions.
    let next = |x: &u64| Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    let words = std::iter::successors(Some(stream), next).skip(1).take(count);
    let number = |word: u64| (word >> 40) as f32 / (1 << 23) as f32 - 1.0;
    words.enumerate().map(|(i, word)| number(word) * if i % 5 == 0 { 1e-3 } else { 1.0 }).collect()
}

/// What a rank has in the end, by name: the first element that it has of a state, and its bytes.
type States = BTreeMap<String, (usize, Vec<u8>)>;

/// Some updates, and the bits of the norm of each.
fn trained(rule: &UpdateRule, engine: Option<Arc<dyn Engine>>, poison: bool) -> (States, Vec<u32>) {
    let World { rank, size } = rule.world;
    let mut executor = CpuExecutor::new(CpuOptions::new(1));
    executor.set_poison(poison);
    engine.into_iter().for_each(|engine| executor.set_ranks(engine));
    let device: &mut dyn Device = &mut executor;
    let programs = device.load(plans(rule).into()).expect("it loads");
    let state = |device: &dyn Device, name: &str| device.known(Storage::State, name).expect("a state");
    for (index, parameter) in parameters().iter().enumerate() {
        let source = state(device, &parameter.name);
        device.write_all(source, &numbers(100 + index as u64, LENGTHS[index])).expect("written");
    }
    let mut norms = Vec::new();
    for update in 1..=UPDATES {
        for first in (0..MICRO_BATCHES).step_by(size) {
            let micro = first + rank;
            for (index, parameter) in parameters().iter().enumerate().filter(|_| micro < MICRO_BATCHES) {
                let stream = 1000 * update as u64 + 10 * micro as u64 + index as u64;
                let source = state(device, &parameter.state(StateRole::Gradient));
                device.write_all(source, &numbers(stream, LENGTHS[index])).expect("written");
            }
            if let Some(present) = device.source(Storage::Input, PRESENT) {
                device.write_all(present, &[size.min(MICRO_BATCHES - first) as i32]).expect("written");
            }
            device.run(programs[0]).expect("added up");
        }
        for (input, bytes) in [("lr", 1e-2f32.to_le_bytes()), ("step", update.to_le_bytes())] {
            let source = device.known(Storage::Input, input).expect("an input");
            device.write(source, 0, &bytes).expect("written");
        }
        device.run(programs[1]).expect("updated");
        norms.push(device.read_number(programs[1], "grad_norm").expect("a norm").to_bits());
    }
    (states(device, rule.world), norms)
}

fn states(device: &dyn Device, world: World) -> States {
    let (parameters, mut states) = (parameters(), States::new());
    let shards = Shards::of(&parameters, world.size);
    for (index, parameter) in parameters.iter().enumerate() {
        let owned = shards.of_parameter(index).find(|(rank, _)| *rank == world.rank);
        for role in StateRole::ALL {
            let Some(source) = device.source(Storage::State, &parameter.state(role)) else { continue };
            let first = match role {
                StateRole::Value | StateRole::WorkingCopy | StateRole::Gradient => 0,
                StateRole::FirstMomentScales | StateRole::SecondMomentScales => {
                    owned.as_ref().map_or(0, |(_, elements)| elements.start / 256)
                }
                _ => owned.as_ref().map_or(0, |(_, elements)| elements.start),
            };
            states.insert(parameter.state(role), (first, device.read_all(source).expect("read")));
        }
    }
    states
}

/// On so many ranks, each a thread.
fn on_ranks(moments: MomentFormat, max_norm: f32, size: usize) -> Vec<(States, Vec<u32>)> {
    thread::scope(|scope| {
        let engines = ThreadEngine::ranks(size, DEADLINE).into_iter().enumerate();
        let start = |(rank, engine): (usize, ThreadEngine)| {
            let engine: Arc<dyn Engine> = Arc::new(engine);
            scope.spawn(move || trained(&rule(moments, max_norm, World { rank, size }), Some(engine), rank == 1))
        };
        let ranks: Vec<_> = engines.map(start).collect();
        ranks.into_iter().map(|rank| rank.join().expect("no rank panics")).collect()
    })
}

#[test]
fn an_update_has_the_same_bits_on_any_number_of_ranks() {
    for (moments, max_norm) in [(MomentFormat::F32, 1.0), (MomentFormat::Blocks8, 1e9)] {
        let (whole, norms) = trained(&rule(moments, max_norm, World::ALONE), None, false);
        // A round of all ranks, and one of some.
        for size in [2, 4] {
            let mut covered: BTreeMap<&str, usize> = BTreeMap::new();
            let ranks = on_ranks(moments, max_norm, size);
            for (rank, (states, of_rank)) in ranks.iter().enumerate() {
                assert_eq!(*of_rank, norms, "the norms of rank {rank} of {size}");
                for (name, (first, bytes)) in states {
                    let (_, all) = &whole[name];
                    let at = first * (all.len() / elements(name, all.len()));
                    assert!(all[at..at + bytes.len()] == bytes[..], "\"{name}\" of rank {rank} of {size}");
                    *covered.entry(name).or_default() += bytes.len();
                }
            }
            for (name, (_, bytes)) in &whole {
                let everywhere =
                    ![".m", ".v", ".m_absmax", ".v_absmax", ".grad_sum"].iter().any(|end| name.ends_with(end));
                let times = if everywhere { size } else { 1 };
                assert_eq!(covered[name.as_str()], times * bytes.len(), "\"{name}\" on {size} ranks");
            }
        }
    }
}

/// Elements of a state of so many bytes.
fn elements(name: &str, bytes: usize) -> usize {
    let of = name.split('.').next().and_then(|parameter| parameter[1..].parse::<usize>().ok()).expect("a parameter");
    if name.ends_with("absmax") { bytes / 4 } else { LENGTHS[of] }
}

#[test]
fn what_is_under_way_is_not_touched_and_the_order_is_that_of_all_ranks() {
    let rule = rule(MomentFormat::F32, 1.0, World { rank: 1, size: 3 });
    for plan in plans(&rule) {
        let source = Graph::clone(&plan.graph);
        assert_eq!(check(&plan, &source), Ok(()));
        let comm: Vec<usize> = (0..plan.steps.len()).filter(|&at| plan.steps[at].queue == Queue::Comm).collect();
        assert!(comm.len() >= 2, "two groups");
        for at in 0..plan.steps.len() {
            for wait in 0..plan.steps[at].waits.len() {
                let mut without = plan.clone();
                without.steps[at].waits.remove(wait);
                let refused = check(&without, &source);
                assert!(matches!(refused, Err(CheckError::MissingWait { .. })), "step {at}, wait {wait}: {refused:?}");
            }
        }
        let mut on_compute = plan.clone();
        on_compute.steps[comm[0]].queue = Queue::Compute;
        assert!(matches!(check(&on_compute, &source), Err(CheckError::WrongQueue { .. })));
        if plan.graph.nodes[..2].iter().all(|node| node.op.collective().is_some()) {
            assert!(matches!(check(&plan, &turned(source)), Err(CheckError::CollectiveOutOfOrder { .. })));
        }
    }
}

/// The same graph with its first two nodes the other way round.
fn turned(mut graph: Graph) -> Graph {
    graph.nodes.swap(0, 1);
    for (op, _) in graph.values.iter_mut().filter_map(|value| value.producer.as_mut()).filter(|(op, _)| op.0 < 2) {
        op.0 = 1 - op.0;
    }
    graph
}

#[test]
fn ranks_agree_on_what_they_do_together_and_a_plan_of_another_rank_is_refused() {
    let of = |rank, size| plans(&rule(MomentFormat::F32, 1.0, World { rank, size }));
    let agreed = |rank, size| of(rank, size).iter().flat_map(Plan::agreed).collect::<Vec<_>>();
    assert_eq!(agreed(0, 3), agreed(2, 3));
    assert_ne!(agreed(0, 3), agreed(0, 2));
    let mut alone = CpuExecutor::new(CpuOptions::new(1));
    let refused = alone.load(of(0, 2).into()).expect_err("nothing joins it to the other").to_string();
    assert!(refused.contains("rank 0 of 2"), "{refused}");
    let mut other = CpuExecutor::new(CpuOptions::new(1));
    other.set_ranks(Arc::new(ThreadEngine::ranks(2, DEADLINE).remove(1)));
    let refused = other.load(of(0, 2).into()).expect_err("it is rank 1").to_string();
    assert!(refused.contains("this is rank 1 of 2"), "{refused}");
}

#[test]
fn a_rank_that_ends_in_an_update_ends_the_others() {
    let ended = thread::scope(|scope| {
        let mut engines = ThreadEngine::ranks(2, DEADLINE);
        drop(engines.pop());
        let engine: Arc<dyn Engine> = Arc::new(engines.remove(0));
        let run = move || {
            let mut executor = CpuExecutor::new(CpuOptions::new(1));
            executor.set_ranks(engine);
            let programs = executor.load(plans(&rule(MomentFormat::F32, 1.0, World { rank: 0, size: 2 })).into());
            let programs = programs.expect("it loads");
            let present = executor.source(Storage::Input, PRESENT).expect("an input");
            executor.write(present, 0, &2i32.to_le_bytes()).expect("written");
            executor.run(programs[0]).expect_err("rank 1 has ended").to_string()
        };
        scope.spawn(run).join().expect("no panic")
    });
    assert!(ended.contains("rank 1 has ended"), "{ended}");
}
