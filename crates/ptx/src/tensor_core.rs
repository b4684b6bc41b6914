//! `mma.sync`: which lane and register hold which element (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"),
//! and the product itself.
//!
//! With g = lane / 4 and t = lane % 4: register r of A holds row g + 8 (r % 2), columns 2t + 8 (r / 2) and the next; register r of
//! B holds rows 2t + 8r and the next, column g; element i of C and D has row g + 8 (i / 2), column 2t + i % 2. A card may
//! sum in an order of its own in at least single precision; here the sum is formed in f64 and rounded once.

use crate::lanes::{f, fb};
use crate::program::Mma;
use crate::round::{bf16_value, f16_value};
use crate::warp::{Lanes, Warp};

/// Runs one product in all 32 lanes.
pub(crate) fn multiply(warp: &mut Warp, mma: &Mma) {
    let element = |bits: u64| f64::from(if mma.bf16 { bf16_value(bits & 0xffff) } else { f16_value(bits & 0xffff) });
    let mut a = [[0f64; 16]; 16];
    let mut b = [[0f64; 8]; 16];
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        for (r, &row) in mma.a.rows().iter().enumerate() {
            let pair = warp.row(row)[lane];
            for half in 0..2 {
                a[g + 8 * (r % 2)][2 * t + 8 * (r / 2) + half] = element(pair >> (16 * half));
            }
        }
        for (r, &row) in mma.b.rows().iter().enumerate() {
            let pair = warp.row(row)[lane];
            for half in 0..2 {
                b[2 * t + 8 * r + half][g] = element(pair >> (16 * half));
            }
        }
    }
    let mut product = [[0f64; 8]; 16];
    for (sums, a_row) in product.iter_mut().zip(&a) {
        for (x, b_row) in a_row.iter().zip(&b).take(mma.k) {
            sums.iter_mut().zip(b_row).for_each(|(sum, y)| *sum += x * y);
        }
    }
    let mut results: [Lanes; 4] = [[0; 32]; 4];
    for (i, result) in results.iter_mut().enumerate() {
        let c = warp.row(mma.c.rows[i]);
        for (lane, value) in result.iter_mut().enumerate() {
            let sum = product[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
            *value = fb((sum + f64::from(f(c[lane]))) as f32);
        }
    }
    for (i, result) in results.iter().enumerate() {
        *warp.row_mut(mma.d.rows[i]) = *result;
    }
}
