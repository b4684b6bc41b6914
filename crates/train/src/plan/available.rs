//! How much memory there is for this process: what the system calls available, within the limits of the control groups that
//! the process is in, of either version.
//!
//! Invariant: file pages that a group can drop at once do not count as used, as in `MemAvailable`.

use crate::plan::process_memory::kibibytes;
use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are mounted.
const GROUPS: &str = "/sys/fs/cgroup";

/// A group without a limit says so with a number near 2^63.
const UNLIMITED: u64 = 1 << 60;

/// One part in so many of a group's limit is left to the kernel.
const KERNEL_PART: u64 = 64;

/// Memory that can still be allocated.
pub fn available_bytes() -> Option<u64> {
    let system = kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    Some(groups().iter().map(Group::free_bytes).fold(system, u64::min))
}

/// The tightest limit of the control groups that this process is in, if they have one.
pub fn group_limit_bytes() -> Option<u64> {
    groups().into_iter().map(|group| group.limit_bytes).min()
}

/// A limit and what counts against it.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    limit_bytes: u64,
    used_bytes: u64,
}

impl Group {
    /// What a process can still hold. Page tables and what else the kernel keeps for the process count against the limit,
    /// too: one byte in 512 for tables, and at a limit that is met exactly the kernel would have to end the process.
    fn free_bytes(&self) -> u64 {
        (self.limit_bytes - self.limit_bytes / KERNEL_PART).saturating_sub(self.used_bytes)
    }
}

fn groups() -> Vec<Group> {
    let listed = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    of_process(Path::new(GROUPS), &listed)
}

/// All groups with a limit, the process's own and those above it. `listed` is `/proc/self/cgroup`. Inside a container the
/// path that is listed may not be mounted; then the mount's root is the container's own group.
fn of_process(mount: &Path, listed: &str) -> Vec<Group> {
    let mut found = Vec::new();
    for line in listed.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let version_2 = controllers.is_empty();
        let root = match version_2 {
            true => mount.to_path_buf(),
            false if controllers.split(',').any(|name| name == "memory") => mount.join("memory"),
            false => continue,
        };
        let relative = Path::new(path.trim_start_matches('/'));
        let folders: Vec<PathBuf> = relative.ancestors().map(|part| root.join(part)).collect();
        found.extend(folders.iter().filter_map(|folder| group(folder, version_2)));
    }
    found
}

fn group(folder: &Path, version_2: bool) -> Option<Group> {
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let (limit, used, droppable) = match version_2 {
        true => ("memory.max", "memory.current", "inactive_file "),
        false => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
    };
    let limit_bytes = number(limit).filter(|&limit| limit < UNLIMITED)?;
    let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let files = statistics.lines().find_map(|line| line.strip_prefix(droppable)?.trim().parse::<u64>().ok());
    Some(Group { limit_bytes, used_bytes: number(used)?.saturating_sub(files.unwrap_or(0)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_both_versions_are_found_with_those_above() {
        let mount = tempfile::tempdir().expect("folder");
        let write = |path: &str, text: &str| {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "4096\n");
        write("a/memory.current", "3000\n");
        write("a/memory.stat", "anon 1\ninactive_file 1000\n");
        let version_2 = of_process(mount.path(), "0::/a/b\n");
        assert_eq!(version_2, [Group { limit_bytes: 4096, used_bytes: 2000 }]);
        write("memory/job/memory.limit_in_bytes", "8192\n");
        write("memory/job/memory.usage_in_bytes", "500\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/memory.usage_in_bytes", "1\n");
        let version_1 = of_process(mount.path(), "5:cpu:/job\n4:hugetlb,memory:/job\n");
        assert_eq!(version_1, [Group { limit_bytes: 8192, used_bytes: 500 }]);
        assert_eq!(version_1[0].free_bytes(), 8192 - 128 - 500);
        assert_eq!(Group { limit_bytes: 4096, used_bytes: 4090 }.free_bytes(), 0);
        assert_eq!(of_process(mount.path(), "nonsense\n0::\n4:memory"), []);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(available_bytes().expect("Linux tells") > 0);
    }
}
