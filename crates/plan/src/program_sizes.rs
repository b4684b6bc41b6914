//! What a device holds of a loaded plan beside the plan itself and the memory that it names, as data: so much for each
//! step, operand and copy, and once for reading weights. Invariant: the memory account and the device count by the same numbers.

use crate::{Plan, Step};

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgramSizes {
    /// Of a step of any kind.
    pub step: usize,
    /// More, of one that computes.
    pub node: usize,
    /// Of an operand or result.
    pub operand: usize,
    /// Of each of its axes.
    pub axis: usize,
    /// Of a buffer or workspace.
    pub slot: usize,
    /// More, of a step that copies.
    pub copy: usize,
    /// More, of an operand of a step that streams, which is there twice again.
    pub streamed: usize,
    /// Once, what weights and states that are not resident pass through, if any plan has such.
    pub copy_buffers: usize,
}

impl ProgramSizes {
    /// Bytes of one loaded plan.
    pub fn bytes(&self, plan: &Plan) -> usize {
        let operands = plan.graph.nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs));
        let (mut count, mut axes) = (0, 0);
        for &value in operands {
            count += 1;
            axes += plan.graph.ty(value).shape.len();
        }
        let copies = plan.copy_steps().count();
        let streaming = plan.steps.iter().filter(|step| plan.is_streaming(step));
        let again = |step: &Step| {
            let operands = step.reads.len() + step.writes.len();
            2 * (self.node + operands * (self.operand + self.axis)) + step.reads.len() * self.streamed
        };
        plan.steps.len() * self.step
            + plan.graph.nodes.len() * self.node
            + count * self.operand
            + axes * self.axis
            // A buffer or workspace is freed once.
            + (plan.buffers.len() + plan.steps.len()) * self.slot
            + copies * self.copy
            + streaming.map(again).sum::<usize>()
    }
}
