//! A thread that watches the other ranks: every second each says that it is there, and the processes of this host are looked
//! at besides, so that the end of a rank is known at once.
//!
//! Invariants: MPI is called by one thread at a time; signs of life have a tag of their own, and all that are sent are received
//! before MPI ends, since a rank leaves when every other has said that it leaves; nothing is waited for with the turn taken.

use crate::ends::{Ends, Listener};
use crate::engine::OnFailure;
use crate::error::CommError;
use crate::liveness::{BEAT, Liveness};
use crate::neighbour::Neighbour;
use mpi::point_to_point::Status;
use mpi::request::{Request, StaticScope};
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::{Destination, Source};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a process ends with where no error of its own says more.
pub(crate) const FAILED: u8 = 1;

/// What marks a sign of life.
const SIGN_TAG: i32 = 2;

/// Signs: a rank is there, or leaves.
static SIGNS: [u8; 2] = [0, 1];
const LEAVES: usize = 1;

/// How often processes of this host are looked at. A launcher ends all ranks when one has ended, and who is left has to
/// say before that which it was.
const LOOK: Duration = Duration::from_millis(10);

/// How often signs are listened for, in looks.
const LOOKS_PER_LISTENING: u64 = 10;

/// How long the turn is waited for by a rank that gives up.
const LAST_TURN: Duration = Duration::from_secs(1);

/// What a rank's threads share.
#[derive(Default)]
pub(crate) struct Shared {
    turn: Mutex<()>,
    on_failure: Mutex<OnFailures>,
    leaves: AtomicBool,
}

/// Who is told of what ends all ranks.
#[derive(Default)]
struct OnFailures {
    tell: Vec<OnFailure>,
    /// The first error is told, and no other.
    is_told: bool,
}

impl Shared {
    /// The turn to call MPI.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `tell` told, too, of what ends all ranks.
    pub(crate) fn on_failure(&self, tell: OnFailure) {
        self.on_failure.lock().unwrap_or_else(PoisonError::into_inner).tell.push(tell);
    }

    /// Has the watch say that this rank leaves.
    pub(crate) fn leave(&self) {
        self.leaves.store(true, Ordering::Release);
    }

    /// Tells of an error that ends all ranks, unless one was told.
    fn tell(&self, error: &CommError) {
        let mut told = self.on_failure.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut told.is_told, true) {
            // Files first: a launcher may be about to end this process.
            told.tell.iter().rev().for_each(|tell| tell(error));
        }
    }

    /// A rank's process has ended. It may do so only when this rank has said that it leaves, too.
    fn ended(&self, rank: usize) {
        if !self.leaves.load(Ordering::Acquire) {
            self.tell(&CommError::Gone { rank });
        }
    }

    /// Tells of the error, and ends all ranks.
    pub(crate) fn give_up(&self, world: &SimpleCommunicator, error: &CommError) -> ! {
        self.tell(error);
        self.abort(world, FAILED)
    }

    /// Ends all ranks.
    pub(crate) fn abort(&self, world: &SimpleCommunicator, exit_code: u8) -> ! {
        let began = Instant::now();
        // A thread that does not come back from MPI is no reason to stay.
        let _turn = loop {
            match self.turn.try_lock() {
                Ok(turn) => break Some(turn),
                Err(_) if began.elapsed() > LAST_TURN => break None,
                Err(_) => thread::sleep(LOOK),
            }
        };
        world.abort(i32::from(exit_code))
    }
}

/// Where other ranks of this host connect to, if there is such a thing here.
pub(crate) fn listener(this: &Neighbour) -> Option<Listener> {
    Listener::of(this).ok()
}

/// Watches the other ranks until all leave; does not come back from a rank that is no more.
pub(crate) fn watch(
    shared: &Arc<Shared>,
    neighbours: Vec<Option<Neighbour>>,
    listener: Option<Listener>,
    silence: Duration,
) {
    let world = SimpleCommunicator::world();
    let size = world.size() as usize;
    let told = Arc::clone(shared);
    let ends = Ends::new(size, Box::new(move |rank| told.ended(rank)));
    if let Some(listener) = listener {
        ends.join(world.rank() as usize, listener, &neighbours);
    }
    let mut watch = Watch {
        shared,
        mine: world.rank() as usize,
        sent: (0..size).map(|_| Sent::default()).collect(),
        liveness: Liveness::new(size, silence),
        neighbours,
        ends,
        world,
    };
    let mut beats = Instant::now();
    watch.send(0);
    for look in 0u64.. {
        let seen = watch.look();
        if look.is_multiple_of(LOOKS_PER_LISTENING) {
            watch.listen();
        }
        let beaten = match beats.elapsed() > BEAT {
            true => {
                beats = Instant::now();
                watch.send(0);
                watch.liveness.beat(watch.mine)
            }
            false => Ok(()),
        };
        if let Err(error) = seen.and(beaten) {
            shared.give_up(&watch.world, &error);
        }
        if watch.is_done() {
            return;
        }
        thread::park_timeout(LOOK);
    }
}

/// What was sent to another rank.
#[derive(Default)]
struct Sent {
    /// The last sign, until it is sent.
    under_way: Option<Request<'static, u8, StaticScope>>,
    /// Whether it was told that this rank leaves.
    is_told: bool,
}

struct Watch<'a> {
    shared: &'a Shared,
    world: SimpleCommunicator,
    mine: usize,
    neighbours: Vec<Option<Neighbour>>,
    ends: Arc<Ends>,
    liveness: Liveness,
    /// By rank.
    sent: Vec<Sent>,
}

impl Watch<'_> {
    /// The processes of this host.
    fn look(&mut self) -> Result<(), CommError> {
        for (rank, neighbour) in self.neighbours.iter().enumerate() {
            let is_gone =
                neighbour.as_ref().is_some_and(|neighbour| self.ends.has_ended(rank) || !neighbour.is_running());
            if is_gone && !self.liveness.has_left(rank) {
                // It may have said so before it ended.
                self.listen();
                return if self.liveness.has_left(rank) { Ok(()) } else { Err(CommError::Gone { rank }) };
            }
        }
        Ok(())
    }

    /// Receives all signs that are there.
    fn listen(&mut self) {
        let _turn = self.shared.turn();
        while let Some((message, _)) = self.world.any_process().immediate_matched_probe_with_tag(SIGN_TAG) {
            let (sign, status): (u8, Status) = message.matched_receive();
            let from = status.source_rank() as usize;
            self.liveness.heard(from);
            if sign == SIGNS[LEAVES] {
                self.liveness.left(from);
            }
        }
    }

    /// Sends a sign to every rank that has taken the one before it, and was not told that this one leaves.
    fn send(&mut self, sign: usize) {
        let _turn = self.shared.turn();
        for (rank, other) in self.sent.iter_mut().enumerate().filter(|(rank, _)| *rank != self.mine) {
            other.under_way = other.under_way.take().and_then(|sent| sent.test().err());
            if other.under_way.is_none() && !other.is_told {
                let process = self.world.process_at_rank(rank as i32);
                other.under_way = Some(process.immediate_send_with_tag(StaticScope, &SIGNS[sign], SIGN_TAG));
                other.is_told = sign == LEAVES;
            }
        }
    }

    /// Whether this rank leaves, all others know, and they leave too.
    fn is_done(&mut self) -> bool {
        if !self.shared.leaves.load(Ordering::Acquire) {
            return false;
        }
        self.send(LEAVES);
        let mut others = self.sent.iter().enumerate().filter(|(rank, _)| *rank != self.mine);
        self.liveness.have_left(self.mine) && others.all(|(_, other)| other.is_told && other.under_way.is_none())
    }
}
