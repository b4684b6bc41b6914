//! How messages name a setting: by its key, or as whoever asked for the run gives it.
//!
//! Invariant: this crate knows keys alone. What stands in front of the library (a command line with flags) says once how a
//! key is spelled there, and every message of this crate is spelled so.

use std::fmt;
use std::sync::OnceLock;

/// From a key to what is written in its place.
type Spelling = fn(&str) -> String;

static SPELLING: OnceLock<Spelling> = OnceLock::new();

/// The name of a setting in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingName<'a>(pub &'a str);

impl fmt::Display for SettingName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SPELLING.get() {
            Some(spelling) => f.write_str(&spelling(self.0)),
            None => write!(f, "`{}`", self.0),
        }
    }
}

/// Says how settings are spelled in messages. The first one stays: there is one program in a process.
pub fn spell_settings(spelling: fn(&str) -> String) {
    // A second one changes nothing.
    let _ = SPELLING.set(spelling);
}
