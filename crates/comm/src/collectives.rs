//! What all ranks do together, made of an engine's exchange: all-to-all, gather, broadcast, barrier.
//!
//! Parts of a buffer are given by their bounds: part r is `bounds[r]..bounds[r + 1]`, in bytes. Invariants: every rank calls
//! the same in the same order; nothing is added up here. Bounds that do not fit their buffer are a caller's bug and panic.

use crate::engine::{Engine, Incoming, Outgoing};
use crate::error::CommError;

/// The parts of `bytes`.
fn parts<'a>(mut bytes: &'a mut [u8], bounds: &[usize]) -> Vec<&'a mut [u8]> {
    assert_eq!(bounds.last(), Some(&bytes.len()), "bounds end where the buffer does");
    let lengths = bounds.windows(2).map(|pair| pair[1] - pair[0]);
    let next = |length| {
        let (part, rest) = std::mem::take(&mut bytes).split_at_mut(length);
        bytes = rest;
        part
    };
    lengths.map(next).collect()
}

/// Sends part r of `send` to rank r, and receives into part r of `receive` what rank r sends. Empty parts are not sent, so
/// both sides have to know of them.
///
/// # Errors
/// As [`Engine::exchange`].
pub fn all_to_all(
    engine: &dyn Engine,
    (send, send_bounds): (&[u8], &[usize]),
    (receive, receive_bounds): (&mut [u8], &[usize]),
) -> Result<(), CommError> {
    let mine = engine.rank();
    let part = |rank: usize| &send[send_bounds[rank]..send_bounds[rank + 1]];
    let others = (0..engine.size()).filter(|&rank| rank != mine && !part(rank).is_empty());
    let outgoing: Vec<Outgoing<'_>> = others.map(|to| Outgoing { to, bytes: part(to) }).collect();
    let mut incoming = Vec::with_capacity(engine.size());
    for (from, bytes) in parts(receive, receive_bounds).into_iter().enumerate() {
        if from == mine {
            bytes.copy_from_slice(part(mine));
        } else if !bytes.is_empty() {
            incoming.push(Incoming { from, bytes });
        }
    }
    engine.exchange(&outgoing, &mut incoming)
}

/// Receives the part of every rank into `all`, whose own part this rank has filled in, on all ranks.
///
/// # Errors
/// As [`Engine::exchange`].
pub fn gather(engine: &dyn Engine, all: &mut [u8], bounds: &[usize]) -> Result<(), CommError> {
    let mine = engine.rank();
    let mut parts = parts(all, bounds);
    let own = std::mem::take(&mut parts[mine]);
    let has_own = !own.is_empty();
    let others = (0..engine.size()).filter(|&rank| rank != mine && has_own);
    let outgoing: Vec<Outgoing<'_>> = others.map(|to| Outgoing { to, bytes: own }).collect();
    let received = parts.into_iter().enumerate().filter(|(_, bytes)| !bytes.is_empty());
    let mut incoming: Vec<Incoming<'_>> = received.map(|(from, bytes)| Incoming { from, bytes }).collect();
    engine.exchange(&outgoing, &mut incoming)
}

/// The bytes of every rank, by rank, on all ranks; they may be of any length.
///
/// # Errors
/// As [`Engine::exchange`].
pub fn gather_all(engine: &dyn Engine, mine: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
    const LENGTH_BYTES: usize = size_of::<u64>();
    let (rank, size) = (engine.rank(), engine.size());
    let mut lengths = vec![0; LENGTH_BYTES * size];
    lengths[LENGTH_BYTES * rank..][..LENGTH_BYTES].copy_from_slice(&(mine.len() as u64).to_le_bytes());
    let bounds: Vec<usize> = (0..=size).map(|rank| LENGTH_BYTES * rank).collect();
    gather(engine, &mut lengths, &bounds)?;
    let mut bounds = vec![0];
    for length in lengths.chunks_exact(LENGTH_BYTES) {
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
        bounds.push(bounds[bounds.len() - 1] + length);
    }
    let mut all = vec![0; bounds[size]];
    all[bounds[rank]..bounds[rank + 1]].copy_from_slice(mine);
    gather(engine, &mut all, &bounds)?;
    Ok(bounds.windows(2).map(|pair| all[pair[0]..pair[1]].to_vec()).collect())
}

/// The bytes of rank `root`, on all ranks; they have the same length everywhere.
///
/// # Errors
/// As [`Engine::exchange`].
pub fn broadcast(engine: &dyn Engine, root: usize, bytes: &mut [u8]) -> Result<(), CommError> {
    if engine.rank() != root {
        return engine.exchange(&[], &mut [Incoming { from: root, bytes }]);
    }
    let others = (0..engine.size()).filter(|&rank| rank != root);
    let outgoing: Vec<Outgoing<'_>> = others.map(|to| Outgoing { to, bytes }).collect();
    engine.exchange(&outgoing, &mut [])
}

/// Returns when every rank has come here.
///
/// # Errors
/// As [`Engine::exchange`].
pub fn barrier(engine: &dyn Engine) -> Result<(), CommError> {
    let bounds: Vec<usize> = (0..=engine.size()).collect();
    gather(engine, &mut vec![0; engine.size()], &bounds)
}
