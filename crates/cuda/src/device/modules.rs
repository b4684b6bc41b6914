//! The modules of the archive, loaded as far as plans need them.
//!
//! Invariant: a kernel's function is asked for with the most shared memory that any launch of it has.

use super::error::device_error;
use crate::archive::Archive;
use crate::driver::{Driver, FunctionId};
use crate::launch::Launch;
use remat_plan::DeviceError;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// PTX by module, of those that were asked for.
pub(super) struct Modules {
    archive: Archive<'static>,
    texts: HashMap<&'static str, String>,
}

impl Modules {
    /// Those that are compiled in.
    pub(super) fn embedded() -> Result<Self, DeviceError> {
        let archive = Archive::embedded().map_err(|problem| DeviceError::Failed { problem })?;
        Ok(Modules { archive, texts: HashMap::new() })
    }

    /// The function that a launch is of.
    pub(super) fn function(&mut self, driver: &dyn Driver, launch: &Launch) -> Result<FunctionId, DeviceError> {
        let text = match self.texts.entry(launch.module) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let text = self.archive.text(launch.module).map_err(|problem| DeviceError::Failed { problem })?;
                new.insert(text)
            }
        };
        driver.function(launch.module, text, &launch.kernel, launch.shared_bytes).map_err(device_error)
    }
}
