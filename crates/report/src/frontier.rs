//! The time-memory frontier: memory to the right, time upwards, the chosen plan and measured ones marked.

use crate::Unit;
use crate::axis::{Frame, Scale};
use crate::markup::{at, escaped};
use std::fmt::Write;

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 290.0;

/// A plan: what it takes, and how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// What it is called, if anything.
    pub name: String,
    /// Memory.
    pub bytes: f64,
    /// Time.
    pub seconds: f64,
}

impl Mark {
    fn is_finite(&self) -> bool {
        self.bytes.is_finite() && self.seconds.is_finite()
    }

    fn title(&self) -> String {
        let (bytes, seconds) = (Unit::Bytes.text(self.bytes), Unit::Seconds.text(self.seconds));
        escaped(&format!("{} {bytes}, {seconds}", self.name))
    }
}

/// The chart. `plans` are joined by a line, `chosen` is a filled circle, `measured` are squares with their names.
pub fn frontier(plans: &[Mark], chosen: Option<&Mark>, measured: &[Mark]) -> String {
    let all = || plans.iter().chain(chosen).chain(measured).filter(|mark| mark.is_finite());
    let x = Scale::around(all().map(|mark| mark.bytes), 62.0, WIDTH - 14.0);
    let y = Scale::around(all().map(|mark| mark.seconds), HEIGHT - 46.0, 24.0);
    let frame = Frame {
        x,
        y,
        x_unit: Unit::Bytes,
        y_unit: Unit::Seconds,
        x_label: "peak memory of the process",
        y_label: "time of an update",
    };
    let mut page = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">{}", frame.svg());
    let mut plans: Vec<&Mark> = plans.iter().filter(|mark| mark.is_finite()).collect();
    plans.sort_by(|a, b| a.bytes.total_cmp(&b.bytes));
    // Writing to a string cannot fail.
    for (index, mark) in plans.iter().enumerate() {
        let (start, command) = if index == 0 { ("<path class=\"line c1\" d=\"", 'M') } else { ("", 'L') };
        let _ = write!(page, "{start}{command}{} {}", at(x.at(mark.bytes)), at(y.at(mark.seconds)));
    }
    if !plans.is_empty() {
        page.push_str("\"/>");
    }
    for mark in &plans {
        let (cx, cy) = (at(x.at(mark.bytes)), at(y.at(mark.seconds)));
        let _ = write!(
            page,
            "<circle class=\"f1\" cx=\"{cx}\" cy=\"{cy}\" r=\"3\"><title>{}</title></circle>",
            mark.title()
        );
    }
    for mark in measured.iter().filter(|mark| mark.is_finite()) {
        let (left, top) = (x.at(mark.bytes), y.at(mark.seconds));
        // A name near the right edge goes to the left of its mark.
        let (text_x, anchor) = if left > WIDTH - 90.0 { (left - 9.0, "end") } else { (left + 9.0, "start") };
        let _ = write!(
            page,
            "<rect class=\"f2\" x=\"{}\" y=\"{}\" width=\"9\" height=\"9\"><title>{} measured</title></rect><text \
             class=\"name\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            at(left - 4.5),
            at(top - 4.5),
            mark.title(),
            at(text_x),
            at(top + 4.0),
            escaped(&mark.name)
        );
    }
    if let Some(mark) = chosen.filter(|mark| mark.is_finite()) {
        let (cx, cy) = (at(x.at(mark.bytes)), at(y.at(mark.seconds)));
        let _ = write!(
            page,
            "<circle class=\"chosen\" cx=\"{cx}\" cy=\"{cy}\" r=\"6.5\"><title>{}</title></circle>",
            mark.title()
        );
    }
    page + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_is_drawn_and_names_are_escaped() {
        let mark = |name: &str, bytes, seconds| Mark { name: name.to_string(), bytes, seconds };
        let plans = [mark("", 4e9, 1.0), mark("", 1e9, 2.0), mark("", f64::NAN, 1.0)];
        let svg = frontier(&plans, Some(&plans[0]), &[mark("<b>", 2e9, 1.5)]);
        assert_eq!((svg.matches("class=\"f1\"").count(), svg.matches("class=\"chosen\"").count()), (2, 1));
        assert!(svg.contains("&lt;b&gt;") && !svg.contains("<b>") && !svg.contains("NaN"), "{svg}");
        assert!(frontier(&[], None, &[]).ends_with("</svg>"));
    }
}
