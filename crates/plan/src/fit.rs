//! Rates of a class of ops from measured steps: least squares, no term below zero.
//!
//! Method: seconds = flops · a + bytes · b + inner · c + d. Each squared error is weighted by 1 / seconds: large steps
//! decide, but do not drown the small ones. Overhead is bounded. Of all subsets of the four terms the non-negative solution with the least
//! error wins; with four terms that is exact and cheaper than an iteration (Lawson and Hanson, *Solving Least Squares
//! Problems*, 1974, chapter 23). Invariant: every rate is positive and finite, whatever was measured.

use crate::Rate;
use remat_ir::Cost;

/// A rate that never binds.
const UNBOUNDED: f64 = 1e18;

const TERMS: usize = 4;

/// What a step may cost however small it is: its dispatch and the barrier of its threads. Where all steps of a class have
/// weights of about one size, nothing else tells what is done for each of these from what is done once.
const MOST_OVERHEAD_SECONDS: f64 = 1e-4;

/// A step's terms, and what their weighted sum should be.
type Row = [f64; TERMS + 1];

/// What a step did and how long that took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Its work.
    pub cost: Cost,
    /// How long it took; above zero.
    pub seconds: f64,
}

impl Measured {
    fn row(&self) -> Row {
        let weight = self.seconds.sqrt().recip();
        [self.cost.flops, self.cost.bytes, self.cost.inner, 1.0, self.seconds].map(|term| term * weight)
    }
}

impl Rate {
    /// The rates that explain the steps best; `None` without any.
    pub fn fitted(steps: &[Measured]) -> Option<Rate> {
        let rows: Vec<Row> = steps.iter().filter(|step| step.seconds > 0.0).map(Measured::row).collect();
        let error = |x: &[f64; TERMS]| -> f64 {
            let miss = |row: &Row| row.iter().zip(x).map(|(a, b)| a * b).sum::<f64>() - row[TERMS];
            rows.iter().map(|row| miss(row).powi(2)).sum()
        };
        let solutions = (1..1_usize << TERMS).filter_map(|subset| solved(&rows, subset));
        let fits = |x: &[f64; TERMS]| {
            x.iter().all(|&term| term >= 0.0 && term.is_finite()) && x[TERMS - 1] <= MOST_OVERHEAD_SECONDS
        };
        let best = solutions.filter(fits).map(|x| (error(&x), x)).min_by(|a, b| a.0.total_cmp(&b.0));
        // Nothing but overhead is left where no step has any work.
        let least = || rows.iter().map(|row| row[TERMS] / row[TERMS - 1]).reduce(f64::min).map(|d| [0.0, 0.0, 0.0, d]);
        let best = best.map(|(_, x)| x).or_else(least)?;
        let rate = |seconds: f64| if seconds > 1.0 / UNBOUNDED { 1.0 / seconds } else { UNBOUNDED };
        Some(Rate {
            flops_per_second: rate(best[0]),
            bytes_per_second: rate(best[1]),
            inner_per_second: rate(best[2]),
            overhead_seconds: best[3],
        })
    }
}

/// The least squares over the terms of a subset, the others zero; `None` if they cannot be told apart.
fn solved(rows: &[Row], subset: usize) -> Option<[f64; TERMS]> {
    let terms: Vec<usize> = (0..TERMS).filter(|term| subset & (1 << term) != 0).collect();
    let n = terms.len();
    // Columns differ by many orders of magnitude, so each is scaled to length one.
    let length = |&term: &usize| rows.iter().map(|row| row[term] * row[term]).sum::<f64>().sqrt();
    let lengths: Vec<f64> = terms.iter().map(length).collect();
    if lengths.contains(&0.0) {
        return None;
    }
    let at = |row: &Row, index: usize| row[terms[index]] / lengths[index];
    let mut system = vec![vec![0.0; n + 1]; n];
    for (i, line) in system.iter_mut().enumerate() {
        for (j, cell) in line.iter_mut().enumerate() {
            *cell = rows.iter().map(|row| at(row, i) * if j < n { at(row, j) } else { row[TERMS] }).sum();
        }
    }
    for column in 0..n {
        let pivot = (column..n).max_by(|&a, &b| system[a][column].abs().total_cmp(&system[b][column].abs()))?;
        system.swap(column, pivot);
        if system[column][column].abs() < 1e-6 {
            return None;
        }
        let (head, tail) = system.split_at_mut(column + 1);
        let top = &head[column];
        for line in tail {
            let factor = line[column] / top[column];
            line.iter_mut().zip(top).for_each(|(cell, above)| *cell -= factor * above);
        }
    }
    let mut x = vec![0.0; n];
    for index in (0..n).rev() {
        let known: f64 = (index + 1..n).map(|later| system[index][later] * x[later]).sum();
        x[index] = (system[index][n] - known) / system[index][index];
    }
    let mut all = [0.0; TERMS];
    terms.iter().zip(&lengths).zip(x).for_each(|((&term, length), x)| all[term] = x / length);
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(seconds: impl Fn(Cost) -> f64) -> Vec<Measured> {
        let cost = |i: usize| Cost { flops: 1e9 * (1 + i * i) as f64, bytes: 1e6 * (1 + i) as f64, inner: 0.0 };
        (0..6).map(cost).map(|cost| Measured { cost, seconds: seconds(cost) }).collect()
    }

    #[test]
    fn what_is_exactly_so_is_found() {
        let rate = Rate::fitted(&steps(|cost| cost.flops / 3e11 + cost.bytes / 2e10 + 4e-6)).expect("there are steps");
        assert!((rate.flops_per_second / 3e11 - 1.0).abs() < 1e-6, "{rate:?}");
        assert!((rate.bytes_per_second / 2e10 - 1.0).abs() < 1e-6, "{rate:?}");
        assert!((rate.overhead_seconds / 4e-6 - 1.0).abs() < 1e-6, "{rate:?}");
        assert_eq!(rate.inner_per_second, UNBOUNDED);
    }

    #[test]
    fn no_term_is_negative_and_noise_is_shared_out() {
        for shift in [-0.2, 0.1, 0.3] {
            let uneven = |cost: Cost| (cost.flops / 3e11) * (1.0 + shift * (cost.bytes / 1e6 % 2.0)) - 1e-6;
            let rate = Rate::fitted(&steps(uneven)).expect("there are steps");
            let rates = [rate.flops_per_second, rate.bytes_per_second, rate.inner_per_second];
            assert!(rates.iter().all(|&rate| rate > 0.0 && rate.is_finite()) && rate.overhead_seconds >= 0.0);
        }
    }

    /// Weights of nearly one size, of which the smaller ones were no faster: a constant explains these best, and would say of a
    /// weight of sixteen times the size that it takes half of its time.
    #[test]
    fn a_weight_of_one_size_is_no_overhead() {
        let step = |weight: f64, tokens: f64| {
            let cost = Cost { flops: 2.0 * weight * tokens, bytes: weight, inner: 0.0 };
            Measured { cost, seconds: cost.flops / 3e11 + 2e7 / 8e9 }
        };
        let steps: Vec<Measured> = [2e7, 1.8e7]
            .into_iter()
            .flat_map(|weight| [24.0, 192.0, 512.0].map(|tokens| step(weight, tokens)))
            .collect();
        let rate = Rate::fitted(&steps).expect("steps");
        let seconds = rate.seconds(Cost { flops: 1e10, bytes: 3.2e8, inner: 0.0 });
        assert!((seconds / (1e10 / 3e11 + 3.2e8 / 8e9) - 1.0).abs() < 0.1, "{rate:?}");
    }

    #[test]
    fn one_step_or_none_is_no_problem() {
        let one = Measured { cost: Cost { flops: 2e9, bytes: 1e6, inner: 0.0 }, seconds: 1e-2 };
        let rate = Rate::fitted(&[one]).expect("a step");
        assert!((rate.seconds(one.cost) - 1e-2).abs() < 1e-7, "{rate:?}");
        assert_eq!(Rate::fitted(&[]), None);
    }
}
