//! Matrix products against the register-only peak of the multipliers, measured in turns so that both see the same
//! clock. `cargo bench -p remat-cpu --bench gemm` prints divan's table and then achieved / peak for one
//! thread and for all (`-- --report` prints that alone); with `-- --nf4` it prints 4-bit weights beside dense ones instead.

use std::time::Instant;

use half::bf16;
use remat_cpu::kernels::gemm::{Epilogue, Matrix, Nf4Matrix, Right, gemm};
use remat_cpu::{Element, ThreadPool};
use remat_tensor::nf4::{Nf4Data, ScaleKind};

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

    /// x times W transposed, the layout of a linear layer; or times W as it lies, which is how backward and heads'
    /// gradients read it.
    fn run(&mut self, pool: &ThreadPool) {
        let [_, n, k] = self.size;
        let b = if k > VOCABULARY { Matrix::rows(&self.b, n) } else { Matrix::transposed(&self.b, k) };
        let a = Matrix::rows(&self.a, k);
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

/// FLOP/s of one thread whose multiply-adds read and write registers alone: 24 chains, written in assembly so that no
/// compiler moves a chain to memory.
#[cfg(target_arch = "x86_64")]
fn register_peak(dot: bool) -> Option<f64> {
    use std::arch::asm;
    macro_rules! rounds {
        ($instruction:literal, $rounds:expr) => {
            asm!(
                "2:",
                concat!($instruction, " zmm0, zmm30, zmm31"), concat!($instruction, " zmm1, zmm30, zmm31"),
                concat!($instruction, " zmm2, zmm30, zmm31"), concat!($instruction, " zmm3, zmm30, zmm31"),
                concat!($instruction, " zmm4, zmm30, zmm31"), concat!($instruction, " zmm5, zmm30, zmm31"),
                concat!($instruction, " zmm6, zmm30, zmm31"), concat!($instruction, " zmm7, zmm30, zmm31"),
                concat!($instruction, " zmm8, zmm30, zmm31"), concat!($instruction, " zmm9, zmm30, zmm31"),
                concat!($instruction, " zmm10, zmm30, zmm31"), concat!($instruction, " zmm11, zmm30, zmm31"),
                concat!($instruction, " zmm12, zmm30, zmm31"), concat!($instruction, " zmm13, zmm30, zmm31"),
                concat!($instruction, " zmm14, zmm30, zmm31"), concat!($instruction, " zmm15, zmm30, zmm31"),
                concat!($instruction, " zmm16, zmm30, zmm31"), concat!($instruction, " zmm17, zmm30, zmm31"),
                concat!($instruction, " zmm18, zmm30, zmm31"), concat!($instruction, " zmm19, zmm30, zmm31"),
                concat!($instruction, " zmm20, zmm30, zmm31"), concat!($instruction, " zmm21, zmm30, zmm31"),
                concat!($instruction, " zmm22, zmm30, zmm31"), concat!($instruction, " zmm23, zmm30, zmm31"),
                "dec {rounds}", "jnz 2b",
                rounds = inout(reg) $rounds => _,
                out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
                out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
                out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, out("zmm16") _, out("zmm17") _,
                out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
                out("zmm30") _, out("zmm31") _,
                options(nomem, nostack),
            )
        };
    }
    #[target_feature(enable = "avx512f")]
    unsafe fn clear() {
        // SAFETY: writes registers alone: zeros, so that no operand is subnormal.
        unsafe {
            asm!(
                "vpxorq zmm30, zmm30, zmm30", "vpxorq zmm31, zmm31, zmm31",
                "vpxorq zmm0, zmm0, zmm0", "vpxorq zmm1, zmm1, zmm1", "vpxorq zmm2, zmm2, zmm2",
                out("zmm30") _, out("zmm31") _, out("zmm0") _, out("zmm1") _, out("zmm2") _,
                options(nomem, nostack),
            );
        }
    }
    if !is_x86_feature_detected!("avx512f") || (dot && !is_x86_feature_detected!("avx512bf16")) {
        return None;
    }
    let rounds: u64 = 400_000;
    // SAFETY: the features were just detected.
    unsafe {
        clear();
        let start = Instant::now();
        if dot {
            rounds!("vdpbf16ps", rounds)
        } else {
            rounds!("vfmadd231ps", rounds)
        }
        let flops = rounds as f64 * 24.0 * 16.0 * if dot { 4.0 } else { 2.0 };
        Some(flops / start.elapsed().as_secs_f64())
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn register_peak(_dot: bool) -> Option<f64> {
    None
}

/// FLOP/s of so many threads at once, each as [`register_peak`].
fn peak_of(threads: usize, dot: bool) -> f64 {
    let one = || register_peak(dot).unwrap_or(f64::NAN);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        one() + others.into_iter().map(|other| other.join().expect("it only counts")).sum::<f64>()
    })
}

/// Best of a few turns of peak and product.
fn report<T: Element>(name: &str, dot: bool, threads: usize) {
    let pool = ThreadPool::new(threads);
    for size in SIZES {
        let mut product = Product::<T>::new(size);
        let (mut peak, mut achieved) = (0.0f64, 0.0f64);
        for _ in 0..6 {
            peak = peak.max(peak_of(threads, dot));
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
    let all = threads();
    for threads in if all > 1 { vec![1, all] } else { vec![1] } {
        report::<bf16>("bf16", true, threads);
        report::<f32>("f32 ", false, threads);
    }
}
