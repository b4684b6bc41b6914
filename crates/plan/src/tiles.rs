//! Tiles: nodes that run on some rows of their operands at a time, and what they are called.
//!
//! Invariant: a tile is named as its node with its rows behind it, `layers.0.mlp.up[0..1024]`. The name only says where to
//! look: that a tile computes what it claims is proved by `check` from its operands.

use crate::Plan;
use remat_ir::Op;
use std::ops::Range;

/// What the tile of these rows is called.
pub fn tile_name(name: &str, rows: &Range<usize>) -> String {
    format!("{name}[{}..{}]", rows.start, rows.end)
}

/// The name of what a tile is part of; `None` if the name is no tile's.
pub fn whole_name(tile: &str) -> Option<&str> {
    let (name, rows) = tile.strip_suffix(']')?.rsplit_once('[')?;
    let (first, end) = rows.split_once("..")?;
    let number = |text: &str| text.parse::<usize>().is_ok();
    (number(first) && number(end)).then_some(name)
}

impl Plan {
    /// Into how many tiles rows are cut, at most; 1 where they are not.
    pub fn tiles(&self) -> usize {
        let tiles = |node: &remat_ir::Node| match &node.op {
            Op::SliceRows(op) if op.first == 0 => self.graph.ty(node.inputs[0]).shape.rows().div_ceil(op.rows),
            _ => 1,
        };
        self.graph.nodes.iter().map(tiles).max().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{tile_name, whole_name};

    #[test]
    fn names_of_tiles_lead_back() {
        assert_eq!(whole_name(&tile_name("layers.0.mlp.up~", &(512..1024))), Some("layers.0.mlp.up~"));
        assert_eq!(whole_name(&tile_name("a[0..1]", &(0..7))), Some("a[0..1]"));
        for other in ["up", "up[1]", "up[..3]", "up[1..]", "up[a..b]", "up]"] {
            assert_eq!(whole_name(other), None, "{other}");
        }
    }
}
