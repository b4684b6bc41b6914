//! A small persistent thread pool with barriers, and the scratch memory that each thread owns.
//!
//! Invariant: `run` allocates nothing and returns only when no thread touches the job any more. Each thread has a share of
//! the tasks, the same one in every job of so many tasks, so that what one step wrote is read by the thread that wrote
//! it; who is done with its own helps the others. A kernel must not let a result depend on which thread ran which task.
//!
//! The gate is one atomic word (epoch, open bit, number of workers inside). A worker enters by a compare-and-swap
//! while the gate is open; the caller closes it when the tasks are used up and waits for the workers inside. A worker
//! that wakes too late finds the gate shut and never touches a job that has ended.

use std::any::Any;
use std::cell::UnsafeCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::Level;

/// Bytes of scratch that each thread of a pool owns: packed panels and tiles live here.
pub const SCRATCH_BYTES_PER_THREAD: usize = 2 << 20;

const OPEN: u64 = 1 << 16;
const INSIDE: u64 = OPEN - 1;
const EPOCH: u64 = OPEN << 1;
/// Spins before a waiting worker parks: some tens of microseconds, the gap between two steps of a plan.
const SPINS_BEFORE_PARK: u32 = 4000;
const SPINS_BEFORE_YIELD: u32 = 1000;

/// One cache line of scratch, so that scratch is aligned for every vector width.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Uninitialised-by-contract memory of one thread, lent to one task at a time.
pub struct Scratch {
    lines: Box<[Line]>,
}

impl Scratch {
    fn new() -> Self {
        // Filled with NaN: every page is touched now, and a kernel that reads what it has not written shows it.
        Scratch { lines: vec![Line([f32::NAN; 16]); SCRATCH_BYTES_PER_THREAD / size_of::<Line>()].into() }
    }

    /// The whole scratch as f32, aligned to 64 bytes; contents are whatever the last task left.
    pub fn f32s(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}

type Body<'a> = dyn Fn(usize, &mut Scratch) + Sync + 'a;

struct Job {
    body: *const Body<'static>,
    tasks: usize,
}

/// The next task of one thread's share, alone on its cache lines.
#[repr(align(128))]
struct Next(AtomicUsize);

struct Shared {
    gate: AtomicU64,
    next: Vec<Next>,
    job: UnsafeCell<Option<Job>>,
    sleeping: Vec<AtomicBool>,
    stop: AtomicBool,
    /// Workers that hold their scratch.
    started: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written by the caller while the gate is shut and nobody is inside, and read only by workers inside.
unsafe impl Sync for Shared {}
// SAFETY: the body behind the pointer is `Sync` and outlives its epoch: `run` returns after the last worker has left.
unsafe impl Send for Shared {}

/// Threads that stay alive for the whole run; the calling thread is one of them.
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Why there are fewer threads than were asked for, if there are.
    refusal: Option<io::Error>,
    own: Mutex<Scratch>,
    level: Level,
}

impl ThreadPool {
    /// A pool of `threads` threads (at least one, the caller's own) at the strongest level of this machine.
    pub fn new(threads: usize) -> Self {
        ThreadPool::with_level(threads, Level::detect())
    }

    /// A pool whose kernels run at a given level. Panics if the machine lacks it: callers ask `is_available` first.
    /// Where the system refuses to start so many threads the pool has fewer, which changes no result; `refusal` tells.
    pub fn with_level(threads: usize, level: Level) -> Self {
        assert!(level.is_available(), "thread pool: this machine does not run kernel level {level}");
        let helpers = threads.max(1).min(INSIDE as usize) - 1;
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            next: (0..=helpers).map(|_| Next(AtomicUsize::new(0))).collect(),
            job: UnsafeCell::new(None),
            sleeping: (0..helpers).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            started: AtomicUsize::new(0),
            panic: Mutex::new(None),
        });
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            let name = format!("remat-{}", index + 1);
            std::thread::Builder::new().name(name).spawn(move || work(&shared, index))
        };
        let (mut workers, mut refusal) = (Vec::with_capacity(helpers), None);
        for index in 0..helpers {
            match start(index) {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    refusal = Some(error);
                    break;
                }
            }
        }
        let pool = ThreadPool { shared, workers, refusal, own: Mutex::new(Scratch::new()), level };
        // Once this returns, the pool allocates nothing more.
        while pool.shared.started.load(Ordering::Acquire) < pool.workers.len() {
            std::thread::yield_now();
        }
        pool
    }

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Why the pool has fewer threads than were asked for, if it has.
    pub fn refusal(&self) -> Option<&io::Error> {
        self.refusal.as_ref()
    }

    /// The level that every kernel on this pool runs at.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Bytes of scratch that the pool holds for all its threads together.
    pub fn scratch_bytes(&self) -> usize {
        self.threads() * SCRATCH_BYTES_PER_THREAD
    }

    /// Runs `body(task, scratch)` once for each task in `0..tasks` and returns when all are done.
    ///
    /// Concurrent callers take turns; a body must not call `run` on the same pool. If a body panics, the remaining
    /// tasks are dropped and the panic continues here; the pool stays usable.
    pub fn run(&self, tasks: usize, body: &(dyn Fn(usize, &mut Scratch) + Sync)) {
        if tasks == 0 {
            return;
        }
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks == 1 || self.workers.is_empty() {
            (0..tasks).for_each(|task| body(task, &mut own));
            return;
        }
        self.open(tasks, body);
        let result = catch_unwind(AssertUnwindSafe(|| drain(&self.shared.next, 0, tasks, body, &mut own)));
        self.close();
        let theirs = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(own);
        if let Some(payload) = result.err().or(theirs) {
            resume_unwind(payload);
        }
    }

    fn open(&self, tasks: usize, body: &Body<'_>) {
        let shared = &*self.shared;
        // SAFETY: the gate is shut and nobody is inside (we hold `own`), so no worker reads the job; the lifetime is
        // erased, and `close` runs before the borrow ends, on a panic too.
        unsafe {
            let body = std::mem::transmute::<*const Body<'_>, *const Body<'static>>(std::ptr::from_ref(body));
            *shared.job.get() = Some(Job { body, tasks });
        }
        for (thread, next) in shared.next.iter().enumerate() {
            next.0.store(share_start(thread, shared.next.len(), tasks), Ordering::Relaxed);
        }
        let epoch = (shared.gate.load(Ordering::Relaxed) & !(EPOCH - 1)).wrapping_add(EPOCH);
        shared.gate.store(epoch | OPEN, Ordering::SeqCst);
        for (worker, sleeping) in self.workers.iter().zip(&shared.sleeping).take(tasks - 1) {
            if sleeping.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }

    fn close(&self) {
        let gate = &self.shared.gate;
        gate.fetch_and(!OPEN, Ordering::SeqCst);
        let mut spins = 0;
        while gate.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            if spins < SPINS_BEFORE_YIELD { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its tasks, so joining cannot fail.
            let _ = worker.join();
        }
    }
}

/// The first task of a thread's share.
fn share_start(thread: usize, threads: usize, tasks: usize) -> usize {
    (thread as u128 * tasks as u128 / threads as u128) as usize
}

/// Claims tasks until none is left, its own share first; a panic also uses up the rest, so that the others stop early.
fn drain(next: &[Next], thread: usize, tasks: usize, body: &Body<'_>, scratch: &mut Scratch) {
    struct Rest<'a>(&'a [Next], usize);
    impl Drop for Rest<'_> {
        fn drop(&mut self) {
            self.0.iter().for_each(|next| next.0.store(self.1, Ordering::Relaxed));
        }
    }
    let _rest = Rest(next, tasks);
    for offset in 0..next.len() {
        let owner = (thread + offset) % next.len();
        let end = share_start(owner + 1, next.len(), tasks);
        loop {
            let task = next[owner].0.fetch_add(1, Ordering::Relaxed);
            if task >= end {
                break;
            }
            body(task, scratch);
        }
    }
}

fn work(shared: &Shared, index: usize) {
    let mut scratch = Scratch::new();
    shared.started.fetch_add(1, Ordering::Release);
    let mut seen = 0;
    while let Some(epoch) = wait(shared, index, seen) {
        seen = epoch;
        if !enter(shared, epoch) {
            continue;
        }
        let result = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: we are inside the epoch's gate, so the job is published and the caller waits for us.
            let (body, tasks) = unsafe {
                let job = (*shared.job.get()).as_ref().expect("an open gate has a job");
                (&*job.body, job.tasks)
            };
            drain(&shared.next, index + 1, tasks, body, &mut scratch);
        }));
        if let Err(payload) = result {
            *shared.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
        }
        shared.gate.fetch_sub(1, Ordering::Release);
    }
}

/// Waits for an open gate of another epoch than `seen`; `None` when the pool ends.
fn wait(shared: &Shared, index: usize, seen: u64) -> Option<u64> {
    let ready = || {
        let gate = shared.gate.load(Ordering::SeqCst);
        let epoch = gate & !(EPOCH - 1);
        (gate & OPEN != 0 && epoch != seen).then_some(epoch)
    };
    loop {
        for _ in 0..SPINS_BEFORE_PARK {
            if let Some(epoch) = ready() {
                return Some(epoch);
            }
            if shared.stop.load(Ordering::Relaxed) {
                return None;
            }
            std::hint::spin_loop();
        }
        // Announce sleep, then look again: the caller publishes first and reads the flag after, so one of us sees the
        // other. A token left by an early unpark only costs one more turn.
        shared.sleeping[index].store(true, Ordering::SeqCst);
        if ready().is_none() && !shared.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        shared.sleeping[index].store(false, Ordering::SeqCst);
    }
}

/// Joins an epoch; false if it has ended meanwhile.
fn enter(shared: &Shared, epoch: u64) -> bool {
    shared
        .gate
        .fetch_update(Ordering::Acquire, Ordering::Relaxed, |gate| {
            (gate & OPEN != 0 && gate & !(EPOCH - 1) == epoch).then_some(gate + 1)
        })
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_exactly_once_over_many_epochs() {
        for threads in [1, 2, 3, 5] {
            let pool = ThreadPool::new(threads);
            assert_eq!(pool.threads(), threads);
            for tasks in [1, 2, 7, 64] {
                for _ in 0..200 {
                    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(tasks, &|task, scratch| {
                        scratch.f32s()[0] = task as f32;
                        counts[task].fetch_add(1, Ordering::Relaxed);
                        assert_eq!(scratch.f32s()[0], task as f32);
                    });
                    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                }
            }
        }
    }

    #[test]
    fn parked_workers_wake_up() {
        let pool = ThreadPool::new(3);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let sum = AtomicUsize::new(0);
            pool.run(100, &|task, _| {
                sum.fetch_add(task, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
        }
    }

    #[test]
    fn a_panicking_task_reaches_the_caller_and_the_pool_survives() {
        let pool = ThreadPool::new(3);
        for bad in [0, 5, 31] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(32, &|task, _| assert!(task != bad, "task {task} fails"));
            }));
            assert!(caught.is_err());
            let count = AtomicUsize::new(0);
            pool.run(32, &|_, _| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 32);
        }
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = ThreadPool::new(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let count = AtomicUsize::new(0);
                        pool.run(9, &|_, _| {
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                        assert_eq!(count.into_inner(), 9);
                    }
                });
            }
        });
    }
}
