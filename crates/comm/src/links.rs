//! What joins the ranks, measured: how fast bytes go from one to another and how long the first of them takes.
//!
//! Method: one pair after the other, while the rest waits, exchanges a message in both directions at once, a few times; the
//! fastest counts, as whatever else the machines do only slows. Invariant: every rank comes to the same table.

use crate::collectives::{barrier, gather_all};
use crate::engine::{Engine, Incoming, Outgoing};
use crate::error::CommError;
use std::time::Instant;

/// What a pair exchanges to be measured.
#[derive(Debug, Clone, Copy)]
pub struct LinkProbe {
    /// At a time, in each direction.
    bytes: usize,
    /// How often; the first time connections are made.
    times: usize,
    /// How often a single byte.
    short: usize,
}

impl LinkProbe {
    /// As good as it gets.
    pub const THOROUGH: LinkProbe = LinkProbe { bytes: 8 << 20, times: 4, short: 16 };

    /// For a start that must not wait.
    pub const QUICK: LinkProbe = LinkProbe { bytes: 1 << 17, times: 2, short: 4 };
}

/// What joins two ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// The lower rank.
    pub from: usize,
    /// The higher rank.
    pub to: usize,
    /// In each direction, while both carry something.
    pub bytes_per_second: f64,
    /// Of an exchange of a byte.
    pub seconds: f64,
}

/// Measures what joins every two ranks. All of them call it.
///
/// # Errors
/// As [`Engine::exchange`].
pub fn measure_links(engine: &dyn Engine, probe: LinkProbe) -> Result<Vec<Link>, CommError> {
    let (rank, size) = (engine.rank(), engine.size());
    let pairs: Vec<(usize, usize)> = (0..size).flat_map(|from| (from + 1..size).map(move |to| (from, to))).collect();
    let mut mine: Vec<u8> = Vec::new();
    for &(from, to) in &pairs {
        barrier(engine)?;
        if rank == from || rank == to {
            let other = from + to - rank;
            let long = fastest(engine, other, probe.bytes, probe.times)?;
            let short = fastest(engine, other, 1, probe.short)?;
            if rank == from {
                mine.extend([probe.bytes as f64 / long, short].iter().flat_map(|number| number.to_le_bytes()));
            }
        }
    }
    let all = gather_all(engine, &mine)?;
    let number = |rank: usize, index: usize| {
        let bytes = all[rank].chunks_exact(size_of::<f64>()).nth(index).expect("two numbers of each pair");
        f64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    };
    let link = |&(from, to): &(usize, usize)| {
        let index = 2 * (to - from - 1);
        Link { from, to, bytes_per_second: number(from, index), seconds: number(from, index + 1) }
    };
    Ok(pairs.iter().map(link).collect())
}

/// Seconds of the fastest of so many exchanges with another rank.
fn fastest(engine: &dyn Engine, other: usize, bytes: usize, times: usize) -> Result<f64, CommError> {
    let (sent, mut received) = (vec![0; bytes], vec![0; bytes]);
    let mut fastest = f64::INFINITY;
    for _ in 0..times {
        let began = Instant::now();
        let mut incoming = [Incoming { from: other, bytes: &mut received }];
        engine.exchange(&[Outgoing { to: other, bytes: &sent }], &mut incoming)?;
        fastest = fastest.min(began.elapsed().as_secs_f64());
    }
    // A clock may not tell so short a time from none.
    Ok(fastest.max(1e-9))
}
