//! Switching a policy never holds two arenas: a device that counts what all of its kind have allocated.

use remat::{AdamWSettings, CheckpointPolicy, DType, Graph, Init, Options};
use remat_comm::Engine;
use remat_ir::{Storage, Type};
use remat_plan::{
    CustomKernels, Device, DeviceError, DeviceMemory, DeviceProfile, Observer, Plan, ProgramId, SourceId, StepTime,
};
use remat_step::DeviceOptions;
use remat_step::device::{Level, Opener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The CPU, whose allocations are counted while they exist.
struct Counted {
    device: Box<dyn Device>,
    bytes: usize,
}

const OPENER: Opener = Opener {
    open: |threads, level| Box::new(Counted { device: options(threads, level).open().expect("opens"), bytes: 0 }),
    profile: |threads, level| options(threads, level).profile(),
};

fn options(threads: usize, level: Level) -> DeviceOptions {
    DeviceOptions::cpu(threads).at_level(level)
}

impl Drop for Counted {
    fn drop(&mut self) {
        HELD.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Device for Counted {
    fn profile(&self) -> DeviceProfile {
        self.device.profile()
    }

    fn set_spill_folder(&mut self, folder: Option<&Path>) {
        self.device.set_spill_folder(folder);
    }

    fn set_custom_kernels(&mut self, kernels: CustomKernels) {
        self.device.set_custom_kernels(kernels);
    }

    fn set_ranks(&mut self, engine: Arc<dyn Engine>) {
        self.device.set_ranks(engine);
    }

    fn set_poison(&mut self, poison: bool) {
        self.device.set_poison(poison);
    }

    fn load(&mut self, plans: Vec<Plan>) -> Result<Vec<ProgramId>, DeviceError> {
        let programs = self.device.load(plans)?;
        let DeviceMemory { arena, weights, states, inputs, .. } = self.device.memory();
        self.bytes = arena + weights + states + inputs;
        let held = HELD.fetch_add(self.bytes, Ordering::Relaxed) + self.bytes;
        PEAK.fetch_max(held, Ordering::Relaxed);
        Ok(programs)
    }

    fn plan(&self, program: ProgramId) -> &Plan {
        self.device.plan(program)
    }

    fn source(&self, storage: Storage, name: &str) -> Option<SourceId> {
        self.device.source(storage, name)
    }

    fn source_type(&self, source: SourceId) -> &Type {
        self.device.source_type(source)
    }

    fn write(&mut self, source: SourceId, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.device.write(source, offset, bytes)
    }

    fn read(&self, source: SourceId, offset: usize, into: &mut [u8]) -> Result<(), DeviceError> {
        self.device.read(source, offset, into)
    }

    fn run(&mut self, program: ProgramId) -> Result<(), DeviceError> {
        self.device.run(program)
    }

    fn run_timed(&mut self, program: ProgramId, times: &mut [StepTime]) -> Result<(), DeviceError> {
        self.device.run_timed(program, times)
    }

    fn observe(&mut self, program: ProgramId, observer: &mut dyn Observer) -> Result<(), DeviceError> {
        self.device.observe(program, observer)
    }

    fn read_output(&self, program: ProgramId, name: &str, offset: usize, into: &mut [u8]) -> Result<(), DeviceError> {
        self.device.read_output(program, name, offset, into)
    }

    fn memory(&self) -> DeviceMemory {
        self.device.memory()
    }
}

#[test]
fn a_switch_holds_one_arena_at_a_time_and_a_failed_one_changes_nothing() {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[64, 16]).expect("an input");
    let mut h = x;
    for layer in 0..4 {
        let block = |g: &mut Graph| {
            let h = g.dense("fc", h, 16)?;
            g.gelu(h)
        };
        h = g.checkpoint(&format!("layers.{layer}"), block).expect("a block");
    }
    let head = g.parameter("head", &[1, 16], Init::Linear).expect("a parameter");
    let y = g.linear(h, head, None).expect("a head");
    let loss = g.sum(y).expect("a loss");
    let options = Options::new().adamw(AdamWSettings::default()).device(OPENER).threads(1);
    let mut step = g.compile(loss, options.policy(CheckpointPolicy::full())).expect("compiles");
    step.set_input("x", &[0.5_f32; 64 * 16]).expect("fits");
    let bits = |step: &mut remat::Step| (step.run().expect("runs").to_bits(), step.updates());
    let before = bits(&mut step);
    let held = || HELD.load(Ordering::Relaxed);
    let checkpointed = held();
    PEAK.store(checkpointed, Ordering::Relaxed);
    step.set_policy(CheckpointPolicy::none()).expect("compiles");
    let plain = held();
    assert!(plain > checkpointed, "more is kept");
    assert_eq!(PEAK.load(Ordering::Relaxed), plain, "never both");
    step.set_policy(CheckpointPolicy::full()).expect("compiles");
    assert_eq!((PEAK.load(Ordering::Relaxed), held()), (plain, checkpointed));
    step.set_policy(CheckpointPolicy::save_only_these_names(["nothing"])).expect_err("no such name");
    assert_eq!((bits(&mut step), held()), (before, checkpointed));
}
