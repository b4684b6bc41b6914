//! The checker against mutated plans: each lie about a valid plan is refused with the error of the rule it breaks.

use remat_compiler::{compile, simplify};
use remat_ir::{Graph, Op, OpDef, Phase};
use remat_plan::{
    Action, Buffer, BufferId, CheckError, DeviceProfile, Place, Plan, Policy, Queue, Slot, Step, StepId, Tier, check,
};
use remat_testkit::two_layer_mlp;

/// A valid plan of the two-layer model, and the graph it was compiled from.
fn valid() -> (Plan, Graph) {
    let graph = two_layer_mlp().with_backward();
    let plan = compile(graph.clone(), &Policy::Full, &DeviceProfile::generic()).expect("the model compiles");
    let source = simplify(graph);
    assert_eq!(check(&plan, &source), Ok(()));
    (plan, source)
}

/// The error of a valid plan after one mutation.
fn refused(mutate: impl FnOnce(&mut Plan)) -> CheckError {
    let (mut plan, source) = valid();
    mutate(&mut plan);
    check(&plan, &source).expect_err("the mutated plan must be refused")
}

fn step_of(plan: &Plan, node: &str) -> usize {
    let computes = |step: &Step| matches!(step.action, Action::Compute(op) if plan.graph.node(op).name == node);
    plan.steps.iter().position(computes).unwrap_or_else(|| panic!("no step computes {node}:\n{}", plan.graph))
}

fn buffer_of(plan: &Plan, value: &str) -> usize {
    plan.buffers.iter().position(|b| plan.graph.value(b.value).name == value).expect("an arena value")
}

/// Inserts a step and renumbers everything behind it.
fn insert(plan: &mut Plan, at: usize, step: Step) {
    let shift = |id: &mut StepId| id.0 += u32::from(id.index() >= at);
    for buffer in &mut plan.buffers {
        shift(&mut buffer.first);
        shift(&mut buffer.last);
    }
    plan.steps.iter_mut().flat_map(|step| &mut step.waits).for_each(shift);
    plan.steps.insert(at, step);
}

fn copy_step(action: Action, reads: Vec<Place>, writes: Vec<Place>, waits: Vec<StepId>) -> Step {
    Step { action, queue: Queue::Copy, reads, writes, workspace: None, waits, signals: true }
}

/// Offloads the first linear's result between forward and backward: evict after its GELU, fetch before the GELU's
/// gradient. Returns the steps (evict, fetch, reader).
fn offload(plan: &mut Plan) -> (usize, usize, usize) {
    let value = plan.graph.find("r1.linear").expect("a value of the model");
    let kept = BufferId(buffer_of(plan, "r1.linear") as u32);
    let producer = step_of(plan, "r1.linear");
    let forward_reader = step_of(plan, "r1.gelu");
    let reader = step_of(plan, "d.r1.gelu.dx");
    plan.steps[producer].signals = true;
    let evict = forward_reader + 1;
    let action = Action::Evict { value, tier: Tier::Spill };
    insert(plan, evict, copy_step(action, vec![Place::Arena(kept)], vec![], vec![StepId(producer as u32)]));
    let fetch = reader + 1;
    let reader = fetch + 1;
    let bytes = plan.graph.ty(value).bytes();
    let fetched = BufferId(plan.buffers.len() as u32);
    let action = Action::Fetch { value, tier: Tier::Spill };
    insert(plan, fetch, copy_step(action, vec![], vec![Place::Arena(fetched)], vec![]));
    let slot = Slot { offset: plan.arena_bytes.next_multiple_of(64), bytes };
    plan.arena_bytes = slot.end();
    plan.buffers.push(Buffer { value, slot, first: StepId(fetch as u32), last: StepId(reader as u32) });
    plan.buffers[kept.index()].last = StepId(evict as u32);
    for place in &mut plan.steps[reader].reads {
        if *place == Place::Arena(kept) {
            *place = Place::Arena(fetched);
        }
    }
    plan.steps[reader].waits.push(StepId(fetch as u32));
    // Whoever reuses the evicted slot must wait for the copy.
    let later: Vec<usize> = plan
        .buffers
        .iter()
        .filter(|b| b.slot.overlaps(plan.buffers[kept.index()].slot))
        .map(|b| b.first.index())
        .filter(|&first| first > evict)
        .collect();
    for step in later {
        plan.steps[step].waits.push(StepId(evict as u32));
    }
    (evict, fetch, reader)
}

#[test]
fn a_dropped_step_is_refused() {
    let error = refused(|plan| {
        let at = step_of(plan, "r0.gelu");
        plan.steps.remove(at);
    });
    assert_eq!(error, CheckError::MissingStep { node: "r0.gelu".into() });
}

#[test]
fn a_repeated_step_is_refused() {
    let error = refused(|plan| {
        let step = plan.steps[step_of(plan, "r0.gelu")].clone();
        plan.steps.push(step);
    });
    assert!(matches!(error, CheckError::RepeatedStep { .. }), "{error}");
}

#[test]
fn swapped_steps_are_refused() {
    let error = refused(|plan| {
        let (a, b) = (step_of(plan, "r0.linear"), step_of(plan, "r0.gelu"));
        plan.steps.swap(a, b);
    });
    assert!(matches!(&error, CheckError::NotYetComputed { value, .. } if value == "r0.linear"), "{error}");
}

#[test]
fn overlapping_slots_are_refused() {
    // x0 is kept for backward; r0.linear is computed while it lives.
    let error = refused(|plan| {
        let (a, b) = (buffer_of(plan, "r0.gelu"), buffer_of(plan, "r1.linear"));
        plan.buffers[b].slot.offset = plan.buffers[a].slot.offset;
    });
    assert!(matches!(error, CheckError::Overlap { .. }), "{error}");
}

#[test]
fn a_workspace_over_a_live_buffer_is_refused() {
    let error = refused(|plan| {
        let at = plan.steps.iter().position(|step| step.workspace.is_some()).expect("cross entropy has one");
        let Place::Arena(read) = plan.steps[at].reads[0] else { panic!("an arena operand") };
        let offset = plan.buffers[read.index()].slot.offset;
        plan.steps[at].workspace.as_mut().expect("found above").offset = offset;
    });
    assert!(matches!(error, CheckError::Overlap { .. }), "{error}");
}

#[test]
fn use_after_free_is_refused() {
    let error = refused(|plan| {
        let buffer = buffer_of(plan, "r1.linear");
        plan.buffers[buffer].last = plan.buffers[buffer].first;
    });
    assert!(matches!(&error, CheckError::UseAfterFree { value, .. } if value == "r1.linear"), "{error}");
}

#[test]
fn an_offloaded_plan_is_accepted_and_each_missing_wait_is_refused() {
    let (mut plan, source) = valid();
    let (evict, fetch, reader) = offload(&mut plan);
    assert_eq!(check(&plan, &source), Ok(()));
    for step in [evict, reader] {
        let mut raced = plan.clone();
        raced.steps[step].waits.clear();
        let error = check(&raced, &source).expect_err("a race");
        assert!(matches!(error, CheckError::MissingWait { .. }), "without the waits of step {step}: {error}");
    }
    let mut silent = plan.clone();
    silent.steps[fetch].signals = false;
    assert!(matches!(check(&silent, &source), Err(CheckError::NotSignalled { .. })));
    let mut late = plan.clone();
    late.steps[evict].waits = vec![StepId(reader as u32)];
    assert!(matches!(check(&late, &source), Err(CheckError::WaitsForLater { .. })));
    let mut never_evicted = plan;
    if let Action::Evict { tier, .. } = &mut never_evicted.steps[evict].action {
        *tier = Tier::Resident;
    }
    assert!(matches!(check(&never_evicted, &source), Err(CheckError::NotYetComputed { .. })));
}

#[test]
fn wrong_sizes_bounds_and_alignment_are_refused() {
    let error = refused(|plan| plan.buffers[0].slot.bytes -= 4);
    assert!(matches!(error, CheckError::WrongSize { .. }), "{error}");
    let error = refused(|plan| {
        let at = plan.steps.iter().position(|step| step.workspace.is_some()).expect("cross entropy has one");
        plan.steps[at].workspace = None;
    });
    assert!(matches!(error, CheckError::WrongSize { .. }), "{error}");
    let error = refused(|plan| plan.buffers[0].slot.offset = plan.arena_bytes);
    assert!(matches!(error, CheckError::OutsideArena { .. }), "{error}");
    let error = refused(|plan| plan.buffers[0].slot.offset += 1);
    assert!(matches!(error, CheckError::Misaligned { .. } | CheckError::OutsideArena { .. }), "{error}");
    let error = refused(|plan| plan.arena_bytes += 64);
    assert!(matches!(error, CheckError::ArenaSize { .. }), "{error}");
}

#[test]
fn operands_in_the_wrong_place_are_refused() {
    let error = refused(|plan| {
        let other = BufferId(buffer_of(plan, "x0") as u32);
        let at = step_of(plan, "r1.gelu");
        plan.steps[at].reads[0] = Place::Arena(other);
    });
    assert!(matches!(error, CheckError::WrongPlace { .. }), "{error}");
}

#[test]
fn a_freed_output_is_refused() {
    let error = refused(|plan| {
        let loss = buffer_of(plan, "loss");
        plan.buffers[loss].last = plan.buffers[loss].first;
    });
    assert_eq!(error, CheckError::OutputFreed { value: "loss".into() });
}

#[test]
fn a_graph_that_computes_something_else_is_refused() {
    let error = refused(|plan| {
        let at = plan.graph.nodes.iter().position(|n| n.name == "r0.linear").expect("a node of the model");
        if let Op::Linear(linear) = &mut plan.graph.nodes[at].op {
            linear.alpha = 2.0;
        }
        for node in &mut plan.graph.nodes {
            if let (Some(_), Op::Linear(linear)) = (node.recompute_of, &mut node.op) {
                linear.alpha = 2.0;
            }
        }
    });
    assert!(matches!(error, CheckError::NotEquivalent(_)), "{error}");
}

#[test]
fn every_backward_step_dropped_or_swapped_with_its_reader_is_refused() {
    let (plan, source) = valid();
    for at in 0..plan.steps.len() {
        let mut dropped = plan.clone();
        dropped.steps.remove(at);
        assert!(check(&dropped, &source).is_err(), "step {at} dropped");
        for later in at + 1..plan.steps.len() {
            let writes: Vec<&Place> = plan.steps[at].writes.iter().collect();
            if plan.steps[later].reads.iter().any(|read| writes.contains(&read)) {
                let mut swapped = plan.clone();
                swapped.steps.swap(at, later);
                assert!(check(&swapped, &source).is_err(), "steps {at} and {later} swapped");
            }
        }
    }
}

#[test]
fn the_example_has_what_the_tests_speak_of() {
    let (plan, _) = valid();
    assert!(plan.graph.nodes.iter().any(|node| node.phase == Phase::Backward));
    assert!(plan.recomputed_steps().count() > 0, "full recomputes the first region:\n{}", plan.graph);
    assert!(plan.graph.nodes.iter().any(|node| !node.op.donations().is_empty()));
}
