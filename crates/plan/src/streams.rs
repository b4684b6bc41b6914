//! States that lie in a tier and are read, updated and written back block by block while one step runs.
//!
//! Method: an op that says how its operands go by element ([`OpDef::by_element`]) runs on [`STREAM_ELEMENTS`] of them at a time;
//! what of these lies in a tier passes through the step's workspace, each operand from a page of its own on. Invariant: which
//! operands are streamed the step's places say ([`Place::Spilled`]); how large the workspace is follows from these alone.

use crate::{Place, Plan, Step};
use remat_ir::ops::MOMENT_BLOCK;
use remat_ir::{Graph, Node, OpDef, Storage, Type, ValueId};

/// Elements of the first operand that are in memory at a time: a MiB in f32.
pub const STREAM_ELEMENTS: usize = 1 << 18;

/// Where an operand's part of the workspace begins: whole blocks of a disk.
const PART_BYTES: usize = 4096;

const _: () = assert!(STREAM_ELEMENTS.is_multiple_of(MOMENT_BLOCK));

/// An operand that is streamed through the workspace of its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streamed {
    /// Which operand.
    pub operand: usize,
    /// Where in the workspace its part begins.
    pub offset: usize,
}

/// Whether a node can read a state by element: as this operand of it.
pub fn can_stream(node: &Node, operand: usize) -> bool {
    node.op.by_element(node.inputs.len()).is_some_and(|per| per[operand] > 0)
}

/// The operands that a node streams, of states for which `is_spilled`, and the bytes of workspace that they take together. What
/// is a sum over its operands reads one after the other.
pub fn streamed(graph: &Graph, node: &Node, is_spilled: &dyn Fn(ValueId) -> bool) -> (Vec<Streamed>, usize) {
    let Some(per) = node.op.by_element(node.inputs.len()) else { return (Vec::new(), 0) };
    let (mut streamed, mut end, mut largest) = (Vec::new(), 0, 0);
    let one_by_one = node.op.donations().is_empty();
    for (operand, (&value, &per)) in node.inputs.iter().zip(&per).enumerate() {
        let is_state = graph.value(value).storage == Storage::State;
        if per == 0 || !is_state || !is_spilled(graph.storage_root(value)) {
            continue;
        }
        streamed.push(Streamed { operand, offset: if one_by_one { 0 } else { end } });
        let bytes = piece_bytes(graph.ty(value), per).next_multiple_of(PART_BYTES);
        (end, largest) = (end + bytes, largest.max(bytes));
    }
    (streamed, if one_by_one { largest } else { end })
}

/// Bytes of the longest piece of an operand of which `per` elements of the first belong to one.
fn piece_bytes(ty: &Type, per: usize) -> usize {
    let elements = ty.shape.numel();
    let bytes_each = ty.bytes().div_ceil(elements.max(1));
    elements.min(STREAM_ELEMENTS / per) * bytes_each
}

impl Plan {
    /// Whether a step streams some of its operands.
    pub fn is_streaming(&self, step: &Step) -> bool {
        step.reads.iter().any(|place| matches!(place, Place::Spilled(_)))
    }

    /// What a node streams here, and the workspace that it takes.
    pub fn streamed(&self, node: &Node) -> (Vec<Streamed>, usize) {
        streamed(&self.graph, node, &|root| self.tier(root) == crate::Tier::Spill)
    }

    /// Bytes of states that a step streams in, and out.
    pub fn streamed_bytes(&self, step: &Step) -> (usize, usize) {
        let bytes = |places: &[Place]| -> usize {
            let of = |place: &Place| if let Place::Spilled(root) = place { self.graph.ty(*root).bytes() } else { 0 };
            places.iter().map(of).sum()
        };
        (bytes(&step.reads), bytes(&step.writes))
    }

    /// Bytes of states off memory that one run reads, and writes.
    pub fn state_bytes_moved(&self) -> (usize, usize) {
        let (mut read, mut written) = (0, 0);
        for step in &self.steps {
            let is_state = |value: ValueId| self.graph.value(value).storage == Storage::State;
            let (streamed_in, streamed_out) = self.streamed_bytes(step);
            (read, written) = (read + streamed_in, written + streamed_out);
            match step.action {
                crate::Action::Fetch { value, rows, .. } if is_state(value) => read += self.fetch_bytes(value, rows),
                crate::Action::Evict { value, .. } if is_state(value) => written += self.graph.ty(value).bytes(),
                _ => {}
            }
        }
        (read, written)
    }
}
