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
    let measured: Vec<&Mark> = measured.iter().filter(|mark| mark.is_finite()).collect();
    let mut taken: Vec<Area> = measured.iter().map(|mark| Area::around(x.at(mark.bytes), y.at(mark.seconds))).collect();
    taken.extend(plans.iter().copied().chain(chosen).map(|mark| Area::around(x.at(mark.bytes), y.at(mark.seconds))));
    for mark in measured {
        let (left, top) = (x.at(mark.bytes), y.at(mark.seconds));
        let (text_x, text_y, anchor) = place(&mark.name, left, top, &mut taken);
        let _ = write!(
            page,
            "<rect class=\"f2\" x=\"{}\" y=\"{}\" width=\"9\" height=\"9\"><title>{} measured</title></rect><text \
             class=\"name\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            at(left - 4.5),
            at(top - 4.5),
            mark.title(),
            at(text_x),
            at(text_y),
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

/// What a mark or a name covers.
#[derive(Clone, Copy)]
struct Area {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Area {
    fn around(x: f64, y: f64) -> Self {
        Area { left: x - 5.0, right: x + 5.0, top: y - 5.0, bottom: y + 5.0 }
    }

    /// Of a name whose baseline is at `y`.
    fn of_name(name: &str, x: f64, y: f64, anchor: &str) -> Self {
        let width = 7.2 * name.chars().count() as f64;
        let left = match anchor {
            "start" => x,
            "end" => x - width,
            _ => x - width / 2.0,
        };
        Area { left, right: left + width, top: y - 10.0, bottom: y + 3.0 }
    }

    fn overlaps(&self, other: &Area) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    fn is_inside(&self) -> bool {
        self.left >= 62.0 && self.right <= WIDTH && self.top >= 14.0 && self.bottom <= HEIGHT - 46.0
    }
}

/// Where the name of a mark at `x`, `y` goes, and how it is anchored there: to its right, left, above or below, the first
/// that is free; what it covers counts as taken from then on.
fn place(name: &str, x: f64, y: f64, taken: &mut Vec<Area>) -> (f64, f64, &'static str) {
    let sides = [(9.0, 4.0, "start"), (-9.0, 4.0, "end"), (0.0, -9.0, "middle"), (0.0, 18.0, "middle")];
    let further = [(0.0, -22.0, "middle"), (0.0, 31.0, "middle"), (9.0, -9.0, "start"), (-9.0, 18.0, "end")];
    let places = || sides.into_iter().chain(further).map(|(dx, dy, anchor)| (x + dx, y + dy, anchor));
    let free = places().find(|&(x, y, anchor)| {
        let area = Area::of_name(name, x, y, anchor);
        area.is_inside() && !taken.iter().any(|other| area.overlaps(other))
    });
    let (x, y, anchor) =
        free.unwrap_or(if x > WIDTH - 90.0 { (x - 9.0, y + 4.0, "end") } else { (x + 9.0, y + 4.0, "start") });
    taken.push(Area::of_name(name, x, y, anchor));
    (x, y, anchor)
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

    #[test]
    fn names_of_marks_that_lie_close_do_not_cover_each_other() {
        let mut taken = vec![Area::around(100.0, 200.0), Area::around(110.0, 202.0), Area::around(425.0, 100.0)];
        let marks = [("full", 100.0, 200.0), ("every:2", 110.0, 202.0), ("none", 425.0, 100.0)];
        for (name, x, y) in marks {
            let (text_x, text_y, anchor) = place(name, x, y, &mut taken);
            assert!(Area::of_name(name, text_x, text_y, anchor).is_inside(), "{name} at {text_x}, {text_y}");
        }
        for (index, area) in taken.iter().enumerate().skip(3) {
            assert!(!taken[..index].iter().any(|other| area.overlaps(other)), "name {}", index - 3);
        }
    }
}
