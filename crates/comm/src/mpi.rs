//! MPI as the engine: Open MPI, MPICH or a vendor's, launched by its own `mpirun`, by `srun` or by an operator.
//!
//! Invariants: only point-to-point messages are used, so no order of a reduction is MPI's; a wait tests and sleeps, since a
//! library that spins takes a core away from the ranks beside it; a message is sent in pieces that a C `int` can count.

use crate::engine::{Engine, Incoming, Outgoing};
use crate::error::CommError;
use crate::launcher::Launched;
use mpi::environment::Universe;
use mpi::request::{Request, Scope, scope};
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::{Destination, Equivalence, Source};
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

/// The longest piece of a message.
const PIECE_BYTES: usize = 1 << 30;

/// How long a wait sleeps at first, and at most, before it looks again.
const SLEEPS: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(1)];

/// What a process ends with whose ranks do not answer.
const UNANSWERED: i32 = 1;

/// This process's rank of an MPI program.
pub struct MpiEngine {
    world: SimpleCommunicator,
    host: String,
    deadline: Duration,
    /// Told of what ends this process while messages are under way.
    on_failure: Box<dyn Fn(&CommError)>,
    /// MPI ends when this is dropped, so it is the last field.
    _universe: Universe,
}

impl fmt::Debug for MpiEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MpiEngine").field("rank", &self.rank()).field("size", &self.size()).finish_non_exhaustive()
    }
}

impl MpiEngine {
    /// Starts MPI; `None` where this is the only process. No wait is longer than `deadline`. Messages that are under way
    /// cannot be taken back: where one is not answered, `on_failure` is told and all processes are ended.
    ///
    /// # Errors
    /// MPI that was started before, or that sees other processes than the launcher started.
    pub fn start(
        launched: Option<Launched>,
        deadline: Duration,
        on_failure: Box<dyn Fn(&CommError)>,
    ) -> Result<Option<MpiEngine>, CommError> {
        let universe = mpi::initialize();
        let universe =
            universe.ok_or_else(|| CommError::NotStarted { problem: "it runs in this process already".to_string() })?;
        let world = universe.world();
        let seen = world.size() as usize;
        if let Some(Launched { launcher, size: started, .. }) = launched.filter(|launched| launched.size != seen) {
            return Err(CommError::OtherEngine { launcher, launched: started, seen });
        }
        let host = mpi::environment::processor_name();
        let host = host.map_err(|error| CommError::NotStarted { problem: error.to_string() })?;
        let engine = MpiEngine { world, host, deadline, on_failure, _universe: universe };
        Ok((seen > 1).then_some(engine))
    }

    /// Waits until all of it is sent and received.
    fn wait_for<'a, S: Scope<'a>>(&self, mut under_way: Vec<UnderWay<'a, S>>, began: Instant) -> Result<(), CommError> {
        let (mut sleep, mut refused) = (SLEEPS[0], None);
        while !under_way.is_empty() {
            let mut still = Vec::with_capacity(under_way.len());
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
            under_way = still;
            let waited = began.elapsed();
            match under_way.first() {
                Some(first) if waited > self.deadline => {
                    self.give_up(&CommError::TimedOut { rank: first.rank, waited })
                }
                Some(_) => thread::sleep(sleep),
                None => {}
            }
            sleep = SLEEPS[1].min(2 * sleep);
        }
        refused.map_or(Ok(()), Err)
    }

    fn give_up(&self, error: &CommError) -> ! {
        (self.on_failure)(error);
        self.world.abort(UNANSWERED)
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
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
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
            let process = |rank: usize| self.world.process_at_rank(rank as i32);
            let mut under_way = Vec::with_capacity(receives.len() + sends.len());
            for (rank, piece) in receives {
                let expected = Some(piece.len());
                let request = process(rank).immediate_receive_into(scope, piece);
                under_way.push(UnderWay { rank, expected, request });
            }
            for (rank, piece) in sends {
                let request = process(rank).immediate_send(scope, piece);
                under_way.push(UnderWay { rank, expected: None, request });
            }
            self.wait_for(under_way, began)
        })
    }

    fn abandon(&self, exit_code: u8) {
        self.world.abort(i32::from(exit_code))
    }
}
