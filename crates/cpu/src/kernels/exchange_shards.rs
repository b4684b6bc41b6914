//! Gradients change hands: an all-to-all of shards, straight out of the gradients and into their owner's parts. Bound by what
//! joins the ranks; but for lists of messages, nothing is allocated.

use remat_comm::{CommError, Engine, Incoming, Outgoing};
use remat_ir::{ops, pieces, shard};

/// Sends each of the other ranks its shard of `gradients`, if this rank is among the first `present`, receives what those send
/// into the rows of `parts`, and zeroes the gradients. `engine` is none for a rank that is alone.
///
/// # Errors
/// As [`Engine::exchange`].
pub fn exchange_shards(
    engine: Option<&dyn Engine>,
    op: &ops::ExchangeShards,
    present: usize,
    gradients: &mut [&mut [f32]],
    parts: &mut [f32],
) -> Result<(), CommError> {
    let ops::ExchangeShards { world, lengths, bounds } = op;
    let own = shard(bounds, world.rank);
    {
        let held: &[&mut [f32]] = gradients;
        let (mut outgoing, mut incoming) = (Vec::new(), Vec::new());
        for to in (0..world.size).filter(|&rank| rank != world.rank && world.rank < present) {
            for (index, of) in pieces(lengths, shard(bounds, to)) {
                outgoing.push(Outgoing { to, bytes: bytemuck::cast_slice(&held[index][of]) });
            }
        }
        for (from, row) in parts.chunks_mut(own.len().max(1)).enumerate() {
            if from >= present {
                row.fill(0.0);
                continue;
            }
            let mut rest = row;
            for (index, of) in pieces(lengths, own.clone()) {
                let (piece, after) = rest.split_at_mut(of.len());
                rest = after;
                if from == world.rank {
                    piece.copy_from_slice(&held[index][of]);
                } else {
                    incoming.push(Incoming { from, bytes: bytemuck::cast_slice_mut(piece) });
                }
            }
        }
        engine.map_or(Ok(()), |engine| engine.exchange(&outgoing, &mut incoming))?;
    }
    gradients.iter_mut().for_each(|gradient| gradient.fill(0.0));
    Ok(())
}
