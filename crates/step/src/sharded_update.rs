//! The update on several ranks: each updates what it owns, and all receive the updated parameters.
//!
//! Method: the sums of squares of this rank's blocks are gathered from all, and every rank makes the same norm of them, in the
//! order of a single process; then group by group the update of this rank's pieces, in place in the parameter, and a gather on the
//! comm queue, behind which the next group's update runs. Invariants: the optimizer's states are of this rank's elements alone;
//! each element is updated by the same operations on the same numbers as in a single process. Look next at `update`.

use crate::shards::{Piece, Shards};
use crate::update::{Owned, Scalars, begin, clip, update, working_copy};
use crate::{Optimizer, StepError, UpdateRule};
use remat_ir::ops::{GatherShards, NormOfSquares, SquareSums};
use remat_ir::{Builder, Graph, Parameter, StateRole, ValueId, World};
use std::collections::HashMap;

/// As [`crate::update_graph`], of one rank of `rule.world`; of what it owns not all of, `<name>.grad_sum` and the optimizer's
/// states are f32 or u8 [elements].
///
/// # Errors
/// As there; an optimizer that is not cut into shards.
pub fn sharded_update_graph(parameters: &[Parameter], rule: &UpdateRule) -> Result<Graph, StepError> {
    let Optimizer::AdamW(_) = rule.optimizer else {
        return Err(StepError::NotSharded { optimizer: rule.optimizer.name() });
    };
    let (world, shards) = (rule.world, Shards::of(parameters, rule.world.size));
    let mut b = begin(parameters)?;
    let rates = Scalars::rates(&mut b, parameters, rule)?;
    let owned: Vec<(Piece, Owned<'_>, ValueId)> = shards
        .pieces(world.rank)
        .map(|piece| {
            let owned = Owned::piece(&parameters[piece.parameter], piece.elements.clone());
            // Ranks add up apart whatever the rule says.
            let gradient = owned.state(&mut b, StateRole::GradientSum);
            (piece, owned, gradient)
        })
        .collect();
    let norm = norm(&mut b, &shards, world, &owned)?;
    b.output(norm);
    let scalars = rates.clipped(&mut b, norm, rule)?;
    let mut updated: HashMap<usize, ValueId> = HashMap::new();
    let mut gathered: Vec<ValueId> = Vec::new();
    let mut owned = owned.into_iter().peekable();
    for (index, group) in shards.groups().iter().enumerate() {
        while let Some((piece, owned, gradient)) =
            owned.next_if(|(piece, ..)| group.parameters.contains(&piece.parameter))
        {
            let gradient = clip(&mut b, owned.parameter, gradient, &scalars, rule)?;
            updated.insert(piece.parameter, update(&mut b, &owned, gradient, &scalars, rule)?);
        }
        copy(&mut b, &parameters[..group.parameters.start], &mut gathered)?;
        let value = |index: usize| match updated.get(&index) {
            Some(&value) => value,
            None => Owned::whole(&parameters[index]).state(&mut b, StateRole::Value),
        };
        let values: Vec<ValueId> = group.parameters.clone().map(value).collect();
        let (lengths, bounds) = (group.lengths.clone(), group.bounds.clone());
        let op = GatherShards { world, lengths, bounds, in_state: true };
        gathered = b.op(&format!("gather_shards.{index}"), op, &values)?;
    }
    copy(&mut b, parameters, &mut gathered)?;
    Ok(b.finish())
}

/// Working copies of the parameters that were gathered last, which are the last of `parameters`.
fn copy(b: &mut Builder, parameters: &[Parameter], gathered: &mut Vec<ValueId>) -> Result<(), StepError> {
    let of = &parameters[parameters.len() - gathered.len()..];
    of.iter().zip(gathered.drain(..)).try_for_each(|(parameter, value)| working_copy(b, parameter, value))
}

/// The norm of all ranks' gradients: blocks stand by rank, and in a rank in the order of its pieces.
fn norm(
    b: &mut Builder,
    shards: &Shards,
    world: World,
    owned: &[(Piece, Owned<'_>, ValueId)],
) -> Result<ValueId, StepError> {
    let mut first = vec![0];
    (0..world.size).for_each(|rank| first.push(first[rank] + shards.blocks(rank)));
    let total = first[world.size];
    let blocks = owned.iter().map(|(piece, ..)| shards.block(piece.parameter)).collect();
    let gradients: Vec<ValueId> = owned.iter().map(|(.., gradient)| *gradient).collect();
    let sums = b.op1("square_sums", SquareSums { blocks, first: first[world.rank], total }, &gradients)?;
    let bounds = first.iter().map(|blocks| 2 * blocks).collect();
    let gather = GatherShards { world, lengths: vec![2 * total], bounds, in_state: false };
    let sums = b.op1("gather_square_sums", gather, &[sums])?;
    let mut runs: Vec<Vec<[usize; 2]>> = vec![Vec::new(); shards.parameters()];
    for (rank, &first) in first[..world.size].iter().enumerate() {
        let mut at = first;
        for piece in shards.pieces(rank) {
            let count = piece.elements.len().div_ceil(shards.block(piece.parameter));
            runs[piece.parameter].push([at, count]);
            at += count;
        }
    }
    Ok(b.op1("grad_norm", NormOfSquares { tensors: runs }, &[sums])?)
}
