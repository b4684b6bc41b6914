//! Which settings may change where a run goes on from a save, and which would change its result.

use crate::{TrainConfig, TrainError};

/// Keys that may differ between a save and the run that resumes it, because they do not change what is computed.
/// Other data is refused by its content, whatever its path.
const FREE_ON_RESUME: &[&str] = &[
    "data",
    "columns",
    "ignore-columns",
    "bad-rows",
    "out",
    "epochs",
    "steps",
    "checkpointing",
    "memory",
    "device-memory",
    "max-memory",
    "device-map",
    "offload",
    "prices",
    "threads",
    "eval-data",
    "eval-every",
    "early-stop",
    "sample",
    "sample-every",
    "sample-tokens",
    "save-every",
    "tensorboard",
    "save-total-limit",
];

impl TrainConfig {
    /// Refuses to go on from a save made with `saved` if that would compute something else than one long run would.
    ///
    /// # Errors
    /// The first key that differs and may not.
    pub fn check_resumes(&self, saved: &TrainConfig) -> Result<(), TrainError> {
        let (saved, now) = (saved.to_table(), self.to_table());
        for key in Self::keys() {
            let (before, after) = (saved.get(&key), now.get(&key));
            if before != after && !FREE_ON_RESUME.contains(&key.as_str()) && !same_file(before, after) {
                let show = |value: Option<&toml::Value>| value.map_or("unset".to_string(), |value| value.to_string());
                return Err(TrainError::ResumeChanged { key, saved: show(before), given: show(after) });
            }
        }
        Ok(())
    }
}

/// Whether two values are paths to one and the same file or folder.
fn same_file(a: Option<&toml::Value>, b: Option<&toml::Value>) -> bool {
    let canonical = |value: Option<&toml::Value>| std::fs::canonicalize(value?.as_str()?).ok();
    canonical(a).is_some_and(|path| Some(path) == canonical(b))
}
