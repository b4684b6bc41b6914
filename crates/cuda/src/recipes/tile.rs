//! Which tile a product is made in. Bits are the same in all: see kernels/product.cuh and kernels/tensor_product.cuh.

use crate::call::OpTypes;
use crate::launch::{Launch, blocks};
use remat_ir::Type;
use remat_tensor::DType;

/// Tiles of so many rows and columns, by a block of so many threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Behind a kernel's name.
    pub name: &'static str,
    side: usize,
    threads: u32,
    /// Of bf16, on tensor cores.
    tensor: bool,
}

const WIDE: Tile = Tile { name: "wide", side: 64, threads: 256, tensor: false };
const NARROW: Tile = Tile { name: "narrow", side: 16, threads: 64, tensor: false };

/// As Wide, Middle and Narrow in kernels/tensor_product.cuh.
const TENSOR_WIDE: Tile = Tile { name: "wide", side: 128, threads: 256, tensor: true };
const TENSOR_MIDDLE: Tile = Tile { name: "middle", side: 64, threads: 128, tensor: true };
const TENSOR_NARROW: Tile = Tile { name: "narrow", side: 32, threads: 128, tensor: true };

/// As TERMS there.
const TERMS: usize = 32;
const ELEMENT_BYTES: usize = size_of::<u16>();
/// Tiles of a factor that a block of a tensor product has in shared memory: dense, and quantised.
const BUFFERS: [usize; 2] = [3, 2];
/// So many blocks keep a small card busy; with fewer, smaller tiles make more of them.
const ENOUGH_BLOCKS: usize = 64;

impl Tile {
    /// For a product of activations of a type, of so many rows and columns: narrow where a wide one would be mostly empty, or
    /// too few.
    pub fn of(ty: &Type, rows: usize, columns: usize) -> Tile {
        let thin = rows.min(columns) <= 32;
        if ty.dtype != DType::BF16 {
            return if thin || rows * columns <= 128 * 128 { NARROW } else { WIDE };
        }
        let count = |tile: Tile| rows.div_ceil(tile.side) * columns.div_ceil(tile.side);
        let enough = |tile: &&Tile| !thin && count(**tile) >= ENOUGH_BLOCKS;
        *[&TENSOR_WIDE, &TENSOR_MIDDLE].into_iter().find(enough).unwrap_or(&TENSOR_NARROW)
    }

    /// A launch of the kernel with this tile; `float` is of f32 activations, `tensor` of bf16. Its name's stem has the type of operand
    /// `index` behind it, then the format of a weight.
    pub fn launch(
        self,
        [float, tensor]: [&'static str; 2],
        stem: &str,
        call: &OpTypes<'_>,
        index: usize,
        format: &str,
    ) -> Result<Launch, String> {
        let kernel = format!("{}{format}_{}", call.named(stem, index)?, self.name);
        Ok(Launch::of(if self.tensor { tensor } else { float }, kernel))
    }

    /// The grid of a product, with what it takes of shared memory; the second factor is dense or not.
    pub fn cover(self, launch: Launch, rows: usize, columns: usize, dense: bool) -> Launch {
        let launch = launch.grid([blocks(rows, self.side), blocks(columns, self.side), 1], self.threads);
        if self.tensor { launch.shared(self.shared_bytes(dense)) } else { launch }
    }

    /// Buffers of a tensor product's factors.
    fn shared_bytes(self, dense: bool) -> usize {
        let buffers = BUFFERS[0] + BUFFERS[usize::from(!dense)];
        buffers * self.side * TERMS * ELEMENT_BYTES
    }
}

/// Dynamic shared memory of a tensor product, by its kernel's name.
pub fn shared_bytes(kernel: &str) -> Option<usize> {
    let (stem, last) = kernel.rsplit_once('_')?;
    let tile = [TENSOR_WIDE, TENSOR_MIDDLE, TENSOR_NARROW].into_iter().find(|tile| tile.name == last)?;
    let dense = !stem.contains("_nf4") && !stem.contains("_int8");
    stem.contains("_bf16").then(|| tile.shared_bytes(dense))
}
