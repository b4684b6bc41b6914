//! Matrix products against the register-only peak of the multipliers, measured in turns so that both see the same
//! clock. `cargo bench -p remat-cpu --bench gemm` prints divan's table and then achieved / peak for one thread;
//! with `-- --nf4` it prints 4-bit weights beside dense ones instead.

use std::hint::black_box;
use std::time::Instant;

use half::bf16;
use remat_cpu::kernels::gemm::{Epilogue, Matrix, Nf4Matrix, Right, gemm};
use remat_cpu::{Element, ThreadPool};
use remat_tensor::nf4::{Nf4Data, ScaleKind};

/// m, n, k: a feed-forward product, its transpose's shape, an attention projection, a LoRA down and up projection.
const SIZES: [[usize; 3]; 5] =
    [[512, 2048, 5632], [512, 5632, 2048], [512, 2048, 2048], [512, 16, 2048], [512, 2048, 16]];

struct Product<T> {
    size: [usize; 3],
    a: Vec<T>,
    b: Vec<T>,
    c: Vec<T>,
}

impl<T: Element> Product<T> {
    fn new(size: [usize; 3]) -> Self {
        let [m, n, k] = size;
        let fill = |n: usize| (0..n).map(|i| T::from_f32((i % 17) as f32 * 0.1 - 0.8)).collect::<Vec<T>>();
        Product { size, a: fill(m * k), b: fill(k * n), c: fill(m * n) }
    }

    /// x times the transpose of W, the layout of a linear layer.
    fn run(&mut self, pool: &ThreadPool) {
        let k = self.size[2];
        let (a, b) = (Matrix::rows(&self.a, k), Matrix::transposed(&self.b, k));
        gemm(pool, self.size, a, b, Epilogue::default(), &mut self.c);
    }

    fn flops(&self) -> f64 {
        2.0 * self.size.iter().product::<usize>() as f64
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[divan::bench(args = SIZES)]
fn f32_all_threads(bencher: divan::Bencher<'_, '_>, size: [usize; 3]) {
    let pool = ThreadPool::new(threads());
    let mut product = Product::<f32>::new(size);
    bencher.bench_local(|| product.run(&pool));
}

#[divan::bench(args = SIZES)]
fn bf16_all_threads(bencher: divan::Bencher<'_, '_>, size: [usize; 3]) {
    let pool = ThreadPool::new(threads());
    let mut product = Product::<bf16>::new(size);
    bencher.bench_local(|| product.run(&pool));
}

/// Runs `chains` independent multiply-adds per round in registers and returns FLOP/s.
#[cfg(target_arch = "x86_64")]
fn register_peak(dot: bool) -> Option<f64> {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f")]
    fn chains(rounds: usize) -> f32 {
        let mut acc = [_mm512_set1_ps(1.0); 24];
        let (x, y) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.25)));
        for _ in 0..rounds {
            for chain in &mut acc {
                *chain = _mm512_fmadd_ps(x, *chain, y);
            }
        }
        acc.into_iter().map(|chain| _mm512_reduce_add_ps(chain)).sum()
    }
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn dot_chains(rounds: usize) -> f32 {
        let mut acc = [_mm512_set1_ps(1.0); 24];
        // SAFETY: both types are 512 bits without invalid values.
        let (x, y) = unsafe {
            let word = |bits: i32| std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(black_box(bits)));
            (word(0x3c00_3c00), word(0x3c00_3c00))
        };
        for _ in 0..rounds {
            for chain in &mut acc {
                *chain = _mm512_dpbf16_ps(*chain, x, y);
            }
        }
        acc.into_iter().map(|chain| _mm512_reduce_add_ps(chain)).sum()
    }
    if !is_x86_feature_detected!("avx512f") || (dot && !is_x86_feature_detected!("avx512bf16")) {
        return None;
    }
    let rounds = 200_000;
    let start = Instant::now();
    // SAFETY: the features were just detected.
    black_box(unsafe { if dot { dot_chains(rounds) } else { chains(rounds) } });
    let flops = rounds as f64 * 24.0 * 16.0 * if dot { 4.0 } else { 2.0 };
    Some(flops / start.elapsed().as_secs_f64())
}

#[cfg(not(target_arch = "x86_64"))]
fn register_peak(_dot: bool) -> Option<f64> {
    None
}

/// Best of a few turns of peak and product, one thread.
fn report<T: Element>(name: &str, dot: bool) {
    let pool = ThreadPool::new(1);
    for size in SIZES {
        let mut product = Product::<T>::new(size);
        let (mut peak, mut achieved) = (0.0f64, 0.0f64);
        for _ in 0..6 {
            peak = peak.max(register_peak(dot).unwrap_or(f64::NAN));
            let repeats = (2e9 / product.flops()).ceil() as usize;
            let start = Instant::now();
            (0..repeats).for_each(|_| product.run(&pool));
            achieved = achieved.max(repeats as f64 * product.flops() / start.elapsed().as_secs_f64());
        }
        println!(
            "{name} {size:?}: {:6.1} of {:6.1} GFLOP/s, {:4.1} %",
            achieved / 1e9,
            peak / 1e9,
            100.0 * achieved / peak
        );
    }
}

/// NF4 weights against dense ones of the same product, in turns, one thread: forward, and backward by the transpose.
fn report_nf4<T: Element>(name: &str) {
    let pool = ThreadPool::new(1);
    for tokens in [512, 256] {
        for [out, input] in [[5632, 2048], [2048, 5632], [4096, 4096]] {
            let values: Vec<f32> = (0..out * input).map(|i| ((i % 101) as f32 - 50.0) * 1e-3).collect();
            let quantised = Nf4Data::quantise(&values, ScaleKind::Nested).expect("finite");
            let dense: Vec<T> = values.into_iter().map(T::from_f32).collect();
            for forward in [true, false] {
                let [n, k] = if forward { [out, input] } else { [input, out] };
                let x: Vec<T> = (0..tokens * k).map(|i| T::from_f32((i % 17) as f32 * 0.1 - 0.8)).collect();
                let mut y: Vec<T> = (0..tokens * n).map(|_| T::from_f32(0.0)).collect();
                let weights: [Right<'_, T>; 2] = if forward {
                    [Matrix::transposed(&dense, input).into(), Nf4Matrix::transposed(quantised.view(), input).into()]
                } else {
                    [Matrix::rows(&dense, input).into(), Nf4Matrix::rows(quantised.view(), input).into()]
                };
                let mut best = [f64::INFINITY; 2];
                for _ in 0..12 {
                    for (best, weight) in best.iter_mut().zip(weights) {
                        let start = Instant::now();
                        gemm(&pool, [tokens, n, k], Matrix::rows(&x, k), weight, Epilogue::default(), &mut y[..]);
                        *best = best.min(start.elapsed().as_secs_f64());
                    }
                }
                let rate = |seconds: f64| 2e-9 * (tokens * n * k) as f64 / seconds;
                println!(
                    "{name} nf4 M={tokens} [{out}, {input}] {}: {:6.1} GFLOP/s, dense {:6.1}, {:+5.1} % time",
                    if forward { "forward " } else { "backward" },
                    rate(best[1]),
                    rate(best[0]),
                    100.0 * (best[1] / best[0] - 1.0)
                );
            }
        }
    }
}

fn main() {
    if std::env::args().any(|argument| argument == "--nf4") {
        report_nf4::<bf16>("bf16");
        return report_nf4::<f32>("f32 ");
    }
    if !std::env::args().any(|argument| argument == "--report") {
        divan::main();
    }
    report::<f32>("f32 ", false);
    report::<bf16>("bf16", true);
}
