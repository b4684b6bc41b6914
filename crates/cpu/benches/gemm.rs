//! Matrix products against the register-only peak of the multipliers, measured in turns so that both see the same
//! clock. `cargo bench -p remat-cpu --bench gemm` prints divan's table and then achieved / peak for one
//! thread and for all (`-- --report` prints that alone); with `-- --nf4` or `-- --int8` it prints weights in few bits
//! beside dense ones instead.

use std::time::Instant;

use half::bf16;
use remat_cpu::kernels::gemm::{Epilogue, Matrix, QuantisedMatrix, Right, gemm};
use remat_cpu::{Element, ThreadPool, multiplier_peak};
use remat_tensor::nf4::ScaleKind;
use remat_tensor::{QuantFormat, QuantisedData};

/// m, n, k: a feed-forward product, its transpose's shape, an attention projection, a LoRA down and up projection; the
/// heads of GPT-2 and Qwen2.5 0.5B, forward and backward.
const SIZES: [[usize; 3]; 9] = [
    [512, 2048, 5632],
    [512, 5632, 2048],
    [512, 2048, 2048],
    [512, 16, 2048],
    [512, 2048, 16],
    [512, 50257, 768],
    [512, 768, 50257],
    [512, 151936, 896],
    [512, 896, 151936],
];

/// A sum longer than this goes over a vocabulary: the gradient of a head's input.
const VOCABULARY: usize = 32_000;

/// A matrix that starts on a cache line, as every tensor of a plan does.
struct Aligned<T> {
    data: Vec<T>,
    start: usize,
}

impl<T: Element> Aligned<T> {
    fn new(len: usize) -> Self {
        let data: Vec<T> = (0..len + 64).map(|i| T::from_f32((i % 17) as f32 * 0.1 - 0.8)).collect();
        let start = data.as_ptr().align_offset(64);
        Aligned { data, start }
    }
}

struct Product<T> {
    size: [usize; 3],
    a: Aligned<T>,
    b: Aligned<T>,
    c: Aligned<T>,
}

impl<T: Element> Product<T> {
    fn new(size: [usize; 3]) -> Self {
        let [m, n, k] = size;
        Product { size, a: Aligned::new(m * k), b: Aligned::new(k * n), c: Aligned::new(m * n) }
    }

    /// x times W transposed, the layout of a linear layer; or times W as it lies, which is how backward and heads'
    /// gradients read it.
    fn run(&mut self, pool: &ThreadPool) {
        let [m, n, k] = self.size;
        let (a, b) = (&self.a.data[self.a.start..], &self.b.data[self.b.start..]);
        let b = if k > VOCABULARY { Matrix::rows(b, n) } else { Matrix::transposed(b, k) };
        let c = &mut self.c.data[self.c.start..][..m * n];
        gemm(pool, self.size, Matrix::rows(a, k), b, Epilogue::default(), c);
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

/// Best of a few turns of peak and product.
fn report<T: Element>(name: &str, dot: bool, threads: usize) {
    let pool = ThreadPool::new(threads);
    for size in SIZES {
        let mut product = Product::<T>::new(size);
        let (mut peak, mut achieved) = (0.0f64, 0.0f64);
        for _ in 0..6 {
            peak = peak.max(multiplier_peak(threads, dot).unwrap_or(f64::NAN));
            let repeats = (2e9 / product.flops()).ceil() as usize;
            let start = Instant::now();
            (0..repeats).for_each(|_| product.run(&pool));
            achieved = achieved.max(repeats as f64 * product.flops() / start.elapsed().as_secs_f64());
        }
        println!(
            "{name} {size:?}, {threads} threads: {:6.1} of {:6.1} GFLOP/s, {:4.1} %",
            achieved / 1e9,
            peak / 1e9,
            100.0 * achieved / peak
        );
    }
}

/// Quantised weights against dense ones of the same product, in turns, one thread: forward, and backward by the transpose.
fn report_quantised<T: Element>(name: &str, format: QuantFormat) {
    let pool = ThreadPool::new(1);
    for tokens in [512, 256] {
        for [out, input] in [[5632, 2048], [2048, 5632], [4096, 4096]] {
            let values: Vec<f32> = (0..out * input).map(|i| ((i % 101) as f32 - 50.0) * 1e-3).collect();
            let quantised = QuantisedData::quantise(format, [out, input], &values).expect("finite");
            let dense: Vec<T> = values.into_iter().map(T::from_f32).collect();
            for forward in [true, false] {
                let [n, k] = if forward { [out, input] } else { [input, out] };
                let x: Vec<T> = (0..tokens * k).map(|i| T::from_f32((i % 17) as f32 * 0.1 - 0.8)).collect();
                let mut y: Vec<T> = (0..tokens * n).map(|_| T::from_f32(0.0)).collect();
                let weights: [Right<'_, T>; 2] = if forward {
                    [
                        Matrix::transposed(&dense, input).into(),
                        QuantisedMatrix::transposed(quantised.view(), input).into(),
                    ]
                } else {
                    [Matrix::rows(&dense, input).into(), QuantisedMatrix::rows(quantised.view(), input).into()]
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
                    "{name} {} M={tokens} [{out}, {input}] {}: {:6.1} GFLOP/s, dense {:6.1}, {:+5.1} % time",
                    format.dtype(),
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
    for (flag, format) in [("--nf4", QuantFormat::Nf4(ScaleKind::Nested)), ("--int8", QuantFormat::Int8)] {
        if std::env::args().any(|argument| argument == flag) {
            report_quantised::<bf16>("bf16", format);
            return report_quantised::<f32>("f32 ", format);
        }
    }
    if !std::env::args().any(|argument| argument == "--report") {
        divan::main();
    }
    let all = threads();
    for threads in if all > 1 { vec![1, all] } else { vec![1] } {
        report::<bf16>("bf16", true, threads);
        report::<f32>("f32 ", false, threads);
    }
}
