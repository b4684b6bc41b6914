//! Kernels as NVRTC 12 compiles them (`kernels/sample.cu`, `compute_80`), held to sums in f64.

use half::bf16;
use remat_ptx::{Launch, Memory, Module, Ran, Region};
use std::time::Instant;

fn module() -> Module {
    Module::read(include_str!("kernels/sample.ptx")).expect("the module is read")
}

/// Values in [-1, 1), a different one for every index.
fn value(index: usize) -> f32 {
    let mixed = (index as u32).wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
    (mixed.wrapping_mul(0x85eb_ca6b) >> 8) as f32 / (1 << 23) as f32 - 1.0
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

struct Run {
    memory: Memory,
    regions: Vec<Region>,
}

impl Run {
    fn new() -> Run {
        Run { memory: Memory::new(), regions: Vec::new() }
    }

    fn input(&mut self, bytes: &[u8]) -> [u8; 8] {
        let address = self.memory.allocate(bytes.len());
        self.memory.write(address, bytes).expect("the buffer is there");
        self.regions.push(Region { address, bytes: bytes.len() as u64, writable: false });
        address.to_le_bytes()
    }

    fn output(&mut self, bytes: usize) -> [u8; 8] {
        let address = self.memory.allocate(bytes);
        self.regions.push(Region { address, bytes: bytes as u64, writable: true });
        address.to_le_bytes()
    }

    fn launch(
        &mut self,
        kernel: &str,
        grid: [u32; 3],
        threads: u32,
        dynamic: u32,
        arguments: &[&[u8]],
        seed: u64,
    ) -> Ran {
        let launch = Launch {
            grid,
            block: [threads, 1, 1],
            dynamic_shared_bytes: dynamic,
            arguments,
            regions: &self.regions,
            seed,
            limit: 1 << 24,
        };
        module().launch(kernel, &launch, &mut self.memory).unwrap_or_else(|error| panic!("{error}"))
    }

    fn floats(&mut self, address: [u8; 8], count: usize) -> Vec<f32> {
        floats(&self.memory.read(u64::from_le_bytes(address), 4 * count).expect("all of it was written"))
    }
}

fn product(m: usize, n: usize, k: usize, seed: u64) -> (Vec<f32>, Ran) {
    let narrow = |from: usize, count: usize| -> Vec<u8> {
        (from..from + count).flat_map(|i| bf16::from_f32(value(i)).to_le_bytes()).collect()
    };
    let mut run = Run::new();
    let (x, w) = (run.input(&narrow(0, m * k)), run.input(&narrow(m * k, n * k)));
    let y = run.output(4 * m * n);
    let sizes = [m, n, k].map(|size| (size as u32).to_le_bytes());
    let grid = [n as u32 / 32, m.div_ceil(64) as u32, 1];
    let ran = run.launch("gemm_bf16", grid, 256, 0, &[&x, &w, &y, &sizes[0], &sizes[1], &sizes[2]], seed);
    (run.floats(y, m * n), ran)
}

#[test]
fn a_product_by_mma_ldmatrix_and_cp_async_is_the_product() {
    // 70 rows: the last tile is ragged, and its rows are filled with zeros by the copy.
    let (m, n, k) = (70, 64, 160);
    let (found, _) = product(m, n, k, 1);
    let element = |i: usize| f64::from(bf16::from_f32(value(i)).to_f32());
    for row in 0..m {
        for column in 0..n {
            let terms = (0..k).map(|i| element(row * k + i) * element(m * k + column * k + i));
            let (want, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
            let error = (f64::from(found[row * n + column]) - want).abs();
            // One f32 rounding for each of the k / 16 products.
            let bound = size * f64::from(f32::EPSILON) / 2.0 * (k / 16) as f64;
            assert!(error <= bound, "[{row}, {column}]: off by {error:e}, {bound:e} allowed");
        }
    }
    for seed in 2..5 {
        let again = product(m, n, k, seed).0;
        assert!(found.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()), "the order of warps shows");
    }
}

#[test]
fn norms_with_shuffles_and_softmax_with_dynamic_shared_memory() {
    let (rows, d) = (3usize, 200usize);
    let x: Vec<f32> = (0..rows * d).map(value).collect();
    let w: Vec<f32> = (1000..1000 + d).map(value).collect();
    let mut run = Run::new();
    let (px, pw) = (run.input(&bytes(&x)), run.input(&bytes(&w)));
    let (y, rstd, soft) = (run.output(4 * rows * d), run.output(4 * rows), run.output(4 * rows * d));
    let (size, eps) = ((d as u32).to_le_bytes(), 1e-5f32.to_le_bytes());
    run.launch("rms_norm", [3, 1, 1], 128, 0, &[&px, &pw, &y, &rstd, &size, &eps], 7);
    run.launch("softmax", [3, 1, 1], 64, 4 * d as u32, &[&px, &soft, &size], 7);
    let (y, soft) = (run.floats(y, rows * d), run.floats(soft, rows * d));
    for row in 0..rows {
        let values = &x[row * d..][..d];
        let mean = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / d as f64;
        let total = values.iter().map(|&v| f64::from(v).exp()).sum::<f64>();
        for (i, &v) in values.iter().enumerate() {
            let want = f64::from(v) / (mean + 1e-5).sqrt() * f64::from(w[i]);
            assert!((f64::from(y[row * d + i]) - want).abs() < 2e-6 * want.abs() + 1e-9, "norm [{row}, {i}]");
            let want = f64::from(v).exp() / total;
            assert!((f64::from(soft[row * d + i]) - want).abs() < 2e-6 * want, "softmax [{row}, {i}]");
        }
    }
}

#[test]
fn silu_rounds_to_bf16() {
    let values: Vec<f32> = (0..300).map(|i| bf16::from_f32(8.0 * value(i)).to_f32()).collect();
    let narrow: Vec<u8> = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
    let mut run = Run::new();
    let (x, y) = (run.input(&narrow), run.output(600));
    run.launch("silu", [3, 1, 1], 128, 0, &[&x, &y, &300u64.to_le_bytes()], 0);
    let found = run.memory.read(u64::from_le_bytes(y), 600).expect("all of it was written");
    for (pair, &v) in found.chunks_exact(2).zip(&values) {
        let found = f64::from(bf16::from_le_bytes([pair[0], pair[1]]).to_f32());
        let want = f64::from(v) / (1.0 + f64::from(-v).exp());
        assert!((found - want).abs() <= want.abs() * 0.004, "silu({v}) = {found}, not {want}");
    }
}

/// Prints the speed: `cargo test -p remat-ptx --test compiled -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let begin = Instant::now();
    let count = product(256, 256, 512, 0).1.instructions;
    let seconds = begin.elapsed().as_secs_f64();
    println!("{count} thread instructions in {seconds:.3} s: {:.1} M a second", count as f64 / seconds / 1e6);
    assert!(count > 1_000_000);
}
