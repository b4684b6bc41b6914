//! What follows a round of micro-batches on several ranks: gradients change hands, and each rank adds up what it owns.
//!
//! Method: group by group, an exchange on the comm queue and one addition per piece; the next group's exchange stands before
//! the additions of this one, so that bytes move meanwhile. Invariant: every element is one addition per micro-batch, in the
//! order of micro-batches, as `accumulate` makes it in a single process. Look next at `shards` for who owns what, and at
//! `sharded_update` for the update.

use crate::StepError;
use crate::shards::{ShardGroup, Shards};
use crate::update::{Owned, begin};
use remat_ir::ops::{AddParts, ExchangeShards};
use remat_ir::{Builder, Graph, Parameter, StateRole, ValueId, World};
use remat_tensor::DType;

/// The input that says how many ranks, the first ones, have a gradient in this round: i32 [1].
pub const PRESENT: &str = "ranks_present";

/// The course of [`crate::accumulation_graph`] on one of several ranks: sends the shards of each `<name>.grad` to their owners,
/// zeroes it, and adds what comes to the pieces of `<name>.grad_sum` that this rank owns, f32 states [elements].
///
/// # Errors
/// No parameters.
pub fn exchange_graph(parameters: &[Parameter], world: World) -> Result<Graph, StepError> {
    let mut b = begin(parameters)?;
    let shards = Shards::of(parameters, world.size);
    let present = b.scalar(PRESENT, DType::I32);
    let mut waiting: Option<(&ShardGroup, ValueId)> = None;
    for (index, group) in shards.groups().iter().enumerate() {
        let of = &parameters[group.parameters.clone()];
        let gradient = |parameter: &Parameter| {
            b.state_of(&parameter.name, parameter.kind, StateRole::Gradient, parameter.ty.clone())
        };
        let operands: Vec<ValueId> = of.iter().map(gradient).collect();
        let op = ExchangeShards { world, lengths: group.lengths.clone(), bounds: group.bounds.clone() };
        let results = b.op(&format!("exchange_shards.{index}"), op, &[&operands[..], &[present]].concat())?;
        let parts = results.get(operands.len()).map(|&parts| (group, parts));
        if let Some(before) = std::mem::replace(&mut waiting, parts) {
            add(&mut b, parameters, before, world.rank, present)?;
        }
    }
    if let Some(last) = waiting {
        add(&mut b, parameters, last, world.rank, present)?;
    }
    Ok(b.finish())
}

/// Adds the parts of a group to the sums of this rank's pieces.
fn add(
    b: &mut Builder,
    parameters: &[Parameter],
    (group, parts): (&ShardGroup, ValueId),
    rank: usize,
    present: ValueId,
) -> Result<(), StepError> {
    let mut first = 0;
    for piece in group.pieces(rank) {
        let parameter = &parameters[piece.parameter];
        let sum = Owned::piece(parameter, piece.elements.clone()).state(b, StateRole::GradientSum);
        b.op(&format!("add_parts.{}", parameter.name), AddParts { first }, &[sum, parts, present])?;
        first += piece.elements.len();
    }
    Ok(())
}
