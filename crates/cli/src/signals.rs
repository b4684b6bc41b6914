//! Signals: the first SIGINT, SIGTERM or SIGHUP asks the run to save and stop, the second ends the process at once.
//!
//! Invariants: a SIGHUP that was ignored when the process began stays ignored, as `nohup` wants it; where the system refuses
//! the thread that says what happens, signals do the same without a word; a file that grows beyond the limit of the shell
//! (SIGXFSZ) is an error of that write, as a full disk is.

use crate::exit::INTERRUPTED;
use crate::terminal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;

/// Set by the first signal.
static INTERRUPT: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From here on signals ask for a save; returns what the first one sets.
pub(crate) fn save_on_interrupt() -> &'static AtomicBool {
    let mut signals = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        signals.push(SIGHUP);
    }
    let told = Signals::new(&signals).and_then(|signals| thread::Builder::new().spawn(move || tell(signals)));
    if told.is_err()
        && let Err(error) = act_silently(&signals)
    {
        terminal::line(&format!(
            "note: signals cannot be caught here ({error}): Ctrl-C will stop the run without saving"
        ));
    }
    &INTERRUPT
}

/// Waits for signals and says what they do.
fn tell(mut signals: Signals) {
    for _ in signals.forever() {
        if INTERRUPT.swap(true, Ordering::Relaxed) {
            terminal::line("aborted without saving");
            std::process::exit(i32::from(INTERRUPTED));
        }
        terminal::line("interrupted: saving; once more to abort without saving");
    }
}

/// The same without a thread and without a word.
fn act_silently(signals: &[i32]) -> io::Result<()> {
    for &signal in signals {
        // In this order: the first signal meets a flag that is not set yet.
        flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), Arc::clone(&INTERRUPT))?;
        flag::register(signal, Arc::clone(&INTERRUPT))?;
    }
    Ok(())
}

/// Writes beyond a limit on the size of files fail from here on, instead of ending the process.
pub(crate) fn make_file_size_limits_errors() {
    // Any handler does, and without one things are as they were.
    drop(flag::register(SIGXFSZ, Arc::default()));
}

/// Whether a signal is ignored, where the system tells.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
