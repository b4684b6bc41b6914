//! Tiles: the part of a region that widens the residual stream (an MLP as a rule) runs on some rows at a time, forward,
//! recomputation and backward, so that of its wide values only a tile's rows are alive at once.
//!
//! ```text
//! rematerialised graph ──unit──▶ what can be cut together ──order──▶ each unit in one place ──rewrite──▶ tile after tile
//! ```
//!
//! Rows of a product, of a norm and of pointwise ops do not depend on each other; sums over rows (gradients of parameters)
//! are continued from tile to tile in place, and tiles end where the executor's kernels end a block of such a sum. So
//! not a bit of any result changes. Only units are cut that lie where the arena is fullest: cutting the others would cost
//! time and save nothing. Invariant: what a unit is follows from shapes and from what ops say of rows
//! (`OpDef::row_operands`), never from names. The idea is ALST's tiled MLP (Bekman et al., 2025).

mod order;
mod rewrite;
mod unit;

use crate::kept::may_run_again;
use crate::place::alive_bytes;
use crate::scopes::blocks;
use crate::{Kept, schedule};
use remat_ir::{Graph, Phase, ValueId};
use remat_plan::DeviceProfile;
use unit::wide_values;

/// Tiles that the rows of wide values are cut into where a limit asks for it, as far as blocks of sums over tokens allow.
/// More would save little: beside an eighth of an MLP's width stands the rest of the block.
const TILES: usize = 8;

/// How a graph is cut, and what that lets go.
#[derive(Debug, Clone)]
pub(crate) struct Tiling {
    /// Wide values of the last region. They are made again, tile by tile: without tiles that would save nothing, since
    /// backward begins there.
    freed: Vec<ValueId>,
    freed_bytes: usize,
}

impl Tiling {
    /// Of a simplified graph; `None` if it has nothing to cut.
    pub(crate) fn of(graph: &Graph, profile: &DeviceProfile) -> Option<Tiling> {
        let blocks = blocks(graph);
        let forward = graph.nodes_with_ids().filter(|(_, node)| node.phase == Phase::Forward);
        let last = forward.filter_map(|(id, _)| blocks[id.index()]).last();
        let wide = wide_values(graph, |rows| tile_rows(rows, profile).is_some());
        let made_last = |value: &ValueId| {
            let producer = graph.value(*value).producer;
            producer.is_some_and(|(id, _)| blocks[id.index()] == last && may_run_again(graph, graph.node(id)))
        };
        let freed: Vec<ValueId> = wide.iter().copied().filter(made_last).collect();
        let bytes = |kept: &Kept| kept.footprint(graph, &profile.prices).activation_bytes;
        let everything = Kept::everything(graph);
        let before = bytes(&everything);
        let freed_bytes = before.saturating_sub(bytes(&everything.without(&freed)));
        (!wide.is_empty()).then_some(Tiling { freed, freed_bytes })
    }

    /// What a choice of kept values keeps when rows are cut.
    pub(crate) fn kept(&self, kept: Kept) -> Kept {
        kept.without(&self.freed)
    }

    /// Bytes that a choice keeps less.
    pub(crate) fn freed_bytes(&self) -> usize {
        self.freed_bytes
    }

    /// A rematerialised graph in the order to run, with units cut where that makes the peak lower.
    pub(crate) fn scheduled(&self, graph: Graph, profile: &DeviceProfile) -> Graph {
        let mut units = unit::units(&graph, |rows| tile_rows(rows, profile));
        let whole = |value: ValueId| graph.ty(value).bytes();
        let mut bytes: Vec<usize> = graph.value_ids().map(whole).collect();
        for unit in &units {
            for value in &unit.inside {
                bytes[value.index()] = whole(*value) / unit.rows * unit.tile_rows;
            }
        }
        // Where what is left when all is cut leaves room for a whole unit, that stays whole.
        let (alive, when_cut) = alive_bytes(&graph, &profile.rules, |value| bytes[value.index()]);
        let least = when_cut.into_iter().max().unwrap_or(0);
        units.retain(|unit| {
            let (first, last) = (unit.nodes[0].index(), unit.nodes[unit.nodes.len() - 1].index());
            alive.iter().take(last + 1).skip(first).any(|&bytes| bytes > least)
        });
        schedule(if units.is_empty() { graph } else { order::ordered(&graph, &units, rewrite::tiled) })
    }
}

/// Rows of a tile where there are so many in all; `None` if they are too few to be cut.
fn tile_rows(rows: usize, profile: &DeviceProfile) -> Option<usize> {
    let block = profile.rules.token_block.max(1);
    let tile = rows.div_ceil(block).div_ceil(TILES) * block;
    (tile < rows).then_some(tile)
}
