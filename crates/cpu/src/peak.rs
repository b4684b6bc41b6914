//! The machine's peak: multiply-adds that touch no memory, the ceiling that products are measured against; and a probe of
//! how fast the machine is at this moment.

use std::hint::black_box;
use std::time::Instant;

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

/// FLOP/s of so many threads at once that multiply and add in registers alone: f32, or bf16 pairs with `dot`. The bound of
/// every product. `None` where the machine lacks AVX-512, or its bf16 instructions, or the system refuses so many threads.
pub fn multiplier_peak(threads: usize, dot: bool) -> Option<f64> {
    std::thread::scope(|scope| {
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, move || register_peak(dot)).ok();
        let others: Vec<_> = (1..threads).map(start).collect::<Option<_>>()?;
        let own = register_peak(dot)?;
        others.into_iter().try_fold(own, |sum, other| Some(sum + other.join().ok().flatten()?))
    })
}

/// How fast the machine computes at a moment. Of little work in registers, so that only what else runs here changes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpeedProbe {
    /// Rounds per second of all threads together: to be compared with other probes alone.
    pub rounds_per_second: f64,
    /// The part of the time in which each thread had a processor: 1 if nothing else wanted one, as the system counts.
    pub share: f64,
}

impl SpeedProbe {
    /// Whether nothing else ran: threads had their processors, which were about as fast as the fastest probe of them.
    pub fn is_quiet(self, fastest: f64) -> bool {
        self.share > 0.95 && self.rounds_per_second > 0.92 * fastest
    }

    /// The worse of each, of what lies between two probes.
    pub fn worse(self, other: SpeedProbe) -> SpeedProbe {
        SpeedProbe {
            rounds_per_second: self.rounds_per_second.min(other.rounds_per_second),
            share: self.share.min(other.share),
        }
    }
}

/// Rounds of one thread: some ten milliseconds, longer than a thread runs before another one gets its turn.
const PROBE_ROUNDS: u32 = 1 << 22;

/// Probes the machine with so many threads at once. `None` where the system refuses to start them.
pub fn speed_probe(threads: usize) -> Option<SpeedProbe> {
    let start = Instant::now();
    let (busy, running) = std::thread::scope(|scope| {
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, probe_thread).ok();
        let others: Vec<_> = (1..threads).map(start).collect::<Option<_>>()?;
        let own = probe_thread();
        let add = |(busy, running), (more, longer)| (busy + more, running + longer);
        others.into_iter().try_fold(own, |sum, other| Some(add(sum, other.join().ok()?)))
    })?;
    let rounds = threads.max(1) as f64 * f64::from(PROBE_ROUNDS);
    let rounds_per_second = rounds / start.elapsed().as_secs_f64().max(1e-9);
    Some(SpeedProbe { rounds_per_second, share: (busy / running.max(1e-9)).min(1.0) })
}

/// Runs one thread's rounds and returns the seconds in which it had a processor, and all of them.
fn probe_thread() -> (f64, f64) {
    let (start, busy) = (Instant::now(), thread_seconds());
    // Numbers that the compiler does not know, and that never settle, so that every round is made.
    let (mut chains, [factor, term]) = (black_box([1.5_f32; 32]), black_box([-1.0_f32, 0.25]));
    for _ in 0..black_box(PROBE_ROUNDS) {
        for x in &mut chains {
            *x = *x * factor + term;
        }
    }
    black_box(chains);
    let running = start.elapsed().as_secs_f64();
    match (busy, thread_seconds()) {
        (Some(before), Some(after)) => (after - before, running),
        _ => (running, running),
    }
}

/// Seconds in which this thread has had a processor.
fn thread_seconds() -> Option<f64> {
    #[cfg(unix)]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the clock writes one timespec, which is ours.
        let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } == 0;
        done.then_some(time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64)
    }
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_has_a_rate_and_a_share() {
        let probe = speed_probe(2).expect("two threads");
        assert!(probe.rounds_per_second > 0.0 && probe.share > 0.0 && probe.share <= 1.0, "{probe:?}");
    }
}
