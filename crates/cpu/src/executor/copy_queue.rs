//! The copy queue: a thread that moves values between the arena and a spill file while kernels run.
//!
//! Method: the thread walks a program's copies in order; each begins when as many kernels have run as its plan step waits
//! for, and the compute thread waits for copies in the same way, by count. Invariants: a run allocates nothing; the file is
//! reserved in full at load, so that a disk which is too small is an error before the first step, and it has no name, so
//! that nothing is left behind however the process ends. When nobody runs a program, no copy is under way.

use super::memory::Region;
use super::reserved_file::{PIECE_BYTES, nameless_file, refusal, reserve};
use super::uncached_file::UncachedFile;
use super::weights_file::{BOUNCE_BYTES, FilePlace, WeightFiles, no_folder};
use remat_ir::{Storage, ValueId};
use remat_plan::{Action, BufferId, DeviceError, FileRange, Place, Plan, Queue, SpillPrices};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// What measuring writes and reads.
const MEASURED_BYTES: u64 = 32 << 20;

/// What a copy copies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moved {
    /// A value out of the arena, to here in the spill file.
    Out(u64),
    /// A value back, from here in the spill file.
    Back(u64),
    /// A weight or a state, from here in the files of weights and states.
    Weight(FilePlace),
    /// A state back to where it lies.
    Home(FilePlace),
    /// Rows of a weight, by ids.
    Rows {
        /// Where the weight begins.
        at: FilePlace,
        /// Its rows, and the bytes of one.
        rows: usize,
        row_bytes: usize,
        /// An input of as many ids as rows are fetched.
        ids: *const i32,
    },
}

/// One copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer {
    pub(super) moved: Moved,
    /// The bytes of the arena.
    pub(super) start: *mut u8,
    pub(super) bytes: usize,
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
    /// What they need of the spill file.
    pub(super) file_bytes: u64,
}

/// Where weights and states that are not resident lie, and the ids that name rows of them.
pub(super) trait Homes {
    /// The first byte of a weight or a state in its file.
    fn in_file(&self, plan: &Plan, source: ValueId) -> FilePlace;
    /// The elements of an input.
    fn ids(&mut self, plan: &Plan, input: ValueId) -> *const i32;
}

impl Copies {
    /// What it holds of one copy.
    pub(super) const COPY_BYTES: usize = size_of::<Transfer>();

    /// Of a checked plan; `address` gives the bytes of a step's operand or result.
    pub(super) fn of(plan: &Plan, mut address: impl FnMut(BufferId) -> *mut u8, sources: &mut impl Homes) -> Self {
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
            let (value, place, out, rows) = match step.action {
                Action::Evict { value, .. } => (value, step.reads.first(), true, None),
                Action::Fetch { value, rows, .. } => (value, step.writes.first(), false, rows),
                Action::Compute(_) => {
                    kernels += u32::from(step.queue == Queue::Compute);
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
            let (start, after) = (address(*buffer), of_kernels);
            if plan.graph.value(value).storage != Storage::Arena {
                let at = sources.in_file(plan, value);
                let moved = match rows {
                    None if out => Moved::Home(at),
                    None => Moved::Weight(at),
                    Some(ids) => {
                        let (ty, count) = (plan.graph.ty(value), plan.graph.ty(ids).shape.numel());
                        let row_bytes = bytes / count.max(1);
                        Moved::Rows { at, rows: ty.shape.rows(), row_bytes, ids: sources.ids(plan, ids) }
                    }
                };
                transfers.push(Transfer { moved, start, bytes, after });
                continue;
            }
            let at = *homes.entry(value).or_insert_with(|| {
                let at = file_bytes;
                file_bytes += bytes as u64;
                at
            });
            let moved = if out { Moved::Out(at) } else { Moved::Back(at) };
            transfers.push(Transfer { moved, start, bytes, after });
        }
        Copies { transfers: Arc::new(transfers), awaited, file_bytes }
    }
}

/// What the thread copies to and from.
struct Files {
    spill: Option<File>,
    folder: PathBuf,
    weights: Option<Arc<WeightFiles>>,
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
    failure: Option<DeviceError>,
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

/// The thread and its files.
pub(super) struct CopyQueue {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl CopyQueue {
    /// With a spill file of `bytes` in a folder, if there are any, and the files of weights if there are such.
    ///
    /// # Errors
    /// A folder that cannot be written to, or has no room.
    pub(super) fn start(
        folder: Option<&Path>,
        bytes: u64,
        weights: Option<Arc<WeightFiles>>,
    ) -> Result<Self, DeviceError> {
        let spill = match (bytes, folder) {
            (0, _) => None,
            (_, None) => return Err(no_folder()),
            (_, Some(folder)) => {
                let file = nameless_file(folder).and_then(|file| reserve(&file, bytes).map(|()| file));
                Some(file.map_err(|error| refusal(folder, bytes, &error))?)
            }
        };
        let files = Files { spill, folder: folder.map(Path::to_path_buf).unwrap_or_default(), weights };
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("remat-copy".to_string()).spawn(move || serve(&of_thread, &files));
        let thread = thread.map_err(|error| DeviceError::CopyThread { problem: error.to_string() })?;
        Ok(CopyQueue { shared, thread: Some(thread) })
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
                return Err(error);
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
fn serve(shared: &Shared, files: &Files) {
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
        let done = transfer.carry_out(files);
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
    fn carry_out(&self, files: &Files) -> Result<(), DeviceError> {
        let of_spill = |done: io::Result<()>| {
            let (folder, problem) = (|| files.folder.display().to_string(), |error: io::Error| error.to_string());
            done.map_err(|error| DeviceError::Spill { folder: folder(), problem: problem(error) })
        };
        let spill = || files.spill.as_ref().ok_or_else(no_folder);
        if let Moved::Out(at) = self.moved {
            // SAFETY: the bytes are in the arena, initialised, and no kernel writes them until this copy is awaited.
            let bytes = unsafe { std::slice::from_raw_parts(self.start, self.bytes) };
            return of_spill(spill()?.write_all_at(bytes, at));
        }
        let weights = || files.weights.as_ref().ok_or_else(no_folder);
        if let Moved::Home(at) = self.moved {
            // SAFETY: as above.
            let bytes = unsafe { std::slice::from_raw_parts(self.start, self.bytes) };
            let files = weights()?;
            return files.write(at, bytes).map_err(|error| files.failed(at, &error));
        }
        // SAFETY: the bytes are in the arena, and no kernel touches them until this copy is awaited.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) };
        match self.moved {
            Moved::Weight(at) => {
                let weights = weights()?;
                weights.read(at, bytes).map_err(|error| weights.failed(at, &error))
            }
            Moved::Rows { at, rows, row_bytes, ids } => {
                // SAFETY: an input of as many ids as rows fit the buffer, which is not written while a program runs.
                let ids = unsafe { std::slice::from_raw_parts(ids, self.bytes / row_bytes.max(1)) };
                let weights = weights()?;
                read_rows(weights, (at, rows), ids, bytes).map_err(|error| weights.failed(at, &error))
            }
            Moved::Back(at) | Moved::Out(at) => of_spill(spill()?.read_exact_at(bytes, at)),
            Moved::Home(_) => Ok(()),
        }
    }
}

/// Reads the rows that ids name, each once for those of it that stand side by side. What names none, the kernel refuses.
fn read_rows(files: &WeightFiles, (at, rows): (FilePlace, usize), ids: &[i32], into: &mut [u8]) -> io::Result<()> {
    let row_bytes = into.len() / ids.len().max(1);
    let mut before: Option<(usize, i32)> = None;
    for (index, &id) in ids.iter().enumerate() {
        let Some(row) = usize::try_from(id).ok().filter(|&row| row < rows) else { continue };
        let to = index * row_bytes;
        match before.filter(|&(_, last)| last == id) {
            Some((from, _)) => into.copy_within(from..from + row_bytes, to),
            None => {
                let place = FilePlace { at: at.at + (row * row_bytes) as u64, ..at };
                files.read(place, &mut into[to..to + row_bytes])?;
            }
        }
        before = Some((to, id));
    }
    Ok(())
}

/// Bytes per second of a folder's disk, out and back: a file is written and flushed, and read past the page cache. On a
/// disk that has less room than the file takes, what it has.
///
/// # Errors
/// A folder that cannot be written to.
pub fn measure_spill(folder: &Path) -> Result<SpillPrices, DeviceError> {
    measured(folder).map_err(|error| refusal(folder, PIECE_BYTES as u64, &error))
}

/// Bytes per second of a range of a file, read past the page cache; of so much of it as measuring a folder reads, at most.
///
/// # Errors
/// A file that cannot be read.
pub fn measure_reads(range: &FileRange) -> Result<f64, DeviceError> {
    let bytes = range.bytes.min(MEASURED_BYTES);
    let measured =
        range.file.try_clone().and_then(|file| seconds_to_read(&UncachedFile::of(file), range.offset, bytes));
    let failed =
        |error: io::Error| DeviceError::Spill { folder: range.path.display().to_string(), problem: error.to_string() };
    Ok(bytes as f64 / measured.map_err(failed)?.max(1e-9))
}

fn seconds_to_read(file: &UncachedFile, at: u64, bytes: u64) -> io::Result<f64> {
    let mut bounce = Region::new(BOUNCE_BYTES, "measuring a disk").map_err(io::Error::other)?;
    let mut read = vec![0; BOUNCE_BYTES];
    let start = Instant::now();
    for done in (0..bytes).step_by(BOUNCE_BYTES) {
        let count = (bytes - done).min(BOUNCE_BYTES as u64) as usize;
        file.read(bounce.bytes_mut(), at + done, &mut read[..count])?;
    }
    Ok(start.elapsed().as_secs_f64())
}

fn measured(folder: &Path) -> io::Result<SpillPrices> {
    let file = nameless_file(folder)?;
    let piece = vec![0x5a_u8; PIECE_BYTES];
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
    let file = UncachedFile::of(file);
    file.forget();
    drop(piece);
    let reading = seconds_to_read(&file, 0, bytes)?;
    let rate = |seconds: f64| bytes as f64 / seconds.max(1e-9);
    Ok(SpillPrices { write_bytes_per_second: rate(writing), read_bytes_per_second: rate(reading) })
}
