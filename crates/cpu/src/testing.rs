//! What the kernels' tests share: pools at every level, reproducible numbers, and comparisons with f64 results.

use remat_tensor::Philox;

use crate::{Level, ThreadPool};

/// One pool per available level and given number of threads; neighbours of one level come one after the other.
pub(crate) fn pools(threads: &[usize]) -> Vec<ThreadPool> {
    let levels = Level::ALL.into_iter().filter(|level| level.is_available());
    levels.flat_map(|level| threads.iter().map(move |&count| ThreadPool::with_level(count, level))).collect()
}

/// `n` normal numbers that depend on the stream alone.
pub(crate) fn normals(n: usize, stream: u64) -> Vec<f32> {
    let philox = Philox::new(7, stream);
    (0..n as u64).map(|i| philox.normal(i)).collect()
}

/// Widens to f64.
pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Checks each element against an f64 result within `eps * scale`, where `scale` is the element's sum of absolute terms.
#[track_caller]
pub(crate) fn assert_near(what: &str, got: &[f32], want: &[f64], scale: &[f64], eps: f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths differ");
    for (i, &g) in got.iter().enumerate() {
        let limit = eps * scale[i].max(1e-30);
        let error = (f64::from(g) - want[i]).abs();
        assert!(error <= limit, "{what}[{i}]: got {g}, want {} (error {error:e}, limit {limit:e})", want[i]);
    }
}

/// Runs `compute` on 1, 2, 3 and 4 threads of every level: all thread counts must give the bits of one thread, and the
/// results of each level are passed to `check`.
pub(crate) fn every_level(compute: impl Fn(&ThreadPool) -> Vec<Vec<f32>>, check: impl Fn(&str, &[Vec<f32>])) {
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        let results = compute(&ThreadPool::with_level(1, level));
        check(level.name(), &results);
        for threads in 2..=4 {
            let again = compute(&ThreadPool::with_level(threads, level));
            for (output, (one, many)) in results.iter().zip(&again).enumerate() {
                let same = one.iter().map(|x| x.to_bits()).eq(many.iter().map(|x| x.to_bits()));
                assert!(same, "{level}: output {output} differs between 1 and {threads} threads");
            }
        }
    }
}

/// A slice with NaN before and behind it, so that a kernel that reads outside shows it.
pub(crate) struct Poisoned {
    data: Vec<f32>,
    len: usize,
}

impl Poisoned {
    pub(crate) fn new(values: &[f32]) -> Self {
        let mut data = vec![f32::NAN; 64];
        data.extend_from_slice(values);
        data.extend([f32::NAN; 64]);
        Poisoned { data, len: values.len() }
    }

    pub(crate) fn get(&self) -> &[f32] {
        &self.data[64..64 + self.len]
    }
}
