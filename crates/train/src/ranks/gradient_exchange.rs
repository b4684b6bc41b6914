//! The sum of the gradients of all ranks' micro-batches, in the order of micro-batches.
//!
//! Method: all gradients together are cut into as many shards as there are ranks. In a round each rank has the gradient of
//! one micro-batch, or none, and sends every shard to its owner, which adds what it received to its sum in the order of
//! ranks, and that is the order of micro-batches. After the last round the sums are gathered. Invariants: each element is
//! one addition of f32 per micro-batch, beginning at zero, as the op `add_gradient` does in a single process; after `new`
//! only lists of messages are allocated.

use crate::TrainError;
use remat_comm::{Engine, all_to_all, gather};
use remat_ir::{Parameter, StateRole, Storage};
use remat_plan::{Device, DeviceError, SourceId};

const ELEMENT_BYTES: usize = size_of::<f32>();

/// A state, and how many elements it has.
type State = (SourceId, usize);

/// Sums of gradients over ranks.
pub(crate) struct GradientExchange {
    /// The gradients of a micro-batch on the device.
    gradients: Vec<State>,
    /// The gradients that the update reads.
    sums: Vec<State>,
    /// Where shards begin and end, in elements.
    bounds: Vec<usize>,
    rank: usize,
    /// The gradients of one micro-batch, one after the other; after the last round the sums.
    all: Vec<f32>,
    /// This rank's shard of the gradients of one round, by rank.
    parts: Vec<f32>,
    /// The sum of this rank's shard.
    sum: Vec<f32>,
}

impl GradientExchange {
    /// Of the gradients of `parameters` on a device, whose update reads states of the role `sum`.
    pub(crate) fn new(
        engine: &dyn Engine,
        parameters: &[Parameter],
        sum: StateRole,
        device: &dyn Device,
    ) -> Result<Self, DeviceError> {
        let states = |role: StateRole| -> Result<Vec<State>, DeviceError> {
            let sources = parameters.iter().map(|parameter| device.known(Storage::State, &parameter.state(role)));
            let state = |source: SourceId| (source, device.source_type(source).shape.numel());
            sources.map(|source| source.map(state)).collect()
        };
        let (gradients, sums) = (states(StateRole::Gradient)?, states(sum)?);
        let (rank, size) = (engine.rank(), engine.size());
        let bounds = shard_bounds(gradients.iter().map(|(_, elements)| elements).sum(), size);
        let own = bounds[rank + 1] - bounds[rank];
        let (all, parts, sum) = (vec![0.0; bounds[size]], vec![0.0; size * own], vec![0.0; own]);
        Ok(GradientExchange { gradients, sums, bounds, rank, all, parts, sum })
    }

    /// What it holds in memory beside the gradients themselves, on the rank that holds most of all `size`.
    pub(crate) fn bytes(gradient_bytes: usize, size: usize) -> usize {
        let shard = gradient_bytes.div_ceil(size).next_multiple_of(ELEMENT_BYTES);
        gradient_bytes + (size + 1) * shard
    }

    /// Adds the gradients of a round, of which the ranks below `ranks` have one, and zeroes them on the device.
    pub(crate) fn add(&mut self, engine: &dyn Engine, ranks: usize, device: &mut dyn Device) -> Result<(), TrainError> {
        let has_one = self.rank < ranks;
        if has_one {
            self.take(device)?;
        }
        let size = engine.size();
        let send_bounds: Vec<usize> = match has_one {
            true => self.bounds.iter().map(|bound| ELEMENT_BYTES * bound).collect(),
            false => vec![0; size + 1],
        };
        let own = self.sum.len();
        let receive_bounds: Vec<usize> = (0..=size).map(|rank| ELEMENT_BYTES * own * rank.min(ranks)).collect();
        let send: &[u8] = if has_one { bytemuck::cast_slice(&self.all) } else { &[] };
        let receive: &mut [u8] = bytemuck::cast_slice_mut(&mut self.parts[..own * ranks]);
        all_to_all(engine, (send, &send_bounds), (receive, &receive_bounds))?;
        for rank in 0..ranks {
            let part = &self.parts[own * rank..own * (rank + 1)];
            self.sum.iter_mut().zip(part).for_each(|(sum, g)| *sum += g);
        }
        Ok(())
    }

    /// Puts the sums of all ranks' shards where the update of every rank reads them, and begins anew.
    pub(crate) fn finish(&mut self, engine: &dyn Engine, device: &mut dyn Device) -> Result<(), TrainError> {
        self.all[self.bounds[self.rank]..self.bounds[self.rank + 1]].copy_from_slice(&self.sum);
        self.sum.fill(0.0);
        let bounds: Vec<usize> = self.bounds.iter().map(|bound| ELEMENT_BYTES * bound).collect();
        gather(engine, bytemuck::cast_slice_mut(&mut self.all), &bounds)?;
        let mut rest = &self.all[..];
        for &(state, elements) in &self.sums {
            let (gradient, after) = rest.split_at(elements);
            device.write(state, 0, bytemuck::cast_slice(gradient))?;
            rest = after;
        }
        Ok(())
    }

    /// Copies all gradients from the device and zeroes them there.
    fn take(&mut self, device: &mut dyn Device) -> Result<(), DeviceError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut rest = &mut self.all[..];
        for &(state, elements) in &self.gradients {
            let (gradient, after) = rest.split_at_mut(elements);
            device.read(state, 0, bytemuck::cast_slice_mut(gradient))?;
            let bytes = ELEMENT_BYTES * elements;
            for at in (0..bytes).step_by(ZEROS.len()) {
                device.write(state, at, &ZEROS[..ZEROS.len().min(bytes - at)])?;
            }
            rest = after;
        }
        Ok(())
    }
}

/// Bounds of the shards of so many elements: as even as can be.
fn shard_bounds(elements: usize, ranks: usize) -> Vec<usize> {
    let (shard, more) = (elements / ranks, elements % ranks);
    (0..=ranks).map(|rank| shard * rank + rank.min(more)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_even_and_cover_everything() {
        for (elements, ranks) in [(0, 1), (1, 3), (12, 4), (13, 4), (15, 4), (1000, 7)] {
            let bounds = shard_bounds(elements, ranks);
            let shards: Vec<usize> = bounds.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert_eq!((bounds[0], bounds[ranks], shards.len()), (0, elements, ranks));
            let (least, most) = (shards.iter().min(), shards.iter().max());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{shards:?}");
            let own = most.copied().unwrap_or(0);
            let held = ELEMENT_BYTES * (elements + (ranks + 1) * own);
            assert!(GradientExchange::bytes(ELEMENT_BYTES * elements, ranks) >= held);
        }
    }
}
