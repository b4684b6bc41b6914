//! Predicted against measured, as pairs of bars from zero.

use crate::Unit;
use crate::markup::{at, escaped};
use std::fmt::Write;

const WIDTH: f64 = 440.0;
const BAR: f64 = 15.0;
const ROW: f64 = 58.0;
/// What a bar may take of the width, so that its number fits behind it.
const LONGEST: f64 = 300.0;

/// One thing that was predicted and perhaps measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// What it is.
    pub name: String,
    /// What was predicted.
    pub planned: f64,
    /// What was measured, if it was.
    pub measured: Option<f64>,
}

/// The chart: for each pair its name, the prediction, the measurement and their difference.
pub fn pairs(pairs: &[Pair], unit: Unit) -> String {
    let height = ROW * pairs.len() as f64 + 4.0;
    let numbers = pairs.iter().flat_map(|pair| [Some(pair.planned), pair.measured]).flatten();
    let most = numbers.filter(|x| x.is_finite()).fold(0.0, f64::max);
    let mut page = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", at(height));
    for (index, pair) in pairs.iter().enumerate() {
        let top = ROW * index as f64;
        // Writing to a string cannot fail.
        let _ = write!(page, "<text class=\"label\" x=\"0\" y=\"{}\">{}</text>", at(top + 13.0), escaped(&pair.name));
        let off = pair.measured.map(|measured| 100.0 * (measured / pair.planned - 1.0)).filter(|x| x.is_finite());
        let off = off.map_or(String::new(), |percent| format!(" ({percent:+.1} %)"));
        let bars = [(Some(pair.planned), "f3", String::new()), (pair.measured, "f2", off)];
        for (line, (number, class, note)) in bars.into_iter().enumerate() {
            let Some(number) = number.filter(|x| x.is_finite()) else { continue };
            let y = top + 19.0 + (BAR + 2.0) * line as f64;
            let width = if most > 0.0 { (LONGEST * number / most).max(0.0) } else { 0.0 };
            let text = escaped(&format!("{}{note}", unit.text(number)));
            let _ = write!(
                page,
                "<rect class=\"{class}\" x=\"0\" y=\"{}\" width=\"{}\" height=\"{BAR}\"/><text class=\"tick\" x=\"{}\" \
                 y=\"{}\">{text}</text>",
                at(y),
                at(width.max(1.0)),
                at(width + 6.0),
                at(y + 12.0)
            );
        }
    }
    page + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_the_difference_is_said() {
        let pair = |planned, measured| Pair { name: "a&b".to_string(), planned, measured };
        let svg = pairs(&[pair(2.0, Some(1.0)), pair(4.0, None), pair(f64::NAN, Some(1.0))], Unit::Seconds);
        assert!(
            svg.contains("width=\"300\"") && svg.contains("width=\"150\"") && svg.contains("width=\"75\""),
            "{svg}"
        );
        assert!(svg.contains("(-50.0 %)") && svg.contains("a&amp;b") && !svg.contains("NaN"), "{svg}");
        assert_eq!(svg.matches("class=\"f3\"").count(), 2);
    }
}
