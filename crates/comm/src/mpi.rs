//! MPI as the engine: Open MPI, MPICH or a vendor's, launched by its own `mpirun`, by `srun` or by an operator.
//!
//! Invariants: only point-to-point messages are used, so no order of a reduction is MPI's; a wait tests and sleeps, since a
//! library that spins takes a core away from the ranks beside it; a message is sent in pieces that a C `int` can count, and
//! that leave room between them for signs of life. Look next at `mpi_watch`, which notices a rank that is no more.

use crate::collectives::gather_all;
use crate::engine::{Engine, Incoming, OnFailure, Outgoing};
use crate::error::CommError;
use crate::launcher::Launched;
use crate::mpi_watch::{FAILED, Shared, listener, watch};
use crate::neighbour::Neighbour;
use mpi::Threading;
use mpi::environment::Universe;
use mpi::request::{Request, Scope, scope};
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::{Destination, Equivalence, Source};
use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The longest piece of a message.
const PIECE_BYTES: usize = 1 << 26;

/// What marks a message that `exchange` sends.
const DATA_TAG: i32 = 1;

/// How long a wait sleeps at first, and at most, before it looks again.
const SLEEPS: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(1)];

/// How long ranks may be.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long a rank may be silent: each says every second that it is there, whatever it computes, reads or writes.
    pub silence: Duration,
    /// How long a rank that is there may be waited for.
    pub progress: Duration,
}

/// This process's rank of an MPI program.
pub struct MpiEngine {
    rank: usize,
    size: usize,
    host: String,
    progress: Duration,
    shared: Arc<Shared>,
    watch: Option<JoinHandle<()>>,
    /// MPI ends when this is dropped, so it is the last field.
    _universe: Universe,
}

impl fmt::Debug for MpiEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MpiEngine").field("rank", &self.rank()).field("size", &self.size()).finish_non_exhaustive()
    }
}

/// All ranks. The handle is made anew by each thread that needs it.
fn world() -> SimpleCommunicator {
    SimpleCommunicator::world()
}

impl MpiEngine {
    /// Starts MPI; `None` where this is the only process. Messages that are under way cannot be taken back: where a rank has
    /// ended or is silent, what [`Engine::on_failure`] was given is told, and all processes are ended.
    ///
    /// # Errors
    /// MPI that was started before, that cannot be called by two threads in turn, or that sees other processes than the
    /// launcher started; a rank that does not answer.
    pub fn start(launched: Option<Launched>, patience: Patience) -> Result<Option<MpiEngine>, CommError> {
        let not_started = |problem: &str| CommError::NotStarted { problem: problem.to_string() };
        let started = mpi::initialize_with_threading(Threading::Serialized);
        let (universe, threading) = started.ok_or_else(|| not_started("it runs in this process already"))?;
        let world = universe.world();
        let seen = world.size() as usize;
        if let Some(Launched { launcher, size: started, .. }) = launched.filter(|launched| launched.size != seen) {
            return Err(CommError::OtherEngine { launcher, launched: started, seen });
        }
        if seen == 1 {
            return Ok(None);
        }
        if threading < Threading::Serialized {
            return Err(not_started("it was built for processes of one thread"));
        }
        let host = mpi::environment::processor_name().map_err(|error| not_started(&error.to_string()))?;
        let (shared, progress, rank) = (Arc::new(Shared::default()), patience.progress, world.rank() as usize);
        let mut engine = MpiEngine { rank, size: seen, host, progress, shared, watch: None, _universe: universe };
        engine.watch = Some(engine.watched(patience.silence)?);
        Ok(Some(engine))
    }

    /// Begins to watch the other ranks.
    fn watched(&self, silence: Duration) -> Result<JoinHandle<()>, CommError> {
        let this = Neighbour::this();
        let listener = this.as_ref().and_then(listener);
        let all = gather_all(self, this.map_or_else(String::new, |this| this.to_text()).as_bytes())?;
        let seen = |(rank, text): (usize, &Vec<u8>)| {
            let text = (rank != self.rank()).then(|| String::from_utf8_lossy(text))?;
            Neighbour::seen(&text)
        };
        let neighbours = all.iter().enumerate().map(seen).collect();
        let shared = Arc::clone(&self.shared);
        let watching = thread::Builder::new().name("ranks".to_string());
        let watching = watching.spawn(move || watch(&shared, neighbours, listener, silence));
        watching.map_err(|error| CommError::NotStarted { problem: format!("no thread beside it: {error}") })
    }

    /// Waits until all of it is sent and received.
    fn wait_for<'a, S: Scope<'a>>(&self, mut under_way: Vec<UnderWay<'a, S>>, began: Instant) -> Result<(), CommError> {
        let (mut sleep, mut refused) = (SLEEPS[0], None);
        while !under_way.is_empty() {
            let mut still = Vec::with_capacity(under_way.len());
            let turn = self.shared.turn();
            for UnderWay { rank, expected, request } in under_way.drain(..) {
                match request.test() {
                    Err(request) => still.push(UnderWay { rank, expected, request }),
                    Ok(status) => {
                        let sent = status.count(u8::equivalent_datatype()) as usize;
                        if let Some(expected) = expected.filter(|&expected| expected != sent) {
                            refused.get_or_insert(CommError::Length { from: rank, sent, expected });
                        }
                        sleep = SLEEPS[0];
                    }
                }
            }
            drop(turn);
            under_way = still;
            let waited = began.elapsed();
            match under_way.first() {
                Some(first) if waited > self.progress => {
                    self.shared.give_up(&world(), &CommError::TimedOut { rank: first.rank, waited })
                }
                Some(_) => thread::sleep(sleep),
                None => {}
            }
            sleep = SLEEPS[1].min(2 * sleep);
        }
        refused.map_or(Ok(()), Err)
    }
}

/// A piece of a message that is sent or received.
struct UnderWay<'a, S: Scope<'a>> {
    /// The other side.
    rank: usize,
    /// How many bytes are to be received; `None` of what is sent.
    expected: Option<usize>,
    request: Request<'a, [u8], S>,
}

impl Engine for MpiEngine {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn exchange(&self, outgoing: &[Outgoing<'_>], incoming: &mut [Incoming<'_>]) -> Result<(), CommError> {
        let began = Instant::now();
        // Memory that MPI writes to or reads from has to outlive the scope of its requests.
        let (mut receives, mut sends) = (Vec::new(), Vec::new());
        for Incoming { from, bytes } in incoming.iter_mut() {
            receives.extend(bytes.chunks_mut(PIECE_BYTES).map(|piece| (*from, piece)));
        }
        for Outgoing { to, bytes } in outgoing {
            sends.extend(bytes.chunks(PIECE_BYTES).map(|piece| (*to, piece)));
        }
        scope(move |scope| {
            let world = world();
            let process = |rank: usize| world.process_at_rank(rank as i32);
            let mut under_way = Vec::with_capacity(receives.len() + sends.len());
            let turn = self.shared.turn();
            for (rank, piece) in receives {
                let expected = Some(piece.len());
                let request = process(rank).immediate_receive_into_with_tag(scope, piece, DATA_TAG);
                under_way.push(UnderWay { rank, expected, request });
            }
            for (rank, piece) in sends {
                let request = process(rank).immediate_send_with_tag(scope, piece, DATA_TAG);
                under_way.push(UnderWay { rank, expected: None, request });
            }
            drop(turn);
            self.wait_for(under_way, began)
        })
    }

    fn on_failure(&self, tell: OnFailure) {
        self.shared.on_failure(tell);
    }

    fn abandon(&self, exit_code: u8) {
        self.shared.abort(&world(), exit_code)
    }
}

impl Drop for MpiEngine {
    /// Leaves when all other ranks do.
    fn drop(&mut self) {
        if thread::panicking() {
            self.abandon(FAILED);
        }
        self.shared.leave();
        if let Some(watch) = self.watch.take()
            && watch.join().is_err()
        {
            self.abandon(FAILED);
        }
    }
}
