//! What the process holds and what the machine has, as the files of `/proc` say. Invariant: where the system does not tell,
//! there is no number, never a guess.

use std::fs;

/// The process's highest resident memory so far, where the system tells.
pub fn peak_resident_bytes() -> Option<u64> {
    process_bytes("VmHWM:")
}

/// The process's present resident memory; 0 where the system does not tell.
pub(crate) fn resident_bytes() -> u64 {
    process_bytes("VmRSS:").unwrap_or(0)
}

/// Sets the high-water mark back to what is resident now, where the system lets a process do so.
pub(crate) fn reset_peak() {
    // A system without this file keeps the old mark, and the peak read later is an upper bound.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Memory of the machine.
pub(crate) fn total_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

pub(crate) fn process_bytes(key: &str) -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, key)
}

/// The number behind a key, as the files of `/proc` write it: `Key:   123 kB`.
pub(crate) fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_by_key() {
        let text = "Name:\tremat\nVmHWM:\t   2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(kibibytes(text, "VmHWM:"), Some(2 << 20));
        assert_eq!(kibibytes(text, "VmRSS:"), Some(1 << 20));
        assert_eq!(kibibytes(text, "VmSwap:"), None);
        assert_eq!(kibibytes("VmHWM: 99999999999999999999 kB", "VmHWM:"), None);
    }

    #[test]
    fn the_peak_of_this_process_is_plausible() {
        let touched = vec![1_u8; 32 << 20];
        let peak = peak_resident_bytes().expect("Linux tells");
        assert!(peak >= touched.iter().map(|&byte| u64::from(byte)).sum::<u64>(), "{peak}");
    }
}
