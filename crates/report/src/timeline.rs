//! The arena over the time of one step: one rectangle per buffer, from its first to its last use, at the bytes where it
//! lies. Hovering over one names it.

use crate::axis::{Frame, Scale, Unit};
use crate::colours::COLOURS;
use crate::markup::{at, escaped};
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;

/// What a rectangle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It lives from forward to backward.
    Kept,
    /// It lives in the forward only.
    Forward,
    /// It was computed again.
    Recomputed,
    /// It belongs to backward.
    Backward,
    /// A kernel's own.
    Workspace,
}

impl Kind {
    /// All of them, in the order of a legend.
    pub const ALL: [Kind; 5] = [Kind::Kept, Kind::Forward, Kind::Recomputed, Kind::Backward, Kind::Workspace];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kept => "kept for backward",
            Kind::Forward => "forward, transient",
            Kind::Recomputed => "recomputed",
            Kind::Backward => "backward",
            Kind::Workspace => "workspace",
        }
    }

    pub(crate) fn class(self) -> &'static str {
        match self {
            Kind::Kept => "k1",
            Kind::Forward => "k2",
            Kind::Recomputed => "k3",
            Kind::Backward => "k4",
            Kind::Workspace => "k5",
        }
    }
}

/// One buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Seconds from the start to its first use.
    pub start: f64,
    /// Seconds from the start to the end of its last use.
    pub end: f64,
    /// Where it lies.
    pub offset: usize,
    /// Its size.
    pub bytes: usize,
    /// What it is.
    pub kind: Kind,
    /// What it is called.
    pub name: String,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// Every buffer.
    pub bars: Vec<Bar>,
    /// How long the step takes.
    pub seconds: f64,
    /// Size of the arena.
    pub arena_bytes: usize,
}

impl Timeline {
    /// The chart, for a page.
    pub fn svg(&self) -> String {
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">{}</svg>", self.drawing(20.0, "byte of the arena"))
    }

    /// The chart as a file of its own, with title, legend and colours.
    pub fn file(&self, title: &str) -> String {
        let mut page = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\">\
             <style>{COLOURS}</style><rect class=\"back\" width=\"100%\" height=\"100%\"/>\n\
             <text class=\"name\" x=\"8\" y=\"15\">{}</text>\n",
            escaped(title)
        );
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            let x = 70.0 + 112.0 * index as f64;
            // Writing to a string cannot fail.
            let _ = writeln!(
                page,
                "<rect class=\"{}\" x=\"{x}\" y=\"24\" width=\"9\" height=\"9\"/><text class=\"tick\" x=\"{}\" \
                 y=\"32\">{}</text>",
                kind.class(),
                x + 13.0,
                kind.name()
            );
        }
        page.push_str(&self.drawing(40.0, ""));
        page + "</svg>\n"
    }

    fn drawing(&self, top: f64, y_label: &str) -> String {
        let arena = self.arena_bytes.max(1) as f64;
        let seconds = if self.seconds > 0.0 { self.seconds } else { 1.0 };
        let x = Scale { low: 0.0, high: seconds, from: 70.0, to: WIDTH - 12.0 };
        let y = Scale { low: 0.0, high: arena, from: HEIGHT - 42.0, to: top };
        let x_label = "predicted time of a micro-step";
        let (x_unit, y_unit) = (Unit::Seconds, Unit::Bytes);
        let mut page = Frame { x, y, x_unit, y_unit, x_label, y_label }.svg();
        for bar in self.bars.iter().filter(|bar| bar.start.is_finite() && bar.end.is_finite()) {
            let (left, right) = (x.at(bar.start), x.at(bar.end));
            let (low, high) = (y.at(bar.offset as f64), y.at(bar.offset.saturating_add(bar.bytes) as f64));
            let size = Unit::Bytes.text(bar.bytes as f64);
            let _ = writeln!(
                page,
                "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}: {size} at {}</title></rect>",
                bar.kind.class(),
                at(left),
                at(high),
                at((right - left).max(0.25)),
                at((low - high).max(0.2)),
                escaped(&bar.name),
                bar.offset
            );
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_lie_where_their_buffers_do() {
        let bar =
            |start, end, offset, bytes| Bar { start, end, offset, bytes, kind: Kind::Kept, name: "<x>".to_string() };
        let bars = vec![bar(0.0, 1.0, 0, 512), bar(0.5, 1.0, 512, 512), bar(f64::NAN, 1.0, 0, 1)];
        let timeline = Timeline { bars, seconds: 1.0, arena_bytes: 1024 };
        let svg = timeline.svg();
        assert!(svg.contains("x=\"70\" y=\"169\" width=\"558\" height=\"149\""), "{svg}");
        assert!(svg.contains("x=\"349\" y=\"20\" width=\"279\" height=\"149\""), "{svg}");
        assert!(svg.contains("&lt;x&gt;: 512 B at 512") && !svg.contains("NaN"), "{svg}");
        let file = timeline.file("a & b");
        assert!(file.starts_with("<svg xmlns") && file.contains("a &amp; b") && file.contains("prefers-color-scheme"));
        assert!(Timeline { bars: Vec::new(), seconds: 0.0, arena_bytes: 0 }.svg().ends_with("</svg>"));
    }
}
