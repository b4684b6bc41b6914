//! Launches of attention, forward and backward, and of what keys and values are cached for.

use crate::call::OpTypes;
use crate::launch::{Argument, Launch, blocks};
use remat_ir::ops;
use remat_tensor::DType;

type Launches = Result<Vec<Launch>, String>;

/// As WARPS in kernels/attention.cuh.
const WARPS: usize = 4;
/// The largest head: 32 lanes times PARTS there.
const MAX_HEAD_SIZE: usize = 256;

/// Head sizes that tensor-core kernels are compiled for; a head takes the next larger one.
const FLASH_SIZES: [usize; 4] = [32, 64, 128, 256];
/// The largest heads that they drop pairs of, as `dropped` in kernels/flash.cuh has it.
const MOST_WITH_DROPOUT: usize = 64;
/// As SPAN in kernels/flash.cuh; ROWS of kernels are `Flash::rows`.
const SPAN: usize = 32;
/// Of a query, in a span: `struct Column` in kernels/attention_grad_bf16.cu.
const COLUMN_BYTES: usize = 16;

/// A tensor-core kernel: rows of a block, tensors of which it has tiles that stay, what else it has in shared memory, blocks that share
/// a head.
#[derive(Debug, Clone, Copy)]
struct Flash {
    rows: usize,
    own: usize,
    beside: usize,
    parts: usize,
}

impl Flash {
    const FORWARD: Flash = Flash { rows: 64, own: 1, beside: 0, parts: 1 };

    fn dq(size: usize) -> Flash {
        // The largest heads leave room for fewer rows.
        Flash { rows: if size == 256 { 32 } else { 64 }, own: 2, beside: 0, parts: 1 }
    }

    fn dkv(size: usize) -> Flash {
        // And registers for half of a head's sums.
        Flash { beside: 2 * SPAN * COLUMN_BYTES, parts: if size == 256 { 2 } else { 1 }, ..Flash::dq(size) }
    }

    fn shared_bytes(&self, size: usize) -> usize {
        // Two spans of both tensors of the other side: one is multiplied while the next comes.
        let elements = (self.own * self.rows + 2 * 2 * SPAN) * size;
        elements * size_of::<u16>() + self.beside
    }
}

/// Dynamic shared memory of a kernel of attention, by its name; of those that take heads of any size, for heads of 128.
pub fn shared_bytes(kernel: &str) -> Option<usize> {
    let (stem, last) = kernel.rsplit_once('_')?;
    match (stem, last.parse().ok()) {
        ("flash_attention", Some(size)) => Some(Flash::FORWARD.shared_bytes(size)),
        ("flash_dq", Some(size)) => Some(Flash::dq(size).shared_bytes(size)),
        ("flash_dkv", Some(size)) => Some(Flash::dkv(size).shared_bytes(size)),
        ("attention", None) => Some(plain_shared_bytes(128, 1)),
        ("attention_dq" | "attention_dkv", None) => Some(plain_shared_bytes(128, 2)),
        _ => None,
    }
}

/// Two tiles of 32 rows, and `own` rows for each warp.
fn plain_shared_bytes(size: usize, own: usize) -> usize {
    (2 * 32 * (size + 1) + WARPS * own * size) * size_of::<f32>()
}

/// `struct Attention` of the kernels.
struct Sizes {
    batch: usize,
    tokens: usize,
    keys: usize,
    heads: usize,
    kv_heads: usize,
    size: usize,
    window: Option<usize>,
    cached: bool,
    scale: f32,
    softcap: Option<f32>,
    dropout: f32,
    stream: u64,
}

impl Sizes {
    /// With q at operand `q` and k behind it.
    fn of(op: &ops::Attention, call: &OpTypes<'_>, q: usize, cached: bool) -> Result<Self, String> {
        let (shape, keys) = (call.shape(q), call.shape(q + 1)[1]);
        let size = shape[2] / op.heads;
        if size > MAX_HEAD_SIZE {
            return Err(format!("attention has CUDA kernels for head sizes up to {MAX_HEAD_SIZE}, not {size}"));
        }
        let ops::Attention { heads, kv_heads, scale, window, softcap, dropout, stream } = *op;
        let (batch, tokens) = (shape[0], shape[1]);
        Ok(Sizes { batch, tokens, keys, heads, kv_heads, size, window, cached, scale, softcap, dropout, stream })
    }

    fn argument(&self) -> Argument {
        let cached = usize::from(self.cached);
        let counts = [self.tokens, self.keys, self.heads, self.kv_heads, self.size, self.window.unwrap_or(0), cached];
        let mut bytes: Vec<u8> = counts.iter().flat_map(|&count| (count as u32).to_le_bytes()).collect();
        let factor = ops::Dropout::factor(self.dropout);
        bytes.extend([self.scale, self.softcap.unwrap_or(0.0), factor].iter().flat_map(|x| x.to_le_bytes()));
        bytes.extend(ops::Dropout::threshold(self.dropout).to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(size_of::<u64>()), 0);
        bytes.extend(self.stream.to_le_bytes());
        Argument::Bytes(bytes)
    }

    /// A block for every four of `rows` in each of `heads`, with two tiles of 32 rows and `own` rows for each warp.
    fn cover(&self, launch: Launch, rows: usize, heads: usize, own: usize) -> Launch {
        let grid = [blocks(rows, WARPS), blocks(heads, 1), blocks(self.batch, 1)];
        launch.grid(grid, 32 * WARPS as u32).shared(plain_shared_bytes(self.size, own))
    }

    /// The size of the tensor-core kernel that takes these heads, if one does: for bf16, of whole sequences.
    fn flash(&self, call: &OpTypes<'_>, q: usize) -> Option<usize> {
        let drops = self.dropout > 0.0 && self.size > MOST_WITH_DROPOUT;
        let takes = call.reads[q].dtype == DType::BF16 && !drops && !self.cached;
        FLASH_SIZES.into_iter().find(|&size| takes && self.size <= size)
    }

    /// The grid of such a kernel, over `rows` of each of `heads`.
    fn cover_flash(&self, launch: Launch, size: usize, kernel: Flash, rows: usize, heads: usize) -> Launch {
        let x = blocks(rows, kernel.rows).saturating_mul(kernel.parts as u32);
        let launch = launch.grid([x, blocks(heads, 1), blocks(self.batch, 1)], 2 * kernel.rows as u32);
        launch.shared(kernel.shared_bytes(size))
    }

    fn rng(&self, operand: usize) -> Option<usize> {
        (self.dropout > 0.0).then_some(operand)
    }
}

/// `attention`.
pub fn attention(op: &ops::Attention, call: &OpTypes<'_>) -> Launches {
    let sizes = Sizes::of(op, call, 0, false)?;
    let flash = sizes.flash(call, 0);
    let launch = match flash {
        Some(size) => Launch::of("attention_bf16", format!("flash_attention_{size}")),
        None => Launch::of("attention", call.named("attention", 0)?),
    };
    let launch = (0..4).fold(launch, Launch::read).maybe_read(sizes.rng(4));
    let launch = launch.write(0).write(1).with(sizes.argument());
    Ok(vec![match flash {
        Some(size) => sizes.cover_flash(launch, size, Flash::FORWARD, sizes.tokens, sizes.heads),
        None => sizes.cover(launch, sizes.tokens, sizes.heads, 1),
    }])
}

/// `cached_attention`.
pub fn cached_attention(op: &ops::CachedAttention, call: &OpTypes<'_>) -> Launches {
    let ops::CachedAttention { heads, kv_heads, scale, window, softcap } = *op;
    let whole = ops::Attention { heads, kv_heads, scale, window, softcap, dropout: 0.0, stream: 0 };
    let sizes = Sizes::of(&whole, call, 0, true)?;
    let launch = (0..4).fold(Launch::of("attention", call.named("attention", 0)?), Launch::read);
    let launch = launch.null().write(0).null().with(sizes.argument());
    Ok(vec![sizes.cover(launch, sizes.tokens, heads, 1)])
}

/// `attention_grad`: D into workspace, then dq, then dk and dv.
pub fn attention_grad(op: &ops::AttentionGrad, call: &OpTypes<'_>) -> Launches {
    let sizes = Sizes::of(&op.forward(), call, 1, false)?;
    let rows = sizes.batch * sizes.heads * sizes.tokens;
    let launch = |stem: &str| Ok::<_, String>(Launch::of("attention_grad", call.named(stem, 0)?));
    let delta = launch("attention_delta")?.read(0).read(4).workspace();
    let delta = delta.u32(sizes.tokens).u32(sizes.heads).u32(sizes.size).u32(rows).warps(rows);
    let operands = |launch: Launch| {
        let launch = [0, 1, 2, 3, 5].into_iter().fold(launch, Launch::read).workspace();
        launch.read(6).maybe_read(sizes.rng(7))
    };
    let dq = |launch| operands(launch).write(0).with(sizes.argument());
    let dkv = |launch| operands(launch).write(1).write(2).with(sizes.argument());
    let (tokens, heads, kv_heads) = (sizes.tokens, sizes.heads, sizes.kv_heads);
    let Some(size) = sizes.flash(call, 1) else {
        let dq = sizes.cover(dq(launch("attention_dq")?), tokens, heads, 2);
        return Ok(vec![delta, dq, sizes.cover(dkv(launch("attention_dkv")?), tokens, kv_heads, 2)]);
    };
    let launch = |stem: &str| Launch::of("attention_grad_bf16", format!("{stem}_{size}"));
    let dq = sizes.cover_flash(dq(launch("flash_dq")), size, Flash::dq(size), tokens, heads);
    Ok(vec![delta, dq, sizes.cover_flash(dkv(launch("flash_dkv")), size, Flash::dkv(size), tokens, kv_heads)])
}

/// `cache_write`: the cache is the result.
pub fn cache_write(call: &OpTypes<'_>) -> Launches {
    let (cache, tokens) = (call.shape(0), call.shape(1)[1]);
    let launch = Launch::of("cache_write", call.named("cache_write", 0)?).write(0).read(1).read(2);
    Ok(vec![launch.u32(tokens).u32(cache[1]).u32(cache[2]).grid([blocks(call.rows(1), 1), 1, 1], 128)])
}
