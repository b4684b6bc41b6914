//! The checker against mutated plans: each lie about a valid plan is refused with the error of the rule it breaks.

mod case_file;

use case_file::CaseFile;
use remat_ir::{Graph, Op, OpDef, Phase};
use remat_plan::{Action, BufferId, CheckError, Place, Plan, Queue, Slot, Step, StepId, Tier, check};
use std::sync::Arc;

/// The valid plan of a case, and the graph that it computes.
fn valid_of(name: &str) -> (Plan, Graph) {
    let case = CaseFile::named(name);
    let (plan, source) = (case.plan(), case.source());
    assert_eq!(check(&plan, &source), Ok(()));
    (plan, source)
}

fn valid() -> (Plan, Graph) {
    valid_of("full")
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

/// Removes a step and renumbers what names those behind it.
fn remove(plan: &mut Plan, at: usize) -> Step {
    let shift = |id: &mut StepId| id.0 -= u32::from(id.index() > at);
    plan.buffers.iter_mut().flat_map(|buffer| [&mut buffer.first, &mut buffer.last]).for_each(shift);
    plan.steps.iter_mut().flat_map(|step| &mut step.waits).for_each(shift);
    plan.steps.remove(at)
}

fn copy_step(plan: &Plan, evicts: bool) -> usize {
    let copies = |step: &Step| match step.action {
        Action::Evict { .. } => evicts,
        Action::Fetch { .. } => !evicts,
        Action::Compute(_) => false,
    };
    plan.steps.iter().position(copies).expect("the plan offloads")
}

#[test]
fn a_dropped_step_is_refused() {
    let error = refused(|plan| {
        let at = step_of(plan, "r0.gelu");
        remove(plan, at);
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
fn each_missing_wait_of_an_offloaded_plan_is_refused() {
    let (plan, source) = valid_of("offload");
    let (evict, fetch) = (copy_step(&plan, true), copy_step(&plan, false));
    let waiting: Vec<usize> = (0..plan.steps.len()).filter(|&at| !plan.steps[at].waits.is_empty()).collect();
    assert!(waiting.len() >= 4, "for what is evicted, for its slot, for the fetched one's slot, for what is fetched");
    for &step in &waiting {
        let mut raced = plan.clone();
        raced.steps[step].waits.clear();
        let error = check(&raced, &source).expect_err("a race");
        assert!(matches!(error, CheckError::MissingWait { .. }), "without the waits of step {step}: {error}");
    }
    let mut silent = plan.clone();
    silent.steps[fetch].signals = false;
    assert!(matches!(check(&silent, &source), Err(CheckError::NotSignalled { .. })));
    let mut late = plan.clone();
    late.steps[evict].waits = vec![StepId(fetch as u32)];
    assert!(matches!(check(&late, &source), Err(CheckError::WaitsForLater { .. })));
    let mut never_evicted = plan;
    if let Action::Evict { tier, .. } = &mut never_evicted.steps[evict].action {
        *tier = Tier::Resident;
    }
    assert!(matches!(check(&never_evicted, &source), Err(CheckError::NotYetComputed { .. })));
}

#[test]
fn a_weight_off_memory_is_fetched_from_where_it_is_declared_before_whoever_reads_it() {
    let (plan, source) = valid_of("weights");
    let fetches = |step: &Step| matches!(step.action, Action::Fetch { .. });
    let is_read =
        |step: &Step| step.queue == Queue::Compute && step.waits.iter().any(|on| fetches(&plan.steps[on.index()]));
    let readers: Vec<usize> = (0..plan.steps.len()).filter(|&at| is_read(&plan.steps[at])).collect();
    assert!(readers.len() >= 3, "rows, and weights forward and backward");
    for reader in readers {
        let mut raced = plan.clone();
        raced.steps[reader].waits.clear();
        let error = check(&raced, &source).expect_err("a race");
        assert!(matches!(error, CheckError::MissingWait { .. }), "without the waits of step {reader}: {error}");
    }
    let refused = |mutate: &dyn Fn(&mut Plan)| {
        let mut plan = plan.clone();
        mutate(&mut plan);
        check(&plan, &source).expect_err("the mutated plan must be refused")
    };
    let rows = plan.steps.iter().position(|step| matches!(step.action, Action::Fetch { rows: Some(_), .. }));
    let whole = plan.steps.iter().position(|step| matches!(step.action, Action::Fetch { rows: None, .. }));
    let (rows, whole) = (rows.expect("rows"), whole.expect("a weight"));
    let set = |plan: &mut Plan, at: usize, to: (Option<Tier>, Option<Option<remat_ir::ValueId>>)| {
        let Action::Fetch { tier, rows, .. } = &mut plan.steps[at].action else { panic!("a fetch") };
        (*tier, *rows) = (to.0.unwrap_or(*tier), to.1.unwrap_or(*rows));
    };
    let undeclared = refused(&|plan| plan.spilled.truncate(2));
    assert!(matches!(undeclared, CheckError::NotInTier { .. }), "{undeclared}");
    let elsewhere = refused(&|plan| set(plan, whole, (Some(Tier::Resident), None)));
    assert!(matches!(elsewhere, CheckError::NotInTier { .. }), "{elsewhere}");
    let by_no_ids = refused(&|plan| set(plan, rows, (None, Some(Some(remat_ir::ValueId(1))))));
    assert!(matches!(by_no_ids, CheckError::NotInTier { .. }), "ids are whole numbers: {by_no_ids}");
    let whole_table = refused(&|plan| set(plan, rows, (None, Some(None))));
    assert!(matches!(whole_table, CheckError::Graph(_)), "no operands: {whole_table}");
    let some_rows = refused(&|plan| {
        set(plan, whole, (None, Some(Some(remat_ir::ValueId(0)))));
        plan.steps[whole].reads = vec![Place::Input(remat_ir::ValueId(0))];
    });
    assert!(matches!(some_rows, CheckError::WrongPlace { .. } | CheckError::WrongSize { .. }), "{some_rows}");
    for listed in [vec![plan.spilled[1], plan.spilled[0]], vec![remat_ir::ValueId(0)], vec![remat_ir::ValueId(99)]] {
        let error = refused(&|plan| plan.spilled.clone_from(&listed));
        assert!(matches!(error, CheckError::Named(_)), "{listed:?}: {error}");
    }
}

/// One plan for each name and number that leads nowhere.
#[test]
fn what_does_not_exist_is_refused_by_name() {
    let nowhere = |mutate: fn(&mut Plan)| {
        let (mut plan, source) = valid_of("offload");
        mutate(&mut plan);
        match check(&plan, &source) {
            Err(CheckError::Named(message)) => message,
            other => panic!("{other:?}"),
        }
    };
    let value = remat_ir::ValueId(99);
    assert_eq!(nowhere(|plan| plan.buffers[1].value.0 = 99), "buffer 1 names value %99, which does not exist");
    assert_eq!(nowhere(|plan| plan.buffers[1].last.0 = 99), "buffer 1 lives from step 2 to step 99");
    assert_eq!(nowhere(|plan| plan.buffers[1].last.0 = 1), "buffer 1 lives from step 2 to step 1");
    assert_eq!(
        nowhere(|plan| plan.buffers[1].slot.offset = usize::MAX),
        "buffer 1 has 16384 at 18446744073709551615, more than any memory"
    );
    assert_eq!(
        nowhere(|plan| plan.steps[0].workspace = Some(Slot { offset: 1, bytes: usize::MAX })),
        "step 0 has 18446744073709551615 at 1, more than any memory"
    );
    assert_eq!(
        nowhere(|plan| plan.steps[0].reads[0] = Place::Arena(BufferId(99))),
        "step 0 names buffer 99, which does not exist"
    );
    assert_eq!(
        nowhere(|plan| plan.steps[0].reads[0] = Place::Input(remat_ir::ValueId(99))),
        "step 0 names value %99, which does not exist"
    );
    assert_eq!(
        nowhere(|plan| plan.steps[0].action = Action::Compute(remat_ir::OpId(99))),
        "step 0 computes node #99, which does not exist"
    );
    let (mut plan, source) = valid_of("offload");
    let evict = copy_step(&plan, true);
    plan.steps[evict].action = Action::Evict { value, tier: Tier::Spill };
    let error = check(&plan, &source).expect_err("no such value");
    assert_eq!(error, CheckError::Named(format!("step {evict} names value %99, which does not exist")));
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
    // More than the rules ask for is wrong, too: an arena would be larger than the step needs.
    let error = refused(|plan| {
        let workspace = plan.steps.iter_mut().find_map(|step| step.workspace.as_mut()).expect("cross entropy has one");
        workspace.bytes += 64;
    });
    assert!(matches!(error, CheckError::WrongSize { .. }), "{error}");
    let error = refused(|plan| {
        let without = plan.steps.iter_mut().find(|step| step.workspace.is_none()).expect("most have none");
        without.workspace = Some(Slot { offset: 0, bytes: 64 });
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
        let graph = Arc::make_mut(&mut plan.graph);
        let at = graph.nodes.iter().position(|n| n.name == "r0.linear").expect("a node of the model");
        if let Op::Linear(linear) = &mut graph.nodes[at].op {
            linear.alpha = 2.0;
        }
        for node in &mut graph.nodes {
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
        remove(&mut dropped, at);
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

#[test]
fn a_tile_that_reads_other_rows_or_puts_them_elsewhere_is_refused() {
    let (plan, source) = valid_of("tiles");
    let (mut read, mut written) = (0, 0);
    for index in 0..plan.graph.nodes.len() {
        let mut wrong = plan.clone();
        let first = match &mut Arc::make_mut(&mut wrong.graph).nodes[index].op {
            Op::SliceRows(op) => {
                read += 1;
                &mut op.first
            }
            Op::WriteRows(op) => {
                written += 1;
                &mut op.first
            }
            _ => continue,
        };
        *first = if *first == 0 { 4 } else { *first - 4 };
        let error = check(&wrong, &source).expect_err("other rows").to_string();
        let reasons = ["is not", "rows that are left out", "moves rows that are not there or not next"];
        assert!(reasons.iter().any(|reason| error.contains(reason)), "{error}");
    }
    assert!(read >= 4 && written >= 2, "{read} slices, {written} writes");
}

#[test]
fn a_sum_that_is_interrupted_inside_a_block_is_refused() {
    let (mut plan, source) = valid_of("tiles");
    plan.rules.token_block = 3;
    let error = check(&plan, &source).expect_err("after four rows").to_string();
    assert!(error.contains("is interrupted at row 4, not after a block of 3"), "{error}");
}
