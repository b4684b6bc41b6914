//! Which program this is: version, commit and build, for records.

use std::sync::OnceLock;

/// The commit that the binary was built from, once it has said so.
static COMMIT: OnceLock<&'static str> = OnceLock::new();

/// Says which commit this program was built from. Only the binary knows it: a library that did would be built anew for
/// every commit.
pub fn name_commit(commit: &'static str) {
    // The first one stays: there is one program in a process.
    let _ = COMMIT.set(commit);
}

/// What made this program, for records.
pub fn build() -> (&'static str, Option<&'static str>, &'static str) {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    (env!("CARGO_PKG_VERSION"), COMMIT.get().copied(), profile)
}
