//! Calls of other people's libraries that may panic on a malformed file. Invariant: such a panic becomes an error of the
//! call, and nothing is printed for it: whoever sets a panic hook asks [`panic_is_caught`] first.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// No guarded call takes longer, but for one with much to do.
const MOST_TIME: Duration = Duration::from_secs(120);

/// When the calls that are running should be done, by a number of each.
static DEADLINES: Mutex<(u64, Vec<(u64, Instant)>)> = Mutex::new((0, Vec::new()));

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Whether a panic on this thread would end in a guarded call, which makes an error of it. A panic hook that ends the
/// process, or prints, must leave such a panic alone.
pub fn panic_is_caught() -> bool {
    DEPTH.get() > 0
}

/// Whether a guarded call has been running far longer than it could need: a malformed file has it run without end. A
/// library cannot stop it; a program may give up.
pub fn guard_is_overdue() -> bool {
    let now = Instant::now();
    deadlines().1.iter().any(|(_, deadline)| *deadline < now)
}

fn deadlines() -> std::sync::MutexGuard<'static, (u64, Vec<(u64, Instant)>)> {
    DEADLINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a call of the library of this name. It unwraps in places that a malformed file can reach; that becomes an error
/// here.
///
/// # Errors
/// The call's own, or what it panicked with.
pub fn guarded<T, E: std::fmt::Display>(library: &str, call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    guarded_on(library, 0, call)
}

/// As [`guarded`], with more time for a call that has so many bytes to read.
pub(crate) fn guarded_on<T, E: std::fmt::Display>(
    library: &str,
    bytes: usize,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, String> {
    DEPTH.set(DEPTH.get() + 1);
    // Ten seconds more for each megabyte: a hundred times what a slow machine takes.
    let deadline = Instant::now() + MOST_TIME + Duration::from_micros(10).saturating_mul(bytes.min(1 << 30) as u32);
    let number = {
        let mut running = deadlines();
        running.0 += 1;
        let number = running.0;
        running.1.push((number, deadline));
        number
    };
    let result = catch_unwind(AssertUnwindSafe(call));
    deadlines().1.retain(|(other, _)| *other != number);
    DEPTH.set(DEPTH.get() - 1);
    match result {
        Ok(result) => result.map_err(|error| crate::error::excerpt(&error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(format!("the {library} library failed: {}", crate::error::excerpt(text)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_panic_is_an_error_and_is_known_to_be_one() {
        let outcome = guarded("sums", || -> Result<(), String> {
            assert!(panic_is_caught());
            assert_eq!(guarded("inner", || Ok::<_, String>(3)), Ok(3));
            assert!(panic_is_caught(), "the outer guard is still there");
            panic!("{} of {}", 1, 2);
        });
        assert_eq!(outcome.unwrap_err(), "the sums library failed: 1 of 2");
        assert!(!panic_is_caught() && !guard_is_overdue());
        assert_eq!(guarded("sums", || Err::<(), _>("plain")).unwrap_err(), "plain");
    }
}
