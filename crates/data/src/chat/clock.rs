//! `strftime_now`, which some templates put today's date into the system prompt with.
//!
//! Invariant: a template reaches no clock. It sees the day that whoever renders it has given, so that a run that is
//! resumed on another day trains on the same tokens. A template that was given none sees 26 July 2024, which Llama 3.2's
//! falls back to itself.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
const MOST_DAYS: u32 = 2_932_896;

/// A day from 1970 to 9999, written `2026-01-31`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day {
    since_1970: u32,
}

impl Day {
    /// So many days after 1 January 1970; the last day of 9999 at most.
    pub fn since_1970(days: u64) -> Self {
        Day { since_1970: days.min(u64::from(MOST_DAYS)) as u32 }
    }

    /// Year, month and day of the month, both from 1. Howard Hinnant's `civil_from_days`.
    pub fn civil(self) -> (u32, u32, u32) {
        let shifted = self.since_1970 + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        (era * 400 + year_of_era + u32::from(month <= 2), month, day)
    }

    /// From 1.
    fn of_year(self) -> u32 {
        let (year, _, _) = self.civil();
        let leap_days = |year: u32| year / 4 - year / 100 + year / 400;
        let new_year = 365 * (year - 1970) + leap_days(year - 1) - leap_days(1969);
        self.since_1970 - new_year + 1
    }

    /// In a format of Python's `strftime`, at midnight.
    pub(crate) fn strftime(self, format: &str) -> Result<String, String> {
        let mut date = String::new();
        let mut rest = format;
        while let Some((before, after)) = rest.split_once('%') {
            date.push_str(before);
            // `%-d` is a day without a leading zero.
            let (unpadded, after) = after.strip_prefix('-').map_or((false, after), |after| (true, after));
            let directive = after.chars().next();
            let Some(text) = directive.and_then(|directive| self.directive(directive)) else {
                let directive = directive.map_or("%".into(), |c| format!("%{c}"));
                return Err(format!("strftime_now has no directive {directive:?}"));
            };
            let shortened = text.trim_start_matches(['0', ' ']);
            date.push_str(match (unpadded, shortened) {
                (true, "") => "0",
                (true, shortened) => shortened,
                (false, _) => &text,
            });
            rest = &after[1..];
        }
        date.push_str(rest);
        Ok(date)
    }

    fn directive(self, name: char) -> Option<String> {
        let (year, month, day) = self.civil();
        let (month_name, weekday) = (MONTHS[month as usize - 1], WEEKDAYS[self.since_1970 as usize % 7]);
        Some(match name {
            'a' => weekday[..3].to_string(),
            'A' => weekday.to_string(),
            'b' | 'h' => month_name[..3].to_string(),
            'B' => month_name.to_string(),
            'd' => format!("{day:02}"),
            'e' => format!("{day:2}"),
            'm' => format!("{month:02}"),
            'y' => format!("{:02}", year % 100),
            'Y' => year.to_string(),
            'j' => format!("{:03}", self.of_year()),
            'H' | 'M' | 'S' => "00".to_string(),
            'I' => "12".to_string(),
            'p' => "AM".to_string(),
            'F' => self.to_string(),
            'D' => format!("{month:02}/{day:02}/{:02}", year % 100),
            'T' => "00:00:00".to_string(),
            '%' => "%".to_string(),
            _ => return None,
        })
    }
}

/// What a template sees that was given no day.
impl Default for Day {
    fn default() -> Self {
        // 26 July 2024, a Friday.
        Day { since_1970: 19_930 }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no day from 1970-01-01 to 9999-12-31");
        let year: u32 = text.get(..4).and_then(|year| year.parse().ok()).ok_or_else(wrong)?;
        // Days grow with their texts, and there are at most 366 in a year: a short search, and no second formula.
        let first = year.checked_sub(1970).map(|years| years as u64 * 3_652_425 / 10_000).ok_or_else(wrong)?;
        let near = first.saturating_sub(2)..first + 369;
        near.map(Day::since_1970).find(|day| day.to_string() == text).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Day> for String {
    fn from(day: Day) -> String {
        day.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_right_around_leap_days_and_centuries() {
        for (days, text) in [(0, "1970-01-01"), (11_015, "2000-02-28"), (11_016, "2000-02-29"), (47_541, "2100-03-01")]
        {
            assert_eq!(Day::since_1970(days).to_string(), text);
        }
        assert_eq!(Day::since_1970(u64::MAX).to_string(), "9999-12-31");
        for days in (0..=u64::from(MOST_DAYS)).step_by(97) {
            let day = Day::since_1970(days);
            assert_eq!(day.to_string().parse(), Ok(day));
        }
        for text in ["", "2025-02-29", "2025-13-01", "1969-12-31", "2025-1-1", "20250101", "2025-01-01x", "ünd"] {
            assert!(text.parse::<Day>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn directives_are_pythons() {
        let check = |day: &str, format: &str, text: &str| {
            let day: Day = day.parse().expect("a day");
            assert_eq!(day.strftime(format).expect("known directives"), text, "{format}");
        };
        let all = "%a %A %b %h %B %d %e %m %y %Y %j %H %I %M %S %p %F %D %T %%";
        let friday = "Fri Friday Jul Jul July 26 26 07 24 2024 208 00 12 00 00 AM 2024-07-26 07/26/24 00:00:00 %";
        check("2024-07-26", all, friday);
        assert_eq!(Day::default().to_string(), "2024-07-26");
        check("2027-01-05", "%A %-d|%e %-m %j", "Tuesday 5| 5 1 005");
        check("2028-12-31", "%a %j", "Sun 366");
        assert!(Day::default().strftime("%Q").is_err() && Day::default().strftime("%").is_err());
    }
}
