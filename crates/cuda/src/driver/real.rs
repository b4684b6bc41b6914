//! NVIDIA's driver: one card, its primary context, and what was made in it.
//!
//! Invariant: every handle is kept here and given back when the driver is dropped, the context last. Streams are ordinary ones, which
//! the copies of [`Driver::write`] and [`Driver::read`] are ordered with, too.

use super::compiling::compiling;
use super::library::{Handle, Library};
use super::{
    Card, Driver, DriverError, EventId, FunctionId, GraphId, LEAST_VERSION, OLDEST, PinnedId, StreamId, Version, Work,
};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

/// `CUDA_ERROR_OUT_OF_MEMORY`.
const OUT_OF_MEMORY: c_int = 2;
/// `CUDA_ERROR_NO_DEVICE`.
const NO_DEVICE: c_int = 100;
/// Errors after which a context is of no more use: an address that a kernel may not touch, a time-out, a failed launch, memory
/// with faults, a card that fell off the bus.
const LOST: [c_int; 13] = [46, 201, 214, 220, 221, 700, 702, 709, 710, 714, 715, 716, 719];
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `_MINOR`, `_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN`.
const ATTRIBUTES: [c_int; 3] = [75, 76, 97];
/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
const MOST_SHARED: c_int = 8;
/// Dynamic shared memory that needs no leave.
const USUAL_SHARED_BYTES: u32 = 48 << 10;
/// `CU_EVENT_DISABLE_TIMING`.
const WITHOUT_TIMING: u32 = 2;

/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`: other threads may do as they like.
const THREAD_LOCAL: c_int = 1;
/// A module that takes as long to load is being compiled: one that the driver has in its cache takes milliseconds.
const PATIENCE: Duration = Duration::from_millis(500);

/// One card.
pub struct RealDriver {
    library: Library,
    device: c_int,
    card: Card,
    made: RefCell<Made>,
    /// What is told when kernels are compiled, once.
    notice: Notice,
    told: Cell<bool>,
}

/// To whom it is told that kernels are being compiled, and after how long.
#[derive(Debug, Clone, Copy)]
pub struct Notice {
    /// Gets the sentence.
    pub tell: fn(&str),
    /// What loading a module may take without it.
    pub patience: Duration,
}

impl Notice {
    /// Tells nobody.
    pub const NONE: Notice = Notice { tell: |_| {}, patience: PATIENCE };

    /// Tells after the usual time.
    pub fn to(tell: fn(&str)) -> Self {
        Notice { tell, patience: PATIENCE }
    }
}

/// Handles by the numbers that stand for them.
#[derive(Default)]
struct Made {
    modules: HashMap<String, Handle>,
    functions: Vec<Handle>,
    by_kernel: HashMap<(String, String), (FunctionId, u32)>,
    streams: Vec<Handle>,
    events: Vec<Handle>,
    pinned: Vec<Handle>,
    graphs: Vec<Handle>,
}

/// The driver of this machine, initialised.
///
/// # Errors
/// No driver, or one that is too old.
pub fn initialised() -> Result<Library, DriverError> {
    let missing = |problem| DriverError::Missing { problem };
    let library = Library::open().map_err(missing)?;
    initialise(&library)?;
    Ok(library)
}

/// Initialises a library.
///
/// # Errors
/// One that is too old, or says no.
pub fn initialise(library: &Library) -> Result<(), DriverError> {
    let mut version = 0;
    // SAFETY: the driver writes one number.
    if unsafe { (library.version)(&raw mut version) } == 0 {
        let found = Version { major: version as u32 / 1000, minor: version as u32 % 1000 / 10 };
        if found < LEAST_VERSION {
            return Err(DriverError::TooOld { found, least: LEAST_VERSION });
        }
    }
    // SAFETY: flags must be 0.
    match unsafe { (library.init)(0) } {
        0 => Ok(()),
        NO_DEVICE => Err(DriverError::NoCard { index: 0, count: 0 }),
        error => Err(DriverError::Missing { problem: text(library, error) }),
    }
}

/// What all cards of the driver are.
///
/// # Errors
/// A driver that says no.
pub fn cards(library: &Library) -> Result<Vec<Card>, DriverError> {
    (0..count(library)?).map(|index| describe(library, index).map(|(_, card)| card)).collect()
}

fn count(library: &Library) -> Result<usize, DriverError> {
    let mut count = 0;
    // SAFETY: the driver writes one number.
    match unsafe { (library.device_count)(&raw mut count) } {
        0 => Ok(usize::try_from(count).unwrap_or(0)),
        NO_DEVICE => Ok(0),
        error => Err(failure(library, "cuDeviceGetCount", error)),
    }
}

fn describe(library: &Library, index: usize) -> Result<(c_int, Card), DriverError> {
    let done = |call, error| if error == 0 { Ok(()) } else { Err(failure(library, call, error)) };
    let (mut device, mut name, mut memory_bytes, mut numbers) = (0, [0; 128], 0, [0; 3]);
    // SAFETY: the driver writes one number, a text within the given length, one number, and one for each attribute.
    unsafe {
        done("cuDeviceGet", (library.device)(&raw mut device, index as c_int))?;
        done("cuDeviceGetName", (library.device_name)(name.as_mut_ptr(), name.len() as c_int - 1, device))?;
        done("cuDeviceTotalMem", (library.device_memory)(&raw mut memory_bytes, device))?;
        for (number, attribute) in numbers.iter_mut().zip(ATTRIBUTES) {
            done("cuDeviceGetAttribute", (library.device_attribute)(number, attribute, device))?;
        }
    }
    // SAFETY: the last byte is 0, whatever the driver wrote before it.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    let [major, minor, shared] = numbers.map(|number| u32::try_from(number).unwrap_or(0));
    Ok((device, Card { name, capability: [major, minor], memory_bytes, shared_bytes: shared as usize }))
}

fn text(library: &Library, error: c_int) -> String {
    let mut text = std::ptr::null();
    // SAFETY: the driver gives the address of a constant text, or none for an error that it does not know.
    let known = unsafe { (library.error_text)(error, &raw mut text) } == 0 && !text.is_null();
    // SAFETY: as above, the text ends with 0 and lives as long as the driver.
    let text = if known { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() } else { String::new() };
    format!("{text} (error {error})").trim_start().to_string()
}

fn failure(library: &Library, call: &'static str, error: c_int) -> DriverError {
    let problem = text(library, error);
    if LOST.contains(&error) { DriverError::Lost { problem } } else { DriverError::Failed { call, problem } }
}

impl RealDriver {
    /// The card of this number, with a context.
    ///
    /// # Errors
    /// No such card, one that kernels do not run on, a context that cannot be had.
    pub fn open(library: Library, index: usize) -> Result<Self, DriverError> {
        let count = count(&library)?;
        if index >= count {
            return Err(DriverError::NoCard { index, count });
        }
        let (device, card) = describe(&library, index)?;
        if card.capability < OLDEST {
            return Err(DriverError::OldCard { name: card.name, capability: card.capability });
        }
        let (made, notice, told) = (RefCell::default(), Notice::NONE, Cell::new(false));
        let driver = RealDriver { library, device, card, made, notice, told };
        let mut context = null_mut();
        // SAFETY: the driver writes one handle, which is made current on this thread: a driver does not leave it.
        unsafe {
            driver.done("cuDevicePrimaryCtxRetain", (library.retain_context)(&raw mut context, device))?;
            driver.done("cuCtxSetCurrent", (library.set_context)(context))?;
        }
        Ok(driver)
    }

    /// With somebody who is told when kernels are compiled.
    pub fn with_notice(mut self, notice: Notice) -> Self {
        self.notice = notice;
        self
    }

    /// Tells that kernels are being compiled, if loading one took so long.
    fn note(&self, took: Duration) {
        if took >= self.notice.patience && !self.told.replace(true) {
            (self.notice.tell)(&compiling(&self.card.name, |name| std::env::var(name).ok()));
        }
    }

    fn done(&self, call: &'static str, error: c_int) -> Result<(), DriverError> {
        if error == 0 { Ok(()) } else { Err(failure(&self.library, call, error)) }
    }

    /// The same, where memory may be what is missing.
    fn had(&self, call: &'static str, error: c_int, bytes: usize) -> Result<(), DriverError> {
        if error == OUT_OF_MEMORY { Err(DriverError::OutOfMemory { bytes }) } else { self.done(call, error) }
    }

    fn stream_of(&self, stream: StreamId) -> Handle {
        self.made.borrow().streams[stream.0 as usize]
    }

    fn event_of(&self, event: EventId) -> Handle {
        self.made.borrow().events[event.0 as usize]
    }

    /// Address of pinned memory.
    fn pinned_at(&self, pinned: PinnedId, offset: usize) -> *mut c_void {
        self.made.borrow().pinned[pinned.0 as usize].wrapping_byte_add(offset)
    }

    /// A module, loaded once.
    fn module(&self, name: &str, ptx: &str) -> Result<Handle, DriverError> {
        if let Some(&module) = self.made.borrow().modules.get(name) {
            return Ok(module);
        }
        let text = CString::new(ptx).map_err(|_| DriverError::Failed {
            call: "cuModuleLoadData",
            problem: format!("module {name} has a zero byte"),
        })?;
        let (mut module, begun) = (null_mut(), Instant::now());
        // SAFETY: the text ends with 0; the driver writes one handle.
        let error = unsafe { (self.library.load_module)(&raw mut module, text.as_ptr().cast()) };
        self.note(begun.elapsed());
        self.had("cuModuleLoadData", error, ptx.len())?;
        self.made.borrow_mut().modules.insert(name.to_string(), module);
        Ok(module)
    }

    /// Allows a function more dynamic shared memory than usual.
    fn allow_shared(&self, function: Handle, kernel: &str, bytes: u32) -> Result<(), DriverError> {
        if bytes as usize > self.card.shared_bytes {
            let have = self.card.shared_bytes;
            let problem = format!("{kernel} needs {bytes} bytes of shared memory, and a block of this card has {have}");
            return Err(DriverError::Failed { call: "cuFuncSetAttribute", problem });
        }
        if bytes <= USUAL_SHARED_BYTES {
            return Ok(());
        }
        // SAFETY: a function of this context and a number.
        let error = unsafe { (self.library.set_function)(function, MOST_SHARED, bytes as c_int) };
        self.done("cuFuncSetAttribute", error)
    }
}

impl Driver for RealDriver {
    fn card(&self) -> &Card {
        &self.card
    }

    fn free_bytes(&self) -> Result<usize, DriverError> {
        let (mut free, mut all) = (0, 0);
        // SAFETY: the driver writes two numbers.
        let error = unsafe { (self.library.memory_info)(&raw mut free, &raw mut all) };
        self.done("cuMemGetInfo", error).map(|()| free)
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DriverError> {
        let mut address = 0;
        // SAFETY: the driver writes one address.
        let error = unsafe { (self.library.allocate)(&raw mut address, bytes) };
        self.had("cuMemAlloc", error, bytes).map(|()| address)
    }

    fn free(&self, address: u64) {
        // SAFETY: the address came from `allocate`. What is freed on a lost card is lost with it.
        unsafe {
            (self.library.free)(address);
        }
    }

    fn fill(&self, address: u64, byte: u8, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: the caller's bytes of the card's memory; a wrong address is an error of the driver.
        self.done("cuMemsetD8", unsafe { (self.library.fill)(address, byte, bytes) })
    }

    fn poison(&self, stream: StreamId, address: u64, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: as in `fill`.
        let error = unsafe { (self.library.fill_on)(address, remat_plan::POISON, bytes, self.stream_of(stream)) };
        self.done("cuMemsetD8Async", error)
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), DriverError> {
        // SAFETY: the host's bytes are there while the call lasts.
        self.done("cuMemcpyHtoD", unsafe { (self.library.copy_in)(address, bytes.as_ptr().cast(), bytes.len()) })
    }

    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), DriverError> {
        // SAFETY: the host's bytes are there while the call lasts.
        self.done("cuMemcpyDtoH", unsafe { (self.library.copy_out)(into.as_mut_ptr().cast(), address, into.len()) })
    }

    fn function(&self, module: &str, ptx: &str, kernel: &str, shared_bytes: u32) -> Result<FunctionId, DriverError> {
        let key = (module.to_string(), kernel.to_string());
        let known = self.made.borrow().by_kernel.get(&key).copied();
        if let Some((id, most)) = known {
            if shared_bytes > most {
                let function = self.made.borrow().functions[id.0 as usize];
                self.allow_shared(function, kernel, shared_bytes)?;
                self.made.borrow_mut().by_kernel.insert(key, (id, shared_bytes));
            }
            return Ok(id);
        }
        let name = CString::new(kernel).expect("kernels' names are ours");
        let (loaded, mut function) = (self.module(module, ptx)?, null_mut());
        let begun = Instant::now();
        // SAFETY: a module of this context and a name that ends with 0; the driver writes one handle.
        let error = unsafe { (self.library.function)(&raw mut function, loaded, name.as_ptr()) };
        // Drivers that load lazily compile here.
        self.note(begun.elapsed());
        self.done("cuModuleGetFunction", error)?;
        self.allow_shared(function, kernel, shared_bytes)?;
        let mut made = self.made.borrow_mut();
        let id = FunctionId(made.functions.len() as u32);
        made.functions.push(function);
        made.by_kernel.insert(key, (id, shared_bytes));
        Ok(id)
    }

    fn stream(&self) -> Result<StreamId, DriverError> {
        let mut stream = null_mut();
        // SAFETY: the driver writes one handle.
        self.done("cuStreamCreate", unsafe { (self.library.make_stream)(&raw mut stream, 0) })?;
        let mut made = self.made.borrow_mut();
        made.streams.push(stream);
        Ok(StreamId(made.streams.len() as u32 - 1))
    }

    fn event(&self) -> Result<EventId, DriverError> {
        let mut event = null_mut();
        // SAFETY: the driver writes one handle.
        self.done("cuEventCreate", unsafe { (self.library.make_event)(&raw mut event, WITHOUT_TIMING) })?;
        let mut made = self.made.borrow_mut();
        made.events.push(event);
        Ok(EventId(made.events.len() as u32 - 1))
    }

    fn pin(&self, bytes: usize) -> Result<PinnedId, DriverError> {
        let mut address = null_mut();
        // SAFETY: the driver writes one address.
        let error = unsafe { (self.library.pin)(&raw mut address, bytes, 0) };
        self.had("cuMemHostAlloc", error, bytes)?;
        let mut made = self.made.borrow_mut();
        made.pinned.push(address);
        Ok(PinnedId(made.pinned.len() as u32 - 1))
    }

    fn launch(&self, stream: StreamId, work: &Work) -> Result<(), DriverError> {
        /// More than any kernel takes.
        const MOST_ARGUMENTS: usize = 32;
        let function = self.made.borrow().functions[work.function.0 as usize];
        let mut arguments = [null_mut::<c_void>(); MOST_ARGUMENTS];
        assert!(work.arguments.len() <= MOST_ARGUMENTS, "{} arguments", work.arguments.len());
        for (to, argument) in arguments.iter_mut().zip(&work.arguments) {
            *to = argument.as_ptr().cast_mut().cast();
        }
        let [x, y, z] = work.grid;
        let (threads, shared, stream) = (work.threads, work.shared_bytes, self.stream_of(stream));
        // SAFETY: the driver reads as many arguments as the kernel takes, each of the kernel's size, while the call lasts; tests hold
        // number and sizes to the PTX, and the addresses among them are those of the step.
        let error = unsafe {
            (self.library.launch)(function, x, y, z, threads, 1, 1, shared, stream, arguments.as_mut_ptr(), null_mut())
        };
        self.done("cuLaunchKernel", error)
    }

    fn copy_out(
        &self,
        stream: StreamId,
        from: u64,
        to: PinnedId,
        offset: usize,
        bytes: usize,
    ) -> Result<(), DriverError> {
        let (to, stream) = (self.pinned_at(to, offset), self.stream_of(stream));
        // SAFETY: pinned memory lives as long as the driver, and the plan gave this copy its own bytes of it.
        self.done("cuMemcpyDtoHAsync", unsafe { (self.library.copy_out_on)(to, from, bytes, stream) })
    }

    fn copy_in(
        &self,
        stream: StreamId,
        from: PinnedId,
        offset: usize,
        to: u64,
        bytes: usize,
    ) -> Result<(), DriverError> {
        let (from, stream) = (self.pinned_at(from, offset), self.stream_of(stream));
        // SAFETY: as in `copy_out`.
        self.done("cuMemcpyHtoDAsync", unsafe { (self.library.copy_in_on)(to, from, bytes, stream) })
    }

    fn record(&self, stream: StreamId, event: EventId) -> Result<(), DriverError> {
        // SAFETY: an event and a stream of this context.
        self.done("cuEventRecord", unsafe { (self.library.record)(self.event_of(event), self.stream_of(stream)) })
    }

    fn wait(&self, stream: StreamId, event: EventId) -> Result<(), DriverError> {
        // SAFETY: a stream and an event of this context; flags must be 0.
        self.done("cuStreamWaitEvent", unsafe { (self.library.wait)(self.stream_of(stream), self.event_of(event), 0) })
    }

    fn begin_capture(&self, stream: StreamId) -> Result<(), DriverError> {
        // SAFETY: a stream of this context and a mode that the driver knows.
        let error = unsafe { (self.library.begin_capture)(self.stream_of(stream), THREAD_LOCAL) };
        self.done("cuStreamBeginCapture", error)
    }

    fn end_capture(&self, stream: StreamId) -> Result<GraphId, DriverError> {
        let (mut recipe, mut graph, mut node) = (null_mut(), null_mut(), null_mut());
        // SAFETY: a stream of this context; the driver writes one handle.
        let error = unsafe { (self.library.end_capture)(self.stream_of(stream), &raw mut recipe) };
        self.done("cuStreamEndCapture", error)?;
        // SAFETY: a graph of this context, which is of no use when its executable form is made; the driver writes two handles, and
        // no text where there is no room for one.
        let error = unsafe {
            let error = (self.library.make_graph)(&raw mut graph, recipe, &raw mut node, null_mut(), 0);
            (self.library.drop_recipe)(recipe);
            error
        };
        self.done("cuGraphInstantiate", error)?;
        let mut made = self.made.borrow_mut();
        made.graphs.push(graph);
        Ok(GraphId(made.graphs.len() as u32 - 1))
    }

    fn launch_graph(&self, stream: StreamId, graph: GraphId) -> Result<(), DriverError> {
        let graph = self.made.borrow().graphs[graph.0 as usize];
        // SAFETY: a graph and a stream of this context.
        self.done("cuGraphLaunch", unsafe { (self.library.launch_graph)(graph, self.stream_of(stream)) })
    }

    fn synchronize(&self) -> Result<(), DriverError> {
        // SAFETY: no arguments.
        self.done("cuCtxSynchronize", unsafe { (self.library.synchronize)() })
    }
}

impl Drop for RealDriver {
    fn drop(&mut self) {
        let (library, made) = (&self.library, self.made.get_mut());
        // SAFETY: each handle was made here and is used no more; the context goes last. Errors of a lost card are of no use.
        unsafe {
            for graph in made.graphs.drain(..) {
                (library.drop_graph)(graph);
            }
            for event in made.events.drain(..) {
                (library.drop_event)(event);
            }
            for stream in made.streams.drain(..) {
                (library.drop_stream)(stream);
            }
            for address in made.pinned.drain(..) {
                (library.unpin)(address);
            }
            for (_, module) in made.modules.drain() {
                (library.unload_module)(module);
            }
            (library.release_context)(self.device);
        }
    }
}
