//! Who says how much memory there may be, as messages put it: `the machine has`, and how much follows.

use remat_formats::SettingName;
use std::fmt;

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitOwner {
    /// The setting `memory`.
    Setting,
    /// The setting `max-memory`, of the host.
    HostSetting,
    /// The same of the disk.
    DiskSetting,
    /// The machine, or what this process may have of it.
    Machine,
    /// A device with memory of its own.
    Device,
    /// The size of a process's addresses, where the system does not say what it has.
    Process,
}

impl fmt::Display for LimitOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitOwner::Setting => write!(f, "{} allows", SettingName("memory")),
            LimitOwner::HostSetting => write!(f, "{} host allows", SettingName("max-memory")),
            LimitOwner::DiskSetting => write!(f, "{} disk allows", SettingName("max-memory")),
            LimitOwner::Machine => f.write_str("the machine has"),
            LimitOwner::Device => f.write_str("the device has"),
            LimitOwner::Process => f.write_str("a process can have"),
        }
    }
}
