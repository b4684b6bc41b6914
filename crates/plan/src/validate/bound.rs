//! How far a kernel's result may lie from its definition on the same operands.
//!
//! A sound kernel gives, rounded, what its definition gives on operands that differ by roundings: so the definition is
//! asked again with every operand moved by a few roundings of its dtype, up or down by lot, and what that changes bounds
//! what the kernel's own roundings may. Where a sum cancels, as in dS·k where all keys have much in common, this grows as
//! Σ|aᵢbᵢ| does and not as the result; elsewhere it is some thousandths of a result in bf16, some millionths in f32.
//! Rows (along the last axis) are compared one by one, so that a wrong row is not lost among many right ones. Higham,
//! *Accuracy and Stability of Numerical Algorithms*, 2002, section 1.5. Invariant: a bound says nothing of how large a
//! difference is, only of how large it may be; a result within its own rounding is never asked twice.

use remat_ir::{Array, Type};
use remat_tensor::DType;

/// Times what moved operands change: moves are as large as one rounding can be, and a kernel rounds a few times.
const FACTOR: f64 = 2.0;

/// Below the smallest numbers that kernels do not flush to zero.
const FLOOR: f64 = 1e-30;

/// What an op read.
pub(super) struct Operand<'a> {
    pub(super) values: &'a Array,
    pub(super) dtype: DType,
}

/// What a result may be off by, in the Euclidean norm.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    /// Of each row; empty where only the whole is asked for.
    rows: Vec<f64>,
    /// Of all elements together.
    whole: f64,
}

/// How far operands are moved, as a part of each element: as one rounding to 16 bits can; of 32 bits as many, since sums
/// of many terms round many times.
fn moved_by(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 1.0 / 256.0,
        DType::F16 => 1.0 / 2048.0,
        _ => 16.0 * f64::from(f32::EPSILON),
    }
}

/// A result's own rounding, and what every kernel may be off by besides: some roundings of a 32-bit computation.
fn own_rounding(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 1.0 / 256.0,
        DType::F16 => 1.0 / 2048.0,
        _ => 8.0 * f64::from(f32::EPSILON),
    }
}

/// The results by definition, each with what may differ; `got` is the kernel's, where that can be seen already.
pub(super) fn expected(
    operands: &[Operand<'_>],
    types: &[&Type],
    eval: &dyn Fn(&[&Array]) -> Vec<Array>,
    got: &[Option<Array>],
) -> Vec<(Array, Bound)> {
    let inputs: Vec<&Array> = operands.iter().map(|operand| operand.values).collect();
    let results = eval(&inputs);
    let rounded = |want: &Array, ty: &Type| Bound::rounding(want, own_rounding(ty.dtype));
    let bounds: Vec<Bound> = results.iter().zip(types).map(|(want, ty)| rounded(want, ty)).collect();
    let within = |((got, want), bound): ((&Option<Array>, &Array), &Bound)| {
        got.as_ref().is_some_and(|got| bound.exceeded(got, want).is_none())
    };
    if got.iter().zip(&results).zip(&bounds).all(within) {
        return results.into_iter().zip(bounds).collect();
    }
    let moved: Vec<Array> = operands.iter().enumerate().map(|(index, operand)| moved(operand, index)).collect();
    let changed = eval(&moved.iter().collect::<Vec<_>>());
    let widened = |((want, bound), changed): ((Array, Bound), Array)| {
        let bound = bound.widened(&want, &changed);
        (want, bound)
    };
    results.into_iter().zip(bounds).zip(changed).map(widened).collect()
}

/// An operand with each element a little larger or smaller, by lot, the same every time.
fn moved(operand: &Operand<'_>, index: usize) -> Array {
    let mut moved = operand.values.clone();
    if operand.dtype.is_float() {
        let by = moved_by(operand.dtype);
        // xorshift64 (Marsaglia, 2003): signs need no better.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(index as u64 + 1);
        for x in &mut moved.data {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *x *= if state >> 63 == 0 { 1.0 + by } else { 1.0 - by };
        }
    }
    moved
}

/// Elements along the last axis; all of them where there is no other axis.
fn row_len(array: &Array) -> usize {
    let len = if array.shape.len() > 1 { array.shape.last() } else { array.data.len() };
    len.max(1)
}

fn norm(elements: impl Iterator<Item = f64>) -> f64 {
    elements.fold(0.0, |sum, x| sum + x * x).sqrt()
}

/// Differences, where equal infinities have none.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    norm(a.iter().zip(b).map(|(a, b)| if a == b { 0.0 } else { a - b }))
}

/// What cannot be compared is outside.
fn exceeds(off: f64, bound: f64) -> bool {
    off.is_nan() || bound.is_nan() || off > bound
}

impl Bound {
    /// With as much besides, and as a whole only: of a sum onto something that is itself known to a bound.
    pub(super) fn with_slack(self, slack: f64) -> Bound {
        if slack == 0.0 { self } else { Bound { rows: Vec::new(), whole: self.whole + slack } }
    }

    /// A part of each row, and of the whole.
    fn rounding(want: &Array, part: f64) -> Bound {
        let of = |row: &[f64]| part * norm(row.iter().copied().filter(|x| x.is_finite())) + FLOOR;
        Bound { rows: want.data.chunks(row_len(want)).map(of).collect(), whole: of(&want.data) }
    }

    /// With what moved operands change: in a row itself, or in an average one where that is more, since a lot may spare
    /// a row by chance.
    fn widened(&self, want: &Array, changed: &Array) -> Bound {
        let len = row_len(want);
        let whole = difference(&want.data, &changed.data);
        let average = whole / (self.rows.len().max(1) as f64).sqrt();
        let rows = want.data.chunks(len).zip(changed.data.chunks(len)).zip(&self.rows);
        let rows = rows.map(|((want, changed), own)| own + FACTOR * difference(want, changed).max(average));
        Bound { rows: rows.collect(), whole: self.whole + FACTOR * whole }
    }

    /// Of all elements together.
    pub(super) fn whole(&self) -> f64 {
        self.whole
    }

    /// What lies outside, in words; NaN does.
    pub(super) fn exceeded(&self, got: &Array, want: &Array) -> Option<String> {
        let size = norm(want.data.iter().copied());
        let off = difference(&got.data, &want.data);
        if exceeds(off, self.whole) {
            return Some(format!("by {off:.3e} in norm, of {size:.3e}; roundings explain {:.1e}", self.whole));
        }
        let len = row_len(want);
        let rows = got.data.chunks(len).zip(want.data.chunks(len)).zip(&self.rows).enumerate();
        let off =
            rows.map(|(row, ((got, want), &bound))| (row, difference(got, want), norm(want.iter().copied()), bound));
        let mut outside = off.filter(|&(_, off, _, bound)| exceeds(off, bound));
        outside.next().map(|(row, off, size, bound)| {
            format!("in row {row} by {off:.3e} in norm, of {size:.3e}; roundings explain {bound:.1e}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remat_tensor::Shape;

    fn array(rows: usize, data: Vec<f64>) -> Array {
        Array { shape: Shape::new([rows, data.len() / rows]), data }
    }

    /// Sums over pairs of columns, of two rows.
    fn sums(inputs: &[&Array]) -> Vec<Array> {
        vec![array(2, inputs[0].data.chunks(2).map(|pair| pair[0] + pair[1]).collect())]
    }

    fn outside(dtype: DType, operand: &[f64], got: &[f64]) -> Option<String> {
        let operand = array(2, operand.to_vec());
        let operands = [Operand { values: &operand, dtype }];
        let got = array(2, got.to_vec());
        let ty = Type::new(dtype, got.shape.clone());
        let (want, bound) = expected(&operands, &[&ty], &sums, &[Some(got.clone())]).remove(0);
        bound.exceeded(&got, &want)
    }

    const PLAIN: [f64; 8] = [1.0, 2.0, 3.0, 4.0, 0.5, 0.25, 1.5, 0.75];

    #[test]
    fn roundings_pass_and_what_is_more_does_not() {
        let want = [3.0, 7.0, 0.75, 2.25];
        for (dtype, rounding, wrong) in [(DType::F32, 1e-7, 1e-4), (DType::BF16, 2e-3, 0.12)] {
            for at in 0..4 {
                let with = |by: f64| {
                    let mut got = want;
                    got[at] *= 1.0 + by;
                    outside(dtype, &PLAIN, &got)
                };
                assert_eq!(with(rounding), None, "{dtype} element {at}");
                assert!(with(wrong).is_some(), "{dtype} element {at}");
            }
        }
    }

    #[test]
    fn a_sum_that_cancels_may_be_off_by_the_roundings_of_its_terms() {
        // The sums are 1/1000 of their terms.
        let operand =
            PLAIN.chunks(2).flat_map(|pair| [1000.0 * pair[0], -1000.0 * pair[0] + pair[1]]).collect::<Vec<_>>();
        let (want, terms) = ([2.0, 4.0, 0.25, 0.75], [1000.0, 3000.0, 500.0, 1500.0]);
        let with = |by: f64| outside(DType::BF16, &operand, &[0, 1, 2, 3].map(|at| want[at] + by * terms[at]));
        assert_eq!(with(2f64.powi(-9)), None, "one term rounded once");
        assert!(with(0.1).is_some(), "a tenth of the terms is no rounding");
    }

    #[test]
    fn infinities_are_equal_and_nan_is_not_a_number() {
        let infinite = [f64::INFINITY, 1.0, 3.0, 4.0, 0.5, 0.25, 1.5, 0.75];
        assert_eq!(outside(DType::F32, &infinite, &[f64::INFINITY, 7.0, 0.75, 2.25]), None);
        assert!(outside(DType::F32, &infinite, &[3.0, 7.0, 0.75, 2.25]).is_some());
        assert!(outside(DType::F32, &PLAIN, &[f64::NAN, 7.0, 0.75, 2.25]).is_some());
        assert!(outside(DType::F32, &PLAIN, &[3.0, 7.0, 0.75, f64::NEG_INFINITY]).is_some());
    }
}
