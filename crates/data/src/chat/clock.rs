//! `strftime_now`, which some templates put today's date into the system prompt with.
//!
//! Invariant: it is always the same day, the one that these templates fall back to themselves (Llama 3.2's "26 Jul
//! 2024"). With the clock of the machine, a run that is resumed on the next day would train on other tokens.

use minijinja::{Error, ErrorKind};

/// 26 July 2024, a Friday, at midnight; the directives of Python's `strftime`.
const DIRECTIVES: [(char, &str); 20] = [
    ('a', "Fri"),
    ('A', "Friday"),
    ('b', "Jul"),
    ('h', "Jul"),
    ('B', "July"),
    ('d', "26"),
    ('e', "26"),
    ('m', "07"),
    ('y', "24"),
    ('Y', "2024"),
    ('j', "208"),
    ('H', "00"),
    ('I', "12"),
    ('M', "00"),
    ('S', "00"),
    ('p', "AM"),
    ('F', "2024-07-26"),
    ('D', "07/26/24"),
    ('T', "00:00:00"),
    ('%', "%"),
];

/// The date in a format of `strftime`.
pub(crate) fn strftime_now(format: &str) -> Result<String, Error> {
    let mut date = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        date.push_str(before);
        // `%-d` is a day without a leading zero.
        let (unpadded, after) = after.strip_prefix('-').map_or((false, after), |after| (true, after));
        let directive = after.chars().next();
        let Some((_, text)) = DIRECTIVES.iter().find(|(name, _)| Some(*name) == directive) else {
            let message =
                format!("strftime_now has no directive {:?}", directive.map_or("%".into(), |c| format!("%{c}")));
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        };
        let shortened = text.trim_start_matches('0');
        date.push_str(match (unpadded, shortened) {
            (true, "") => "0",
            (true, shortened) => shortened,
            (false, _) => text,
        });
        rest = &after[1..];
    }
    date.push_str(rest);
    Ok(date)
}
