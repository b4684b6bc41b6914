//! Runs kernels at the level of a pool.

use super::{Kernel, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::pool::ThreadPool;

/// Runs a kernel's tasks on the pool at the pool's level.
pub(crate) fn launch<K: Kernel>(pool: &ThreadPool, tasks: usize, kernel: &K) {
    #[cfg(target_arch = "x86_64")]
    use crate::Level;
    #[cfg(target_arch = "x86_64")]
    match pool.level() {
        Level::Portable => {}
        // SAFETY: a pool's level is available on this machine; kernels give each task its own outputs.
        Level::Avx2 => return pool.run(tasks, &|task, scratch| unsafe { avx2::task(kernel, task, scratch) }),
        Level::Avx512 | Level::Avx512Bf16 => {
            // SAFETY: as above.
            return pool.run(tasks, &|task, scratch| unsafe { avx512::task(kernel, task, scratch) });
        }
    }
    // SAFETY: every machine runs the portable level.
    pool.run(tasks, &|task, scratch| unsafe { kernel.task::<portable::Portable>(task, scratch) });
}
