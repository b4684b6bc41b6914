//! A control group with a limit on memory, of either version, for one command at a time. It takes the rights to make one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MOUNT: &str = "/sys/fs/cgroup";

/// A group of this process's own.
pub(super) struct Group {
    folder: PathBuf,
    limit_file: &'static str,
}

impl Group {
    /// Makes one under the memory controller of version 1 if it is mounted, else of version 2.
    ///
    /// # Errors
    /// No such controller, or no right to make a group.
    pub(super) fn new() -> io::Result<Self> {
        let (mount, version_1) = (Path::new(MOUNT), Path::new(MOUNT).join("memory"));
        let name = format!("remat-promise-{}", std::process::id());
        let group = match version_1.join("memory.limit_in_bytes").exists() {
            true => Group { folder: version_1.join(name), limit_file: "memory.limit_in_bytes" },
            false => {
                fs::write(mount.join("cgroup.subtree_control"), "+memory")?;
                Group { folder: mount.join(name), limit_file: "memory.max" }
            }
        };
        fs::create_dir(&group.folder)?;
        Ok(group)
    }

    /// Runs a command within so many bytes: a kernel that has to go beyond kills it.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn run(&self, limit_bytes: u64, command: &Command) -> io::Result<Output> {
        fs::write(self.folder.join(self.limit_file), limit_bytes.to_string())?;
        // The shell joins the group and becomes the command.
        let join = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.folder.display());
        let mut within = Command::new("sh");
        within.args(["-c", &join, "sh"]).arg(command.get_program()).args(command.get_args());
        within.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        within.output()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It is empty by now; one that stays costs nothing.
        drop(fs::remove_dir(&self.folder));
    }
}
