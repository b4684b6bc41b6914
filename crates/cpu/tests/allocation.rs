//! After load, running a plan allocates nothing, and the arena is exactly the plan's.
//!
//! A counting allocator sees the allocations of all threads but the main one, where the test harness keeps its books.
//! One test in this file: a second one's thread would be counted, too.

use remat_compiler::compile;
use remat_cpu::{CpuExecutor, CpuOptions};
use remat_plan::{Device, Policy};
use remat_testkit::{fill_sources, random_model_of_functions, source_values};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// Address of the main thread's `MARK`: the first thread that allocates.
static MAIN: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static MARK: u8 = const { 0 };
}

/// Counts an allocation, unless it is the main thread's.
fn count() {
    let thread = MARK.with(|mark| std::ptr::from_ref(mark) as usize);
    let main = MAIN.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).unwrap_or_else(|main| main);
    if main != 0 && main != thread {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs the test on a thread of its own, whichever thread the harness chose.
fn alone(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        if let Err(panic) = scope.spawn(test).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

// SAFETY: forwards to the system allocator and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A counter that sees nothing would pass every test.
fn assert_that_the_counter_counts() {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    drop(std::hint::black_box(vec![1u8; 100]));
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before);
}

#[test]
fn a_run_allocates_nothing_and_the_arena_is_the_plans() {
    alone(|| {
        assert_that_the_counter_counts();
        for seed in 0..12 {
            for policy in [Policy::None, Policy::Full] {
                let options = CpuOptions::new(2);
                let plan = compile(random_model_of_functions(seed).with_backward(), &policy, &options.profile())
                    .expect("compiles");
                let (graph, arena_bytes) = (plan.graph.clone(), plan.arena_bytes);
                let sources = source_values(&graph, 1);
                let mut executor = CpuExecutor::new(options);
                let program = executor.load(vec![plan]).expect("loads")[0];
                assert_eq!(executor.memory().arena, arena_bytes, "planned and allocated arena");
                fill_sources(&mut executor, &graph, &sources).expect("filled");
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                for _ in 0..4 {
                    executor.run(program).expect("runs");
                }
                let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
                assert_eq!(allocations, 0, "seed {seed}, {policy}");
            }
        }
    });
}
