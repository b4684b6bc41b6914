//! Numbers as people read them. Invariant: a unit is always written with its number.

use std::fmt::Display;

/// Bytes in binary units: one decimal of KiB and MiB, two of GiB, where a tenth is more than a step may differ by.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => {
            let digits = if *shift == 30 { 2 } else { 1 };
            format!("{:.digits$} {unit}", bytes as f64 / (1_u64 << shift) as f64)
        }
        None => format!("{bytes} B"),
    }
}

/// A whole number with its digits in groups of three.
pub(crate) fn count(number: impl Display) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// What a plan's line says of values that are cut into tiles.
pub(crate) fn in_tiles(tiles: usize) -> String {
    if tiles > 1 { format!(", wide values in {tiles} tiles") } else { String::new() }
}

/// A number and its noun, in the plural unless it is one.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Seconds in a unit that shows them.
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.1} ms", 1e3 * s),
        s => format!("{s:.2} s"),
    }
}

/// A duration with its two largest units.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 10.0 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (64 << 20, "64.0 MiB"), (5 << 30, "5.00 GiB")];
        for (size, text) in sizes {
            assert_eq!(bytes(size), text);
        }
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!((counted(1, "row"), counted(2, "row")), ("1 row".to_string(), "2 rows".to_string()));
        let times = [
            (0.04, "0.0 s"),
            (9.96, "10.0 s"),
            (59.0, "59 s"),
            (61.4, "1 min 01 s"),
            (7300.0, "2 h 01 min"),
            (90_000.0, "1 d 01 h"),
        ];
        for (seconds, text) in times {
            assert_eq!(duration(seconds), text);
        }
    }
}
