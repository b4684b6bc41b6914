//! The guard before anything is written: parameters and moments are numbers.
//!
//! Invariant: the states are read in pieces through one buffer on the stack, so nothing is allocated, and a state is never
//! held twice. It costs one pass over parameters and moments at the speed of memory, so it is asked where a save or the
//! result follows, and not of every update.

use crate::TrainError;
use remat_ir::Storage;
use remat_plan::{Device, DeviceError};
use remat_tensor::{NotFinite, first_not_finite};
use std::path::PathBuf;

/// A multiple of every element size.
const PIECE_BYTES: usize = 64 << 10;

/// Refuses states that hold an infinity or a NaN after update `step`; `last_save` is what a run could go on from.
pub(crate) fn check(
    states: &[String],
    device: &dyn Device,
    step: u64,
    last_save: Option<PathBuf>,
) -> Result<(), TrainError> {
    for name in states {
        if let Some(NotFinite { index, value }) = first_in_state(device, name)? {
            return Err(TrainError::NotANumber { step, name: name.clone(), index, value, last_save });
        }
    }
    Ok(())
}

/// The first element of a state that is not finite.
pub(crate) fn first_in_state(device: &dyn Device, name: &str) -> Result<Option<NotFinite>, DeviceError> {
    let state = device.known(Storage::State, name)?;
    let (dtype, bytes) = (device.source_type(state).dtype, device.source_type(state).bytes());
    let Some(element_bytes) = dtype.element_bytes().filter(|_| dtype.is_float()) else { return Ok(None) };
    let mut buffer = [0_u8; PIECE_BYTES];
    for at in (0..bytes).step_by(PIECE_BYTES) {
        let piece = &mut buffer[..PIECE_BYTES.min(bytes - at)];
        device.read(state, at, piece)?;
        if let Some(found) = first_not_finite(dtype, piece) {
            return Ok(Some(NotFinite { index: at / element_bytes + found.index, ..found }));
        }
    }
    Ok(None)
}
