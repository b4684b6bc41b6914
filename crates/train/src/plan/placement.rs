//! What decides beside prices where weights lie: the map of modules that the settings name, and what the model's own files
//! hold as kernels read it.
//!
//! Invariant: every line of a map is met by all plans of a run, or refused.

use crate::plan::setting::Setting;
use crate::settings::device_map::{DeviceMap, ModuleMap, ModuleTier};
use crate::settings::kinds::MethodKind;
use crate::{TrainConfig, TrainError};
use remat_compiler::Pinned;
use remat_formats::SettingName;
use remat_ir::{Graph, SourceRole, Storage, Value};
use std::collections::HashSet;

/// Trained parameters whose place is given, by name, and with it that of all states that are kept for them.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrainedPlaces {
    pub(crate) on_disk: HashSet<String>,
    pub(crate) in_memory: HashSet<String>,
}

/// The places that the settings and the model give weights of a graph, and what is trained of it.
///
/// # Errors
/// A map that cannot be read, that names what is not there, or what adapters' training changes, or a disk without a folder on it.
pub(crate) fn pinned(setting: Setting<'_>, graph: &Graph) -> Result<(Pinned, TrainedPlaces), TrainError> {
    let (mut pinned, mut trained) = (Pinned::default(), TrainedPlaces::default());
    pinned.in_files.extend(setting.model.weights_in_files(graph)?.into_keys());
    if setting.config.offload.is_none() {
        // There is no place for what would have to be written.
        let weights = graph.values.iter().filter(|value| value.storage == Storage::Weight);
        let written = weights.map(|value| &value.name).filter(|name| !pinned.in_files.contains(*name));
        pinned.in_memory.extend(written.cloned().collect::<Vec<_>>());
    }
    if let Some(DeviceMap::File(path)) = &setting.config.device_map {
        let map = ModuleMap::read(path)?;
        follow(&map, setting.config, graph, &mut pinned)?;
        let trains_model = setting.config.method == MethodKind::Full;
        let states = graph.values.iter().filter(|value| trains_model && value.storage == Storage::State);
        for value in states.filter(of_base) {
            let parameter = parameter_of(value);
            match map.module_of(parameter).map(|module| module.tier) {
                Some(ModuleTier::Disk) => trained.on_disk.insert(parameter.to_string()),
                Some(ModuleTier::Host) => trained.in_memory.insert(parameter.to_string()),
                None => false,
            };
        }
    }
    Ok((pinned, trained))
}

fn of_base(value: &&Value) -> bool {
    value.producer.is_none() && value.role.is_some_and(SourceRole::is_base_parameter)
}

fn follow(map: &ModuleMap, config: &TrainConfig, graph: &Graph, pinned: &mut Pinned) -> Result<(), TrainError> {
    let base: Vec<&Value> = graph.values.iter().filter(of_base).collect();
    for module in &map.modules {
        let mut held = base.iter().filter(|value| module.holds(parameter_of(value))).peekable();
        if held.peek().is_none() && !module.name.is_empty() {
            return Err(
                map.refuse(&module.name, "the model has no such module; names are those that transformers gives")
            );
        }
        let trains_model = config.method == MethodKind::Full;
        if module.tier == ModuleTier::Disk && !trains_model && held.all(|value| value.storage != Storage::Weight) {
            return Err(map.refuse(&module.name, "is trained beside adapters, and what they train stays in memory"));
        }
        let mut held = base.iter().filter(|value| module.holds(parameter_of(value)));
        let written = held.any(|value| match value.storage {
            Storage::Weight => !pinned.in_files.contains(&value.name),
            _ => trains_model,
        });
        if module.tier == ModuleTier::Disk && written && config.offload.is_none() {
            let problem = format!(
                "is to lie on the disk, and the model's files do not hold it as it is read or updated; add {} DIR",
                SettingName("offload")
            );
            return Err(map.refuse(&module.name, &problem));
        }
    }
    for value in base.iter().filter(|value| value.storage == Storage::Weight) {
        match map.module_of(parameter_of(value)).map(|module| module.tier) {
            Some(ModuleTier::Disk) => pinned.on_disk.insert(value.name.clone()),
            Some(ModuleTier::Host) => pinned.in_memory.insert(value.name.clone()),
            None => false,
        };
    }
    Ok(())
}

/// The name by which the files know a source.
fn parameter_of(value: &Value) -> &str {
    value.parameter().unwrap_or(&value.name)
}
