//! Calls of other people's libraries that may panic on a malformed file. Invariant: such a panic becomes an error of the
//! call, and nothing is printed for it: whoever sets a panic hook asks [`panic_is_caught`] first.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Whether a panic on this thread would end in a guarded call, which makes an error of it. A panic hook that ends the
/// process, or prints, must leave such a panic alone.
pub fn panic_is_caught() -> bool {
    DEPTH.get() > 0
}

/// Runs a call of the library of this name. It unwraps in places that a malformed file can reach; that becomes an error
/// here.
///
/// # Errors
/// The call's own, or what it panicked with.
pub fn guarded<T, E: std::fmt::Display>(library: &str, call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(call));
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
        assert!(!panic_is_caught());
        assert_eq!(guarded("sums", || Err::<(), _>("plain")).unwrap_err(), "plain");
    }
}
