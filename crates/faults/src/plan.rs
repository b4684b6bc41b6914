//! What goes wrong, and when.

use crate::paths::{below, has_room, log_line};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Clone, Copy)]
enum Fault {
    Nothing,
    /// This call fails, and no other.
    Fail(u64),
    /// From this call on, whatever takes room fails, until there is a file that says otherwise.
    Full(u64),
    /// The process dies before this call.
    Kill(u64),
}

static CALLS: AtomicU64 = AtomicU64::new(0);
static FAULT: OnceLock<Fault> = OnceLock::new();

fn fault() -> Fault {
    *FAULT.get_or_init(|| {
        let asked = std::env::var("REMAT_FAULT").unwrap_or_default();
        let (kind, number) = asked.split_once(':').unwrap_or_default();
        match (kind, number.parse()) {
            ("fail", Ok(number)) => Fault::Fail(number),
            ("full", Ok(number)) => Fault::Full(number),
            ("kill", Ok(number)) => Fault::Kill(number),
            _ => Fault::Nothing,
        }
    })
}

/// Counts a call on the file or folder at `path`. The error that it is to fail with, if it is.
pub(crate) fn error_of(call: &'static str, takes_room: bool, path: &[u8]) -> Option<i32> {
    if !below(path) {
        return None;
    }
    log_line(call, path);
    let number = CALLS.fetch_add(1, Ordering::SeqCst) + 1;
    let error = if takes_room { libc::ENOSPC } else { libc::EIO };
    match fault() {
        Fault::Fail(at) if number == at => Some(error),
        Fault::Full(at) if number >= at && takes_room && !has_room() => Some(error),
        Fault::Kill(at) if number == at => {
            // SAFETY: a signal to this very process.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            None
        }
        _ => None,
    }
}
