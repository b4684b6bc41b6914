//! After load, running a plan allocates nothing, and the arena is exactly the plan's.
//!
//! A counting allocator sees every allocation of this process; the tests take turns so that they count only their own.

use remat_compiler::compile;
use remat_cpu::{CpuExecutor, CpuOptions};
use remat_ir::Storage;
use remat_plan::{Executor, Policy};
use remat_testkit::{random_model, source_values};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static TURN: Mutex<()> = Mutex::new(());

// SAFETY: forwards to the system allocator and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn the_counter_counts() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    drop(std::hint::black_box(vec![1u8; 100]));
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before);
}

#[test]
fn a_run_allocates_nothing_and_the_arena_is_the_plans() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for seed in 0..12 {
        for policy in [Policy::None, Policy::Full] {
            let options = CpuOptions::new(2);
            let plan = compile(random_model(seed).with_backward(), &policy, &options.profile()).expect("compiles");
            let (graph, arena_bytes) = (plan.graph.clone(), plan.arena_bytes);
            let sources = source_values(&graph, 1);
            let mut executor = CpuExecutor::new(options);
            let program = executor.load(vec![plan]).expect("loads")[0];
            assert_eq!(executor.arena_bytes(), arena_bytes, "planned and allocated arena");
            for value in graph.values.iter().filter(|value| value.storage == Storage::Input) {
                let tensor = sources[&value.name].to_host(&value.ty);
                executor.input_mut(&value.name).expect("an input").bytes.copy_from_slice(tensor.as_bytes());
            }
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for _ in 0..4 {
                executor.run(program).expect("runs");
            }
            let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
            assert_eq!(allocations, 0, "seed {seed}, {policy}");
        }
    }
}
