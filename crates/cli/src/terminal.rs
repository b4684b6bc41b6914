//! Text for a terminal: errors, notes and lines on stderr, data on stdout; nothing in a message would steer it.
//!
//! Invariants: whatever is printed stands on a line of its own; nothing is coloured off a terminal or with `NO_COLOR` set.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Longest text of a message that is shown, in characters.
const MOST_SHOWN_CHARS: usize = 4000;

/// Whether the cursor stands behind an unfinished line. A process has one stderr, and signals print there too.
static OPEN: AtomicBool = AtomicBool::new(false);

/// An error, on stderr, whatever else is switched off.
pub(crate) fn error(message: &str) {
    line(&format!("{}: {}", painted("1;31", "error"), harmless(message)));
}

/// Whether a terminal would act on a character, or show what is behind it in another order.
pub(crate) fn steers(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && c != '\n') || turns
}

/// A text as a terminal may be given it, whatever files or names it holds: what would steer the terminal is shown as an
/// escape; line ends stay.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// As [`visible`], and cut where it is too long for a message.
pub(crate) fn harmless(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN_CHARS) {
        Some((end, _)) => visible(&text[..end]) + "…",
        None => visible(text),
    }
}

/// The text in bold on a terminal, for stdout.
pub(crate) fn bold(text: &str) -> String {
    painted_on(std::io::stdout().is_terminal(), "1", text)
}

/// The text in a colour of the terminal (an SGR code), for stderr.
pub(crate) fn painted(code: &str, text: &str) -> String {
    painted_on(std::io::stderr().is_terminal(), code, text)
}

/// As it is where there is no terminal or `NO_COLOR` is set.
fn painted_on(terminal: bool, code: &str, text: &str) -> String {
    let coloured = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
}

/// One line on stderr. A closed stderr is no reason to stop a run.
pub(crate) fn line(text: &str) {
    end();
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Something that is not as it looks.
pub(crate) fn note(text: &str) {
    line(&format!("{}: {}", painted("1;33", "note"), harmless(text)));
}

/// The cursor stays behind what was printed.
pub(crate) fn leave_open() {
    OPEN.store(true, Ordering::Relaxed);
}

/// Ends the line if there is one, so that something else can be printed.
fn end() {
    if OPEN.swap(false, Ordering::Relaxed) {
        drop(writeln!(std::io::stderr()));
    }
}

/// One line of data, on stdout. A reader that went away (a closed pipe) is no reason to fail.
pub(crate) fn say(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}
