//! Memory of the card that is allocated once and never grows.
//!
//! Invariant: it goes back when the region does.

use super::error::device_error;
use crate::driver::{Driver, DriverError};
use remat_plan::DeviceError;
use std::rc::Rc;

/// Owned bytes of the card's memory.
pub(super) struct Region {
    held: Option<(Rc<dyn Driver>, u64)>,
    bytes: usize,
}

impl Region {
    /// No memory at all.
    pub(super) fn empty() -> Self {
        Region { held: None, bytes: 0 }
    }

    /// `bytes` bytes that hold nothing yet.
    pub(super) fn new(driver: &Rc<dyn Driver>, bytes: usize, what: &'static str) -> Result<Self, DeviceError> {
        if bytes == 0 {
            return Ok(Region::empty());
        }
        let address = driver.allocate(bytes).map_err(|error| match error {
            DriverError::OutOfMemory { bytes } => DeviceError::OutOfMemory { what, bytes },
            other => device_error(other),
        })?;
        Ok(Region { held: Some((driver.clone(), address)), bytes })
    }

    /// Fills it with zeros.
    pub(super) fn zero(&self) -> Result<(), DeviceError> {
        let Some((driver, address)) = &self.held else { return Ok(()) };
        driver.fill(*address, 0, self.bytes).map_err(device_error)
    }

    /// Address of a byte.
    pub(super) fn at(&self, offset: usize) -> u64 {
        assert!(offset <= self.bytes, "offset {offset} of a region of {} bytes", self.bytes);
        self.held.as_ref().map_or(0, |(_, address)| address + offset as u64)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some((driver, address)) = &self.held {
            driver.free(*address);
        }
    }
}
