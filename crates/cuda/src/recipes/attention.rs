//! Launches of attention, forward and backward, and of what keys and values are cached for.

use crate::call::OpTypes;
use crate::launch::{Argument, Launch, blocks};
use remat_ir::ops;

type Launches = Result<Vec<Launch>, String>;

/// As WARPS in kernels/attention.cuh.
const WARPS: usize = 4;
/// The largest head: 32 lanes times PARTS there.
const MAX_HEAD_SIZE: usize = 256;

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
        let floats = 2 * 32 * (self.size + 1) + WARPS * own * self.size;
        let grid = [blocks(rows, WARPS), blocks(heads, 1), blocks(self.batch, 1)];
        launch.grid(grid, 32 * WARPS as u32).shared(floats * size_of::<f32>())
    }

    fn rng(&self, operand: usize) -> Option<usize> {
        (self.dropout > 0.0).then_some(operand)
    }
}

/// `attention`.
pub fn attention(op: &ops::Attention, call: &OpTypes<'_>) -> Launches {
    let sizes = Sizes::of(op, call, 0, false)?;
    let launch = (0..4).fold(Launch::of("attention", call.named("attention", 0)?), Launch::read);
    let launch = launch.maybe_read(sizes.rng(4)).write(0).write(1).with(sizes.argument());
    Ok(vec![sizes.cover(launch, sizes.tokens, sizes.heads, 1)])
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
    let dq = operands(launch("attention_dq")?).write(0).with(sizes.argument());
    let dkv = operands(launch("attention_dkv")?).write(1).write(2).with(sizes.argument());
    Ok(vec![delta, sizes.cover(dq, sizes.tokens, sizes.heads, 2), sizes.cover(dkv, sizes.tokens, sizes.kv_heads, 2)])
}

/// `cache_write`: the cache is the result.
pub fn cache_write(call: &OpTypes<'_>) -> Launches {
    let (cache, tokens) = (call.shape(0), call.shape(1)[1]);
    let launch = Launch::of("cache_write", call.named("cache_write", 0)?).write(0).read(1).read(2);
    Ok(vec![launch.u32(tokens).u32(cache[1]).u32(cache[2]).grid([blocks(call.rows(1), 1), 1, 1], 128)])
}
