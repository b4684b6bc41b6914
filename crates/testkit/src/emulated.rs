//! A card that is emulated: [`remat_cuda::driver::Driver`] on the PTX interpreter, so that the CUDA device runs on any machine.
//!
//! Invariant: work on streams runs when all are waited for, in an order that a seed picks among those that streams and events allow;
//! a launch touches what it was given and nothing else. Whatever the interpreter refuses panics: it is a fault of a kernel.

use remat_cuda::driver::{Card, Driver, DriverError, EventId, FunctionId, GraphId, PinnedId, StreamId, Work};
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
#[derive(Clone)]
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
    Graph(GraphId),
}

/// Work that is being captured, as it is put: with its stream.
struct Capture {
    origin: StreamId,
    work: Vec<(StreamId, Queued)>,
    /// Streams that take part.
    inside: Vec<StreamId>,
    /// Marks of this capture: of which stream, and behind how much of its work.
    marks: HashMap<EventId, (StreamId, usize)>,
    /// How much work of a stream the origin has waited for.
    joined: HashMap<StreamId, usize>,
}

impl Capture {
    fn of(&self, stream: StreamId) -> usize {
        self.work.iter().filter(|(of, item)| *of == stream && !matches!(item, Queued::Record(..))).count()
    }

    /// A card captures a stream from when it waits for a mark of the capture, and lets any other run, which is never meant.
    fn put(&mut self, stream: StreamId, item: Queued) {
        match item {
            Queued::Wait(event, _) => {
                let &(from, behind) = self.marks.get(&event).expect("a capture waits for marks of its own alone");
                if !self.inside.contains(&stream) {
                    self.inside.push(stream);
                }
                if stream == self.origin {
                    let joined = self.joined.entry(from).or_default();
                    *joined = behind.max(*joined);
                }
            }
            Queued::Record(event, _) => {
                self.marks.insert(event, (stream, self.of(stream)));
            }
            _ => {}
        }
        assert!(self.inside.contains(&stream), "work on stream {} runs while another is captured", stream.0);
        self.work.push((stream, item));
    }

    /// The work, if the origin has waited for all of it.
    fn end(self) -> Result<Vec<(StreamId, Queued)>, DriverError> {
        let open = |stream: &&StreamId| {
            **stream != self.origin && self.of(**stream) > self.joined.get(*stream).copied().unwrap_or(0)
        };
        match self.inside.iter().find(open) {
            None => Ok(self.work),
            Some(stream) => {
                let problem = format!("stream {} was not joined", stream.0);
                Err(DriverError::Failed { call: "cuStreamEndCapture", problem })
            }
        }
    }
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
    capture: Option<Capture>,
    graphs: Vec<Vec<(StreamId, Queued)>>,
    launched_graphs: usize,
    /// Whether captures end well.
    captures: bool,
    random: u64,
    instructions: u64,
    bank_conflicts: u64,
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
            capture: None,
            graphs: Vec::new(),
            launched_graphs: 0,
            captures: true,
            random: seed.wrapping_mul(2).wrapping_add(1),
            instructions: 0,
            bank_conflicts: 0,
        };
        EmulatedCard { card, state: RefCell::new(state) }
    }

    /// Bytes that are allocated.
    pub fn held_bytes(&self) -> usize {
        self.state.borrow().held.values().sum()
    }

    /// From here on captures are refused when they end, as a driver may.
    pub fn refuse_captures(&self) {
        self.state.borrow_mut().captures = false;
    }

    /// Graphs that were launched.
    pub fn launched_graphs(&self) -> usize {
        self.state.borrow().launched_graphs
    }

    /// Passes over the banks of shared memory beyond the fewest, of the widest accesses: see [`remat_ptx::Ran`].
    pub fn bank_conflicts(&self) -> u64 {
        self.state.borrow().bank_conflicts
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

    /// Puts work on a stream, or into the graph that is being captured.
    fn put(&mut self, stream: StreamId, item: Queued) {
        match &mut self.capture {
            Some(capture) => capture.put(stream, item),
            None => self.streams[stream.0 as usize].push_back(item),
        }
    }

    /// Runs what is queued.
    fn drain(&mut self) {
        assert!(self.capture.is_none(), "nothing is waited for in a capture");
        let mut streams = std::mem::take(&mut self.streams);
        self.drain_of(&mut streams);
        self.streams = streams;
    }

    /// One item at a time, of a stream that may go on.
    fn drain_of(&mut self, streams: &mut [VecDeque<Queued>]) {
        loop {
            let ready = |queue: &VecDeque<Queued>| match queue.front() {
                None => false,
                Some(Queued::Wait(event, mark)) => self.reached[event.0 as usize] >= *mark,
                Some(_) => true,
            };
            let open: Vec<usize> = (0..streams.len()).filter(|&stream| ready(&streams[stream])).collect();
            if open.is_empty() {
                break;
            }
            let stream = open[self.below(open.len())];
            let item = streams[stream].pop_front().expect("it is ready");
            self.run(item);
        }
        assert!(streams.iter().all(VecDeque::is_empty), "streams wait for each other");
    }

    /// Runs a graph: its streams in any order that its own marks allow.
    fn run_graph(&mut self, graph: GraphId) {
        let work = self.graphs[graph.0 as usize].clone();
        let mut streams: Vec<VecDeque<Queued>> = self.put_streams(&work);
        for (_, item) in &work {
            if let Queued::Record(event, _) = item {
                self.reached[event.0 as usize] = 0;
            }
        }
        self.launched_graphs += 1;
        self.drain_of(&mut streams);
    }

    fn put_streams(&self, work: &[(StreamId, Queued)]) -> Vec<VecDeque<Queued>> {
        let count = work.iter().map(|(stream, _)| stream.0 as usize + 1).max().unwrap_or(0);
        let mut streams: Vec<VecDeque<Queued>> = (0..count).map(|_| VecDeque::new()).collect();
        work.iter().for_each(|(stream, item)| streams[stream.0 as usize].push_back(item.clone()));
        streams
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
            Queued::Graph(graph) => self.run_graph(graph),
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
        let ran = module.launch(&kernel, &launch, &mut self.memory).unwrap_or_else(|error| panic!("{error}"));
        self.instructions += ran.instructions;
        self.bank_conflicts += ran.bank_conflicts;
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
        self.state.borrow_mut().put(stream, Queued::Poison(address, bytes));
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
        self.state.borrow_mut().put(stream, Queued::Launch(work.clone()));
        Ok(())
    }

    fn copy_out(&self, stream: StreamId, from: u64, to: PinnedId, offset: usize, bytes: usize) -> Done {
        self.state.borrow_mut().put(stream, Queued::Out { from, to, offset, bytes });
        Ok(())
    }

    fn copy_in(&self, stream: StreamId, from: PinnedId, offset: usize, to: u64, bytes: usize) -> Done {
        self.state.borrow_mut().put(stream, Queued::In { from, offset, to, bytes });
        Ok(())
    }

    fn record(&self, stream: StreamId, event: EventId) -> Done {
        let mut state = self.state.borrow_mut();
        state.put[event.0 as usize] += 1;
        let mark = state.put[event.0 as usize];
        state.put(stream, Queued::Record(event, mark));
        Ok(())
    }

    fn wait(&self, stream: StreamId, event: EventId) -> Done {
        let mut state = self.state.borrow_mut();
        let mark = state.put[event.0 as usize];
        state.put(stream, Queued::Wait(event, mark));
        Ok(())
    }

    fn begin_capture(&self, stream: StreamId) -> Done {
        let mut state = self.state.borrow_mut();
        assert!(state.capture.is_none(), "one capture at a time");
        let (marks, joined) = (HashMap::new(), HashMap::new());
        state.capture = Some(Capture { origin: stream, work: Vec::new(), inside: vec![stream], marks, joined });
        Ok(())
    }

    fn end_capture(&self, stream: StreamId) -> Result<GraphId, DriverError> {
        let mut state = self.state.borrow_mut();
        let capture = state.capture.take().expect("a capture was begun");
        assert_eq!(capture.origin, stream, "a capture ends where it began");
        let work = capture.end()?;
        if !state.captures {
            return Err(DriverError::Failed { call: "cuStreamEndCapture", problem: "refused".to_string() });
        }
        state.graphs.push(work);
        Ok(GraphId(state.graphs.len() as u32 - 1))
    }

    fn launch_graph(&self, stream: StreamId, graph: GraphId) -> Done {
        self.state.borrow_mut().put(stream, Queued::Graph(graph));
        Ok(())
    }

    fn synchronize(&self) -> Done {
        self.state.borrow_mut().drain();
        Ok(())
    }
}
