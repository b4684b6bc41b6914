//! A second device: the CPU's kernels on a thread of their own, which owns all memory and takes orders by messages.
//!
//! Invariant: whatever crosses to it or back is owned, so the type checker proves that nothing outside can address its
//! memory: what a training run does with it, it does through [`Device`]. It stands for devices whose memory is elsewhere.

use remat_comm::Engine;
use remat_cpu::{CpuExecutor, CpuOptions, Level};
use remat_ir::{Storage, Type};
use remat_plan::{
    CustomKernels, Device, DeviceError, DeviceMemory, DeviceProfile, MemoryDomain, Observer, Place, Plan, ProgramId,
    SourceId, StepId, StepMemory, StepTime, WeightPart,
};
use remat_step::device::Opener;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Something to do over there.
type Order = Box<dyn FnOnce(&mut CpuExecutor) + Send>;

/// A device on a thread of its own.
pub struct DistantDevice {
    orders: Sender<Order>,
    options: CpuOptions,
    /// Copies of the loaded plans, to be looked at here.
    plans: Vec<Plan>,
    /// What sources there are, and their types by index.
    names: HashMap<(Storage, String), SourceId>,
    types: HashMap<SourceId, Type>,
}

/// Memory that it says to have.
const OWN_MEMORY_BYTES: usize = 1 << 40;

impl DistantDevice {
    /// As [`remat_step::DeviceOptions::opened_by`] takes it.
    pub const OPENER: Opener = Opener { open: DistantDevice::open, profile: DistantDevice::profile_of };

    /// What it is to the compiler: kernels of the CPU and memory of its own.
    pub fn profile_of(threads: usize, level: Level) -> DeviceProfile {
        let own_memory_bytes = Some(OWN_MEMORY_BYTES);
        DeviceProfile { name: format!("distant {level}"), own_memory_bytes, ..CpuOptions { threads, level }.profile() }
    }

    /// Opens one.
    pub fn open(threads: usize, level: Level) -> Box<dyn Device> {
        let (orders, received) = channel::<Order>();
        let options = CpuOptions { threads, level };
        // It ends when the last order's sender is gone.
        thread::spawn(move || {
            let mut executor = CpuExecutor::new(options);
            received.iter().for_each(|order| order(&mut executor));
        });
        let (plans, names, types) = (Vec::new(), HashMap::new(), HashMap::new());
        Box::new(DistantDevice { orders, options, plans, names, types })
    }

    /// Has something done over there and waits for what comes of it.
    fn order<R: Send + 'static>(&self, what: impl FnOnce(&mut CpuExecutor) -> R + Send + 'static) -> R {
        self.begin(what).recv().expect("an order that panicked")
    }

    fn begin<R: Send + 'static>(&self, what: impl FnOnce(&mut CpuExecutor) -> R + Send + 'static) -> Receiver<R> {
        let (reply, replied) = channel();
        let order = move |executor: &mut CpuExecutor| drop(reply.send(what(executor)));
        self.orders.send(Box::new(order)).expect("the device's thread waits for orders");
        replied
    }
}

impl Device for DistantDevice {
    fn profile(&self) -> DeviceProfile {
        DistantDevice::profile_of(self.options.threads, self.options.level)
    }

    fn set_spill_folder(&mut self, folder: Option<&Path>) {
        let folder = folder.map(Path::to_path_buf);
        self.order(move |executor| executor.set_spill_folder(folder.as_deref()));
    }

    fn set_weights_in_files(&mut self, weights: HashMap<String, Vec<WeightPart>>) {
        self.order(move |executor| executor.set_weights_in_files(weights));
    }

    fn is_in_file(&self, source: SourceId) -> bool {
        self.order(move |executor| executor.is_in_file(source))
    }

    fn set_custom_kernels(&mut self, kernels: CustomKernels) {
        self.order(move |executor| executor.set_custom_kernels(kernels));
    }

    fn set_ranks(&mut self, engine: Arc<dyn Engine>) {
        self.order(move |executor| executor.set_ranks(engine));
    }

    fn set_poison(&mut self, poison: bool) {
        self.order(move |executor| executor.set_poison(poison));
    }

    fn load(&mut self, plans: Vec<Plan>) -> Result<Vec<ProgramId>, DeviceError> {
        self.plans.clone_from(&plans);
        let programs = self.order(move |executor| executor.load(plans))?;
        let sources = self.plans.iter().flat_map(|plan| &*plan.graph.values).filter(|value| value.producer.is_none());
        for value in sources {
            let (key, ty) = ((value.storage, value.name.clone()), value.ty.clone());
            let asked = key.clone();
            let id = self.order(move |executor| executor.source(asked.0, &asked.1)).expect("a source of a plan");
            self.names.insert(key, id);
            self.types.insert(id, ty);
        }
        Ok(programs)
    }

    fn plan(&self, program: ProgramId) -> &Plan {
        &self.plans[program.0 as usize]
    }

    fn source(&self, storage: Storage, name: &str) -> Option<SourceId> {
        self.names.get(&(storage, name.to_string())).copied()
    }

    fn source_type(&self, source: SourceId) -> &Type {
        &self.types[&source]
    }

    fn write(&mut self, source: SourceId, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        let bytes = bytes.to_vec();
        self.order(move |executor| executor.write(source, offset, &bytes))
    }

    fn read(&self, source: SourceId, offset: usize, into: &mut [u8]) -> Result<(), DeviceError> {
        let mut bytes = vec![0; into.len()];
        let read = self.order(move |executor| executor.read(source, offset, &mut bytes).map(|()| bytes));
        into.copy_from_slice(&read?);
        Ok(())
    }

    fn run(&mut self, program: ProgramId) -> Result<(), DeviceError> {
        self.order(move |executor| executor.run(program))
    }

    fn run_timed(&mut self, program: ProgramId, times: &mut [StepTime]) -> Result<(), DeviceError> {
        let mut taken = times.to_vec();
        let ran = self.order(move |executor| executor.run_timed(program, &mut taken).map(|()| taken));
        times.copy_from_slice(&ran?);
        Ok(())
    }

    fn observe(&mut self, program: ProgramId, observer: &mut dyn Observer) -> Result<(), DeviceError> {
        let ((events, stepped), (requests, requested)) = (channel(), channel());
        let (answers, answered) = channel();
        let ended =
            self.begin(move |executor| executor.observe(program, &mut Relay { events, requests: requested, answers }));
        let memory = DistantMemory { requests, answers: answered };
        // There are no more steps when the run has ended, and the relay with it.
        for step in stepped {
            observer.after_step(&self.plans[program.0 as usize], step, &memory);
            memory.requests.send(Request::Continue).expect("the run waits");
        }
        ended.recv().expect("a run that panicked")
    }

    fn read_output(&self, program: ProgramId, name: &str, offset: usize, into: &mut [u8]) -> Result<(), DeviceError> {
        let (name, mut bytes) = (name.to_string(), vec![0; into.len()]);
        let read = self.order(move |executor| executor.read_output(program, &name, offset, &mut bytes).map(|()| bytes));
        into.copy_from_slice(&read?);
        Ok(())
    }

    fn memory(&self) -> DeviceMemory {
        DeviceMemory { domain: MemoryDomain::Device, ..self.order(|executor| executor.memory()) }
    }
}

/// What an observer over here wants between two steps.
enum Request {
    Read(Place, usize, usize),
    ReadArena(usize, usize),
    Continue,
}

/// Observes over there, and answers until it may go on.
struct Relay {
    events: Sender<StepId>,
    requests: Receiver<Request>,
    answers: Sender<Vec<u8>>,
}

impl Observer for Relay {
    fn after_step(&mut self, _: &Plan, id: StepId, memory: &dyn StepMemory) {
        self.events.send(id).expect("somebody observes");
        let answer = |bytes: usize, read: &dyn Fn(&mut [u8])| {
            let mut answer = vec![0; bytes];
            read(&mut answer);
            self.answers.send(answer).expect("somebody asked");
        };
        loop {
            match self.requests.recv().expect("somebody observes") {
                Request::Continue => return,
                Request::Read(place, offset, bytes) => answer(bytes, &|into| memory.read(&place, offset, into)),
                Request::ReadArena(offset, bytes) => answer(bytes, &|into| memory.read_arena(offset, into)),
            }
        }
    }
}

/// The memory over there, seen from here.
struct DistantMemory {
    requests: Sender<Request>,
    answers: Receiver<Vec<u8>>,
}

impl DistantMemory {
    fn ask(&self, request: Request, into: &mut [u8]) {
        self.requests.send(request).expect("the run waits");
        into.copy_from_slice(&self.answers.recv().expect("the run answers"));
    }
}

impl StepMemory for DistantMemory {
    fn read(&self, place: &Place, offset: usize, into: &mut [u8]) {
        self.ask(Request::Read(*place, offset, into.len()), into);
    }

    fn read_arena(&self, offset: usize, into: &mut [u8]) {
        self.ask(Request::ReadArena(offset, into.len()), into);
    }
}
