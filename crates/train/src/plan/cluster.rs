//! Ranks, hosts and what joins them, as `remat plan` is told of them; and what an update costs between them.
//!
//! Method: the course of `ranks::rounds`, byte by byte: per round an all-to-all of the gradients of its micro-batches, after the
//! last one a gather of the updated parameters, and before that one of a few sums for the norm. Ranks are laid on hosts one after the other, as evenly as can be. Between ranks of a host
//! bytes are copied in memory, between hosts they go over each host's link, in both directions at once; the slowest host is
//! waited for. Invariant: counts are exact, as `testkit/tests/ranks.rs` holds them to what an engine moves; only times are
//! estimates.

use crate::TrainError;
use crate::plan::part_seconds::PartSeconds;
use remat_formats::SettingName;
use remat_ir::OpClass;
use remat_plan::Prices;
use remat_step::Shards;
use serde::Serialize;
use std::str::FromStr;

/// How fast a link is, in bytes a second, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct LinkSpeed(pub f64);

/// Units of [`LinkSpeed`], and the bytes a second of one.
const UNITS: [(&str, f64); 6] = [
    ("Gbit/s", 1e9 / 8.0),
    ("Mbit/s", 1e6 / 8.0),
    ("GiB/s", (1u64 << 30) as f64),
    ("MiB/s", (1u64 << 20) as f64),
    ("GB/s", 1e9),
    ("MB/s", 1e6),
];

impl FromStr for LinkSpeed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of = |(unit, bytes): (&str, f64)| {
            let number = text.strip_suffix(unit)?.trim().parse::<f64>().ok()?;
            Some(number * bytes).filter(|speed| speed.is_finite() && *speed >= 1.0)
        };
        let speed = UNITS.into_iter().find_map(of);
        speed.map(LinkSpeed).ok_or_else(|| "expects a speed such as 10Gbit/s, 100Mbit/s or 1.2GB/s".to_string())
    }
}

/// Ranks that train together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cluster {
    ranks: usize,
    hosts: usize,
    link: Option<LinkSpeed>,
}

impl Cluster {
    /// So many ranks on hosts that are joined by links of a speed.
    ///
    /// # Errors
    /// None of them, more hosts than ranks, hosts that nothing joins.
    pub fn new(ranks: usize, hosts: usize, link: Option<LinkSpeed>) -> Result<Self, TrainError> {
        let refused = |key, problem: String| Err(TrainError::BadFlag { key, problem });
        if ranks == 0 {
            return refused("ranks", "0: must be at least 1".to_string());
        }
        if hosts == 0 || hosts > ranks {
            return refused("hosts", format!("{hosts}: must be from 1 to the {ranks} of ranks"));
        }
        if hosts > 1 && link.is_none() {
            return refused("hosts", format!("{hosts}: say what joins them, such as link 10Gbit/s"));
        }
        Ok(Cluster { ranks, hosts, link })
    }

    /// How many ranks there are.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.hosts
    }

    /// How many ranks the fullest host has.
    pub fn ranks_of_host(&self) -> usize {
        self.ranks.div_ceil(self.hosts)
    }

    /// The ranks of a host, one after the other.
    fn ranks_on(&self, host: usize) -> std::ops::Range<usize> {
        let (each, more) = (self.ranks / self.hosts, self.ranks % self.hosts);
        let first = |host: usize| each * host + host.min(more);
        first(host)..first(host + 1)
    }

    /// What an update of so many micro-batches moves, whose parameters are shared out so.
    pub fn traffic(&self, shards: &Shards, micro_batches: usize) -> Traffic {
        let Cluster { ranks, hosts, .. } = *self;
        let of = |of_rank: &dyn Fn(usize) -> usize| (0..ranks).map(|rank| of_rank(rank) as u64).collect::<Vec<_>>();
        let (elements, blocks) = (of(&|rank| shards.elements(rank)), of(&|rank| shards.blocks(rank)));
        let host_of: Vec<usize> = (0..hosts).flat_map(|host| self.ranks_on(host).map(move |_| host)).collect();
        let rounds = micro_batches.div_ceil(ranks);
        let mut traffic = Traffic {
            rounds,
            sent_bytes: vec![0; ranks],
            out_bytes: vec![0; hosts],
            in_bytes: vec![0; hosts],
            norm_bytes: blocks.iter().map(|blocks| SUM_BYTES * blocks * (ranks as u64 - 1)).collect(),
            waits: Vec::new(),
        };
        for round in 0..rounds {
            let senders = ranks.min(micro_batches - round * ranks);
            traffic.add(&host_of, senders, &|_, to| ELEMENT_BYTES * elements[to]);
        }
        traffic.add(&host_of, ranks, &|from, _| SUM_BYTES * blocks[from]);
        traffic.add(&host_of, ranks, &|from, _| ELEMENT_BYTES * elements[from]);
        traffic
    }

    /// Seconds of all exchanges of an update, with memory that copies so many bytes a second.
    pub fn seconds(&self, traffic: &Traffic, copied_per_second: f64) -> f64 {
        let link = self.link.map_or(f64::INFINITY, |LinkSpeed(speed)| speed);
        let of = |wait: &Wait| wait.link_bytes as f64 / link + COPIES * wait.memory_bytes as f64 / copied_per_second;
        traffic.waits.iter().map(of).sum()
    }
}

const ELEMENT_BYTES: u64 = size_of::<f32>() as u64;

/// Of a block's sum of squares.
const SUM_BYTES: u64 = size_of::<f64>() as u64;

/// A message between ranks of a host is read and written twice: into memory that both see, and out of it.
const COPIES: f64 = 4.0;

/// What is waited for in one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    /// The most that crosses the link of a host in one direction.
    link_bytes: u64,
    /// The most that is moved within a host.
    memory_bytes: u64,
}

/// What an update moves between ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// Rounds of micro-batches.
    pub rounds: usize,
    /// What each rank sends.
    pub sent_bytes: Vec<u64>,
    /// What leaves each host.
    pub out_bytes: Vec<u64>,
    /// What comes to each host.
    pub in_bytes: Vec<u64>,
    /// What each rank sends for the norm of the gradients.
    pub norm_bytes: Vec<u64>,
    waits: Vec<Wait>,
}

impl Traffic {
    /// Adds an exchange in which each of the first `senders` ranks sends `bytes(from, to)` to every other.
    fn add(&mut self, host_of: &[usize], senders: usize, bytes: &dyn Fn(usize, usize) -> u64) {
        let hosts = self.out_bytes.len();
        let (mut out, mut inwards, mut within) = (vec![0; hosts], vec![0; hosts], vec![0; hosts]);
        for from in 0..senders {
            for to in (0..host_of.len()).filter(|to| *to != from) {
                let bytes = bytes(from, to);
                self.sent_bytes[from] += bytes;
                if host_of[from] == host_of[to] {
                    within[host_of[from]] += bytes;
                } else {
                    out[host_of[from]] += bytes;
                    inwards[host_of[to]] += bytes;
                }
            }
        }
        let most = |bytes: &[u64]| bytes.iter().copied().max().unwrap_or(0);
        self.waits.push(Wait { link_bytes: most(&out).max(most(&inwards)), memory_bytes: most(&within) });
        self.out_bytes.iter_mut().zip(&out).for_each(|(sum, bytes)| *sum += bytes);
        self.in_bytes.iter_mut().zip(&inwards).for_each(|(sum, bytes)| *sum += bytes);
    }
}

/// What an update is, for one rank.
pub(crate) struct UpdateWork<'a> {
    pub(crate) micro_batches: usize,
    pub(crate) shards: &'a Shards,
    /// But for what moves.
    pub(crate) seconds: PartSeconds,
    /// Of a process that trains alone.
    pub(crate) alone: PartSeconds,
    /// What a rank holds at its peak.
    pub(crate) peak_bytes: usize,
}

/// A run on several ranks, as planned.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RanksPlan {
    /// Ranks.
    pub ranks: usize,
    /// Hosts.
    pub hosts: usize,
    /// Ranks of the fullest host.
    pub ranks_of_host: usize,
    /// Peak of the fullest host: that of its ranks together.
    pub host_peak_bytes: usize,
    /// Rounds of an update: micro-batches over ranks.
    pub rounds: usize,
    /// What the rank that sends most sends in an update.
    pub sent_bytes: u64,
    /// What crosses the busiest link of a host in an update, in its busier direction.
    pub link_bytes: u64,
    /// Seconds of the micro-steps, of what adds up and of the optimizer.
    pub compute_seconds: f64,
    /// Seconds of the exchanges, if nothing were computed meanwhile.
    pub exchange_seconds: f64,
    /// How many updates are made in the time in which one such rank alone makes one.
    pub speedup: f64,
    /// What would be better.
    pub advice: Vec<String>,
    /// All that moves.
    #[serde(skip)]
    pub traffic: Traffic,
}

/// The share of an update that exchanges may take before something better is looked for.
const LARGE_SHARE: f64 = 0.1;

impl RanksPlan {
    /// Of updates of such work on these ranks.
    pub(crate) fn of(cluster: &Cluster, work: &UpdateWork<'_>, prices: &Prices) -> Self {
        let UpdateWork { micro_batches, shards, seconds, alone, peak_bytes } = *work;
        let traffic = cluster.traffic(shards, micro_batches);
        let copied_per_second = prices.rate(OpClass::Copy).bytes_per_second;
        let compute_seconds = seconds.of_update(traffic.rounds);
        let exchange_seconds = cluster.seconds(&traffic, copied_per_second);
        let most = |bytes: &[u64]| bytes.iter().copied().max().unwrap_or(0);
        let mut plan = RanksPlan {
            ranks: cluster.ranks,
            hosts: cluster.hosts,
            ranks_of_host: cluster.ranks_of_host(),
            host_peak_bytes: cluster.ranks_of_host() * peak_bytes,
            rounds: traffic.rounds,
            sent_bytes: most(&traffic.sent_bytes),
            link_bytes: most(&traffic.out_bytes).max(most(&traffic.in_bytes)),
            compute_seconds,
            exchange_seconds,
            speedup: alone.of_update(micro_batches) / (compute_seconds + exchange_seconds),
            advice: Vec::new(),
            traffic,
        };
        plan.advice = plan.found_advice(cluster, micro_batches, cluster.seconds(&plan.traffic, f64::INFINITY));
        plan
    }

    /// `on_link` are the seconds of the exchanges between hosts.
    fn found_advice(&self, cluster: &Cluster, micro_batches: usize, on_link: f64) -> Vec<String> {
        let (grad_accum, batch_size) = (SettingName("grad-accum"), SettingName("batch-size"));
        let mut advice = Vec::new();
        let idle = self.rounds * self.ranks - micro_batches;
        if idle > 0 {
            let whole = self.rounds * self.ranks;
            let what = if micro_batches < self.ranks { "ranks" } else { "ranks of the last round" };
            advice
                .push(format!("{grad_accum} {whole}: with {micro_batches}, {idle} of the {} {what} wait", self.ranks));
        }
        let step_seconds = self.compute_seconds + self.exchange_seconds;
        let share = self.exchange_seconds / step_seconds;
        if share > LARGE_SHARE {
            let percent = 100.0 * share;
            advice.push(format!(
                "a larger {batch_size} with as many tokens to an update: exchanges take {percent:.0} % of it, and are as many as \
                 there are rounds"
            ));
            if let Some(LinkSpeed(speed)) = cluster.link.filter(|_| cluster.hosts > 1) {
                let allowed =
                    LARGE_SHARE / (1.0 - LARGE_SHARE) * self.compute_seconds - (self.exchange_seconds - on_link);
                if allowed > 0.0 {
                    let needed = 8e-9 * speed * on_link / allowed;
                    advice.push(format!("links of {needed:.1} Gbit/s: exchanges would take a tenth of an update"));
                }
            }
        }
        advice
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remat_ir::{Parameter, ParameterKind, Type, ValueId};
    use remat_tensor::DType;

    #[test]
    fn speeds_have_units() {
        for (text, speed) in [("10Gbit/s", 1.25e9), ("100Mbit/s", 1.25e7), ("1.2GB/s", 1.2e9), ("2 MiB/s", 2097152.0)] {
            assert_eq!(text.parse(), Ok(LinkSpeed(speed)), "{text}");
        }
        for text in ["10", "Gbit/s", "-1GB/s", "0GB/s", "infGB/s", "10Gb/s", "nanGB/s"] {
            assert!(text.parse::<LinkSpeed>().is_err(), "{text}");
        }
    }

    fn shards(lengths: &[usize], ranks: usize) -> Shards {
        let parameter = |(index, &length): (usize, &usize)| Parameter {
            name: format!("p{index}"),
            ty: Type::new(DType::F32, [length]),
            kind: ParameterKind::Base,
            has_working_copy: false,
            decay: false,
            gated_by: None,
            value: ValueId(0),
            gradient: ValueId(0),
        };
        Shards::of(&lengths.iter().enumerate().map(parameter).collect::<Vec<_>>(), ranks)
    }

    #[test]
    fn every_shard_of_every_micro_batch_moves_once_and_every_parameter_to_all() {
        let link = Some(LinkSpeed(1e9));
        for (ranks, hosts, lengths, micro_batches) in [
            (1, 1, &[10_usize][..], 4),
            (2, 2, &[10, 5000], 4),
            (3, 2, &[4096 * 5 + 7, 3], 4),
            (4, 2, &[13; 6], 5),
            (5, 5, &[3], 2),
        ] {
            let cluster = Cluster::new(ranks, hosts, link).expect("a cluster");
            let shards = shards(lengths, ranks);
            let traffic = cluster.traffic(&shards, micro_batches);
            let sent = |rank: usize| {
                let gradients = (0..micro_batches).filter(|micro| micro % ranks == rank).count();
                let (own, all) = (shards.elements(rank), lengths.iter().sum::<usize>());
                let to_all = 4 * own + 8 * shards.blocks(rank);
                (4 * gradients * (all - own) + (ranks - 1) * to_all) as u64
            };
            assert_eq!(traffic.sent_bytes, (0..ranks).map(sent).collect::<Vec<_>>());
            assert_eq!(traffic.out_bytes.iter().sum::<u64>(), traffic.in_bytes.iter().sum::<u64>());
            if hosts == ranks {
                assert_eq!(traffic.out_bytes, traffic.sent_bytes, "all of it crosses a link");
            }
            assert_eq!(traffic.rounds, micro_batches.div_ceil(ranks));
        }
    }

    #[test]
    fn what_waits_and_what_exchanges_is_advised_against() {
        let prices = Prices::nominal(1);
        let of = |ranks, hosts, link: &str, micro_batches| {
            let cluster = Cluster::new(ranks, hosts, link.parse().ok()).expect("a cluster");
            let seconds = PartSeconds { micro: 0.01, accumulation: 0.0, update: 0.01 };
            let shards = &shards(&[1 << 20], ranks);
            let work = UpdateWork { micro_batches, shards, seconds, alone: seconds, peak_bytes: 1000 };
            RanksPlan::of(&cluster, &work, &prices)
        };
        let slow = of(4, 2, "1Gbit/s", 6);
        assert_eq!((slow.rounds, slow.ranks_of_host, slow.host_peak_bytes), (2, 2, 2000));
        assert!(slow.advice[0].contains(" 8: with 6, 2 of the 4 ranks of the last round wait"), "{:?}", slow.advice);
        assert!(slow.advice[1].contains("% of it"), "{:?}", slow.advice);
        assert_eq!(slow.advice.len(), 3, "and a link that would do: {:?}", slow.advice);
        let fast = of(4, 2, "1000Gbit/s", 8);
        assert!(fast.speedup > slow.speedup && fast.exchange_seconds < slow.exchange_seconds);
        assert_eq!(of(1, 1, "", 4).exchange_seconds, 0.0);
        assert_eq!(of(1, 1, "", 4).speedup, 1.0);
        let refused = |ranks, hosts| Cluster::new(ranks, hosts, None).expect_err("refused").to_string();
        assert!(refused(0, 1).contains("at least 1") && refused(2, 3).contains("from 1 to"));
        assert!(refused(2, 2).contains("what joins them"));
    }
}
