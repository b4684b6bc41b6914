//! Rule 2: each node runs once; what ranks do together runs on its own queue, in the order of the source, which is that of all
//! ranks; and which steps are certain to have finished before which.
//!
//! Method: vector clocks. `known[s][q]` is how many steps of queue `q` have certainly finished when step `s` starts:
//! those its own queue knew after its previous step, joined with what each awaited step knew when it ended.

use super::CheckError;
use crate::{Action, Plan, Queue, StepId};
use remat_ir::{Graph, OpDef};

const QUEUES: usize = Queue::ALL.len();

/// The happens-before relation of a plan.
pub(super) struct Order {
    known: Vec<[u32; QUEUES]>,
    queue: Vec<usize>,
    position: Vec<u32>,
}

impl Order {
    /// Whether step `a` has certainly finished when step `b` starts.
    pub(super) fn before(&self, a: usize, b: usize) -> bool {
        self.known[b][self.queue[a]] > self.position[a]
    }
}

pub(super) fn check(plan: &Plan, source: &Graph) -> Result<Order, CheckError> {
    every_node_once(plan)?;
    collectives_in_order(plan, source)?;
    let mut order = Order { known: Vec::new(), queue: Vec::new(), position: Vec::new() };
    let mut tails = [[0u32; QUEUES]; QUEUES];
    for (at, step) in plan.steps.iter().enumerate() {
        let queue = step.queue.index();
        let mut known = tails[queue];
        for &StepId(on) in &step.waits {
            let (step_id, on_index) = (at as u32, on as usize);
            if on_index >= at {
                return Err(CheckError::WaitsForLater { step: step_id, on });
            }
            if !plan.steps[on_index].signals {
                return Err(CheckError::NotSignalled { step: step_id, on });
            }
            for (knows, known_there) in known.iter_mut().zip(order.known[on_index]) {
                *knows = (*knows).max(known_there);
            }
            let awaited = order.queue[on_index];
            known[awaited] = known[awaited].max(order.position[on_index] + 1);
        }
        let position = tails[queue][queue];
        order.known.push(known);
        order.queue.push(queue);
        order.position.push(position);
        tails[queue] = known;
        tails[queue][queue] = position + 1;
    }
    Ok(order)
}

fn every_node_once(plan: &Plan) -> Result<(), CheckError> {
    let mut ran: Vec<Option<u32>> = vec![None; plan.graph.nodes.len()];
    for (at, step) in plan.steps.iter().enumerate() {
        let Action::Compute(op) = step.action else { continue };
        if let Some(first) = ran[op.index()].replace(at as u32) {
            let node = plan.graph.node(op).name.clone();
            return Err(CheckError::RepeatedStep { node, first, second: at as u32 });
        }
    }
    match ran.iter().position(Option::is_none) {
        Some(index) => Err(CheckError::MissingStep { node: plan.graph.nodes[index].name.clone() }),
        None => Ok(()),
    }
}

/// Ranks that came to a collective in another order than the others would wait for each other, or take one's bytes for
/// another's.
fn collectives_in_order(plan: &Plan, source: &Graph) -> Result<(), CheckError> {
    let mut expected = source.nodes.iter().filter(|node| node.op.collective().is_some());
    for (at, step) in plan.steps.iter().enumerate() {
        let node = if let Action::Compute(op) = step.action { Some(plan.graph.node(op)) } else { None };
        let node = node.filter(|node| node.op.collective().is_some());
        if node.is_some() != (step.queue == Queue::Comm) {
            return Err(CheckError::WrongQueue { step: at as u32, queue: step.queue.to_string() });
        }
        let Some(node) = node else { continue };
        let next = expected.next().map_or("", |next| &next.name);
        if node.name != next {
            let (node, expected) = (node.name.clone(), next.to_string());
            return Err(CheckError::CollectiveOutOfOrder { step: at as u32, node, expected });
        }
    }
    Ok(())
}
