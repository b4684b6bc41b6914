//! What an op costs in seconds: prices per class of ops (`remat_ir::OpClass`), as data.
//!
//! Model: `seconds = FLOPs / arithmetic rate + bytes / memory rate + inner elements / their rate + overhead`, per class. It
//! is the roofline of Williams, Waterman and Patterson, *Roofline*, 2009, but for a sum in place of the larger: no kernel
//! here hides all of one behind the other, and sums can be fitted to measured steps. Invariant: a price depends on the op
//! and the types of its operands only, never on the plan, so that a recomputed node costs what its original costs.

use remat_ir::{Collective, Cost, Graph, Node, OpClass, OpDef};
use serde::{Deserialize, Serialize};

/// How fast one class runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// FLOPs per second.
    pub flops_per_second: f64,
    /// Bytes of operands and results per second.
    pub bytes_per_second: f64,
    /// Elements per second that live and die inside the op.
    pub inner_per_second: f64,
    /// Seconds besides: dispatch, the barrier of the threads, what does not shrink with the work.
    pub overhead_seconds: f64,
}

impl Rate {
    /// Predicted seconds of so much work.
    pub fn seconds(&self, cost: Cost) -> f64 {
        cost.flops / self.flops_per_second
            + cost.bytes / self.bytes_per_second
            + cost.inner / self.inner_per_second
            + self.overhead_seconds
    }

    /// The same where all takes so many times as long.
    pub fn slower(&self, factor: f64) -> Rate {
        Rate {
            flops_per_second: self.flops_per_second / factor,
            bytes_per_second: self.bytes_per_second / factor,
            inner_per_second: self.inner_per_second / factor,
            overhead_seconds: self.overhead_seconds * factor,
        }
    }
}

/// Measured or assumed rates of one machine, for a fixed number of threads and one dtype of activations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    /// One rate per class, in the order of [`OpClass::ALL`].
    pub rates: Vec<Rate>,
    /// Whether they were measured on this machine.
    pub measured: bool,
    /// What the copy queue costs, where values may be offloaded. It belongs to a folder and not to the machine, so it is
    /// not kept with the other prices.
    #[serde(skip)]
    pub spill: Option<SpillPrices>,
    /// Bytes per second that come from the model's own files, where weights may be read from there and there is no spill tier.
    #[serde(skip)]
    pub file_reads: Option<f64>,
    /// How fast bytes go from one rank to another, where there are several. It belongs to those that train together, so it is not
    /// kept either.
    #[serde(skip)]
    pub links: Option<LinkPrices>,
}

/// What joins ranks: of all pairs the slowest, as it is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LinkPrices {
    /// In each direction, while both carry something.
    pub bytes_per_second: f64,
    /// Of a message of no length.
    pub seconds: f64,
}

impl LinkPrices {
    /// What moves costs nothing.
    pub const FREE: LinkPrices = LinkPrices { bytes_per_second: f64::INFINITY, seconds: 0.0 };

    /// Of ranks of one host: memory that copies a gigabyte per second and more.
    pub fn nominal() -> Self {
        LinkPrices { bytes_per_second: 2e9, seconds: 50e-6 }
    }
}

/// How fast values go to the spill tier and come back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SpillPrices {
    /// Out of the arena.
    pub write_bytes_per_second: f64,
    /// Back into it.
    pub read_bytes_per_second: f64,
}

impl SpillPrices {
    /// Of a disk that nobody measured: half a gigabyte per second out, one back.
    pub fn nominal() -> Self {
        SpillPrices { write_bytes_per_second: 0.5e9, read_bytes_per_second: 1e9 }
    }
}

impl Prices {
    /// Prices by arithmetic alone, for a machine nobody measured: 200 GFLOP/s per thread in matrix products, a quarter of
    /// that in attention, 10 GB/s per thread up to 40 GB/s in all, 10^9 exponentials or 4 · 10^9 decoded weights per thread.
    pub fn nominal(threads: usize) -> Self {
        let threads = threads.max(1) as f64;
        let flops_per_second = |class: &OpClass| match class {
            OpClass::Attention | OpClass::AttentionGrad => threads * 50e9,
            OpClass::AttentionDropout | OpClass::AttentionDropoutGrad => threads * 30e9,
            _ => threads * 200e9,
        };
        let bytes_per_second = (threads * 10e9).min(40e9);
        let inner_per_second = |class: &OpClass| match class {
            OpClass::Nf4OutIn | OpClass::Nf4InOut | OpClass::Int8OutIn | OpClass::Int8InOut => threads * 4e9,
            _ => threads * 1e9,
        };
        let rate = |class| Rate {
            flops_per_second: flops_per_second(class),
            bytes_per_second,
            inner_per_second: inner_per_second(class),
            overhead_seconds: 2e-6,
        };
        let rates = OpClass::ALL.iter().map(rate).collect();
        Prices { rates, measured: false, spill: None, file_reads: None, links: None }
    }

    /// Whether a machine could have these prices: every class, positive finite rates, an overhead below a second.
    pub fn are_plausible(&self) -> bool {
        let rate = |rate: f64| (1e5..=1e19).contains(&rate);
        self.rates.len() == OpClass::ALL.len()
            && self.rates.iter().all(|of| {
                [of.flops_per_second, of.bytes_per_second, of.inner_per_second].into_iter().all(rate)
                    && (0.0..1.0).contains(&of.overhead_seconds)
            })
            && self.spill.is_none_or(|of| [of.write_bytes_per_second, of.read_bytes_per_second].into_iter().all(rate))
    }

    /// Whether weights may lie off memory.
    pub fn reads_weights(&self) -> bool {
        self.spill.is_some() || self.file_reads.is_some()
    }

    /// Bytes per second of weights that come into the arena.
    pub fn weight_reads(&self) -> f64 {
        let read = |spill: SpillPrices| spill.read_bytes_per_second;
        self.spill.map(read).or(self.file_reads).unwrap_or_else(|| read(SpillPrices::nominal()))
    }

    /// The rates of a class.
    pub fn rate(&self, class: OpClass) -> Rate {
        self.rates[class as usize]
    }

    /// Predicted seconds of one node of `graph`.
    pub fn seconds(&self, graph: &Graph, node: &Node) -> f64 {
        if let Some(collective) = node.op.collective() {
            return self.moving_seconds(&collective);
        }
        let (inputs, outputs) = graph.node_types(node);
        self.rate(node.op.class(&inputs, &outputs)).seconds(node.op.cost(&inputs, &outputs))
    }

    /// Seconds of what ranks do together: each sends and receives at once, to and from all others in turn.
    fn moving_seconds(&self, collective: &Collective<'_>) -> f64 {
        if collective.world.is_alone() {
            return 0.0;
        }
        let LinkPrices { bytes_per_second, seconds } = self.links.unwrap_or_else(LinkPrices::nominal);
        let (sent, received) = collective.moved_elements();
        seconds + (size_of::<f32>() * sent.max(received)) as f64 / bytes_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_index_their_rates() {
        let (one, two) = (Prices::nominal(1), Prices::nominal(2));
        assert_eq!(one.rates.len(), OpClass::ALL.len());
        for (index, &class) in OpClass::ALL.iter().enumerate() {
            assert_eq!(class as usize, index, "{}", class.name());
            assert!(two.rate(class).flops_per_second > one.rate(class).flops_per_second);
        }
    }
}
