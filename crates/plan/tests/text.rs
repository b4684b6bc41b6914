//! The text form of a plan: what is printed is read back, and faults are told with their line.

mod case_file;

use case_file::CaseFile;
use remat_ir::{OpId, ValueId};
use remat_plan::{Action, Place, Plan, Policy, Queue, Slot, Step, StepId, Tier};

/// A plan with everything that has a text, right or not.
fn rich_plan() -> Plan {
    let mut plan = CaseFile::named("offload").plan();
    let value = ValueId(3);
    plan.policy = Policy::Budget(1536 << 10);
    plan.rules.token_block = usize::MAX / 2;
    plan.steps[0].workspace = Some(Slot { offset: 64, bytes: 0 });
    plan.steps[0].waits = vec![StepId(7), StepId(u32::MAX)];
    plan.steps.push(Step {
        action: Action::Evict { value, tier: Tier::Spill },
        queue: Queue::Comm,
        reads: vec![Place::State(value), Place::Input(value)],
        writes: Vec::new(),
        workspace: None,
        waits: Vec::new(),
        signals: true,
    });
    plan.steps
        .push(Step { action: Action::Fetch { value, tier: Tier::Resident, rows: None }, ..plan.steps[1].clone() });
    plan.steps.push(Step { action: Action::Compute(OpId(u32::MAX)), queue: Queue::Copy, ..plan.steps[2].clone() });
    for step in &mut plan.steps {
        for place in &mut step.reads {
            if let Place::Weight(weight) = place {
                weight.tier = Tier::Spill;
            }
        }
    }
    plan
}

#[test]
fn print_then_parse_gives_the_plan_back() {
    for case in CaseFile::all() {
        let plan = case.plan();
        assert_eq!(plan.to_string(), case.plan.expect("it was read"), "the text is the printed form");
    }
    let plan = rich_plan();
    assert_eq!(plan.to_string().parse(), Ok(plan));
}

#[test]
fn faults_are_told_with_their_line() {
    let text = CaseFile::named("full").plan.expect("it is there");
    let line_of = |part: &str| 1 + text.lines().position(|line| line.contains(part)).expect("a line of the plan");
    let (arena, rules, node, buffer, step) =
        (line_of("arena"), line_of("rules"), line_of("#0 "), line_of("b1 "), line_of("s1 compute"));
    let last = text.lines().count();
    let faults = [
        ("plan {", "plan", 1, "expected 'plan {' before 'plan'"),
        ("policy full", "policy some", 2, "unknown checkpointing policy 'some'"),
        ("policy full", "policy every:0", 2, "'0' is not a positive number"),
        ("arena ", "arena -", arena, "expected a number before '-"),
        ("arena ", "arena 99999999999999999999", arena, "expected a number before '99999999999999999999"),
        ("token block 512", "token block", rules, "expected ', token block ' before"),
        ("shares 16", "shares 16 x", rules, "unexpected 'x'"),
        ("embedding(", "embeding(", node, "there is no op named 'embeding'"),
        ("embedding(%4, %0)", "embedding(%4)", line_of("graph {"), "embedding \"x0\": expects 2 operands, got 1"),
        ("b1 %", "b2 %", buffer, "b2 must be b1: buffers and steps are numbered in order"),
        (", s1 to s2", ", s1", buffer, "expected 'to ' before ''"),
        (", s1 to s2", ", s1 to s4294967296", buffer, "s4294967296 is too large"),
        ("s1 compute", "s1 computes", step, "'computes' is not a queue (compute, copy, comm)"),
        ("s1 compute #1", "s1 compute run", step, "'run' is not what a step does"),
        ("s1 compute #1(b0", "s1 compute #1(c0", step, "'c0' is not a memory (resident, spill)"),
        ("s1 compute #1(b0,", "s1 compute #1(b0", step, "expected ',' before 'state"),
        ("s1 compute", "b13 compute", step, "expected a buffer, a step or a closing brace before 'b13 compute"),
        ("\n  s0 ", "\n}\n  s0 ", line_of("s0 compute") + 1, "nothing may follow the closing brace"),
        ("\n}", "", last - 1, "the text ends before the plan does"),
    ];
    for (part, other, line, expected) in faults {
        let wrong = match part {
            "\n}" => text.strip_suffix(part).expect("it ends so").to_string(),
            part => text.replacen(part, other, 1),
        };
        let error = wrong.parse::<Plan>().expect_err(expected);
        assert_eq!(error.line, line, "{error}");
        assert!(error.message.contains(expected), "{error}, not {expected}");
        assert_eq!(error.to_string(), format!("line {line}: {}", error.message));
    }
    let empty = "".parse::<Plan>().expect_err("nothing").to_string();
    assert_eq!(empty, "line 1: the text ends before the plan does (expected: a closing brace)");
    let begun = "plan {\n  policy full\n".parse::<Plan>().expect_err("a part").to_string();
    assert_eq!(begun, "line 2: the text ends before the plan does (expected: a closing brace)");
}

/// Twenty thousand steps are read in time that grows with their number, and take no more memory than they are long.
#[test]
fn a_long_text_is_read_line_by_line() {
    let mut plan = CaseFile::named("full").plan();
    let steps = plan.steps.clone();
    plan.steps = steps.into_iter().cycle().take(20_000).collect();
    assert_eq!(plan.to_string().parse(), Ok(plan));
}
