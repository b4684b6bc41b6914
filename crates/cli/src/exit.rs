//! Exit codes. Invariant: `main.rs` has the table of all of them, as `docs/` and scripts rely on it.

use remat_train::ErrorKind;

/// A run that failed, or an error of the program itself.
pub(crate) const FAILED: u8 = 1;

/// Interrupted, after saving.
pub(crate) const INTERRUPTED: u8 = 130;

/// Of an error.
pub(crate) fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Failed => FAILED,
        ErrorKind::Input => 2,
        ErrorKind::DoesNotFit => 3,
        ErrorKind::Numeric => 4,
    }
}
