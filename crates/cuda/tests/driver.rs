//! NVIDIA's driver as it may be met, by a library of our own in its place: none, too old, without a card, an old card, memory that is
//! not there, a card that is lost in a run. Each is an error that says what to do.

use remat_cuda::driver::library::{Handle, Library};
use remat_cuda::driver::real::{Notice, RealDriver, cards, initialise};
use remat_cuda::driver::{Driver, DriverError, Version, Work};
use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::time::Duration;

/// What the library answers, and what it was asked; one for each thread, and so for each test.
#[derive(Debug, Clone)]
struct Answers {
    version: c_int,
    init: c_int,
    cards: c_int,
    capability: [c_int; 2],
    allocate: c_int,
    launch: c_int,
    synchronize: c_int,
    capture: c_int,
    /// Calls in order.
    asked: Vec<String>,
}

const GOOD: Answers = Answers {
    version: 12_040,
    init: 0,
    cards: 1,
    capability: [8, 9],
    allocate: 0,
    launch: 0,
    synchronize: 0,
    capture: 0,
    asked: Vec::new(),
};

thread_local! {
    static ANSWERS: RefCell<Answers> = const { RefCell::new(GOOD) };
}

fn answer<R>(call: String, of: impl FnOnce(&Answers) -> R) -> R {
    ANSWERS.with_borrow_mut(|answers| {
        answers.asked.push(call);
        of(answers)
    })
}

fn with(answers: Answers) -> Library {
    ANSWERS.set(answers);
    LIBRARY
}

fn asked(call: &str) -> usize {
    ANSWERS.with_borrow(|answers| answers.asked.iter().filter(|asked| asked.starts_with(call)).count())
}

/// Writes a value where the caller has room for it.
fn put<T>(to: *mut T, value: T) -> c_int {
    // SAFETY: the driver under test gives room for one value.
    unsafe { to.write(value) };
    0
}

/// A handle that is not null.
fn handle(to: *mut Handle) -> c_int {
    put(to, std::ptr::without_provenance_mut(64))
}

unsafe extern "C" fn init(_: c_uint) -> c_int {
    answer("init".to_string(), |answers| answers.init)
}
unsafe extern "C" fn version(to: *mut c_int) -> c_int {
    put(to, answer("version".to_string(), |answers| answers.version))
}
unsafe extern "C" fn device_count(to: *mut c_int) -> c_int {
    put(to, answer("count".to_string(), |answers| answers.cards))
}
unsafe extern "C" fn device(to: *mut c_int, index: c_int) -> c_int {
    put(to, index)
}
unsafe extern "C" fn device_name(to: *mut c_char, bytes: c_int, _: c_int) -> c_int {
    let name = c"GeForce RTX 4090".to_bytes_with_nul();
    assert!(name.len() <= bytes as usize);
    // SAFETY: the caller has room for `bytes`.
    unsafe { to.copy_from_nonoverlapping(name.as_ptr().cast(), name.len()) };
    0
}
unsafe extern "C" fn device_memory(to: *mut usize, _: c_int) -> c_int {
    put(to, 24 << 30)
}
unsafe extern "C" fn device_attribute(to: *mut c_int, attribute: c_int, _: c_int) -> c_int {
    put(
        to,
        answer(format!("attribute {attribute}"), |answers| match attribute {
            75 => answers.capability[0],
            76 => answers.capability[1],
            97 => 99 << 10,
            other => panic!("attribute {other}"),
        }),
    )
}
unsafe extern "C" fn retain_context(to: *mut Handle, _: c_int) -> c_int {
    answer("retain".to_string(), |_| ());
    handle(to)
}
unsafe extern "C" fn release_context(_: c_int) -> c_int {
    answer("release".to_string(), |_| 0)
}
unsafe extern "C" fn set_context(_: Handle) -> c_int {
    0
}
unsafe extern "C" fn synchronize() -> c_int {
    answer("synchronize".to_string(), |answers| answers.synchronize)
}
unsafe extern "C" fn error_text(error: c_int, to: *mut *const c_char) -> c_int {
    put(to, if error == 719 { c"unspecified launch failure".as_ptr() } else { std::ptr::null() })
}
unsafe extern "C" fn memory_info(free: *mut usize, all: *mut usize) -> c_int {
    put(free, 20 << 30) + put(all, 24 << 30)
}
unsafe extern "C" fn allocate(to: *mut u64, bytes: usize) -> c_int {
    put(to, 1 << 32);
    answer(format!("allocate {bytes}"), |answers| answers.allocate)
}
unsafe extern "C" fn free(address: u64) -> c_int {
    answer(format!("free {address}"), |_| 0)
}
unsafe extern "C" fn fill(_: u64, _: u8, _: usize) -> c_int {
    0
}
unsafe extern "C" fn fill_on(_: u64, _: u8, _: usize, _: Handle) -> c_int {
    0
}
unsafe extern "C" fn copy_in(_: u64, _: *const c_void, _: usize) -> c_int {
    0
}
unsafe extern "C" fn copy_out(_: *mut c_void, _: u64, _: usize) -> c_int {
    answer("copy out".to_string(), |answers| answers.synchronize)
}
unsafe extern "C" fn copy_in_on(_: u64, _: *const c_void, _: usize, _: Handle) -> c_int {
    0
}
unsafe extern "C" fn copy_out_on(_: *mut c_void, _: u64, _: usize, _: Handle) -> c_int {
    0
}
unsafe extern "C" fn pin(to: *mut Handle, bytes: usize, _: c_uint) -> c_int {
    answer(format!("pin {bytes}"), |_| ());
    handle(to)
}
unsafe extern "C" fn unpin(_: Handle) -> c_int {
    answer("unpin".to_string(), |_| 0)
}
unsafe extern "C" fn load_module(to: *mut Handle, _: *const c_void) -> c_int {
    answer("load module".to_string(), |_| ());
    handle(to)
}
unsafe extern "C" fn unload_module(_: Handle) -> c_int {
    answer("unload module".to_string(), |_| 0)
}
unsafe extern "C" fn function(to: *mut Handle, _: Handle, _: *const c_char) -> c_int {
    answer("get function".to_string(), |_| ());
    handle(to)
}
unsafe extern "C" fn set_function(_: Handle, attribute: c_int, value: c_int) -> c_int {
    answer(format!("set function {attribute} {value}"), |_| 0)
}
unsafe extern "C" fn launch(
    _: Handle,
    x: c_uint,
    y: c_uint,
    z: c_uint,
    threads: c_uint,
    _: c_uint,
    _: c_uint,
    shared: c_uint,
    _: Handle,
    arguments: *mut *mut c_void,
    _: *mut *mut c_void,
) -> c_int {
    // SAFETY: the test launches with one argument of four bytes.
    let first = unsafe { arguments.read().cast::<u32>().read_unaligned() };
    answer(format!("launch {x} {y} {z} {threads} {shared} {first}"), |answers| answers.launch)
}
unsafe extern "C" fn make_stream(to: *mut Handle, _: c_uint) -> c_int {
    handle(to)
}
unsafe extern "C" fn drop_stream(_: Handle) -> c_int {
    answer("drop stream".to_string(), |_| 0)
}
unsafe extern "C" fn make_event(to: *mut Handle, _: c_uint) -> c_int {
    handle(to)
}
unsafe extern "C" fn drop_event(_: Handle) -> c_int {
    answer("drop event".to_string(), |_| 0)
}
unsafe extern "C" fn record(_: Handle, _: Handle) -> c_int {
    0
}
unsafe extern "C" fn wait(_: Handle, _: Handle, _: c_uint) -> c_int {
    0
}
unsafe extern "C" fn begin_capture(_: Handle, mode: c_int) -> c_int {
    answer(format!("begin capture {mode}"), |_| 0)
}
unsafe extern "C" fn end_capture(_: Handle, to: *mut Handle) -> c_int {
    handle(to);
    answer("end capture".to_string(), |answers| answers.capture)
}
unsafe extern "C" fn make_graph(to: *mut Handle, _: Handle, _: *mut Handle, _: *mut c_char, room: usize) -> c_int {
    assert_eq!(room, 0);
    answer("make graph".to_string(), |_| ());
    handle(to)
}
unsafe extern "C" fn drop_recipe(_: Handle) -> c_int {
    answer("drop recipe".to_string(), |_| 0)
}
unsafe extern "C" fn launch_graph(_: Handle, _: Handle) -> c_int {
    answer("launch graph".to_string(), |answers| answers.launch)
}
unsafe extern "C" fn drop_graph(_: Handle) -> c_int {
    answer("drop graph".to_string(), |_| 0)
}

const LIBRARY: Library = Library {
    init,
    version,
    device_count,
    device,
    device_name,
    device_memory,
    device_attribute,
    retain_context,
    release_context,
    set_context,
    synchronize,
    error_text,
    memory_info,
    allocate,
    free,
    fill,
    fill_on,
    copy_in,
    copy_out,
    copy_in_on,
    copy_out_on,
    pin,
    unpin,
    load_module,
    unload_module,
    function,
    set_function,
    launch,
    make_stream,
    drop_stream,
    make_event,
    drop_event,
    record,
    wait,
    begin_capture,
    end_capture,
    make_graph,
    drop_recipe,
    launch_graph,
    drop_graph,
};

#[test]
fn a_driver_from_before_the_kernels_ptx() {
    let error = initialise(&with(Answers { version: 10_020, ..GOOD })).expect_err("too old");
    let (found, least) = (Version { major: 10, minor: 2 }, Version { major: 11, minor: 0 });
    assert_eq!(error, DriverError::TooOld { found, least });
    assert!(error.to_string().contains("speaks CUDA 10.2, and 11.0 is needed; update NVIDIA's driver"), "{error}");
    assert_eq!(asked("init"), 0, "an old driver is not asked for more");
}

#[test]
fn a_driver_without_a_card() {
    let error = initialise(&with(Answers { init: 100, ..GOOD })).expect_err("no card");
    assert_eq!(error, DriverError::NoCard { index: 0, count: 0 });
    let error = RealDriver::open(with(Answers { cards: 2, ..GOOD }), 2).err().expect("there are 0 and 1");
    assert!(error.to_string().contains("no CUDA card number 2: the driver sees 2"), "{error}");
    let broken = initialise(&with(Answers { init: 804, ..GOOD })).expect_err("broken");
    assert!(matches!(broken, DriverError::Missing { .. }), "{broken}");
}

#[test]
fn a_card_that_kernels_do_not_run_on() {
    let error = RealDriver::open(with(Answers { capability: [7, 5], ..GOOD }), 0).err().expect("Turing");
    let text = error.to_string();
    assert!(text.contains("GeForce RTX 4090 has compute capability 7.5") && text.contains("--device cpu"), "{text}");
    assert_eq!(asked("retain"), 0, "no context was made");
}

#[test]
fn cards_are_listed() {
    let listed = cards(&with(Answers { cards: 2, ..GOOD })).expect("two");
    assert_eq!(listed.len(), 2);
    assert_eq!((listed[0].capability, listed[0].memory_bytes, listed[0].shared_bytes), ([8, 9], 24 << 30, 99 << 10));
    assert!(cards(&with(Answers { cards: 0, ..GOOD })).expect("none").is_empty());
}

#[test]
fn memory_that_is_not_there() {
    let driver = RealDriver::open(with(Answers { allocate: 2, ..GOOD }), 0).expect("opens");
    assert_eq!(driver.allocate(1 << 40), Err(DriverError::OutOfMemory { bytes: 1 << 40 }));
}

#[test]
fn a_card_that_is_lost_in_a_run() {
    let driver = RealDriver::open(with(Answers { synchronize: 719, ..GOOD }), 0).expect("opens");
    let error = driver.synchronize().expect_err("lost");
    assert_eq!(error, DriverError::Lost { problem: "unspecified launch failure (error 719)".to_string() });
    assert!(error.to_string().contains("resume from the last save"), "{error}");
    assert!(matches!(driver.read(1 << 32, &mut [0; 4]), Err(DriverError::Lost { .. })));
}

#[test]
fn what_is_made_is_given_back_and_large_shared_memory_is_asked_for_once() {
    let driver = RealDriver::open(with(GOOD), 0).expect("opens");
    let stream = driver.stream().expect("a stream");
    driver.event().expect("an event");
    driver.pin(4096).expect("pinned");
    let function = driver.function("m", "ptx", "k", 1024).expect("a function");
    assert_eq!(asked("set function"), 0);
    assert_eq!(driver.function("m", "ptx", "k", 64 << 10), Ok(function));
    assert_eq!(driver.function("m", "ptx", "k", 64 << 10), Ok(function));
    assert_eq!((asked("set function 8 65536"), asked("load module"), asked("get function")), (1, 1, 1));
    assert!(driver.function("m", "ptx", "k", 100 << 10).is_err(), "more than a block of this card has");
    let arguments = vec![7u32.to_le_bytes().to_vec()];
    let work = Work { function, grid: [3, 2, 1], threads: 128, shared_bytes: 64, arguments, touches: Vec::new() };
    driver.launch(stream, &work).expect("launches");
    assert_eq!(asked("launch 3 2 1 128 64 7"), 1);
    drop(driver);
    for call in ["drop stream", "drop event", "unpin", "unload module", "release"] {
        assert_eq!(asked(call), 1, "{call}");
    }
}

#[test]
fn a_graph_is_made_once_launched_and_given_back() {
    let driver = RealDriver::open(with(GOOD), 0).expect("opens");
    let stream = driver.stream().expect("a stream");
    driver.begin_capture(stream).expect("begins");
    let graph = driver.end_capture(stream).expect("a graph");
    driver.launch_graph(stream, graph).expect("launches");
    driver.launch_graph(stream, graph).expect("launches");
    // Mode 1 leaves other threads alone.
    let count = |calls: [&str; 4]| calls.map(asked);
    assert_eq!(count(["begin capture 1", "make graph", "drop recipe", "launch graph"]), [1, 1, 1, 2]);
    drop(driver);
    assert_eq!(asked("drop graph"), 1);
    // `CUDA_ERROR_STREAM_CAPTURE_UNJOINED`.
    let driver = RealDriver::open(with(Answers { capture: 904, ..GOOD }), 0).expect("opens");
    let stream = driver.stream().expect("a stream");
    assert!(matches!(driver.end_capture(stream), Err(DriverError::Failed { call: "cuStreamEndCapture", .. })));
    assert_eq!(asked("make graph"), 0);
}

thread_local! {
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn compiling_kernels_is_said_once_and_only_if_it_takes_time() {
    let tell = |sentence: &str| SAID.with_borrow_mut(|said| said.push(sentence.to_string()));
    for (patience, times) in [(Duration::ZERO, 1), (Duration::MAX, 0)] {
        SAID.take();
        let driver = RealDriver::open(with(GOOD), 0).expect("opens").with_notice(Notice { tell, patience });
        driver.function("m", "ptx", "k", 0).expect("a function");
        driver.function("n", "ptx", "k", 0).expect("a function");
        let said = SAID.take();
        assert_eq!(said.len(), times, "{said:?}");
        assert!(said.iter().all(|sentence| sentence.starts_with("compiling kernels for GeForce RTX 4090")), "{said:?}");
    }
}

#[test]
fn a_machine_without_a_driver() {
    // Where there is one, there is nothing to see here.
    if let Err(error) = remat_cuda::driver::real::initialised() {
        let text = error.to_string();
        assert!(text.contains("--device cpu") || text.contains("update NVIDIA's driver"), "{text}");
    }
}
