//! gemm against a naive f64 product, on ragged sizes, every level, layout and number of threads.

use half::bf16;

use super::*;
use crate::testing::{Poisoned, assert_near, every_level, normals, wide};

const F32_EPS: f64 = 2.4e-7;

struct Case {
    size: [usize; 3],
    a_transposed: bool,
    b_transposed: bool,
}

impl Case {
    fn a<'a, T>(&self, data: &'a [T]) -> Matrix<'a, T> {
        let [m, _, k] = self.size;
        if self.a_transposed { Matrix::transposed(data, m) } else { Matrix::rows(data, k) }
    }
    fn b<'a, T>(&self, data: &'a [T]) -> Matrix<'a, T> {
        let [_, n, k] = self.size;
        if self.b_transposed { Matrix::transposed(data, k) } else { Matrix::rows(data, n) }
    }
    /// The f64 product and the sums of absolute products.
    fn naive(&self, a: &[f64], b: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let [m, n, k] = self.size;
        let (a, b) = (self.a(a), self.b(b));
        let (mut product, mut scale) = (vec![0.0; m * n], vec![0.0; m * n]);
        for i in 0..m {
            for j in 0..n {
                for p in 0..k {
                    let x = a.data[i * a.row_stride + p * a.col_stride] * b.data[p * b.row_stride + j * b.col_stride];
                    product[i * n + j] += x;
                    scale[i * n + j] += x.abs();
                }
            }
        }
        (product, scale)
    }
}

fn cases() -> Vec<Case> {
    let sizes = [
        [1, 1, 1],
        [1, 70, 33],
        [70, 1, 5],
        [14, 32, 256],
        [15, 33, 257],
        [29, 65, 16],
        [3, 17, 600],
        [64, 8, 70],
        [8, 64, 513],
        [37, 50, 31],
        [130, 300, 20],
        [5, 7, 0],
    ];
    let mut cases = Vec::new();
    for size in sizes {
        for (a_transposed, b_transposed) in [(false, false), (false, true), (true, false), (true, true)] {
            cases.push(Case { size, a_transposed, b_transposed });
        }
    }
    cases
}

#[test]
fn every_layout_and_ragged_size_matches_f64() {
    for case in cases() {
        let [m, n, k] = case.size;
        let (a, b) = (Poisoned::new(&normals(m * k, 1)), Poisoned::new(&normals(k * n, 2)));
        let (product, scale) = case.naive(&wide(a.get()), &wide(b.get()));
        every_level(
            |pool| {
                let mut c = vec![f32::NAN; m * n];
                gemm(pool, case.size, case.a(a.get()), case.b(b.get()), Epilogue::default(), &mut c);
                vec![c]
            },
            |level, c| assert_near(&format!("{level} {:?}", case.size), &c[0], &product, &scale, F32_EPS * 8.0),
        );
    }
}

#[test]
fn the_epilogue_adds_bias_onto_a_residual_or_the_output() {
    for size in [[33, 47, 300], [5, 16, 8]] {
        let case = Case { size, a_transposed: false, b_transposed: true };
        let [m, n, k] = size;
        let (a, b) = (normals(m * k, 1), normals(k * n, 2));
        let (bias, residual, before) = (normals(n, 3), normals(m * n, 4), normals(m * n, 5));
        let (product, scale) = case.naive(&wide(&a), &wide(&b));
        for onto in [&residual, &before] {
            let want: Vec<f64> = (0..m * n)
                .map(|i| f64::from(onto[i]) + f64::from(0.3f32) * product[i] + f64::from(bias[i % n]))
                .collect();
            let scale: Vec<f64> = scale.iter().map(|s| s + 8.0).collect();
            every_level(
                |pool| {
                    let mut c = onto.clone();
                    let apart = std::ptr::eq(onto, &residual);
                    let start = if apart { Start::Residual(onto.into()) } else { Start::Output };
                    if apart {
                        c.fill(f32::NAN);
                    }
                    let epilogue = Epilogue { alpha: 0.3, start, bias: Some(&bias) };
                    gemm(pool, size, case.a(&a), case.b(&b), epilogue, &mut c);
                    vec![c]
                },
                |level, c| assert_near(level, &c[0], &want, &scale, F32_EPS * 4.0),
            );
        }
    }
}

#[test]
fn an_elements_bits_do_not_depend_on_the_tile_it_falls_in() {
    let (m, n, k) = (45, 70, 520);
    let (a, b) = (normals(m * k, 1), normals(k * n, 2));
    for pool in crate::testing::pools(&[2]) {
        let mut whole = vec![0.0; m * n];
        gemm(&pool, [m, n, k], Matrix::rows(&a, k), Matrix::rows(&b, n), Epilogue::default(), &mut whole);
        for i in [0, 13, 14, 44] {
            let mut row = vec![0.0; n];
            let one = Matrix::rows(&a[i * k..(i + 1) * k], k);
            gemm(&pool, [1, n, k], one, Matrix::rows(&b, n), Epilogue::default(), &mut row);
            assert_eq!(row, whole[i * n..(i + 1) * n]);
        }
        for j in [0, 15, 16, 69] {
            let mut column = vec![0.0; m];
            let one = Matrix { data: &b[j..], row_stride: n, col_stride: n };
            gemm(&pool, [m, 1, k], Matrix::rows(&a, k), one, Epilogue::default(), &mut column);
            assert!((0..m).all(|i| column[i].to_bits() == whole[i * n + j].to_bits()));
        }
    }
}

#[test]
fn cutting_k_at_token_blocks_changes_no_bit() {
    let (m, n, k) = (20, 36, 2 * crate::kernels::TOKEN_BLOCK + 77);
    let (a, b) = (normals(k * m, 1), normals(k * n, 2));
    for pool in crate::testing::pools(&[2]) {
        let run = |cuts: &[usize]| {
            let mut c = normals(m * n, 3);
            for cut in cuts.windows(2) {
                let (from, to) = (cut[0], cut[1]);
                let (a, b) = (Matrix::transposed(&a[from * m..], m), Matrix::rows(&b[from * n..], n));
                let epilogue = Epilogue::scaled(0.7, true);
                gemm(&pool, [m, n, to - from], a, b, epilogue, &mut c);
            }
            c
        };
        let block = crate::kernels::TOKEN_BLOCK;
        assert_eq!(run(&[0, k]), run(&[0, block, 2 * block, k]));
        assert_eq!(run(&[0, k]), run(&[0, 2 * block, k]));
    }
}

#[test]
fn bf16_operands_round_only_at_the_output() {
    for size in [[1, 1, 1], [33, 50, 70], [30, 300, 517], [7, 33, 1100], [16, 40, 3]] {
        for (a_transposed, b_transposed) in [(false, false), (false, true), (true, false), (true, true)] {
            let case = Case { size, a_transposed, b_transposed };
            let [m, n, k] = size;
            let narrow = |x: Vec<f32>| -> Vec<bf16> { x.into_iter().map(bf16::from_f32).collect() };
            let (a, b) = (narrow(normals(m * k, 1)), narrow(normals(k * n, 2)));
            let (bias, residual) = (narrow(normals(n, 3)), narrow(normals(m * n, 4)));
            let widen = |x: &[bf16]| -> Vec<f64> { x.iter().map(|x| x.to_f64()).collect() };
            let (product, scale) = case.naive(&widen(&a), &widen(&b));
            let want: Vec<f64> =
                (0..m * n).map(|i| 0.5 * product[i] + bias[i % n].to_f64() + residual[i].to_f64()).collect();
            // Half a unit of bf16 for the output and f32 noise for the sum.
            let limit: Vec<f64> =
                want.iter().zip(&scale).map(|(w, s)| w.abs() / 255.0 + F32_EPS * 8.0 * (s + 4.0)).collect();
            every_level(
                |pool| {
                    let mut c = vec![bf16::NAN; m * n];
                    let epilogue =
                        Epilogue { alpha: 0.5, start: Start::Residual((&residual).into()), bias: Some(&bias) };
                    gemm(pool, size, case.a(&a), case.b(&b), epilogue, &mut c);
                    let mut wide_c = vec![f32::NAN; m * n];
                    gemm(pool, size, case.a(&a), case.b(&b), Epilogue::default(), &mut wide_c);
                    vec![c.iter().map(|x| x.to_f32()).collect(), wide_c]
                },
                |level, c| {
                    assert_near(&format!("{level} {size:?} bf16"), &c[0], &want, &limit, 1.0);
                    assert_near(&format!("{level} {size:?} f32"), &c[1], &product, &scale, F32_EPS * 8.0);
                },
            );
        }
    }
}

#[test]
fn a_residual_in_place_gives_the_same_bits() {
    let (m, n, k) = (33, 47, 300);
    let (a, b) = (normals(m * k, 1), normals(k * n, 2));
    for pool in crate::testing::pools(&[1, 3]) {
        let residual = normals(m * n, 3);
        let mut apart = vec![f32::NAN; m * n];
        let epilogue = Epilogue { start: Start::Residual((&residual).into()), ..Epilogue::default() };
        gemm(&pool, [m, n, k], Matrix::rows(&a, k), Matrix::rows(&b, n), epilogue, &mut apart);
        let mut place = residual.clone();
        let start = place.as_mut_ptr();
        // SAFETY: `place` outlives the call, and gemm works in place on its residual.
        let (view, out) = unsafe { (View::from_raw(start, m * n), Out::from_raw(start, m * n)) };
        let epilogue = Epilogue { start: Start::Residual(view), ..Epilogue::default() };
        gemm(&pool, [m, n, k], Matrix::rows(&a, k), Matrix::rows(&b, n), epilogue, out);
        assert_eq!(apart, place);
    }
}
