//! What ranks do together leaves the compute queue for one of its own, so that kernels run while bytes move.
//!
//! Method: steps keep their order and their places; a collective waits for the last step before it that touches the same bytes,
//! and the first step behind it that does waits for the collective. A step that only reads what the other only reads need not
//! wait. Invariant: collectives follow one another in the order of the graph, which is the same on every rank. Look next at
//! `remat_plan::check`, which proves the result.

use remat_ir::{OpDef, ValueId};
use remat_plan::{Action, Place, Plan, Queue, Slot, Step, StepId};

/// The same plan with its collectives on their queue.
pub(crate) fn on_their_queue(mut plan: Plan) -> Plan {
    let is_collective = |plan: &Plan, step: &Step| match step.action {
        Action::Compute(op) => plan.graph.node(op).op.collective().is_some(),
        Action::Evict { .. } | Action::Fetch { .. } => false,
    };
    let collectives: Vec<usize> = (0..plan.steps.len()).filter(|&at| is_collective(&plan, &plan.steps[at])).collect();
    if collectives.is_empty() {
        return plan;
    }
    collectives.iter().for_each(|&at| plan.steps[at].queue = Queue::Comm);
    let touched: Vec<Touched> = plan.steps.iter().map(|step| Touched::of(&plan, step)).collect();
    for at in collectives {
        let meets = |other: &usize| plan.steps[*other].queue != Queue::Comm && touched[*other].meets(&touched[at]);
        let (before, behind) = ((0..at).rfind(meets), (at + 1..plan.steps.len()).find(meets));
        if let Some(before) = before {
            wait(&mut plan, at, before);
        }
        if let Some(behind) = behind {
            wait(&mut plan, behind, at);
        }
    }
    for step in &mut plan.steps {
        step.waits.sort_unstable();
        step.waits.dedup();
    }
    plan
}

fn wait(plan: &mut Plan, step: usize, on: usize) {
    plan.steps[on].signals = true;
    plan.steps[step].waits.push(StepId(on as u32));
}

/// What a step reads and writes that another may touch.
struct Touched {
    read: Vec<Bytes>,
    written: Vec<Bytes>,
}

/// Bytes of the arena, or a state.
#[derive(PartialEq)]
enum Bytes {
    Arena(Slot),
    State(ValueId),
}

impl Touched {
    fn of(plan: &Plan, step: &Step) -> Self {
        let bytes = |place: &Place| match *place {
            Place::Arena(id) => Some(Bytes::Arena(plan.buffers[id.index()].slot)),
            Place::State(root) | Place::Spilled(root) => Some(Bytes::State(root)),
            // Nothing writes them while a plan runs.
            Place::Weight(_) | Place::Input(_) => None,
        };
        let workspace = step.workspace.filter(|slot| slot.bytes > 0).map(Bytes::Arena);
        let written = step.writes.iter().filter_map(bytes).chain(workspace).collect();
        Touched { read: step.reads.iter().filter_map(bytes).collect(), written }
    }

    fn meets(&self, other: &Touched) -> bool {
        let share = |these: &[Bytes], those: &[Bytes]| these.iter().any(|a| those.iter().any(|b| a.meets(b)));
        share(&self.written, &other.written) || share(&self.written, &other.read) || share(&self.read, &other.written)
    }
}

impl Bytes {
    fn meets(&self, other: &Bytes) -> bool {
        match (self, other) {
            (Bytes::Arena(a), Bytes::Arena(b)) => a.overlaps(*b),
            _ => self == other,
        }
    }
}
