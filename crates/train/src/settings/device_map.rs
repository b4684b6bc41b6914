//! The setting `device-map`: which modules' weights stay in memory and which lie on the disk, as `device_map` of accelerate.
//!
//! A file is a JSON object from names of modules, as the checkpoint has them, to `host` (or `cpu`) or `disk`; the empty name
//! is the whole model. Of several names that a weight lies under, the longest counts. What none names is the planner's to
//! place. Invariant: what a file says is a constraint: it is met or refused, with the line.

use crate::TrainError;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Largest file that is read.
const LIMIT_BYTES: u64 = 16 << 20;

/// Who places weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum DeviceMap {
    /// The planner.
    Auto,
    /// A file, and the planner what that leaves open.
    File(PathBuf),
}

impl FromStr for DeviceMap {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(DeviceMap::from(text.to_string()))
    }
}

impl From<String> for DeviceMap {
    fn from(text: String) -> Self {
        if text == "auto" { DeviceMap::Auto } else { DeviceMap::File(text.into()) }
    }
}

impl From<DeviceMap> for String {
    fn from(map: DeviceMap) -> String {
        match map {
            DeviceMap::Auto => "auto".to_string(),
            DeviceMap::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// Where a module's weights are to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModuleTier {
    /// In memory.
    Host,
    /// On the disk.
    Disk,
}

/// One line of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MappedModule {
    pub(crate) name: String,
    pub(crate) tier: ModuleTier,
}

impl MappedModule {
    /// Whether a weight lies under it.
    pub(crate) fn holds(&self, weight: &str) -> bool {
        let rest = weight.strip_prefix(self.name.as_str());
        rest.is_some_and(|rest| self.name.is_empty() || rest.is_empty() || rest.starts_with('.'))
    }
}

/// A map as a file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModuleMap {
    path: PathBuf,
    text: String,
    pub(crate) modules: Vec<MappedModule>,
}

impl ModuleMap {
    /// Reads a file.
    ///
    /// # Errors
    /// One that cannot be read or is no such map, with the line.
    pub(crate) fn read(path: &Path) -> Result<ModuleMap, TrainError> {
        let refuse = |problem: String| bad_flag(format!("{}: {problem}", path.display()));
        let size = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
        if !size.is_file() || size.len() > LIMIT_BYTES {
            return Err(refuse("is no file, or too large for a map of modules".to_string()));
        }
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let entries: Entries = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        let mut map = ModuleMap { path: path.to_path_buf(), text, modules: Vec::new() };
        for (name, tier) in entries.0 {
            let tier = match tier.as_str() {
                Some("host" | "cpu") => ModuleTier::Host,
                Some("disk") => ModuleTier::Disk,
                _ => return Err(map.refuse(&name, &format!("there is no tier {tier}; give \"host\" or \"disk\""))),
            };
            if map.modules.iter().any(|module| module.name == name) {
                return Err(map.refuse(&name, "is named twice"));
            }
            map.modules.push(MappedModule { name, tier });
        }
        Ok(map)
    }

    /// The module that a weight belongs to: the one of the longest name.
    pub(crate) fn module_of(&self, weight: &str) -> Option<&MappedModule> {
        self.modules.iter().filter(|module| module.holds(weight)).max_by_key(|module| module.name.len())
    }

    /// Why a module's line cannot be followed.
    pub(crate) fn refuse(&self, module: &str, problem: &str) -> TrainError {
        let quoted = format!("{module:?}");
        let line = self.text.lines().position(|line| line.contains(&quoted)).map_or(1, |line| line + 1);
        bad_flag(format!("{}:{line}: {quoted}: {problem}", self.path.display()))
    }
}

fn bad_flag(problem: String) -> TrainError {
    TrainError::BadFlag { key: "device-map", problem }
}

/// The entries of an object in their order, also those of one name.
struct Entries(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from names of modules to \"host\" or \"disk\"")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ModuleMap, String> {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("map.json");
        std::fs::write(&path, text).expect("written");
        ModuleMap::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn the_longest_name_counts_and_names_end_at_dots() {
        let map =
            read("{\"\": \"disk\",\n \"model.layers.1\": \"cpu\", \"model.layers.1.mlp\": \"disk\"}").expect("a map");
        let tier = |weight: &str| map.module_of(weight).map(|module| module.tier);
        assert_eq!(tier("model.layers.1.self_attn.q_proj.weight"), Some(ModuleTier::Host));
        assert_eq!(tier("model.layers.1.mlp.up_proj.weight"), Some(ModuleTier::Disk));
        assert_eq!(tier("model.layers.10.mlp.up_proj.weight"), Some(ModuleTier::Disk));
        assert_eq!(read("{}").expect("an empty map").module_of("lm_head.weight"), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, problem) in [
            ("{\"a\": \"host\",\n\"b\": 0}", "map.json:2: \"b\": there is no tier 0"),
            ("{\"a\": \"gpu\"}", "map.json:1: \"a\": there is no tier \"gpu\""),
            ("{\"a\": \"host\",\n\"a\": \"disk\"}", "\"a\": is named twice"),
            ("[]", "expected an object from names of modules"),
            ("{\"a\": ", "line 1"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.starts_with("`device-map`: ") && error.contains(problem), "{error}");
        }
        assert!(ModuleMap::read(Path::new("/no/such/map.json")).is_err());
    }
}
