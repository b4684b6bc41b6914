//! An engine whose ranks are threads of one process, to test what ranks do together.
//!
//! Invariant: a rank whose engine is dropped has ended, and whoever waits for it is told at once.

use crate::engine::{Engine, Incoming, Outgoing};
use crate::error::CommError;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What all ranks share.
#[derive(Debug)]
struct Shared {
    mail: Mutex<Mail>,
    changed: Condvar,
    size: usize,
}

#[derive(Debug)]
struct Mail {
    /// Messages that are under way, by sender and receiver.
    messages: Vec<VecDeque<Vec<u8>>>,
    ended: Vec<bool>,
}

impl Shared {
    /// A thread that panicked has left whole messages behind, or none.
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One rank of some threads.
#[derive(Debug)]
pub struct ThreadEngine {
    shared: Arc<Shared>,
    rank: usize,
    host: String,
    deadline: Duration,
}

impl ThreadEngine {
    /// `size` ranks on one host, none of which waits longer than `deadline`.
    pub fn ranks(size: usize, deadline: Duration) -> Vec<ThreadEngine> {
        let messages = (0..size * size).map(|_| VecDeque::new()).collect();
        let mail = Mutex::new(Mail { messages, ended: vec![false; size] });
        let shared = Arc::new(Shared { mail, changed: Condvar::new(), size });
        let host = "localhost";
        let rank = |rank| ThreadEngine { shared: Arc::clone(&shared), rank, host: host.to_string(), deadline };
        (0..size).map(rank).collect()
    }

    /// The same rank on a host of another name.
    pub fn on_host(mut self, host: &str) -> Self {
        self.host = host.to_string();
        self
    }

    fn receive(&self, from: usize, bytes: &mut [u8], began: Instant) -> Result<(), CommError> {
        let Shared { changed, size, .. } = &*self.shared;
        let mut mail = self.shared.mail();
        let message = loop {
            if let Some(message) = mail.messages[from * size + self.rank].pop_front() {
                break message;
            }
            if mail.ended[from] {
                return Err(CommError::Gone { rank: from });
            }
            let waited = began.elapsed();
            let Some(left) = self.deadline.checked_sub(waited) else {
                return Err(CommError::TimedOut { rank: from, waited });
            };
            mail = changed.wait_timeout(mail, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        if message.len() != bytes.len() {
            return Err(CommError::Length { from, sent: message.len(), expected: bytes.len() });
        }
        bytes.copy_from_slice(&message);
        Ok(())
    }
}

impl Engine for ThreadEngine {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.size
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn exchange(&self, outgoing: &[Outgoing<'_>], incoming: &mut [Incoming<'_>]) -> Result<(), CommError> {
        let began = Instant::now();
        {
            let mut mail = self.shared.mail();
            for Outgoing { to, bytes } in outgoing {
                mail.messages[self.rank * self.shared.size + to].push_back(bytes.to_vec());
            }
        }
        self.shared.changed.notify_all();
        incoming.iter_mut().try_for_each(|Incoming { from, bytes }| self.receive(*from, bytes, began))
    }

    fn abandon(&self, _exit_code: u8) {
        self.shared.mail().ended[self.rank] = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for ThreadEngine {
    fn drop(&mut self) {
        self.abandon(0);
    }
}
