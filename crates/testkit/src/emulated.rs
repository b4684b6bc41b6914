//! A card that is emulated: [`remat_cuda::driver::Driver`] on the PTX interpreter, so that the CUDA device runs on any machine.
//!
//! Invariant: work on streams runs when all are waited for, in an order that a seed picks among those that streams and events allow;
//! a launch touches what it was given and nothing else. Whatever the interpreter refuses panics: it is a fault of a kernel.

use remat_cuda::driver::{Card, Driver, DriverError, EventId, FunctionId, PinnedId, StreamId, Work};
use remat_cuda::{CudaDevice, profile};
use remat_ptx::{Launch, Memory, Module, Region};
use remat_step::device::Opener;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// Most instructions of a warp: more is an endless loop.
const LIMIT: u64 = 1 << 28;

/// Of cards that are opened by [`EmulatedCard::OPENER`].
const SEED: u64 = 0x5eed;

/// The emulated card.
pub struct EmulatedCard {
    card: Card,
    state: RefCell<State>,
}

/// What was put on a stream.
enum Queued {
    Launch(Work),
    Poison(u64, usize),
    Out {
        from: u64,
        to: PinnedId,
        offset: usize,
        bytes: usize,
    },
    In {
        from: PinnedId,
        offset: usize,
        to: u64,
        bytes: usize,
    },
    Record(EventId, u64),
    /// For the mark of this number.
    Wait(EventId, u64),
}

struct State {
    memory: Memory,
    /// Bytes that are held, by address.
    held: HashMap<u64, usize>,
    functions: Vec<(Arc<Module>, String)>,
    by_kernel: HashMap<(String, String), FunctionId>,
    streams: Vec<VecDeque<Queued>>,
    /// Marks that were put, and those that were reached, by event.
    put: Vec<u64>,
    reached: Vec<u64>,
    pinned: Vec<Vec<u8>>,
    random: u64,
    instructions: u64,
}

/// Modules by name, read once for all cards.
static MODULES: Mutex<Vec<(String, Arc<Module>)>> = Mutex::new(Vec::new());

/// A folder of PTX that is run in place of the archive's, to try kernels without building anything.
const FOLDER: &str = "REMAT_PTX";

fn module(name: &str, ptx: &str) -> Arc<Module> {
    let mut modules = MODULES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, module)) = modules.iter().find(|(known, _)| known == name) {
        return module.clone();
    }
    let tried = std::env::var_os(FOLDER).map(|folder| Path::new(&folder).join(format!("{name}.ptx")));
    let tried = tried.and_then(|file| std::fs::read_to_string(file).ok());
    let ptx = tried.as_deref().unwrap_or(ptx);
    let read = Arc::new(Module::read(ptx).unwrap_or_else(|error| panic!("module {name}: {error}")));
    modules.push((name.to_string(), read.clone()));
    read
}

impl EmulatedCard {
    /// A CUDA device on such a card, as [`remat_step::DeviceOptions::opened_by`] takes it.
    pub const OPENER: Opener = Opener {
        open: |_, _| Box::new(CudaDevice::new(Rc::new(EmulatedCard::new(SEED)))),
        profile: |_, _| profile(EmulatedCard::new(SEED).card()),
    };

    /// A card with 1 GiB of memory, and the seed of whatever order is not defined.
    pub fn new(seed: u64) -> Self {
        EmulatedCard::with_memory(seed, 1 << 30)
    }

    /// A card with so much memory.
    pub fn with_memory(seed: u64, memory_bytes: usize) -> Self {
        let card = Card { name: "emulated".to_string(), capability: [8, 0], memory_bytes, shared_bytes: 99 << 10 };
        let state = State {
            memory: Memory::new(),
            held: HashMap::new(),
            functions: Vec::new(),
            by_kernel: HashMap::new(),
            streams: Vec::new(),
            put: Vec::new(),
            reached: Vec::new(),
            pinned: Vec::new(),
            random: seed.wrapping_mul(2).wrapping_add(1),
            instructions: 0,
        };
        EmulatedCard { card, state: RefCell::new(state) }
    }

    /// Bytes that are allocated.
    pub fn held_bytes(&self) -> usize {
        self.state.borrow().held.values().sum()
    }

    /// Thread instructions that ran.
    pub fn instructions(&self) -> u64 {
        self.state.borrow().instructions
    }
}

impl State {
    /// The next random number below a bound (splitmix64).
    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    /// Runs what is queued, one item at a time, of a stream that may go on.
    fn drain(&mut self) {
        loop {
            let ready = |queue: &VecDeque<Queued>| match queue.front() {
                None => false,
                Some(Queued::Wait(event, mark)) => self.reached[event.0 as usize] >= *mark,
                Some(_) => true,
            };
            let open: Vec<usize> = (0..self.streams.len()).filter(|&stream| ready(&self.streams[stream])).collect();
            if open.is_empty() {
                break;
            }
            let stream = open[self.below(open.len())];
            let item = self.streams[stream].pop_front().expect("it is ready");
            self.run(item);
        }
        assert!(self.streams.iter().all(VecDeque::is_empty), "streams wait for each other");
    }

    fn run(&mut self, item: Queued) {
        match item {
            Queued::Launch(work) => self.launch(&work),
            Queued::Poison(address, bytes) => self.memory.forget(address, bytes).expect("inside a buffer"),
            Queued::Out { from, to, offset, bytes } => {
                let read = self.memory.read(from, bytes).unwrap_or_else(|problem| panic!("a copy out: {problem}"));
                self.pinned[to.0 as usize][offset..offset + bytes].copy_from_slice(&read);
            }
            Queued::In { from, offset, to, bytes } => {
                let read = &self.pinned[from.0 as usize][offset..offset + bytes];
                self.memory.write(to, read).unwrap_or_else(|problem| panic!("a copy in: {problem}"));
            }
            Queued::Record(event, mark) => self.reached[event.0 as usize] = mark,
            Queued::Wait(..) => {}
        }
    }

    fn launch(&mut self, work: &Work) {
        let regions: Vec<Region> = work
            .touches
            .iter()
            .map(|touch| Region { address: touch.address, bytes: touch.bytes as u64, writable: touch.writable })
            .collect();
        let arguments: Vec<&[u8]> = work.arguments.iter().map(Vec::as_slice).collect();
        let seed = self.below(usize::MAX) as u64;
        let (module, kernel) = self.functions[work.function.0 as usize].clone();
        let launch = Launch {
            grid: work.grid,
            block: [work.threads, 1, 1],
            dynamic_shared_bytes: work.shared_bytes,
            arguments: &arguments,
            regions: &regions,
            seed,
            limit: LIMIT,
        };
        let ran = module.launch(&kernel, &launch, &mut self.memory);
        self.instructions += ran.unwrap_or_else(|error| panic!("{error}"));
    }
}

type Done = Result<(), DriverError>;

impl Driver for EmulatedCard {
    fn card(&self) -> &Card {
        &self.card
    }

    fn free_bytes(&self) -> Result<usize, DriverError> {
        Ok(self.card.memory_bytes - self.held_bytes())
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DriverError> {
        if bytes > self.free_bytes()? {
            return Err(DriverError::OutOfMemory { bytes });
        }
        let mut state = self.state.borrow_mut();
        let address = state.memory.allocate(bytes);
        state.held.insert(address, bytes);
        Ok(address)
    }

    fn free(&self, address: u64) {
        let mut state = self.state.borrow_mut();
        assert!(state.held.remove(&address).is_some() && state.memory.free(address), "it was allocated");
    }

    fn fill(&self, address: u64, byte: u8, bytes: usize) -> Done {
        self.write(address, &vec![byte; bytes])
    }

    fn poison(&self, stream: StreamId, address: u64, bytes: usize) -> Done {
        self.state.borrow_mut().streams[stream.0 as usize].push_back(Queued::Poison(address, bytes));
        Ok(())
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Done {
        let mut state = self.state.borrow_mut();
        state.drain();
        state.memory.write(address, bytes).unwrap_or_else(|problem| panic!("a write: {problem}"));
        Ok(())
    }

    fn read(&self, address: u64, into: &mut [u8]) -> Done {
        let mut state = self.state.borrow_mut();
        state.drain();
        let read = state.memory.read(address, into.len()).unwrap_or_else(|problem| panic!("a read: {problem}"));
        into.copy_from_slice(&read);
        Ok(())
    }

    fn function(&self, name: &str, ptx: &str, kernel: &str, shared_bytes: u32) -> Result<FunctionId, DriverError> {
        assert!(shared_bytes as usize <= self.card.shared_bytes, "{kernel}: {shared_bytes} bytes of shared memory");
        let key = (name.to_string(), kernel.to_string());
        let mut state = self.state.borrow_mut();
        if let Some(&known) = state.by_kernel.get(&key) {
            return Ok(known);
        }
        let module = module(name, ptx);
        assert!(module.kernels().any(|known| known == kernel), "module {name} has no kernel {kernel}");
        let id = FunctionId(state.functions.len() as u32);
        state.functions.push((module, kernel.to_string()));
        state.by_kernel.insert(key, id);
        Ok(id)
    }

    fn stream(&self) -> Result<StreamId, DriverError> {
        let streams = &mut self.state.borrow_mut().streams;
        streams.push(VecDeque::new());
        Ok(StreamId(streams.len() as u32 - 1))
    }

    fn event(&self) -> Result<EventId, DriverError> {
        let mut state = self.state.borrow_mut();
        state.put.push(0);
        state.reached.push(0);
        Ok(EventId(state.put.len() as u32 - 1))
    }

    fn pin(&self, bytes: usize) -> Result<PinnedId, DriverError> {
        let pinned = &mut self.state.borrow_mut().pinned;
        pinned.push(vec![0xff; bytes]);
        Ok(PinnedId(pinned.len() as u32 - 1))
    }

    fn launch(&self, stream: StreamId, work: &Work) -> Done {
        self.state.borrow_mut().streams[stream.0 as usize].push_back(Queued::Launch(work.clone()));
        Ok(())
    }

    fn copy_out(&self, stream: StreamId, from: u64, to: PinnedId, offset: usize, bytes: usize) -> Done {
        let item = Queued::Out { from, to, offset, bytes };
        self.state.borrow_mut().streams[stream.0 as usize].push_back(item);
        Ok(())
    }

    fn copy_in(&self, stream: StreamId, from: PinnedId, offset: usize, to: u64, bytes: usize) -> Done {
        let item = Queued::In { from, offset, to, bytes };
        self.state.borrow_mut().streams[stream.0 as usize].push_back(item);
        Ok(())
    }

    fn record(&self, stream: StreamId, event: EventId) -> Done {
        let mut state = self.state.borrow_mut();
        state.put[event.0 as usize] += 1;
        let mark = state.put[event.0 as usize];
        state.streams[stream.0 as usize].push_back(Queued::Record(event, mark));
        Ok(())
    }

    fn wait(&self, stream: StreamId, event: EventId) -> Done {
        let mut state = self.state.borrow_mut();
        let mark = state.put[event.0 as usize];
        state.streams[stream.0 as usize].push_back(Queued::Wait(event, mark));
        Ok(())
    }

    fn synchronize(&self) -> Done {
        self.state.borrow_mut().drain();
        Ok(())
    }
}
