//! States that ranks have in parts, brought together for rank 0, which alone writes.
//!
//! Invariants: rank 0 asks for them, and every rank then sends what it has in the order of the file, piece by piece, so that no
//! state is ever held whole; whatever becomes of the writing, rank 0 takes all that was sent, so that the next question finds
//! nothing left over.

use crate::TrainError;
use crate::folder::saved_states::{SavedState, specs};
use remat_comm::{CommError, Engine, Incoming, Outgoing};
use remat_formats::write_order;
use remat_ir::Storage;
use remat_plan::Device;
use std::collections::VecDeque;
use std::ops::Range;

/// What is sent at a time.
const PIECE_BYTES: usize = 1 << 20;

/// States as rank 0 reads them.
pub(crate) struct WholeStates<'a> {
    states: &'a [SavedState],
    device: &'a dyn Device,
    engine: Option<&'a dyn Engine>,
    /// Ranks that have something to send, in its order, and how much is still to come of it.
    coming: VecDeque<(usize, usize)>,
    buffer: Vec<u8>,
}

impl<'a> WholeStates<'a> {
    /// Of a process that trains alone, or of rank 0 when it has told the others to send what they have.
    pub(crate) fn new(states: &'a [SavedState], device: &'a dyn Device, engine: Option<&'a dyn Engine>) -> Self {
        let parts = in_order(states).flat_map(|state| &state.parts).filter(|(rank, _)| *rank != 0);
        let coming = parts.map(|(rank, bytes)| (*rank, bytes.len())).collect();
        WholeStates { states, device, engine, coming, buffer: Vec::new() }
    }

    /// Hands over all bytes of a state, piece by piece; the states are asked for in the order of the file.
    pub(crate) fn read(
        &mut self,
        index: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let state = &self.states[index];
        if state.parts.iter().all(|(rank, _)| *rank == 0) {
            let source = self.device.known(Storage::State, &state.name)?;
            return self.device.read_pieces(source, &mut self.buffer, sink);
        }
        for (rank, _) in &state.parts {
            if *rank == 0 {
                let source = self.device.known(Storage::State, &state.name)?;
                self.device.read_pieces(source, &mut self.buffer, sink)?;
                continue;
            }
            while self.coming.front().is_some_and(|(from, left)| from == rank && *left > 0) {
                let piece = self.receive()?;
                sink(&self.buffer[..piece])?;
            }
            self.coming.pop_front();
        }
        Ok(())
    }

    /// Takes the next piece that is sent, into the buffer, and returns its length.
    fn receive(&mut self) -> Result<usize, CommError> {
        let (Some((from, left)), Some(engine)) = (self.coming.front_mut(), self.engine) else { return Ok(0) };
        let piece = PIECE_BYTES.min(*left);
        self.buffer.resize(PIECE_BYTES, 0);
        engine.exchange(&[], &mut [Incoming { from: *from, bytes: &mut self.buffer[..piece] }])?;
        *left -= piece;
        Ok(piece)
    }

    /// Takes what nobody has read.
    pub(crate) fn finish(mut self) -> Result<(), CommError> {
        while let Some((_, left)) = self.coming.front() {
            if *left == 0 {
                self.coming.pop_front();
            } else {
                self.receive()?;
            }
        }
        Ok(())
    }
}

/// States in the order in which they stand in a file.
fn in_order(states: &[SavedState]) -> impl Iterator<Item = &SavedState> {
    write_order(&specs(states)).into_iter().map(|index| &states[index])
}

/// Sends rank 0 what this one has of states that no rank has all of.
pub(crate) fn send(states: &[SavedState], device: &dyn Device, engine: &dyn Engine) -> Result<(), TrainError> {
    let mut buffer = vec![0; PIECE_BYTES];
    for state in in_order(states).filter(|state| !state.is_everywhere()) {
        let Range { start, end } = state.held(engine.rank());
        if start == end {
            continue;
        }
        let source = device.known(Storage::State, &state.name)?;
        for at in (0..end - start).step_by(PIECE_BYTES) {
            let piece = &mut buffer[..PIECE_BYTES.min(end - start - at)];
            device.read(source, at, piece)?;
            engine.exchange(&[Outgoing { to: 0, bytes: piece }], &mut [])?;
        }
    }
    Ok(())
}
