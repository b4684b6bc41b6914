//! Which tile a product is made in. Bits are the same in all: see kernels/product.cuh.

use crate::launch::{Launch, blocks};

/// Tiles of so many rows and columns, by a block of so many threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Behind a kernel's name.
    pub name: &'static str,
    side: usize,
    threads: u32,
}

const WIDE: Tile = Tile { name: "wide", side: 64, threads: 256 };
const NARROW: Tile = Tile { name: "narrow", side: 16, threads: 64 };

impl Tile {
    /// For a product of so many rows and columns: narrow where a wide one would be mostly empty, or too few.
    pub fn of(rows: usize, columns: usize) -> Tile {
        if rows.min(columns) <= 32 || rows * columns <= 128 * 128 { NARROW } else { WIDE }
    }

    /// The grid of a product.
    pub fn cover(self, launch: Launch, rows: usize, columns: usize) -> Launch {
        launch.grid([blocks(rows, self.side), blocks(columns, self.side), 1], self.threads)
    }
}
