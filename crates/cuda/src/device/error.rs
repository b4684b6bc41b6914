//! A driver's failures in the terms of devices.

use crate::driver::DriverError;
use remat_plan::DeviceError;

/// What a driver's failure is to whoever holds a device.
pub fn device_error(error: DriverError) -> DeviceError {
    let problem = error.to_string();
    match error {
        DriverError::OutOfMemory { bytes } => DeviceError::OutOfMemory { what: "the card", bytes },
        DriverError::Missing { .. }
        | DriverError::TooOld { .. }
        | DriverError::NoCard { .. }
        | DriverError::OldCard { .. } => DeviceError::Absent { problem },
        DriverError::Lost { .. } | DriverError::Failed { .. } => DeviceError::Failed { problem },
    }
}
