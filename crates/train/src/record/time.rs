//! The time of day in UTC, for records and names. Invariant: a clock before 1970 is 1970, never an error.

use remat_data::Day;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(crate) fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// Now, in UTC, as `2026-01-31T12:00:00Z`.
pub fn now_utc() -> String {
    utc(seconds_since_1970())
}

/// Today, in UTC.
pub fn today() -> Day {
    Day::since_1970(seconds_since_1970() / 86_400)
}

/// A time since 1970 as a date and time in UTC.
fn utc(seconds: u64) -> String {
    let (day, rest) = (Day::since_1970(seconds / 86_400), seconds % 86_400);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{day}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_are_right_around_leap_days_and_centuries() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
