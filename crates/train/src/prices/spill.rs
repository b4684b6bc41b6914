//! With `--offload DIR`: what copies to that folder cost, given or measured; without it, what reading the model's files does.
//!
//! Invariant: a profile without a folder has no spill tier, and so no plan of it copies kept values. Look next at
//! `remat_step::device::measure_spill` for how a folder is measured.

use crate::{TrainConfig, TrainError};
use remat_ir::Graph;
use remat_model::Model;
use remat_plan::{DeviceProfile, Prices, SpillPrices, WeightPart};
use remat_step::device::{measure_reads, measure_spill};

/// Prices of the settings' folder, if they name one: the given ones, or a file of 32 MiB is written, read and gone.
///
/// # Errors
/// A folder that cannot be written to.
pub(crate) fn spill_prices(config: &TrainConfig, given: Option<&Prices>) -> Result<Option<SpillPrices>, TrainError> {
    let Some(folder) = &config.offload else { return Ok(None) };
    let spill = given.map_or_else(|| measure_spill(folder).map(Some), |prices| Ok(prices.spill))?;
    Ok(spill)
}

/// The profile with these prices of copies.
pub(crate) fn with_spill(profile: DeviceProfile, spill: Option<SpillPrices>) -> DeviceProfile {
    DeviceProfile { prices: Prices { spill, ..profile.prices }, ..profile }
}

/// Bytes per second of the model's own files, where the settings let weights lie there and name no folder: some of the largest
/// weight are read.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn file_reads(config: &TrainConfig, model: &Model, graph: &Graph) -> Result<Option<f64>, TrainError> {
    if config.offload.is_some() || config.device_map.is_none() {
        return Ok(None);
    }
    let weights = model.weights_in_files(graph)?;
    let ranges = weights.values().flatten().filter_map(|part| match part {
        WeightPart::InFile(range) => Some(range),
        WeightPart::Known(_) => None,
    });
    let largest = ranges.max_by_key(|range| (range.bytes, range.offset));
    Ok(largest.map(measure_reads).transpose()?)
}
