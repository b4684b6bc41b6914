//! Which file a call is about, found without calling what this layer replaces.

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::OnceLock;

const MOST_BYTES: usize = 4096;
/// What stands for "relative to the current folder" in place of a descriptor.
const HERE: i32 = libc::AT_FDCWD;

fn variable(name: &str) -> Option<Vec<u8>> {
    std::env::var_os(name).map(OsStringExt::into_vec)
}

/// Whether a path lies in the folder that faults are asked for.
pub(crate) fn below(path: &[u8]) -> bool {
    static FOLDER: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| variable("REMAT_FAULT_BELOW"));
    folder.as_ref().is_some_and(|folder| path.strip_prefix(&folder[..]).is_some_and(|rest| rest.starts_with(b"/")))
}

/// The path of an open file.
pub(crate) fn of_descriptor(descriptor: i32) -> Vec<u8> {
    let link = CString::new(format!("/proc/self/fd/{descriptor}")).expect("no zero byte");
    let mut path = vec![0u8; MOST_BYTES];
    // SAFETY: `link` ends in a zero byte, and `path` has room for the given length.
    let length = unsafe { libc::syscall(libc::SYS_readlinkat, HERE, link.as_ptr(), path.as_mut_ptr(), path.len()) };
    path.truncate(usize::try_from(length).unwrap_or(0));
    path
}

/// The path that a call names, relative to an open folder if it says so.
///
/// # Safety
/// `path` ends in a zero byte.
pub(crate) unsafe fn named(folder: i32, path: *const c_char) -> Vec<u8> {
    if path.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's word.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    if path.starts_with(b"/") {
        return path.to_vec();
    }
    let mut whole = if folder == HERE { current_folder() } else { of_descriptor(folder) };
    whole.push(b'/');
    whole.extend_from_slice(path);
    whole
}

fn current_folder() -> Vec<u8> {
    std::env::current_dir().map_or_else(|_| Vec::new(), |folder| folder.as_os_str().as_bytes().to_vec())
}

/// Whether there is room again on a disk that was full.
pub(crate) fn has_room() -> bool {
    static FILE: OnceLock<Option<CString>> = OnceLock::new();
    let file = FILE.get_or_init(|| variable("REMAT_FAULT_ROOM").and_then(|path| CString::new(path).ok()));
    // SAFETY: `file` ends in a zero byte.
    file.as_ref().is_some_and(|file| unsafe { libc::access(file.as_ptr(), libc::F_OK) } == 0)
}

/// Appends a line to the log of calls, if one is asked for.
pub(crate) fn log_line(call: &str, path: &[u8]) {
    static LOG: OnceLock<Option<CString>> = OnceLock::new();
    let log = LOG.get_or_init(|| variable("REMAT_FAULT_LOG").and_then(|path| CString::new(path).ok()));
    let Some(log) = log else { return };
    let line = [call.as_bytes(), b" ", path, b"\n"].concat();
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
    // SAFETY: `log` ends in a zero byte, `line` is as long as is said, and the descriptor is this call's own.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_openat, HERE, log.as_ptr(), flags, 0o644);
        libc::syscall(libc::SYS_write, descriptor, line.as_ptr(), line.len());
        libc::syscall(libc::SYS_close, descriptor);
    }
}
