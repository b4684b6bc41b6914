//! What an engine does: it knows the ranks, and moves bytes between them.

use crate::CommError;
use std::fmt::Debug;

/// Bytes for another rank.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The rank that receives them.
    pub to: usize,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Room for bytes of another rank.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The rank that sends them.
    pub from: usize,
    /// Where they go; as many as are sent.
    pub bytes: &'a mut [u8],
}

/// What is told of the error that ends all ranks.
pub type OnFailure = Box<dyn Fn(&CommError) + Send>;

/// A rank's end of what connects all ranks. One thread at a time calls it: messages between two ranks are told apart by their order.
pub trait Engine: Debug + Send + Sync {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// The name of this rank's host. Ranks of one name share a machine.
    fn host(&self) -> &str;

    /// Sends and receives messages, all of them at once; between two ranks they arrive in the order in which they were
    /// sent. Returns when all are received and the memory of those sent is free again.
    ///
    /// # Errors
    /// A rank that has ended, that does not answer before the deadline, or whose message has another length.
    fn exchange(&self, outgoing: &[Outgoing<'_>], incoming: &mut [Incoming<'_>]) -> Result<(), CommError>;

    /// Has `tell` told, too, of an error that this engine finds while nobody waits for it, before it ends the process; one that
    /// returns all its errors has none to tell.
    fn on_failure(&self, tell: OnFailure);

    /// Says that this rank has failed, so that no other waits for it: a process whose engine can say so only by its end is
    /// ended with this exit code.
    fn abandon(&self, exit_code: u8);
}
