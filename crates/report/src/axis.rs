//! Axes: units, round ticks, and the way from a number to a coordinate.

use crate::markup::{at, escaped};
use std::fmt::Write;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, in binary units.
    Bytes,
    /// Seconds.
    Seconds,
    /// Nothing: a loss, a count.
    Number,
}

impl Unit {
    /// A number with its unit.
    pub fn text(self, x: f64) -> String {
        match self {
            Unit::Bytes => {
                let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
                match units.iter().find(|(_, shift)| x.abs() >= (1_u64 << shift) as f64) {
                    Some((unit, shift)) => format!("{} {unit}", rounded(x / (1_u64 << shift) as f64)),
                    None => format!("{x:.0} B"),
                }
            }
            Unit::Seconds if x.abs() >= 1.0 => format!("{} s", rounded(x)),
            Unit::Seconds if x == 0.0 => "0 s".to_string(),
            Unit::Seconds if x.abs() >= 1e-3 => format!("{} ms", rounded(1e3 * x)),
            Unit::Seconds => format!("{} µs", rounded(1e6 * x)),
            Unit::Number => rounded(x),
        }
    }

    /// Sizes that ticks of this unit are multiples of.
    fn step(self, least: f64) -> f64 {
        match self {
            // Powers of two read as round numbers of KiB, MiB and GiB.
            Unit::Bytes => 2f64.powf(least.log2().ceil()),
            Unit::Seconds | Unit::Number => {
                let power = 10f64.powf(least.log10().floor());
                [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|step| *step >= least).unwrap_or(10.0 * power)
            }
        }
    }

    /// Round numbers from `low` to `high`, `most` at most.
    pub(crate) fn ticks(self, low: f64, high: f64, most: usize) -> Vec<f64> {
        let span = high - low;
        // A difference that rounding makes is no range.
        if !span.is_finite() || span <= high.abs().max(low.abs()) * 1e-9 || most == 0 {
            return Vec::new();
        }
        let step = self.step(span / most as f64);
        let first = (low / step).ceil();
        (0..=most).map(|index| (first + index as f64) * step).filter(|tick| *tick <= high + 1e-9 * span).collect()
    }
}

/// Three digits, without zeros that say nothing.
fn rounded(x: f64) -> String {
    let digits = match x.abs() {
        a if a >= 100.0 || a == 0.0 => 0,
        a if a >= 10.0 => 1,
        a if a >= 1.0 => 2,
        a if a >= 0.1 => 3,
        _ => return format!("{x:.1e}"),
    };
    let text = format!("{x:.digits$}");
    if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_string() }
}

/// From numbers to coordinates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Scale {
    /// Of the finite ones among these numbers, with a margin; around 0 to 1 if there is none.
    pub(crate) fn around(numbers: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for x in numbers.filter(|x| x.is_finite()) {
            (low, high) = (low.min(x), high.max(x));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let margin = match high - low {
            range if range > 0.0 => 0.06 * range,
            // One number, however small, stands in the middle: a constant learning rate is no line at the bottom.
            _ if high.abs() > f64::MIN_POSITIVE => 0.5 * high.abs(),
            _ => 0.5,
        };
        let least = if low >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
        Scale { low: (low - margin).max(least), high: high + margin, from, to }
    }

    pub(crate) fn at(&self, x: f64) -> f64 {
        self.from + (x - self.low) / (self.high - self.low) * (self.to - self.from)
    }
}

/// The frame of a chart: grid lines, ticks, and what the axes are.
pub(crate) struct Frame<'a> {
    pub(crate) x: Scale,
    pub(crate) y: Scale,
    pub(crate) x_unit: Unit,
    pub(crate) y_unit: Unit,
    pub(crate) x_label: &'a str,
    pub(crate) y_label: &'a str,
}

impl Frame<'_> {
    /// As elements of an SVG.
    pub(crate) fn svg(&self) -> String {
        let mut page = String::new();
        let Frame { x, y, .. } = self;
        let bottom = y.from.max(y.to);
        // Writing to a string cannot fail.
        for tick in self.y_unit.ticks(y.low, y.high, 5) {
            let (line, text) = (at(y.at(tick)), escaped(&self.y_unit.text(tick)));
            let _ = write!(
                page,
                "<path class=\"grid\" d=\"M{} {line}H{}\"/><text class=\"tick\" x=\"{}\" y=\"{}\" \
                 text-anchor=\"end\">{text}</text>",
                at(x.from),
                at(x.to),
                at(x.from - 6.0),
                at(y.at(tick) + 4.0)
            );
        }
        for tick in self.x_unit.ticks(x.low, x.high, 4) {
            let (line, text) = (at(x.at(tick)), escaped(&self.x_unit.text(tick)));
            let _ = write!(
                page,
                "<path class=\"grid\" d=\"M{line} {}V{}\"/><text class=\"tick\" x=\"{line}\" y=\"{}\" \
                 text-anchor=\"middle\">{text}</text>",
                at(y.from.min(y.to)),
                at(bottom),
                at(bottom + 16.0)
            );
        }
        let _ = write!(
            page,
            "<text class=\"label\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text><text class=\"label\" x=\"4\" \
             y=\"12\">{}</text>",
            at((x.from + x.to) / 2.0),
            at(bottom + 34.0),
            escaped(self.x_label),
            escaped(self.y_label)
        );
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(Unit::Number.ticks(0.3, 9.7, 5), [2.0, 4.0, 6.0, 8.0]);
        let mib = f64::from(1 << 20);
        assert_eq!(Unit::Bytes.ticks(100.0 * mib, 1000.0 * mib, 4), [256.0 * mib, 512.0 * mib, 768.0 * mib]);
        assert_eq!(Unit::Seconds.ticks(1.0, 1.0, 4), []);
        assert_eq!(Unit::Seconds.ticks(0.0, f64::NAN, 4), []);
        for (low, high) in [(1e-9, 2e-9), (5e17, 6e18), (-3.0, 4.0)] {
            let ticks = Unit::Number.ticks(low, high, 5);
            assert!((2..=6).contains(&ticks.len()) && ticks.iter().all(|t| (low..=high).contains(t)), "{ticks:?}");
        }
    }

    #[test]
    fn one_number_stands_in_the_middle() {
        for x in [0.0, 2e-4, -3.0, 1.0, 6e7] {
            let scale = Scale::around([x, x].into_iter(), 0.0, 100.0);
            let least = if x == 0.0 { 0.0 } else { 49.9 };
            assert!((least..=50.1).contains(&scale.at(x)), "{x}: {}", scale.at(x));
        }
    }

    #[test]
    fn numbers_have_their_unit() {
        let texts = [
            (Unit::Bytes, 1536.0, "1.5 KiB"),
            (Unit::Bytes, 5e9, "4.66 GiB"),
            (Unit::Seconds, 0.0015, "1.5 ms"),
            (Unit::Seconds, 2e-5, "20 µs"),
            (Unit::Seconds, 61.0, "61 s"),
            (Unit::Number, 250.0, "250"),
            (Unit::Number, 0.0002, "2.0e-4"),
        ];
        for (unit, x, text) in texts {
            assert_eq!(unit.text(x), text);
        }
    }
}
