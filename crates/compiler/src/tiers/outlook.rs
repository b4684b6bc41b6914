//! What a plan with fetches will take in time and memory, before anything is placed.
//!
//! Invariants: the time is that of the placed plan where no kept value leaves the arena, and no more than that otherwise,
//! since what waits for a copy out depends on who takes its bytes; the bytes alive are no more than the placed arena. So a
//! search may leave out what is too slow or too large by these. Look next at `search`.

use super::windows::Window;
use crate::copies::{OffloadCandidate, apart};
use crate::place::{Residence, Stays, alive_at_nodes};
use remat_ir::{Graph, OpDef, ValueId};
use remat_plan::{DeviceProfile, SpillPrices, Streamed, streamed};

/// A graph in its order, with what of its kept values leaves the arena.
pub(super) struct Outlook<'a> {
    graph: &'a Graph,
    stays: &'a [(OffloadCandidate, Residence)],
    spill: SpillPrices,
    /// Bytes of weights per second.
    weight_reads: f64,
    /// By node, its seconds without any wait.
    seconds: Vec<f64>,
    /// By node, bytes that are alive there, without windows.
    alive: Vec<usize>,
}

impl<'a> Outlook<'a> {
    pub(super) fn of(
        graph: &'a Graph,
        stays: &'a [(OffloadCandidate, Residence)],
        states: &[ValueId],
        profile: &DeviceProfile,
    ) -> Outlook<'a> {
        let spill = profile.prices.spill.unwrap_or_else(SpillPrices::nominal);
        let seconds = graph.nodes.iter().map(|node| {
            let streamed = streamed(graph, node, &|root| states.binary_search(&root).is_ok()).0;
            let bytes = |part: &Streamed| graph.ty(node.inputs[part.operand]).bytes() as f64;
            let is_written = |part: &&Streamed| node.op.donations().iter().any(|donation| donation.0 == part.operand);
            let read = streamed.iter().map(bytes).sum::<f64>() / profile.prices.weight_reads();
            let written = streamed.iter().filter(is_written).map(bytes).sum::<f64>() / spill.write_bytes_per_second;
            profile.prices.seconds(graph, node) + (read + written)
        });
        let seconds = seconds.collect();
        let alive = alive_at_nodes(graph, profile, Stays { apart: &apart(stays), windows: &[], states });
        Outlook { graph, stays, spill, weight_reads: profile.prices.weight_reads(), seconds, alive }
    }

    /// The most bytes alive at once.
    pub(super) fn alive_bytes(&self, windows: &[Window]) -> usize {
        let (mut begins, mut ends) = (vec![0; self.seconds.len()], vec![0; self.seconds.len() + 1]);
        for window in windows {
            begins[window.from as usize] += window.bytes;
            ends[window.until as usize + 1] += window.bytes;
        }
        let (mut held, mut most) = (0, 0);
        for (node, begin) in begins.into_iter().enumerate() {
            held = held + begin - ends[node];
            most = most.max(held + self.alive.get(node).copied().unwrap_or(0));
        }
        most
    }

    /// Seconds of a run, kernels and copies on their two queues as `copies` lines them up.
    pub(super) fn seconds(&self, windows: &[Window]) -> f64 {
        let bytes_of = |(candidate, _): &(OffloadCandidate, Residence)| self.graph.ty(candidate.value).bytes();
        let back = |stay| bytes_of(stay) as f64 / self.spill.read_bytes_per_second;
        // From which node, before which reader, how many seconds.
        let mut coming: Vec<(u32, u32, f64)> =
            self.stays.iter().map(|stay| (stay.1.from, stay.0.first_backward, back(stay))).collect();
        let read = |window: &Window| window.bytes as f64 / self.weight_reads;
        coming.extend(windows.iter().map(|window| (window.from, window.first(), read(window))));
        let mut going: Vec<(u32, usize)> = self.stays.iter().map(|stay| (stay.0.made, bytes_of(stay))).collect();
        going.extend(windows.iter().filter(|window| window.written).map(|window| (window.last(), window.bytes)));
        coming.sort_by_key(|&(from, first, _)| (from, first));
        going.sort_by_key(|&(made, _)| made);
        let (mut coming, mut going) = (coming.into_iter().peekable(), going.into_iter().peekable());
        let (mut computed, mut copied) = (0.0_f64, 0.0_f64);
        let mut there: Vec<f64> = vec![0.0; self.seconds.len()];
        for (node, seconds) in self.seconds.iter().enumerate() {
            while let Some((_, first, seconds)) = coming.next_if(|&(from, ..)| from as usize == node) {
                copied = copied.max(computed) + seconds;
                there[first as usize] = copied;
            }
            computed = computed.max(there[node]) + seconds;
            while let Some((_, bytes)) = going.next_if(|&(made, _)| made as usize == node) {
                copied = copied.max(computed) + bytes as f64 / self.spill.write_bytes_per_second;
            }
        }
        computed.max(copied)
    }
}

#[cfg(test)]
mod tests {
    use super::super::inserted::Inserted;
    use super::super::windows::{begin_ahead, starts, windows};
    use super::*;
    use remat_plan::Policy;
    use std::fmt::Write;

    /// A chain of linears with weights of their own.
    fn chain(length: u32) -> Graph {
        let mut text = String::from("graph {\n  input %0 \"x\": f32[16, 64]\n");
        for n in 1..=length {
            writeln!(text, "  weight %{n} \"w{n}\": f32[64, 64]").expect("a string");
        }
        for n in 0..length {
            let (x, y) = (if n == 0 { 0 } else { length + n }, length + n + 1);
            let op = "linear{\"layout\":\"in_out\",\"alpha\":1.0,\"bias\":false,\"residual\":false}";
            writeln!(text, "  #{n} %{y} \"y{n}\": f32[16, 64] = {op}(%{x}, %{}) \"y{n}\"", n + 1).expect("a string");
        }
        text += &format!("  outputs(%{})\n}}\n", 2 * length);
        remat_ir::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn a_placed_plan_takes_the_time_that_was_foreseen_and_no_less_memory() {
        let graph = chain(6);
        let mut profile = DeviceProfile::generic();
        for rate in [1e6, 1e9, 1e12] {
            profile.prices.spill = Some(SpillPrices { write_bytes_per_second: rate, read_bytes_per_second: rate });
            let base = crate::compile(graph.clone(), &Policy::None, &profile).expect("compiles");
            for ahead_bytes in [0, 16 << 10, 64 << 10] {
                let mut some = windows(&base.graph, &|weight| weight.0 % 2 == 1);
                begin_ahead(&starts(&base.graph, &profile.prices), &mut some, &profile.prices, ahead_bytes);
                let outlook = Outlook::of(&base.graph, &[], &[], &profile);
                let plan = Inserted { base: &base, stays: &[], windows: &some, states: &[] }.plan(&profile);
                assert_eq!(outlook.seconds(&some), plan.step_seconds(&profile.prices), "{rate} {ahead_bytes}");
                assert!(outlook.alive_bytes(&some) <= plan.arena_bytes);
            }
        }
    }
}
