//! The comm queue: a thread that does what ranks do together, in order, while kernels run.
//!
//! Method: the compute thread hands over each collective when as many kernels have run as its plan step waits for, and waits for
//! collectives by count. Invariants: when nobody runs a program, none is under way; they run in the order of the plan, which is
//! the same on every rank.

use super::dispatch;
use super::resolve::Program;
use super::resolved_step::ResolvedStep;
use crate::{Level, ThreadPool};
use remat_ir::Node;
use remat_plan::{DeviceError, Queue};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// What ranks do together in one step.
pub(super) struct Collective {
    pub(super) step: ResolvedStep,
    pub(super) node: Node,
    /// How many kernels have to have run before.
    pub(super) after: u32,
}

// SAFETY: the pointers lead into the arena and into sources, which outlive every run; the plan's checker has proved that no
// kernel touches those bytes while the collective is under way.
unsafe impl Send for Collective {}
// SAFETY: as above; it is never changed.
unsafe impl Sync for Collective {}

/// What a program's ranks do together.
#[derive(Default)]
pub(super) struct Collectives {
    pub(super) all: Vec<Arc<Collective>>,
    /// How many of them each step waits for.
    awaited: Vec<u32>,
}

impl Collectives {
    /// Takes the steps that are on the comm queue out of a program.
    pub(super) fn taken_from(program: &mut Program) -> Self {
        let (plan, steps) = (&program.plan, &mut program.steps);
        let (mut kernels, mut collectives) = (0, Collectives::default());
        // How many steps of its own queue have run when a step has.
        let mut count: Vec<u32> = Vec::with_capacity(plan.steps.len());
        for (index, step) in plan.steps.iter().enumerate() {
            let of_queue = |queue| {
                let waits = step.waits.iter().filter(move |wait| plan.steps[wait.index()].queue == queue);
                waits.map(|wait| count[wait.index()]).max().unwrap_or(0)
            };
            let (after, awaited) = (of_queue(Queue::Compute), of_queue(Queue::Comm));
            let taken = if step.queue == Queue::Comm { steps[index].take() } else { None };
            if let Some(step) = taken {
                let node = plan.graph.node(step.op).clone();
                collectives.all.push(Arc::new(Collective { step, node, after }));
            }
            kernels += u32::from(step.queue == Queue::Compute);
            count.push(if step.queue == Queue::Comm { collectives.all.len() as u32 } else { kernels });
            collectives.awaited.push(if step.queue == Queue::Compute { awaited } else { 0 });
        }
        collectives
    }
}

/// The thread, and what is said to it and by it.
pub(super) struct CommQueue {
    orders: Option<SyncSender<Arc<Collective>>>,
    done: Receiver<Result<(), DeviceError>>,
    thread: Option<JoinHandle<()>>,
}

impl CommQueue {
    /// For programs of `most` collectives each at most.
    ///
    /// # Errors
    /// A system without threads.
    pub(super) fn start(most: usize, level: Level) -> Result<Self, DeviceError> {
        let ((orders, ordered), (told, done)) = (sync_channel::<Arc<Collective>>(most), sync_channel(most));
        let serve = move || {
            let pool = ThreadPool::with_level(1, level);
            for collective in ordered {
                let ran = dispatch::run_node(&pool, &collective.node, &collective.step);
                if told.send(ran).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("remat-comm".to_string()).spawn(serve);
        let thread = thread.map_err(|error| DeviceError::CopyThread { problem: error.to_string() })?;
        Ok(CommQueue { orders: Some(orders), done, thread: Some(thread) })
    }

    /// A run of a program begins. Where it is watched, each collective runs at its step, and nothing beside it.
    pub(super) fn run<'a>(&'a self, collectives: &'a Collectives, watched: bool) -> CommRun<'a> {
        let mut run = CommRun { queue: self, collectives, watched, begun: 0, ended: 0 };
        run.allow(0);
        run
    }
}

impl Drop for CommQueue {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // What it may have panicked of, whoever waited was told by the channel.
            drop(thread.join());
        }
    }
}

/// The collectives of one run.
pub(super) struct CommRun<'a> {
    queue: &'a CommQueue,
    collectives: &'a Collectives,
    watched: bool,
    begun: usize,
    ended: usize,
}

impl CommRun<'_> {
    /// So many kernels have run: what waits for no more is begun.
    pub(super) fn allow(&mut self, kernels: u32) {
        let is_due = |run: &Self| run.collectives.all.get(run.begun).is_some_and(|next| next.after <= kernels);
        while !self.watched && is_due(self) {
            self.begin();
        }
    }

    /// Before a step of the plan: waits for what it waits for.
    ///
    /// # Errors
    /// A collective that failed.
    pub(super) fn before(&mut self, step: usize, is_collective: bool) -> Result<(), DeviceError> {
        if self.watched && is_collective {
            self.begin();
            return self.wait();
        }
        self.wait_for(self.collectives.awaited[step] as usize)
    }

    fn begin(&mut self) {
        if let Some(next) = self.collectives.all.get(self.begun) {
            // A thread that is no more is told of by the wait.
            drop(self.queue.orders.as_ref().map(|orders| orders.send(Arc::clone(next))));
            self.begun += 1;
        }
    }

    /// Waits for all that have begun.
    ///
    /// # Errors
    /// As [`CommRun::before`].
    pub(super) fn wait(&mut self) -> Result<(), DeviceError> {
        self.wait_for(self.begun)
    }

    fn wait_for(&mut self, count: usize) -> Result<(), DeviceError> {
        while self.ended < count {
            self.ended += 1;
            let ended =
                || DeviceError::Failed { problem: "the thread that moves bytes between ranks has ended".to_string() };
            self.queue.done.recv().map_err(|_| ended())??;
        }
        Ok(())
    }
}

impl Drop for CommRun<'_> {
    /// However a run ends, none is under way behind it.
    fn drop(&mut self) {
        while self.ended < self.begun {
            drop(self.wait());
        }
    }
}
