//! Curves over the updates of a run: losses, the learning rate, memory.
//!
//! A series of more points than the chart has pixels keeps the lowest and the highest of each pixel's, so that a spike is
//! never lost.

use crate::Unit;
use crate::axis::{Frame, Scale};
use crate::markup::{at, escaped};
use std::fmt::Write;

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 250.0;
const BUCKETS: usize = 400;

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Series<'a> {
    /// What it is.
    pub name: &'a str,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// The chart, with the names of its curves above it.
pub fn curves(series: &[Series<'_>], y_unit: Unit, y_label: &str) -> String {
    let finite = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
    let all = || series.iter().flat_map(|s| &s.points).filter(|point| finite(point));
    let x = Scale::around(all().map(|point| point.0), 62.0, WIDTH - 14.0);
    let y = Scale::around(all().map(|point| point.1), HEIGHT - 46.0, 24.0);
    let frame = Frame { x, y, x_unit: Unit::Number, y_unit, x_label: "update", y_label };
    let mut page = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">{}", frame.svg());
    let mut right = WIDTH - 14.0;
    for (index, one) in series.iter().enumerate().rev() {
        let class = index % 4 + 1;
        // Names stand in a row above the chart, the last one at its right end.
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "<text class=\"name t{class}\" x=\"{}\" y=\"12\" text-anchor=\"end\">{}</text>",
            at(right),
            escaped(one.name)
        );
        right -= 7.5 * one.name.chars().count() as f64 + 16.0;
    }
    for (index, one) in series.iter().enumerate() {
        let class = index % 4 + 1;
        let points: Vec<(f64, f64)> = one.points.iter().copied().filter(|point| finite(point)).collect();
        let points = thinned(&points);
        for (place, &(px, py)) in points.iter().enumerate() {
            let start = if place == 0 { format!("<path class=\"line c{class}\" d=\"M") } else { "L".to_string() };
            let _ = write!(page, "{start}{} {}", at(x.at(px)), at(y.at(py)));
        }
        if !points.is_empty() {
            page.push_str("\"/>");
        }
        // A few points are few measurements, and say so.
        for &(px, py) in points.iter().filter(|_| points.len() <= 30) {
            let text = escaped(&format!("{} {}: {}", one.name, Unit::Number.text(px), y_unit.text(py)));
            let (cx, cy) = (at(x.at(px)), at(y.at(py)));
            let _ = write!(
                page,
                "<circle class=\"f{class}\" cx=\"{cx}\" cy=\"{cy}\" r=\"3\"><title>{text}</title></circle>"
            );
        }
    }
    page + "</svg>"
}

/// At most two points for each bucket: its lowest and its highest, in their order.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 2 * BUCKETS {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(2 * BUCKETS);
    for bucket in points.chunks(points.len().div_ceil(BUCKETS)) {
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (Some(low), Some(high)) = (bucket.iter().min_by(by_height), bucket.iter().max_by(by_height)) else {
            continue;
        };
        kept.push(if low.0 <= high.0 { *low } else { *high });
        if low != high {
            kept.push(if low.0 <= high.0 { *high } else { *low });
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_among_many_points_stays() {
        let points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), if i == 777 { 9.0 } else { 1.0 })).collect();
        let kept = thinned(&points);
        assert!(kept.len() <= 2 * BUCKETS && kept.contains(&(777.0, 9.0)));
        assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn numbers_that_are_none_draw_nothing() {
        let series = [Series { name: "a<b", points: vec![(1.0, f64::NAN), (2.0, 1.0), (f64::INFINITY, 2.0)] }];
        let svg = curves(&series, Unit::Number, "loss");
        assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.contains("a&lt;b"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(curves(&[], Unit::Number, "loss").ends_with("</svg>"));
    }
}
