//! Poison shows a use after free: a plan that hands a buffer back too early computes the right loss by luck, and NaN when
//! poisoned.

use remat_compiler::compile;
use remat_cpu::{CpuExecutor, CpuOptions};
use remat_ir::Phase;
use remat_plan::{Action, Device, Place, Plan, Policy};
use remat_testkit::{run_plan, source_values, two_layer_mlp};

fn loss(plan: Plan, poison: bool) -> f32 {
    let mut executor = CpuExecutor::new(CpuOptions::new(1));
    executor.set_poison(poison);
    let sources = source_values(&plan.graph, 3);
    run_plan(&mut executor, plan, &sources).expect("runs").f32("loss")[0]
}

#[test]
fn a_buffer_that_is_freed_too_early_shows_only_when_poisoned() {
    let graph = two_layer_mlp().with_backward();
    let plan = compile(graph, &Policy::None, &CpuOptions::new(1).profile()).expect("compiles");
    let sound = loss(plan.clone(), false);
    assert!(sound.is_finite());
    assert_eq!(loss(plan.clone(), true).to_bits(), sound.to_bits(), "a sound plan reads no poison");
    // The first GELU's operand is said to die where it is made.
    let step = plan.steps.iter().position(|step| {
        let Action::Compute(op) = step.action else { return false };
        let node = plan.graph.node(op);
        node.phase == Phase::Forward && node.name == "r0.linear"
    });
    let Place::Arena(buffer) = plan.steps[step.expect("the first linear")].writes[0] else { panic!("an arena value") };
    let mut broken = plan;
    broken.buffers[buffer.index()].last = broken.buffers[buffer.index()].first;
    assert_eq!(loss(broken.clone(), false).to_bits(), sound.to_bits(), "unnoticed: nothing reuses the slot in time");
    assert!(loss(broken, true).is_nan());
}
