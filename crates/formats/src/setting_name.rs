//! How messages name a setting: by its key, or as whoever asked for the run gives it.
//!
//! Invariant: libraries know keys alone. What stands in front of them (a command line with flags) says once how a key is
//! spelled there, and every message is spelled so.

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

/// A text in which settings stand as `--key`, to be shown with their names.
#[derive(Debug, Clone, Copy)]
pub struct Spelled<'a>(pub &'a str);

impl fmt::Display for Spelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find("--") {
            let behind = &rest[at + 2..];
            let end = behind.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(behind.len());
            match &behind[..end] {
                "" => write!(f, "{}", &rest[..at + 2])?,
                key => write!(f, "{}{}", &rest[..at], SettingName(key))?,
            }
            rest = &behind[end..];
        }
        f.write_str(rest)
    }
}

/// Says how settings are spelled in messages. The first one stays: there is one program in a process.
pub fn spell_settings(spelling: fn(&str) -> String) {
    // A second one changes nothing.
    let _ = SPELLING.set(spelling);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_names_settings_by_their_keys() {
        let text = Spelled("give a row a text, --packing puts them together -- or --ignore-columns");
        assert_eq!(text.to_string(), "give a row a text, `packing` puts them together -- or `ignore-columns`");
        assert_eq!(Spelled("nothing").to_string(), "nothing");
    }
}
