//! What each rank takes of a host that it shares with others.
//!
//! Invariant: what the settings say counts for every rank; only what they leave open is divided.

use crate::plan::available::available_bytes;
use crate::settings::device_map::DeviceMap;
use crate::settings::isa::all_threads;
use crate::settings::kinds::MethodKind;
use crate::{AccumulationKind, TrainConfig, TrainError};
use remat_formats::SettingName;
use remat_plan::ByteSize;

/// The settings of one of `here` ranks on this host: its part of threads and memory, where they do not say.
pub(crate) fn shared(mut config: TrainConfig, here: usize) -> TrainConfig {
    config.threads.get_or_insert((all_threads() / here).max(1));
    if let (None, Some(bytes)) = (config.memory, available_bytes()) {
        config.memory = Some(ByteSize(bytes as usize / here));
    }
    config
}

/// Refuses settings that only a process alone can follow.
///
/// # Errors
/// Micro-batches that are added onto each other; a map of where training state lies, which of several ranks stays in memory.
pub(crate) fn check_on_ranks(config: &TrainConfig) -> Result<(), TrainError> {
    if config.accumulation == Some(AccumulationKind::Running) {
        let problem = format!("is of one process alone; leave {} out", SettingName("accumulation"));
        return Err(TrainError::BadFlag { key: "accumulation", problem });
    }
    if config.method == MethodKind::Full && matches!(config.device_map, Some(DeviceMap::File(_))) {
        let name = SettingName("device-map");
        let problem =
            format!("would move training state, which several ranks share out and keep in memory; leave {name} out");
        return Err(TrainError::BadFlag { key: "device-map", problem });
    }
    Ok(())
}
