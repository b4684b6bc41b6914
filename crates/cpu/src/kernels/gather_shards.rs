//! Shards of tensors to all ranks, straight out of the tensors and into them. Bound by what joins the ranks; but for lists of
//! messages, nothing is allocated.

use remat_comm::{CommError, Engine, Incoming, Outgoing};
use remat_ir::{ops, pieces, shard};

/// Sends this rank's shard of `tensors` to all others and receives theirs. `engine` is none for a rank that is alone.
///
/// # Errors
/// As [`Engine::exchange`].
pub fn gather_shards(
    engine: Option<&dyn Engine>,
    op: &ops::GatherShards,
    tensors: &mut [&mut [u8]],
) -> Result<(), CommError> {
    let ops::GatherShards { world, lengths, bounds, .. } = op;
    let Some(engine) = engine else { return Ok(()) };
    let (mut own, mut incoming): (Vec<&[u8]>, _) = (Vec::new(), Vec::new());
    let mut rest: Vec<&mut [u8]> = tensors.iter_mut().map(|tensor| &mut **tensor).collect();
    for from in 0..world.size {
        // Shards follow one another, and so do the pieces of a tensor.
        for (index, of) in pieces(lengths, shard(bounds, from)) {
            let (piece, after) = std::mem::take(&mut rest[index]).split_at_mut(ELEMENT_BYTES * of.len());
            rest[index] = after;
            if from == world.rank {
                own.push(piece);
            } else {
                incoming.push(Incoming { from, bytes: piece });
            }
        }
    }
    let others = (0..world.size).filter(|&to| to != world.rank);
    let outgoing: Vec<Outgoing<'_>> =
        others.flat_map(|to| own.iter().map(move |&bytes| Outgoing { to, bytes })).collect();
    engine.exchange(&outgoing, &mut incoming)
}

/// Elements are of 4 bytes.
const ELEMENT_BYTES: usize = 4;
