//! The kernels besides `gemm`, on sizes of a 1B model's layer: attention in FLOP/s, the others in bytes per second of
//! what they must read and write. `cargo bench -p remat-cpu --bench kernels`; one thread unless a name says otherwise.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use remat_cpu::kernels::attention::{Attention, Sight, attention};
use remat_cpu::kernels::attention_grad::{AttentionGrad, attention_grad};
use remat_cpu::kernels::dropout::{Dropout, dropout};
use remat_cpu::kernels::linear_cross_entropy::{Head, HeadSize};
use remat_cpu::kernels::linear_cross_entropy_grad::{HeadGrad, linear_cross_entropy_grad};
use remat_cpu::kernels::{adamw, adamw8bit, add, rms_norm, rms_norm_dw, rope, swiglu, swiglu_grad};
use remat_cpu::{Level, ThreadPool};

const TOKENS: usize = 1024;
const MODEL: usize = 2048;
const LEN: usize = TOKENS * MODEL;

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 97) as f32 * 0.02 - 1.0).collect()
}

fn bytes(arrays: usize) -> BytesCount {
    BytesCount::of_many::<f32>(arrays * LEN)
}

#[divan::bench]
fn add_in_place(bencher: Bencher<'_, '_>) {
    let (pool, x, mut y) = (ThreadPool::new(1), values(LEN), values(LEN));
    bencher.counter(bytes(3)).bench_local(|| add::add(&pool, &x, &x, &mut y));
}

#[divan::bench]
fn rms_norm_forward(bencher: Bencher<'_, '_>) {
    let (pool, x, w) = (ThreadPool::new(1), values(LEN), values(MODEL));
    let (mut y, mut rstd) = (values(LEN), values(TOKENS));
    bencher.counter(bytes(2)).bench_local(|| rms_norm::rms_norm(&pool, &x, &w, false, 1e-5, &mut y, &mut rstd));
}

#[divan::bench]
fn rms_norm_weight_gradient(bencher: Bencher<'_, '_>) {
    let (pool, x, rstd, mut dw) = (ThreadPool::new(1), values(LEN), values(TOKENS), values(MODEL));
    bencher.counter(bytes(2)).bench_local(|| rms_norm_dw::rms_norm_dw(&pool, &x, &x, &rstd, true, &mut dw));
}

#[divan::bench]
fn swiglu_forward(bencher: Bencher<'_, '_>) {
    let (pool, x, mut y) = (ThreadPool::new(1), values(LEN), values(LEN));
    bencher.counter(bytes(3)).bench_local(|| swiglu::swiglu(&pool, &x, &x, &mut y));
}

#[divan::bench]
fn swiglu_gradient(bencher: Bencher<'_, '_>) {
    let (pool, x, mut dgate, mut dup) = (ThreadPool::new(1), values(LEN), values(LEN), values(LEN));
    bencher.counter(bytes(5)).bench_local(|| swiglu_grad::swiglu_grad(&pool, &x, &x, &x, &mut dgate, &mut dup));
}

#[divan::bench]
fn rope_of_heads_of_64(bencher: Bencher<'_, '_>) {
    let (pool, x, mut y) = (ThreadPool::new(1), values(LEN), values(LEN));
    let (positions, inv_freq): (Vec<i32>, _) = ((0..TOKENS as i32).collect(), values(32));
    bencher
        .counter(bytes(2))
        .bench_local(|| rope::rope(&pool, [MODEL / 64, 64], &x, &positions, &inv_freq, 1.0, false, &mut y));
}

#[divan::bench]
fn dropout_of_a_tenth(bencher: Bencher<'_, '_>) {
    let (pool, x, mut y) = (ThreadPool::new(1), values(LEN), values(LEN));
    let op = Dropout::new(0.1, [1, 2, 3, 4], 5);
    bencher.counter(bytes(2)).bench_local(|| dropout(&pool, op, 0, &x, &mut y));
}

/// Parameters of an update: far more than caches hold, as a model has.
const PARAMETERS: usize = 8 * LEN;

const UPDATE: adamw::AdamW =
    adamw::AdamW { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, step: 1, grad_scale: 1.0 };

/// Numbers of all sizes, so that moments have codes all over their maps.
fn gradient() -> Vec<f32> {
    let philox = remat_tensor::Philox::new(1, 2);
    let some: Vec<f32> =
        (0..LEN as u64).map(|i| philox.normal(i) * (2.0 * philox.normal(LEN as u64 + i)).exp()).collect();
    some.repeat(PARAMETERS / LEN)
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

/// The first update has a gradient, the others the moments that it leaves.
#[divan::bench(args = levels(), sample_count = 20, sample_size = 1)]
fn adamw_step(bencher: Bencher<'_, '_>, level: Level) {
    let (pool, mut p, mut g) = (ThreadPool::with_level(1, level), vec![0.1f32; PARAMETERS], gradient());
    let [mut m, mut v] = [(); 2].map(|()| vec![0.0f32; PARAMETERS]);
    bencher
        .counter(BytesCount::of_many::<f32>(8 * PARAMETERS))
        .bench_local(|| adamw::adamw(&pool, UPDATE, &mut p, &mut g, &mut m, &mut v));
}

/// Beside `adamw_step`, on as many elements: how many times as long is what to look at.
#[divan::bench(args = levels(), sample_count = 20, sample_size = 1)]
fn adamw8bit_step(bencher: Bencher<'_, '_>, level: Level) {
    let (pool, mut p, mut g) = (ThreadPool::with_level(1, level), vec![0.1f32; PARAMETERS], gradient());
    let [mut m, mut v] = [(); 2].map(|()| vec![0u8; PARAMETERS]);
    let [mut m_scales, mut v_scales] = [(); 2].map(|()| vec![0.0f32; PARAMETERS / 256]);
    bencher.counter(BytesCount::new(20 * PARAMETERS)).bench_local(|| {
        let m = adamw8bit::Moments { codes: &mut m, absmax: &mut m_scales };
        let v = adamw8bit::Moments { codes: &mut v, absmax: &mut v_scales };
        adamw8bit::adamw8bit(&pool, UPDATE, &mut p, &mut g, m, v);
    });
}

/// Batch, tokens, heads, kv heads, head size.
const ATTENTION: [[usize; 5]; 3] = [[1, 2048, 16, 16, 64], [4, 512, 16, 4, 64], [1, 1024, 32, 8, 128]];

struct Tensors {
    size: [usize; 5],
    q: Vec<f32>,
    k: Vec<f32>,
    o: Vec<f32>,
    lse: Vec<f32>,
    segment_start: Vec<i32>,
}

impl Tensors {
    fn new(size: [usize; 5]) -> Self {
        let [batch, tokens, heads, kv_heads, head_size] = size;
        let q = values(batch * tokens * heads * head_size);
        let k = values(batch * tokens * kv_heads * head_size);
        let (o, lse) = (q.clone(), values(batch * heads * tokens));
        Tensors { size, q, k, o, lse, segment_start: vec![0; batch * tokens] }
    }

    fn op(&self) -> Attention<'_> {
        let [batch, tokens, heads, kv_heads, head_size] = self.size;
        let sight = Sight::Packed { segment_start: &self.segment_start, window: None };
        Attention {
            batch,
            tokens,
            keys: tokens,
            heads,
            kv_heads,
            head_size,
            scale: 0.125,
            sight,
            softcap: None,
            dropout: None,
        }
    }

    /// FLOP of `products` products over the visible pairs; items per second are then FLOP/s.
    fn flops(&self, products: usize) -> ItemsCount {
        let [batch, tokens, heads, _, head_size] = self.size;
        ItemsCount::new(products * batch * heads * head_size * tokens * (tokens + 1))
    }
}

#[divan::bench(args = ATTENTION)]
fn attention_forward(bencher: Bencher<'_, '_>, size: [usize; 5]) {
    let (pool, t) = (ThreadPool::new(1), Tensors::new(size));
    let (mut o, mut lse) = (t.o.clone(), t.lse.clone());
    bencher.counter(t.flops(2)).bench_local(|| attention(&pool, t.op(), &t.q, &t.k, &t.k, &mut o, &mut lse));
}

#[divan::bench(args = ATTENTION)]
fn attention_gradient(bencher: Bencher<'_, '_>, size: [usize; 5]) {
    let (pool, mut t) = (ThreadPool::new(1), Tensors::new(size));
    let (mut o, mut lse) = (t.o.clone(), t.lse.clone());
    attention(&pool, t.op(), &t.q, &t.k, &t.k, &mut o, &mut lse);
    (t.o, t.lse) = (o, lse);
    let (mut dq, mut dk, mut dv) = (t.q.clone(), t.k.clone(), t.k.clone());
    bencher.counter(t.flops(5)).bench_local(|| {
        let grad = AttentionGrad { op: t.op(), dy: &t.q, q: &t.q, k: &t.k, v: &t.k, o: &t.o, lse: &t.lse };
        attention_grad(&pool, grad, &mut vec![f32::NAN; t.op().shares().workspace_len()], &mut dq, &mut dk, &mut dv);
    });
}

#[divan::bench(sample_count = 3)]
fn head_input_gradient(bencher: Bencher<'_, '_>) {
    let size = HeadSize { tokens: 256, hidden: MODEL, vocab: 32_000 };
    let (pool, h, weight) = (ThreadPool::new(1), values(size.tokens * MODEL), values(size.vocab * MODEL));
    let targets: Vec<i32> = (0..size.tokens as i32).collect();
    let (dloss, mut workspace, mut dh) = (vec![1e-3; size.tokens], vec![0.0; size.workspace_len()], h.clone());
    let head = Head { size, softcap: None, h: &h, weight: &weight, bias: None, low_rank: None, targets: &targets };
    bencher.counter(ItemsCount::new(4 * size.tokens * MODEL * size.vocab)).bench_local(|| {
        let grad = HeadGrad { dh: Some(&mut dh), ..HeadGrad::default() };
        linear_cross_entropy_grad(&pool, head, &dloss, &mut workspace, grad);
    });
}

fn main() {
    divan::main();
}
