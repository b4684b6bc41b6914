//! attention and attention_grad against the IR's naive f64 evaluation: ragged tiles, groups, segments, windows, dropout.

use remat_ir::{Array, Op, OpDef, Type};
use remat_tensor::DType;

use super::super::attention_grad::{AttentionGrad, attention_grad};
use super::super::masked_attention::MaskElements;
use super::*;
use crate::testing::{Poisoned, assert_near, every_level, normals, wide};

struct Case {
    batch: usize,
    tokens: usize,
    heads: usize,
    kv_heads: usize,
    head_size: usize,
    window: Option<usize>,
    softcap: Option<f32>,
    dropout: f32,
    /// Where segments start, besides 0.
    cuts: &'static [usize],
}

const RNG: [u32; 4] = [3, 0, 1, 2];
const STREAM: u64 = 17;

impl Case {
    fn scale(&self) -> f32 {
        1.0 / (self.head_size as f32).sqrt()
    }

    fn segment_start(&self) -> Vec<i32> {
        let start = |i: usize| self.cuts.iter().copied().filter(|&cut| cut <= i).max().unwrap_or(0) as i32;
        (0..self.batch * self.tokens).map(|n| start(n % self.tokens)).collect()
    }

    fn op<'a>(&self, segment_start: &'a [i32]) -> Attention<'a> {
        let Case { batch, tokens, heads, kv_heads, head_size, window, softcap, dropout, .. } = *self;
        let dropout = (dropout > 0.0).then(|| Dropout::new(dropout, RNG, STREAM));
        let scale = self.scale();
        let sight = Sight::Packed { segment_start, window };
        Attention { batch, tokens, keys: tokens, heads, kv_heads, head_size, scale, sight, softcap, dropout }
    }

    /// o, lse, dq, dk, dv in f64.
    fn naive(&self, [q, k, v, dy]: &[Vec<f32>; 4], segment_start: &[i32]) -> Vec<Vec<f64>> {
        let Case { batch, tokens, heads, kv_heads, head_size, window, softcap, dropout, .. } = *self;
        let (wide_q, wide_k) = ([batch, tokens, heads * head_size], [batch, tokens, kv_heads * head_size]);
        let forward =
            remat_ir::ops::Attention { heads, kv_heads, scale: self.scale(), window, softcap, dropout, stream: STREAM };
        let array = |shape: [usize; 3], data: &[f32]| Array::new(shape, wide(data));
        let [q, k, v, dy] = [array(wide_q, q), array(wide_k, k), array(wide_k, v), array(wide_q, dy)];
        let starts = Array::new([batch, tokens], segment_start.iter().map(|&s| f64::from(s)).collect());
        let rng = Array::new([4], RNG.iter().map(|&word| f64::from(word)).collect());
        let like_q = Type::new(DType::F32, wide_q);
        let like_k = Type::new(DType::F32, wide_k);
        let statistic = Type::new(DType::F32, [batch, heads, tokens]);
        let extra: Vec<&Array> = if dropout > 0.0 { vec![&starts, &rng] } else { vec![&starts] };
        let operands: Vec<&Array> = [&q, &k, &v].into_iter().chain(extra.iter().copied()).collect();
        let backward = Op::from(remat_ir::ops::AttentionGrad::of(&forward));
        let mut results = Op::from(forward).eval(&operands, &[&like_q, &statistic]);
        let operands: Vec<&Array> = [&dy, &q, &k, &v, &results[0], &results[1]].into_iter().chain(extra).collect();
        results.extend(backward.eval(&operands, &[&like_q, &like_k, &like_k]));
        results.into_iter().map(|array| array.data).collect()
    }

    fn check(&self) {
        let Case { batch, tokens, heads, kv_heads, head_size, .. } = *self;
        let (q_len, k_len) = (batch * tokens * heads * head_size, batch * tokens * kv_heads * head_size);
        let inputs = [normals(q_len, 1), normals(k_len, 2), normals(k_len, 3), normals(q_len, 4)];
        let segment_start = self.segment_start();
        let want = self.naive(&inputs, &segment_start);
        let [q, k, v, dy] = inputs.map(|data| Poisoned::new(&data));
        let op = self.op(&segment_start);
        every_level(
            |pool| {
                let mut out = [q_len, batch * heads * tokens, q_len, k_len, k_len].map(|len| vec![f32::NAN; len]);
                let [o, lse, dq, dk, dv] = &mut out;
                attention(pool, op, q.get(), k.get(), v.get(), o, lse);
                let (dy, q, k, v) = (dy.get(), q.get(), k.get(), v.get());
                attention_grad(
                    pool,
                    AttentionGrad { op, dy, q, k, v, o, lse },
                    &mut vec![f32::NAN; op.shares().workspace_len()],
                    dq,
                    dk,
                    dv,
                );
                out.to_vec()
            },
            |level, got| {
                for (output, (got, want)) in got.iter().zip(&want).enumerate() {
                    let name = ["o", "lse", "dq", "dk", "dv"][output];
                    // Sums of probabilities times values of a few units; gradients sum over queries and heads.
                    let scale = vec![[4.0, 8.0, 20.0, 60.0, 40.0][output] * (heads / kv_heads) as f64; want.len()];
                    assert_near(&format!("{level} {name}"), got, want, &scale, 2e-6);
                }
            },
        );
    }
}

#[test]
fn plain_heads_of_ragged_sizes() {
    for (tokens, head_size) in [(1, 1), (7, 5), (64, 16), (70, 33), (131, 8), (260, 64)] {
        Case {
            batch: 2,
            tokens,
            heads: 2,
            kv_heads: 2,
            head_size,
            window: None,
            softcap: None,
            dropout: 0.0,
            cuts: &[],
        }
        .check();
    }
}

#[test]
fn grouped_heads_share_keys() {
    for (heads, kv_heads) in [(4, 2), (3, 1), (9, 1), (6, 3)] {
        Case {
            batch: 1,
            tokens: 75,
            heads,
            kv_heads,
            head_size: 12,
            window: None,
            softcap: None,
            dropout: 0.0,
            cuts: &[40],
        }
        .check();
    }
}

#[test]
fn segments_and_windows_hide_keys() {
    for (window, cuts) in [(None, &[3usize, 64, 65, 140][..]), (Some(1), &[]), (Some(20), &[100]), (Some(500), &[9])] {
        Case { batch: 2, tokens: 170, heads: 2, kv_heads: 1, head_size: 16, window, softcap: None, dropout: 0.0, cuts }
            .check();
    }
}

#[test]
fn dropout_replays_its_mask_in_backward() {
    for tokens in [9, 70, 150] {
        Case {
            batch: 2,
            tokens,
            heads: 4,
            kv_heads: 2,
            head_size: 8,
            window: None,
            softcap: None,
            dropout: 0.3,
            cuts: &[5],
        }
        .check();
    }
}

#[test]
fn a_cap_bends_scores() {
    for (tokens, softcap, window, dropout) in [(9, 0.5, None, 0.0), (170, 1.5, Some(20), 0.0), (150, 0.8, None, 0.3)] {
        let softcap = Some(softcap);
        Case { batch: 2, tokens, heads: 4, kv_heads: 2, head_size: 12, window, softcap, dropout, cuts: &[5] }.check();
    }
}

#[test]
fn the_largest_head_size_fits_the_scratch() {
    let head_size = MAX_HEAD_SIZE;
    Case {
        batch: 1,
        tokens: 150,
        heads: 2,
        kv_heads: 1,
        head_size,
        window: None,
        softcap: None,
        dropout: 0.1,
        cuts: &[],
    }
    .check();
}

#[test]
fn a_token_without_visible_keys_gets_zeros() {
    let (tokens, size) = (5, 4);
    let segment_start = [0, 0, 9, 0, 0];
    for pool in crate::testing::pools(&[1]) {
        let op = Attention {
            batch: 1,
            tokens,
            keys: tokens,
            heads: 1,
            kv_heads: 1,
            head_size: size,
            scale: 1.0,
            sight: Sight::Packed { segment_start: &segment_start, window: None },
            softcap: None,
            dropout: None,
        };
        let [q, k, v, dy] = [1, 2, 3, 4].map(|stream| normals(tokens * size, stream));
        let mut out = [20, 5, 20, 20, 20].map(|len| vec![f32::NAN; len]);
        let [o, lse, dq, dk, dv] = &mut out;
        attention(&pool, op, &q, &k, &v, o, lse);
        assert_eq!(lse[2], f32::NEG_INFINITY);
        assert_eq!(o[8..12], [0.0; 4]);
        attention_grad(
            &pool,
            AttentionGrad { op, dy: &dy, q: &q, k: &k, v: &v, o, lse },
            &mut vec![f32::NAN; op.shares().workspace_len()],
            dq,
            dk,
            dv,
        );
        assert_eq!(dq[8..12], [0.0; 4]);
        assert!(out.iter().enumerate().all(|(i, out)| i == 1 || out.iter().all(|x| x.is_finite())));
    }
}

/// A query that sees nothing, by a mask of each kind, gives zeros; what it would have been changes no other gradient.
#[test]
fn queries_whose_keys_are_all_hidden_give_zeros() {
    let (tokens, keys, size) = (5, 150, 4);
    let hidden = |n: usize| n / keys == 2 || (n / keys == 4 && n % keys < 140);
    let boolean: Vec<i32> = (0..tokens * keys).map(|n| i32::from(!hidden(n))).collect();
    let additive: Vec<f32> = boolean.iter().map(|&seen| if seen == 0 { f32::NEG_INFINITY } else { 0.0 }).collect();
    let kinds = [MaskElements::Boolean(&boolean), MaskElements::Additive(&additive)];
    for pool in crate::testing::pools(&[1]) {
        let [first, second] = kinds.map(|elements| {
            let mask = Some(Mask { elements, strides: [0, 0, keys] });
            let op = Attention {
                batch: 1,
                tokens,
                keys,
                heads: 1,
                kv_heads: 1,
                head_size: size,
                scale: 1.0,
                sight: Sight::Masked { causal: false, mask },
                softcap: None,
                dropout: None,
            };
            let [q, dy] = [1, 4].map(|stream| normals(tokens * size, stream));
            let [k, v] = [2, 3].map(|stream| normals(keys * size, stream));
            let mut out = [20, 5, 20, 600, 600].map(|len| vec![f32::NAN; len]);
            let [o, lse, dq, dk, dv] = &mut out;
            attention(&pool, op, &q, &k, &v, o, lse);
            let grad = AttentionGrad { op, dy: &dy, q: &q, k: &k, v: &v, o, lse };
            attention_grad(&pool, grad, &mut vec![f32::NAN; op.shares().workspace_len()], dq, dk, dv);
            assert_eq!(lse[2], f32::NEG_INFINITY);
            assert_eq!([&o[8..12], &dq[8..12]], [[0.0; 4]; 2]);
            assert!(out.iter().enumerate().all(|(i, out)| i == 1 || out.iter().all(|x| x.is_finite())));
            out
        });
        assert_eq!(first, second, "{}", pool.level());
    }
}
