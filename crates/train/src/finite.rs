//! The guard before anything is written: parameters and moments are numbers.
//!
//! Invariant: the states are read in pieces through one buffer on the stack, so nothing is allocated, and a state is never
//! held twice. It costs one pass over parameters and moments at the speed of memory, so it is asked where a save or the
//! result follows, and not of every update.

use crate::TrainError;
use remat_plan::{ExecError, Executor};
use remat_tensor::{NotFinite, first_not_finite};
use std::path::PathBuf;

/// A multiple of every element size.
const PIECE_BYTES: usize = 16 << 10;

/// Refuses states that hold an infinity or a NaN after update `step`; `last_save` is what a run could go on from.
pub(crate) fn check(
    states: &[String],
    executor: &dyn Executor,
    step: u64,
    last_save: Option<PathBuf>,
) -> Result<(), TrainError> {
    for name in states {
        if let Some(NotFinite { index, value }) = first_in_state(executor, name)? {
            return Err(TrainError::NotANumber { step, name: name.clone(), index, value, last_save });
        }
    }
    Ok(())
}

/// The first element of a state that is not finite.
pub(crate) fn first_in_state(executor: &dyn Executor, name: &str) -> Result<Option<NotFinite>, ExecError> {
    let view = executor.state(name)?;
    let dtype = view.ty.dtype;
    let Some(element_bytes) = dtype.element_bytes().filter(|_| dtype.is_float()) else { return Ok(None) };
    let mut buffer = [0_u8; PIECE_BYTES];
    for (number, source) in view.bytes.chunks(PIECE_BYTES).enumerate() {
        let piece = &mut buffer[..source.len()];
        piece.copy_from_slice(source);
        if let Some(found) = first_not_finite(dtype, piece) {
            return Ok(Some(NotFinite { index: number * PIECE_BYTES / element_bytes + found.index, ..found }));
        }
    }
    Ok(None)
}
