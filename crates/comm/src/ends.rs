//! The end of another process of this host, told at the moment it ends: between every two ranks there is a socket, and the
//! kernel closes a process's sockets before it tells whoever started it. A launcher that then kills all ranks is slower than
//! the word of one of them to a file.
//!
//! Invariants: who connects shows a word that only ranks know, so that nobody else's connection says anything; where there
//! are no such sockets, ends are noticed by looking (`neighbour`) or by silence. Threads here end with their process.

use crate::neighbour::Neighbour;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

/// Which ranks have ended.
pub(crate) struct Ends {
    ended: Vec<AtomicBool>,
    /// Told of one, by the thread that notices: there is no time to wake another.
    on_end: Box<dyn Fn(usize) + Send + Sync>,
    /// Woken when one does.
    watch: Thread,
}

impl Ends {
    /// Of `size` ranks; `on_end` is told when one ends, then the calling thread is woken.
    pub(crate) fn new(size: usize, on_end: Box<dyn Fn(usize) + Send + Sync>) -> Arc<Self> {
        let ended = (0..size).map(|_| AtomicBool::new(false)).collect();
        Arc::new(Ends { ended, on_end, watch: thread::current() })
    }

    /// Whether a rank has ended.
    pub(crate) fn has_ended(&self, rank: usize) -> bool {
        self.ended[rank].load(Ordering::Acquire)
    }

    /// Joins this rank, `mine`, by `listener` to the higher ranks of this host, and to the lower ones by theirs.
    pub(crate) fn join(self: &Arc<Self>, mine: usize, listener: Listener, neighbours: &[Option<Neighbour>]) {
        let Listener { socket, word } = listener;
        let ends = Arc::clone(self);
        drop(spawn(move || {
            for stream in socket.incoming().flatten() {
                let (ends, word) = (Arc::clone(&ends), word.clone());
                drop(spawn(move || ends.accepted(stream, &word)));
            }
        }));
        for (rank, neighbour) in neighbours.iter().enumerate().take(mine) {
            let joined = neighbour.as_ref().map(|neighbour| connected(neighbour, mine));
            if let Some(Ok(stream)) = joined {
                let ends = Arc::clone(self);
                drop(spawn(move || ends.wait_for(rank, stream)));
            }
        }
    }

    /// A connection that says which rank it is of.
    fn accepted(&self, mut stream: UnixStream, word: &str) {
        let (mut shown, mut rank) = (vec![0; word.len()], [0; size_of::<u32>()]);
        let read = stream.read_exact(&mut shown).and_then(|()| stream.read_exact(&mut rank));
        let rank = u32::from_le_bytes(rank) as usize;
        if read.is_ok() && shown == word.as_bytes() && rank < self.ended.len() {
            self.wait_for(rank, stream);
        }
    }

    /// Nothing more is sent, so what comes is the end.
    fn wait_for(&self, rank: usize, mut stream: UnixStream) {
        let mut nothing = [0];
        while stream.read(&mut nothing).is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {}
        (self.on_end)(rank);
        self.ended[rank].store(true, Ordering::Release);
        self.watch.unpark();
    }
}

fn spawn(what: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    const STACK_BYTES: usize = 1 << 16;
    thread::Builder::new().name("ranks' ends".to_string()).stack_size(STACK_BYTES).spawn(what)
}

/// Where higher ranks connect to.
pub(crate) struct Listener {
    socket: UnixListener,
    word: String,
}

impl Listener {
    /// Of this process.
    pub(crate) fn of(this: &Neighbour) -> io::Result<Self> {
        Ok(Listener { socket: UnixListener::bind_addr(&address(this)?)?, word: this.word().to_string() })
    }
}

fn address(neighbour: &Neighbour) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("remat-rank-{}", neighbour.number()))
}

fn connected(neighbour: &Neighbour, mine: usize) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect_addr(&address(neighbour)?)?;
    stream.write_all(neighbour.word().as_bytes())?;
    stream.write_all(&(mine as u32).to_le_bytes())?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_end_is_told_and_a_stranger_says_nothing() {
        let this = Neighbour::this().expect("a process");
        let listener = Listener::of(&this).expect("a socket");
        let ends = Ends::new(3, Box::new(|rank| assert_eq!(rank, 2)));
        ends.join(0, listener, &[None, None, None]);
        let mut stranger = UnixStream::connect_addr(&address(&this).expect("a name")).expect("joined");
        stranger.write_all(&[b'x'; 16]).and_then(|()| stranger.write_all(&1u32.to_le_bytes())).expect("sent");
        drop(stranger);
        let rank = connected(&this, 2).expect("joined");
        thread::park_timeout(Duration::from_millis(20));
        assert!(!ends.has_ended(1) && !ends.has_ended(2));
        drop(rank);
        while !ends.has_ended(2) {
            thread::park_timeout(Duration::from_secs(10));
        }
        assert!(!ends.has_ended(1));
    }
}
