//! Rule 2: each node runs once; and which steps are certain to have finished before which.
//!
//! Method: vector clocks. `known[s][q]` is how many steps of queue `q` have certainly finished when step `s` starts:
//! those its own queue knew after its previous step, joined with what each awaited step knew when it ended.

use super::CheckError;
use crate::{Action, Plan, Queue, StepId};

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

pub(super) fn check(plan: &Plan) -> Result<Order, CheckError> {
    every_node_once(plan)?;
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
