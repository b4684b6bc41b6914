//! Whether what is to be written finds room, asked before the work.
//!
//! Invariant: only a disk that says how much is free, and says less than is needed, is refused; a write may still fail where
//! others fill the disk meanwhile, and leaves nothing then.

use crate::FormatsError;
use std::path::Path;

/// Bytes that are free for this user on the disk of a path, or of the nearest folder above it that exists; `None` where the
/// system does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|folder| folder.exists()).filter(|folder| !folder.as_os_str().is_empty());
    let found = rustix::fs::statvfs(there.unwrap_or(Path::new("."))).ok()?;
    // Some file systems that hold nothing of their own say 0 of everything.
    (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}

/// Refuses an output that does not fit onto its disk.
///
/// # Errors
/// Less free space than needed.
pub fn require_space(flag: &str, path: &Path, needed_bytes: u64) -> Result<(), FormatsError> {
    match free_bytes(path).filter(|&free| free < needed_bytes) {
        None => Ok(()),
        Some(free) => Err(FormatsError::Output {
            output: format!("{flag} {}", path.display()),
            problem: format!(
                "takes {needed_bytes} bytes, and its disk has {free} free; free some space, or choose a folder on \
                 another disk"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_than_the_disk_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let absent = folder.path().join("a/b");
        require_space("--out", &absent, 1).expect("a byte");
        let said = require_space("--out", &absent, u64::MAX).expect_err("refused").to_string();
        assert!(said.starts_with("--out ") && said.contains("takes 18446744073709551615 bytes"), "{said}");
        assert!(free_bytes(Path::new("relative-and-absent")).is_some());
    }
}
