//! The frontier as a chart of characters: memory to the right, time upwards.

use crate::units::{bytes, seconds};
use remat_train::FrontierRow;

const WIDTH: usize = 56;
const HEIGHT: usize = 10;

/// The chart, with the chosen plan as `●`.
pub(super) fn chart(rows: &[FrontierRow], peak_bytes: usize, step_seconds: f64) -> String {
    let points: Vec<(f64, f64)> = rows.iter().map(|row| (row.peak_bytes as f64, row.step_seconds)).collect();
    let chosen = (peak_bytes as f64, step_seconds);
    let all = || points.iter().chain(std::iter::once(&chosen));
    let ends = |of: fn(&(f64, f64)) -> f64| {
        all().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
    };
    let ((left, right), (bottom, top)) = (ends(|point| point.0), ends(|point| point.1));
    if right <= left || top <= bottom {
        return String::new();
    }
    let mut cells = vec![vec![' '; WIDTH]; HEIGHT];
    let mut mark = |&(x, y): &(f64, f64), sign| {
        let column = ((x - left) / (right - left) * (WIDTH - 1) as f64).round() as usize;
        let row = ((top - y) / (top - bottom) * (HEIGHT - 1) as f64).round() as usize;
        cells[row][column] = sign;
    };
    points.iter().for_each(|point| mark(point, '·'));
    mark(&chosen, '●');
    let mut page = String::from("\n");
    for (index, row) in cells.iter().enumerate() {
        let label = match index {
            0 => seconds(top),
            _ if index == HEIGHT - 1 => seconds(bottom),
            _ => String::new(),
        };
        let line: String = row.iter().collect();
        page.push_str(&format!("{label:>12} │{}\n", line.trim_end()));
    }
    let (low, high) = (bytes(left as u64), bytes(right as u64));
    let gap = WIDTH.saturating_sub(low.chars().count() + high.chars().count());
    page.push_str(&format!(
        "{:>12} └{}\n{:>14}{low}{}{high}   ● this plan\n",
        "",
        "─".repeat(WIDTH),
        "",
        " ".repeat(gap)
    ));
    page
}

#[cfg(test)]
mod tests {
    use super::chart;
    use remat_train::FrontierRow;

    #[test]
    fn every_point_is_in_the_chart_and_the_plan_marked() {
        let row = |peak_bytes, step_seconds| FrontierRow { peak_bytes, activation_bytes: 0, step_seconds };
        let page = chart(&[row(1 << 20, 2.0), row(2 << 20, 1.5), row(4 << 20, 1.0)], 2 << 20, 1.5);
        assert_eq!((page.matches('·').count(), page.matches('●').count()), (2, 2), "{page}");
        let first = page.lines().nth(1).expect("a row");
        assert!(first.starts_with("      2.00 s │·"), "{page}");
        assert!(page.contains("1.0 MiB") && page.contains("4.0 MiB"), "{page}");
        assert_eq!(chart(&[row(1, 1.0)], 1, 1.0), "");
    }
}
