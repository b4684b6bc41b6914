//! The copy queue: a thread that moves values between the arena and a spill file while kernels run.
//!
//! Method: the thread walks a program's copies in order; each begins when as many kernels have run as its plan step waits
//! for, and the compute thread waits for copies in the same way, by count. Invariants: a run allocates nothing; the file is
//! reserved in full at load, so that a disk which is too small is an error before the first step, and it has no name, so
//! that nothing is left behind however the process ends. When nobody runs a program, no copy is under way.

use remat_ir::ValueId;
use remat_plan::{Action, BufferId, DeviceError, Place, Plan, Queue, SpillPrices};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// The file is reserved and measured in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// What measuring writes and reads.
const MEASURED_BYTES: u64 = 32 << 20;

/// One copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer {
    /// Out of the arena, or back into it.
    pub(super) out: bool,
    pub(super) start: *mut u8,
    pub(super) bytes: usize,
    /// Where in the file.
    pub(super) at: u64,
    /// How many kernels have to have run before.
    pub(super) after: u32,
}

// SAFETY: the pointer leads into the arena, which outlives every run; the plan's checker has proved that no kernel
// touches those bytes while the copy is under way.
unsafe impl Send for Transfer {}
// SAFETY: as above; a transfer is never changed.
unsafe impl Sync for Transfer {}

/// The copies of a program, and how many of them each of its steps waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Copies {
    pub(super) transfers: Arc<Vec<Transfer>>,
    pub(super) awaited: Vec<u32>,
    /// What they need of the file.
    pub(super) file_bytes: u64,
}

impl Copies {
    /// What it holds of one copy.
    pub(super) const COPY_BYTES: usize = size_of::<Transfer>();

    /// Of a checked plan; `address` gives the bytes of a step's operand or result.
    pub(super) fn of(plan: &Plan, mut address: impl FnMut(BufferId) -> *mut u8) -> Self {
        let (mut kernels, mut copies) = (0, 0);
        // How many steps of its own queue have run when a step has.
        let mut count: Vec<u32> = Vec::with_capacity(plan.steps.len());
        let mut awaited = Vec::with_capacity(plan.steps.len());
        let mut transfers = Vec::new();
        let mut homes: HashMap<ValueId, u64> = HashMap::new();
        let mut file_bytes = 0;
        for step in &plan.steps {
            let of_queue = |queue| step.waits.iter().filter(move |wait| plan.steps[wait.index()].queue == queue);
            let of_copies = of_queue(Queue::Copy).map(|wait| count[wait.index()]).max().unwrap_or(0);
            let of_kernels = of_queue(Queue::Compute).map(|wait| count[wait.index()]).max().unwrap_or(0);
            let (value, place, out) = match step.action {
                Action::Evict { value, .. } => (value, step.reads.first(), true),
                Action::Fetch { value, .. } => (value, step.writes.first(), false),
                Action::Compute(_) | Action::Collective { .. } => {
                    kernels += 1;
                    count.push(kernels);
                    awaited.push(of_copies);
                    continue;
                }
            };
            copies += 1;
            count.push(copies);
            awaited.push(0);
            let Some(Place::Arena(buffer)) = place else { continue };
            let bytes = plan.buffers[buffer.index()].slot.bytes;
            let at = *homes.entry(value).or_insert_with(|| {
                let at = file_bytes;
                file_bytes += bytes as u64;
                at
            });
            transfers.push(Transfer { out, start: address(*buffer), bytes, at, after: of_kernels });
        }
        Copies { transfers: Arc::new(transfers), awaited, file_bytes }
    }
}

#[derive(Default)]
struct State {
    /// What is to be copied in the present run.
    transfers: Arc<Vec<Transfer>>,
    kernels: u32,
    copied: u32,
    /// How many copies may be made at most, however many kernels have run.
    most: u32,
    /// The run was given up.
    abandoned: bool,
    /// A copy is being made.
    busy: bool,
    quit: bool,
    failure: Option<io::Error>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is a few counters, which are right at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread and its file.
pub(super) struct CopyQueue {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    folder: PathBuf,
}

impl CopyQueue {
    /// With a file of `bytes` in a folder.
    ///
    /// # Errors
    /// A folder that cannot be written to, or has no room.
    pub(super) fn start(folder: &Path, bytes: u64) -> Result<Self, DeviceError> {
        let file = nameless_file(folder).and_then(|file| reserve(&file, bytes).map(|()| file));
        let file = file.map_err(|error| refusal(folder, bytes, &error))?;
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("remat-copy".to_string()).spawn(move || serve(&of_thread, &file));
        let thread = thread.map_err(|error| DeviceError::CopyThread { problem: error.to_string() })?;
        Ok(CopyQueue { shared, thread: Some(thread), folder: folder.to_path_buf() })
    }

    /// A run of a program begins.
    pub(super) fn begin(&self, copies: &Copies) {
        let mut state = self.shared.lock();
        (state.kernels, state.copied, state.most, state.abandoned) = (0, 0, 0, false);
        state.transfers = Arc::clone(&copies.transfers);
        self.shared.changed.notify_all();
    }

    /// So many kernels of the run are done; of the copies that wait for no more than these, the first `most` may be made.
    pub(super) fn allow(&self, kernels: u32, most: u32) {
        let mut state = self.shared.lock();
        (state.kernels, state.most) = (kernels, most);
        let next = state.transfers.get(state.copied as usize);
        // Most kernels allow nothing new, and waking the thread costs more than asking.
        if !state.busy && next.is_some_and(|next| next.after <= kernels) {
            self.shared.changed.notify_all();
        }
    }

    /// Waits until so many copies of the run are done.
    ///
    /// # Errors
    /// A copy that failed.
    pub(super) fn wait_for(&self, copies: u32) -> Result<(), DeviceError> {
        let mut state = self.shared.lock();
        while state.copied < copies {
            if let Some(error) = state.failure.take() {
                return Err(DeviceError::Spill {
                    folder: self.folder.display().to_string(),
                    problem: error.to_string(),
                });
            }
            state = self.shared.wait(state);
        }
        Ok(())
    }

    /// Ends a run: no copy is begun any more, and none is under way when this returns.
    pub(super) fn abandon(&self) {
        let mut state = self.shared.lock();
        state.abandoned = true;
        state.transfers = Arc::default();
        while state.busy {
            state = self.shared.wait(state);
        }
        state.failure = None;
    }
}

impl Drop for CopyQueue {
    fn drop(&mut self) {
        self.shared.lock().quit = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It cannot panic; and if it did, there is nothing left to do for it.
            drop(thread.join());
        }
    }
}

/// What the thread does.
fn serve(shared: &Shared, file: &File) {
    let mut state = shared.lock();
    loop {
        if state.quit {
            return;
        }
        let next = state.transfers.get(state.copied as usize).copied();
        let allowed = !state.abandoned && state.failure.is_none() && state.copied < state.most;
        let due = next.filter(|next| allowed && next.after <= state.kernels);
        let Some(transfer) = due else {
            state = shared.wait(state);
            continue;
        };
        state.busy = true;
        drop(state);
        let done = transfer.carry_out(file);
        state = shared.lock();
        state.busy = false;
        match done {
            Ok(()) => state.copied += 1,
            Err(error) => state.failure = Some(error),
        }
        shared.changed.notify_all();
    }
}

impl Transfer {
    fn carry_out(&self, file: &File) -> io::Result<()> {
        if self.out {
            // SAFETY: the bytes are in the arena, initialised, and no kernel writes them until this copy is awaited.
            let bytes = unsafe { std::slice::from_raw_parts(self.start, self.bytes) };
            file.write_all_at(bytes, self.at)
        } else {
            // SAFETY: the bytes are in the arena, and no kernel touches them until this copy is awaited.
            let bytes = unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) };
            file.read_exact_at(bytes, self.at)
        }
    }
}

/// Why a folder will not do.
fn refusal(folder: &Path, bytes: u64, error: &io::Error) -> DeviceError {
    let (folder, problem) = (folder.display().to_string(), error.to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            DeviceError::NoSpillSpace { folder, bytes, problem }
        }
        _ => DeviceError::BadSpillFolder { folder, problem },
    }
}

/// A file in a folder that never had a name, or, where the file system cannot do that, loses it at once.
fn nameless_file(folder: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let nameless = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(folder);
        match nameless {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT)) => {}
            other => return other,
        }
    }
    let path = folder.join(format!(".remat-spill-{}-{:?}", std::process::id(), std::thread::current().id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Makes room for the whole file: asks the file system for it; where that cannot promise any, writes it once.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let length = libc::off_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        // SAFETY: the descriptor is open; no memory is involved.
        let refused = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } != 0;
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EINTR) if refused => {}
            _ if refused => return Err(error),
            _ => return Ok(()),
        }
    }
    let piece = vec![0_u8; PIECE_BYTES];
    let mut at = 0;
    while at < bytes {
        let length = (bytes - at).min(PIECE_BYTES as u64);
        file.write_all_at(&piece[..length as usize], at)?;
        at += length;
    }
    Ok(())
}

/// Bytes per second of a folder's disk, out and back: a file is written and flushed, dropped from the cache, and read. On a
/// disk that has less room than the file takes, what it has.
///
/// # Errors
/// A folder that cannot be written to.
pub fn measure_spill(folder: &Path) -> Result<SpillPrices, DeviceError> {
    measured(folder).map_err(|error| refusal(folder, PIECE_BYTES as u64, &error))
}

fn measured(folder: &Path) -> io::Result<SpillPrices> {
    let file = nameless_file(folder)?;
    let mut piece = vec![0x5a_u8; PIECE_BYTES];
    let mut bytes = 0;
    let start = Instant::now();
    while bytes < MEASURED_BYTES {
        match file.write_all_at(&piece, bytes) {
            Err(error) if bytes == 0 => return Err(error),
            Err(_) => break,
            Ok(()) => bytes += PIECE_BYTES as u64,
        }
    }
    file.sync_data()?;
    let writing = start.elapsed().as_secs_f64();
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is open; the call only advises.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }
    let start = Instant::now();
    for at in (0..bytes).step_by(PIECE_BYTES) {
        file.read_exact_at(&mut piece, at)?;
    }
    let rate = |seconds: f64| bytes as f64 / seconds.max(1e-9);
    Ok(SpillPrices {
        write_bytes_per_second: rate(writing),
        read_bytes_per_second: rate(start.elapsed().as_secs_f64()),
    })
}
