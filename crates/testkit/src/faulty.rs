//! A device whose memory fails once: the CPU, and when a micro-step begins after its third update one bit of what it holds is
//! another, or a gradient no number.
//!
//! Invariant: everything else is the CPU's. It stands for the host among several that computes wrongly without a word.

use remat_comm::Engine;
use remat_cpu::{CpuExecutor, CpuOptions, Level};
use remat_ir::{SourceRole, StateRole, Storage, Type, Value};
use remat_plan::{
    CustomKernels, Device, DeviceError, DeviceMemory, DeviceProfile, Observer, Plan, ProgramId, SourceId, StepTime,
};
use remat_step::device::Opener;
use std::path::Path;
use std::sync::Arc;

/// The update after which it fails.
const LAST_GOOD_UPDATE: usize = 3;

/// Where the bit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failing {
    /// In the first trained parameter.
    Parameter,
    /// In the first weight that is not trained.
    Weight,
    /// In the gradient of the first trained parameter: no number.
    Gradient,
}

/// The CPU with a memory that fails.
pub struct FaultyDevice {
    cpu: CpuExecutor,
    failing: Failing,
    updates: usize,
    has_failed: bool,
}

impl FaultyDevice {
    /// A bit of a trained parameter is flipped.
    pub const IN_A_PARAMETER: Opener = Opener {
        open: |threads, level| Self::open(threads, level, Failing::Parameter),
        profile: |threads, level| CpuOptions { threads, level }.profile(),
    };

    /// A bit of a weight is flipped that is not trained.
    pub const IN_A_WEIGHT: Opener = Opener {
        open: |threads, level| Self::open(threads, level, Failing::Weight),
        profile: |threads, level| CpuOptions { threads, level }.profile(),
    };

    /// A gradient is no number before backward adds to it.
    pub const IN_A_GRADIENT: Opener = Opener {
        open: |threads, level| Self::open(threads, level, Failing::Gradient),
        profile: |threads, level| CpuOptions { threads, level }.profile(),
    };

    fn open(threads: usize, level: Level, failing: Failing) -> Box<dyn Device> {
        let cpu = CpuExecutor::new(CpuOptions { threads, level });
        Box::new(FaultyDevice { cpu, failing, updates: 0, has_failed: false })
    }

    /// Flips a bit of the first source of its kind in this plan: of an f32, half of what it is, so that no rounding of what
    /// follows takes it back.
    fn fail(&mut self, program: ProgramId) -> Result<(), DeviceError> {
        let mut values = self.cpu.plan(program).graph.values.iter();
        let is = |value: &Value, role: StateRole| {
            value.storage == Storage::State && matches!(value.role, Some(SourceRole::Parameter(_, of)) if of == role)
        };
        let found = values.find(|value| match self.failing {
            Failing::Parameter => is(value, StateRole::Value),
            Failing::Gradient => is(value, StateRole::Gradient),
            Failing::Weight => value.storage == Storage::Weight,
        });
        let found = found.expect("a plan with such a source");
        let source = self.cpu.source(found.storage, &found.name).expect("of the plan");
        if self.failing == Failing::Gradient {
            return self.cpu.write(source, 0, &f32::NAN.to_le_bytes());
        }
        let mut byte = [0];
        self.cpu.read(source, 2, &mut byte)?;
        self.cpu.write(source, 2, &[byte[0] ^ 0x40])
    }

    /// Before a plan runs: fails if enough updates were made, and this plan has what is to fail.
    fn before(&mut self, program: ProgramId) -> Result<(), DeviceError> {
        let graph = &self.cpu.plan(program).graph;
        let (is_update, has_weights) = (
            graph.values.iter().any(|value| value.name == "grad_norm"),
            graph.values.iter().any(|value| value.storage == Storage::Weight),
        );
        if self.updates >= LAST_GOOD_UPDATE && has_weights && !self.has_failed {
            self.has_failed = true;
            self.fail(program)?;
        }
        self.updates += usize::from(is_update);
        Ok(())
    }
}

impl Device for FaultyDevice {
    fn profile(&self) -> DeviceProfile {
        self.cpu.profile()
    }

    fn set_spill_folder(&mut self, folder: Option<&Path>) {
        self.cpu.set_spill_folder(folder);
    }

    fn set_custom_kernels(&mut self, kernels: CustomKernels) {
        self.cpu.set_custom_kernels(kernels);
    }

    fn set_ranks(&mut self, engine: Arc<dyn Engine>) {
        self.cpu.set_ranks(engine);
    }

    fn set_poison(&mut self, poison: bool) {
        self.cpu.set_poison(poison);
    }

    fn load(&mut self, plans: Vec<Plan>) -> Result<Vec<ProgramId>, DeviceError> {
        self.cpu.load(plans)
    }

    fn plan(&self, program: ProgramId) -> &Plan {
        self.cpu.plan(program)
    }

    fn source(&self, storage: Storage, name: &str) -> Option<SourceId> {
        self.cpu.source(storage, name)
    }

    fn source_type(&self, source: SourceId) -> &Type {
        self.cpu.source_type(source)
    }

    fn write(&mut self, source: SourceId, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.cpu.write(source, offset, bytes)
    }

    fn read(&self, source: SourceId, offset: usize, into: &mut [u8]) -> Result<(), DeviceError> {
        self.cpu.read(source, offset, into)
    }

    fn run(&mut self, program: ProgramId) -> Result<(), DeviceError> {
        self.before(program)?;
        self.cpu.run(program)
    }

    fn run_timed(&mut self, program: ProgramId, times: &mut [StepTime]) -> Result<(), DeviceError> {
        self.cpu.run_timed(program, times)
    }

    fn observe(&mut self, program: ProgramId, observer: &mut dyn Observer) -> Result<(), DeviceError> {
        self.cpu.observe(program, observer)
    }

    fn read_output(&self, program: ProgramId, name: &str, offset: usize, into: &mut [u8]) -> Result<(), DeviceError> {
        self.cpu.read_output(program, name, offset, into)
    }

    fn memory(&self) -> DeviceMemory {
        self.cpu.memory()
    }
}
