//! bf16 operands give the bits of the f32 kernel on the widened operands, rounded once: arithmetic is f32 throughout.
//! The one exception: where the level has the dot product of bf16, attention rounds what it makes itself for it.

use half::bf16;

use super::attention::{Attention, Sight, attention};
use super::attention_grad::{AttentionGrad, attention_grad};
use super::dropout::{Dropout, dropout};
use super::layer_norm::layer_norm;
use super::layer_norm_grad::layer_norm_grad;
use super::rms_norm::rms_norm;
use super::rms_norm_dw::rms_norm_dw;
use super::rms_norm_grad::rms_norm_grad;
use super::{embedding::embedding, gelu::gelu, gelu_grad::gelu_grad, rope::rope, swiglu::swiglu};
use crate::testing::{normals, pools};
use crate::{Element, ThreadPool};
use remat_ir::ops::GeluForm;

/// Normal numbers that bf16 holds exactly, in either element type.
fn numbers<T: Element>(n: usize, stream: u64) -> Vec<T> {
    normals(n, stream).into_iter().map(|x| T::from_f32(bf16::from_f32(x).to_f32())).collect()
}

/// Runs the same computation in both element types and compares what it returns, rounded.
fn same_but_rounded<const N: usize>(
    narrow: impl Fn(&ThreadPool) -> [Vec<bf16>; N],
    wide: impl Fn(&ThreadPool) -> [Vec<f32>; N],
) {
    for pool in pools(&[2]) {
        for (output, (narrow, wide)) in narrow(&pool).iter().zip(wide(&pool)).enumerate() {
            let rounded: Vec<bf16> = wide.into_iter().map(bf16::from_f32).collect();
            assert!(narrow.iter().any(|x| *x != bf16::ZERO), "output {output} is all zeros");
            assert_eq!(narrow, &rounded, "{}: output {output}", pool.level());
        }
    }
}

const ROWS: usize = 37;
const SIZE: usize = 70;

fn norms<T: Element>(pool: &ThreadPool) -> [Vec<T>; 4] {
    let [x, dy] = [1, 2].map(|stream| numbers::<T>(ROWS * SIZE, stream));
    let [w, b] = [3, 4].map(|stream| numbers::<T>(SIZE, stream));
    let mut out = [(); 4].map(|()| vec![T::from_f32(0.0); ROWS * SIZE]);
    let (mut mean, mut rstd) = (vec![0.0; ROWS], vec![0.0; ROWS]);
    let [y, dx, y2, dx2] = &mut out;
    rms_norm(pool, &x, &w, false, 1e-5, y, &mut rstd);
    rms_norm_grad(pool, &dy, &x, &w, false, &rstd, dx);
    layer_norm(pool, &x, &w, &b, 1e-5, y2, &mut mean, &mut rstd);
    layer_norm_grad(pool, &dy, &x, &w, &mean, &rstd, dx2);
    out
}

fn pointwise<T: Element>(pool: &ThreadPool) -> [Vec<T>; 8] {
    let [x, z] = [1, 2].map(|stream| numbers::<T>(ROWS * SIZE, stream));
    let mut out = [(); 8].map(|()| vec![T::from_f32(0.0); ROWS * SIZE]);
    let [silu, g, dg, exact, d_exact, dropped, turned, rows] = &mut out;
    swiglu(pool, &x, &z, silu);
    gelu(pool, GeluForm::Tanh, &x, g);
    gelu_grad(pool, GeluForm::Tanh, &z, &x, dg);
    gelu(pool, GeluForm::Exact, &x, exact);
    gelu_grad(pool, GeluForm::Exact, &z, &x, d_exact);
    dropout(pool, Dropout::new(0.3, [1, 2, 3, 4], 5), 0, &x, dropped);
    let positions: Vec<i32> = (0..ROWS as i32).collect();
    let inv_freq: Vec<f32> = (0..SIZE / 2).map(|i| 0.9f32.powi(i as i32)).collect();
    rope(pool, [1, SIZE], &x, &positions, &inv_freq, 1.0, false, turned);
    let ids: Vec<i32> = (0..ROWS as i32).rev().collect();
    embedding(pool, SIZE, &ids, &x, rows);
    out
}

fn attentions<T: Element>(pool: &ThreadPool) -> [Vec<T>; 4] {
    let (tokens, heads, kv_heads, head_size) = (75, 4, 2, 20);
    let segment_start: Vec<i32> = (0..tokens).map(|i| if i < 30 { 0 } else { 30 }).collect();
    let op = Attention {
        batch: 1,
        tokens,
        keys: tokens,
        heads,
        kv_heads,
        head_size,
        scale: 0.25,
        sight: Sight::Packed { segment_start: &segment_start, window: Some(40) },
        softcap: None,
        dropout: None,
    };
    let (q_len, k_len) = (tokens * heads * head_size, tokens * kv_heads * head_size);
    let [q, dy, o] = [1, 2, 3].map(|stream| numbers::<T>(q_len, stream));
    let [k, v] = [4, 5].map(|stream| numbers::<T>(k_len, stream));
    let mut out = [q_len, q_len, k_len, k_len].map(|len| vec![T::from_f32(0.0); len]);
    let mut lse = vec![0.0; heads * tokens];
    let [y, dq, dk, dv] = &mut out;
    attention(pool, op, &q, &k, &v, y, &mut lse);
    attention_grad(
        pool,
        AttentionGrad { op, dy: &dy, q: &q, k: &k, v: &v, o: &o, lse: &lse },
        &mut vec![f32::NAN; op.shares().workspace_len()],
        dq,
        dk,
        dv,
    );
    out
}

#[test]
fn norms_round_once() {
    same_but_rounded(norms::<bf16>, norms::<f32>);
}

#[test]
fn pointwise_ops_round_once() {
    same_but_rounded(pointwise::<bf16>, pointwise::<f32>);
}

#[test]
fn attention_rounds_once_or_twice_for_the_dot_product() {
    for pool in pools(&[2]) {
        for (output, (narrow, wide)) in attentions::<bf16>(&pool).iter().zip(attentions::<f32>(&pool)).enumerate() {
            let level = pool.level();
            if !level.has_bf16_dot() {
                let rounded: Vec<bf16> = wide.into_iter().map(bf16::from_f32).collect();
                assert_eq!(narrow, &rounded, "{level}: output {output}");
                continue;
            }
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
            let off = narrow.iter().zip(&wide).map(|(narrow, wide)| f64::from(narrow.to_f32()) - f64::from(*wide));
            let distance = norm(&mut off.into_iter()) / norm(&mut wide.iter().map(|&x| f64::from(x)));
            // A rounding moves an element by at most 2^-9 of itself; there are two on the way, and D is not rounded.
            assert!(distance < 1.0 / 128.0, "{level}: output {output} is off by {distance}");
            assert!(distance > 0.0, "{level}: output {output} was not rounded at all");
        }
    }
}

#[test]
fn gradients_of_parameters_stay_f32() {
    for pool in pools(&[1]) {
        let rstd = vec![0.5; ROWS];
        let dw = |dy: &[bf16], x: &[bf16]| {
            let mut dw = vec![0.0; SIZE];
            rms_norm_dw(&pool, dy, x, &rstd, false, &mut dw);
            dw
        };
        let narrow = dw(&numbers::<bf16>(ROWS * SIZE, 1), &numbers::<bf16>(ROWS * SIZE, 2));
        let mut wide = vec![0.0; SIZE];
        let [dy, x] = [1, 2].map(|stream| numbers::<f32>(ROWS * SIZE, stream));
        rms_norm_dw(&pool, &dy, &x, &rstd, false, &mut wide);
        assert_eq!(narrow, wide);
    }
}

/// Keys and values that have far more in common than they differ by, as a bias makes them: dS·k cancels to a small part of
/// its terms. Each element of the gradients is held to f64 within the roundings of its own terms: one of dS or P to bf16
/// where the level multiplies bf16, those of f32, and the result's.
#[test]
fn attention_grad_is_within_the_roundings_of_its_terms_where_keys_have_much_in_common() {
    const T: usize = 48;
    const E: usize = 16;
    let bf = |x: f64| bf16::from_f64(x);
    let alike = |stream: u64, common: f32| -> Vec<bf16> {
        let shared = normals(E, 100 + stream);
        let own = normals(T * E, stream);
        (0..T * E).map(|i| bf16::from_f32(common * shared[i % E] + 0.1 * own[i])).collect()
    };
    let (q, k, v, dy) = (alike(1, 0.0), alike(2, 4.0), alike(3, 4.0), numbers::<bf16>(T * E, 4));
    let segment_start = [0; T];
    let scale = 0.25f32;
    let op = Attention {
        batch: 1,
        tokens: T,
        keys: T,
        heads: 1,
        kv_heads: 1,
        head_size: E,
        scale,
        sight: Sight::Packed { segment_start: &segment_start, window: None },
        softcap: None,
        dropout: None,
    };
    let dot = |a: &[bf16], i: usize, b: &[bf16], j: usize, size: &dyn Fn(f64) -> f64| -> f64 {
        (0..E).map(|e| size(a[i * E + e].to_f64() * b[j * E + e].to_f64())).sum()
    };
    let (plain, absolute) = (|x: f64| x, |x: f64| x.abs());
    for pool in pools(&[2]) {
        let (mut o, mut lse) = (vec![bf16::ZERO; T * E], vec![0.0; T]);
        attention(&pool, op, &q, &k, &v, &mut o, &mut lse);
        let [mut dq, mut dk, mut dv] = [1, 2, 3].map(|_| vec![bf16::ZERO; T * E]);
        let grad = AttentionGrad { op, dy: &dy, q: &q, k: &k, v: &v, o: &o, lse: &lse };
        let mut workspace = vec![f32::NAN; op.shares().workspace_len()];
        attention_grad(&pool, grad, &mut workspace, &mut dq, &mut dk, &mut dv);
        // By result and element: the sum, its terms' roundings.
        let mut want = [1, 2, 3].map(|_| vec![(0.0f64, 0.0f64); T * E]);
        let narrow = if pool.level().has_bf16_dot() { 2f64.powi(-8) } else { 0.0 };
        for i in 0..T {
            for j in 0..=i {
                let score = |size: &dyn Fn(f64) -> f64| f64::from(scale) * dot(&q, i, &k, j, size);
                let p = (score(&plain) - f64::from(lse[i])).exp();
                let single = 2f64.powi(-21) * (1.0 + score(&absolute) + f64::from(lse[i]).abs());
                let ds = p * (dot(&dy, i, &v, j, &plain) - dot(&dy, i, &o, i, &plain)) * f64::from(scale);
                let terms = p * (dot(&dy, i, &v, j, &absolute) + dot(&dy, i, &o, i, &absolute)) * f64::from(scale);
                let (ds_off, p_off) = (narrow * ds.abs() + single * terms, (narrow + single) * p);
                for e in 0..E {
                    let [q, k, dy] = [q[i * E + e], k[j * E + e], dy[i * E + e]].map(bf16::to_f64);
                    for (of, at, x, off) in [
                        (0, i, ds * k, ds_off * k.abs()),
                        (1, j, ds * q, ds_off * q.abs()),
                        (2, j, p * dy, p_off * dy.abs()),
                    ] {
                        let (sum, bound) = &mut want[of][at * E + e];
                        (*sum, *bound) = (*sum + x, *bound + off);
                    }
                }
            }
        }
        for (name, (got, want)) in ["dq", "dk", "dv"].into_iter().zip([&dq, &dk, &dv].into_iter().zip(&want)) {
            for (at, (got, &(want, terms))) in got.iter().zip(want).enumerate() {
                let (off, bound) = ((got.to_f64() - want).abs(), terms + 2f64.powi(-8) * want.abs() + 1e-30);
                assert!(
                    off <= bound,
                    "{}: {name}[{at}] is {got}, not {} (off {off:e} of {bound:e})",
                    pool.level(),
                    bf(want)
                );
            }
        }
    }
}
