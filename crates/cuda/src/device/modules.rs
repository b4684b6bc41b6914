//! The modules of the archive, loaded as far as plans need them.
//!
//! Invariant: a kernel's function is asked for with the most shared memory that any launch of it has.

use super::error::device_error;
use crate::archive::embedded;
use crate::driver::{Driver, FunctionId};
use crate::launch::Launch;
use remat_plan::DeviceError;
use std::collections::HashMap;

/// PTX by module.
pub(super) struct Modules {
    texts: HashMap<String, String>,
}

impl Modules {
    /// Those that are compiled in.
    pub(super) fn embedded() -> Result<Self, DeviceError> {
        let modules = embedded().map_err(|problem| DeviceError::Failed { problem })?;
        Ok(Modules { texts: modules.into_iter().collect() })
    }

    /// The function that a launch is of.
    pub(super) fn function(&mut self, driver: &dyn Driver, launch: &Launch) -> Result<FunctionId, DeviceError> {
        let missing =
            || DeviceError::Failed { problem: format!("the archive of kernels has no module {}", launch.module) };
        let text = self.texts.get(launch.module).ok_or_else(missing)?;
        driver.function(launch.module, text, &launch.kernel, launch.shared_bytes).map_err(device_error)
    }
}
