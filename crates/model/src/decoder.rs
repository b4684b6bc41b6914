//! The one builder of decoders: it reads what a block is made of from the configuration, whatever the family.
//!
//! Invariants: parameters have the checkpoint's own names; nothing here knows a family, or anything of checkpointing,
//! memory or devices. A block is x + after(part(before(x))) for attention, then for the MLP, or the sum of both parts of one x;
//! `before` and `after` are norms or nothing. Look next at `remat_formats::ModelConfig` for what can differ.

use crate::ModelError;
use crate::adapter::HeadFactors;
use crate::experts;
use crate::gate::{form, gated};
use crate::model_builder::{Heads, ModelBuilder};
use crate::rope::{LOCAL_INV_FREQ, inv_freq_name};
use half::bf16;
use remat_formats::{Mlp, ModelConfig, Names, Norm, NormPlaces, Positions, Projections, QkNorm};
use remat_ir::ops::{Add, Cast, Embedding, Gelu, LayerNorm, Layout, Linear, RmsNorm, Rope, Scale, Softcap, Split};
use remat_ir::{IrError, Type, ValueId};
use remat_tensor::DType;

/// What logits are made of.
pub(crate) struct Hidden {
    /// The last hidden state.
    pub hidden: ValueId,
    /// The head's weight [V, D].
    pub head: ValueId,
    /// The head's bias [V], where it has one.
    pub head_bias: Option<ValueId>,
    /// What an adapter adds to the logits: the product of these.
    pub low_rank: Option<HeadFactors>,
}

/// The graph up to the last hidden state.
pub(crate) fn forward(config: &ModelConfig, m: &mut ModelBuilder<'_>) -> Result<Hidden, ModelError> {
    let (vocab, width) = (config.vocab_size, config.hidden_size);
    let embedding = config.outer(config.block.names.embedding);
    let table = m.parameter(&format!("{embedding}.weight"), &[vocab, width]);
    let mut decoder = Decoder { config, inv_freq: None, local_inv_freq: None };
    let positions = match &config.positions {
        Positions::Learned(name) => {
            let path = config.outer(name);
            let rows = m.parameter(&format!("{path}.weight"), &[config.max_position_embeddings, width]);
            Some((path, rows))
        }
        Positions::Rotary(rotary) => {
            let ty = Type::new(DType::F32, [rotary.dims / 2]);
            let name = inv_freq_name(config, m.tokens());
            decoder.inv_freq = Some(m.b.constant(&name, ty.clone()));
            let has_local = rotary.local_theta.is_some() && config.has_window();
            decoder.local_inv_freq = has_local.then(|| m.b.constant(LOCAL_INV_FREQ, ty));
            None
        }
    };
    let x = m.embedding(&embedding, table)?;
    let multiplier = embedding_multiplier(config, m.b.ty(x).dtype);
    let mut x = scaled(m, &format!("{embedding}.scaled"), x, multiplier)?;
    if let Some((path, rows)) = positions {
        let position = m.b.op1(&path, Embedding, &[rows, m.inputs.positions])?;
        x = m.b.op1(&config.outer("embed"), Add, &[x, position])?;
    }
    x = m.b.dropout(&config.outer("drop"), x, config.dropout.embedding as f32)?;
    for layer in 0..config.num_hidden_layers {
        let path = config.layer(layer);
        m.b.enter_region(&path);
        let block = decoder.block(m, layer, &path, x);
        m.b.leave_region();
        x = block?;
    }
    let hidden = decoder.norm(m, &config.outer(config.block.names.final_norm), x)?;
    // Dividing what the head reads divides the logits, which never exist whole.
    let hidden = scaled(m, "lm_head.scaled", hidden, 1.0 / config.logits_divisor)?;
    let name = config.block.names.head;
    let head = match config.tie_word_embeddings && m.keeps_tie() {
        true => table,
        false => m.parameter(&format!("{name}.weight"), &[vocab, width]),
    };
    let head_bias = config.head_bias.then(|| m.parameter(&format!("{name}.bias"), &[vocab]));
    let low_rank = m.head_factors(hidden, head)?;
    Ok(Hidden { hidden, head, head_bias, low_rank })
}

/// The factor of embeddings of this dtype.
fn embedding_multiplier(config: &ModelConfig, dtype: DType) -> f64 {
    match config.embedding_multiplier {
        factor if config.rounded_embedding_multiplier && dtype == DType::BF16 => bf16::from_f64(factor).to_f64(),
        factor => factor,
    }
}

/// A value times a factor, where that is not 1.
fn scaled(m: &mut ModelBuilder<'_>, name: &str, x: ValueId, factor: f64) -> Result<ValueId, IrError> {
    if factor == 1.0 { Ok(x) } else { m.b.op1(name, Scale { factor: factor as f32 }, &[x]) }
}

/// The graph with its head as output `logits`.
pub(crate) fn logits(config: &ModelConfig, m: &mut ModelBuilder<'_>) -> Result<(), ModelError> {
    let Hidden { hidden, head, head_bias, low_rank } = forward(config, m)?;
    let linear = Linear { bias: head_bias.is_some(), ..Linear::plain(Layout::OutIn) };
    let operands: Vec<ValueId> = [hidden, head].into_iter().chain(head_bias).collect();
    // Whoever reads logits reads f32; under bf16 they are rounded once, as all results of a linear are.
    let name = if config.logits_softcap.is_some() { "logits.uncapped" } else { "logits" };
    let (is_narrow, is_adapted) = (m.b.ty(hidden).dtype != DType::F32, low_rank.is_some());
    let of_base = if is_adapted { "logits.base" } else { name };
    let mut logits = m.b.op1(if is_narrow { "logits.narrow" } else { of_base }, linear, &operands)?;
    if let Some((u, up)) = low_rank {
        let added = m.b.op1("logits.adapter", Linear::plain(Layout::OutIn), &[u, up])?;
        logits = m.b.op1(if is_narrow { "logits.adapted" } else { name }, Add, &[logits, added])?;
    }
    if is_narrow {
        logits = m.b.op1(name, Cast { to: DType::F32, into: false }, &[logits])?;
    }
    let logits = match config.logits_softcap {
        Some(cap) => m.b.op1("logits", Softcap { cap: cap as f32 }, &[logits])?,
        None => logits,
    };
    m.b.output(logits);
    m.all_settings_used()
}

/// One model's configuration and the table that all blocks read.
struct Decoder<'a> {
    config: &'a ModelConfig,
    /// Inverse frequencies of rotary positions.
    inv_freq: Option<ValueId>,
    /// Those of layers with a window, where they are others.
    local_inv_freq: Option<ValueId>,
}

impl Decoder<'_> {
    fn block(&self, m: &mut ModelBuilder<'_>, layer: usize, path: &str, x: ValueId) -> Result<ValueId, IrError> {
        let names = self.config.block.names;
        let normed = self.placed_norm(m, path, names.attention_norms.before, x)?;
        let attended = self.attention(m, layer, &format!("{path}.{}", names.attention), normed)?;
        if self.config.block.parallel_residual {
            return self.parallel_mlp(m, layer, path, [x, normed, attended]);
        }
        let x = self.added(m, path, ("attn_residual", names.attention_norms), x, attended)?;
        let normed = self.placed_norm(m, path, names.mlp_norms.before, x)?;
        let out = self.mlp_or_experts(m, layer, &format!("{path}.{}", names.mlp), normed)?;
        self.added(m, path, ("mlp_residual", names.mlp_norms), x, out)
    }

    /// A block whose MLP reads what the block reads: through its own norm, or else through attention's, `normed`.
    fn parallel_mlp(
        &self,
        m: &mut ModelBuilder<'_>,
        layer: usize,
        path: &str,
        [x, normed, attended]: [ValueId; 3],
    ) -> Result<ValueId, IrError> {
        let Names { attention_norms, mlp, mlp_norms, .. } = self.config.block.names;
        let read = match mlp_norms.before {
            Some(_) => self.placed_norm(m, path, mlp_norms.before, x)?,
            None => normed,
        };
        let out = self.mlp_or_experts(m, layer, &format!("{path}.{mlp}"), read)?;
        let x = self.added(m, path, ("attn_residual", attention_norms), x, attended)?;
        self.added(m, path, ("mlp_residual", mlp_norms), x, out)
    }

    /// The residual stream with what a part adds to it.
    fn added(
        &self,
        m: &mut ModelBuilder<'_>,
        path: &str,
        (name, norms): (&str, NormPlaces),
        x: ValueId,
        part: ValueId,
    ) -> Result<ValueId, IrError> {
        let part = self.placed_norm(m, path, norms.after, part)?;
        let part = scaled(m, &format!("{path}.{name}_scaled"), part, self.config.block.residual_multiplier)?;
        m.b.op1(&format!("{path}.{name}"), Add, &[x, part])
    }

    fn placed_norm(
        &self,
        m: &mut ModelBuilder<'_>,
        path: &str,
        name: Option<&str>,
        x: ValueId,
    ) -> Result<ValueId, IrError> {
        name.map_or(Ok(x), |name| self.norm(m, &format!("{path}.{name}"), x))
    }

    /// The norm of the residual stream's width.
    fn norm(&self, m: &mut ModelBuilder<'_>, path: &str, x: ValueId) -> Result<ValueId, IrError> {
        let width = self.config.hidden_size;
        match self.config.block.norm {
            Norm::Rms | Norm::RmsUnitOffset => self.rms_norm(m, path, x, width),
            Norm::Layer => {
                let weight = m.parameter(&format!("{path}.weight"), &[width]);
                let bias = m.parameter(&format!("{path}.bias"), &[width]);
                m.b.op1(path, LayerNorm { eps: self.config.block.norm_eps as f32 }, &[x, weight, bias])
            }
        }
    }

    /// RMSNorm over groups of `width` elements.
    fn rms_norm(&self, m: &mut ModelBuilder<'_>, path: &str, x: ValueId, width: usize) -> Result<ValueId, IrError> {
        let weight = m.parameter(&format!("{path}.weight"), &[width]);
        let unit_offset = self.config.block.norm == Norm::RmsUnitOffset;
        m.b.op1(path, RmsNorm { eps: self.config.block.norm_eps as f32, unit_offset }, &[x, weight])
    }

    fn attention(&self, m: &mut ModelBuilder<'_>, layer: usize, path: &str, x: ValueId) -> Result<ValueId, IrError> {
        let (config, block) = (self.config, &self.config.block);
        let [q, k, v] = self.projected(m, path, x)?;
        let q = self.turned(m, layer, &format!("{path}.q"), q)?;
        let k = self.turned(m, layer, &format!("{path}.k"), k)?;
        let heads = Heads {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            scale: block.attention_scale.map_or(1.0 / (config.head_dim as f32).sqrt(), |scale| scale as f32),
            window: config.window(layer),
            softcap: block.attention_softcap.map(|cap| cap as f32),
            dropout: config.dropout.attention as f32,
        };
        let o = m.attention(&format!("{path}.attention"), heads, [q, k, v])?;
        let sizes = (config.num_attention_heads * config.head_dim, config.hidden_size);
        let o = m.linear(&format!("{path}.{}", block.names.output), o, sizes, block.output_bias, self.layout())?;
        m.b.dropout(&format!("{path}.resid_dropout"), o, config.dropout.residual as f32)
    }

    /// Queries, keys and values.
    fn projected(&self, m: &mut ModelBuilder<'_>, path: &str, x: ValueId) -> Result<[ValueId; 3], IrError> {
        let (config, block) = (self.config, &self.config.block);
        let (queries, keys) =
            (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let sizes = [queries, keys, keys];
        let mut linear = |name: &str, fan_out| {
            let sizes = (config.hidden_size, fan_out);
            m.linear(&format!("{path}.{name}"), x, sizes, block.qkv_bias, self.layout())
        };
        match block.projections {
            Projections::Separate([q, k, v]) => Ok([linear(q, queries)?, linear(k, keys)?, linear(v, keys)?]),
            Projections::Fused(name) => {
                let fused = linear(name, queries + 2 * keys)?;
                let cut =
                    m.b.op(&format!("{path}.qkv"), Split { sizes: sizes.to_vec(), groups: 1, behind: 0 }, &[fused])?;
                Ok([cut[0], cut[1], cut[2]])
            }
            Projections::FusedByHead(name) => {
                let fused = linear(name, queries + 2 * keys)?;
                let split = Split { sizes: vec![config.head_dim; 3], groups: config.num_attention_heads, behind: 0 };
                let cut = m.b.op(&format!("{path}.qkv"), split, &[fused])?;
                Ok([cut[0], cut[1], cut[2]])
            }
        }
    }

    /// Queries or keys with their norm and their rotation, where the model has these.
    fn turned(&self, m: &mut ModelBuilder<'_>, layer: usize, path: &str, x: ValueId) -> Result<ValueId, IrError> {
        let head = self.config.head_dim;
        let normed = |m: &mut ModelBuilder<'_>, width| self.rms_norm(m, &format!("{path}_norm"), x, width);
        let x = match self.config.block.qk_norm {
            Some(QkNorm::Head) => normed(m, head)?,
            Some(QkNorm::Width) => normed(m, m.b.ty(x).shape.last())?,
            None => x,
        };
        let Some(rotary) = self.config.rotary().filter(|rotary| rotary.rotates(layer)) else { return Ok(x) };
        let local = self.local_inv_freq.filter(|_| self.config.window(layer).is_some());
        let Some(inv_freq) = local.or(self.inv_freq) else { return Ok(x) };
        let scale = if local.is_some() { 1.0 } else { rotary.scaling.attention_factor() };
        let rope = Rope { head_size: head, inverse: false, scale: scale as f32 };
        m.b.op1(&format!("{path}_rope"), rope, &[x, m.inputs.positions, inv_freq])
    }

    /// The MLP, or the experts that stand in for it in this layer.
    fn mlp_or_experts(
        &self,
        m: &mut ModelBuilder<'_>,
        layer: usize,
        path: &str,
        x: ValueId,
    ) -> Result<ValueId, IrError> {
        match self.config.experts(layer) {
            Some(experts) => experts::mixture(self.config, experts, m, path, x),
            None => self.mlp(m, path, x),
        }
    }

    fn mlp(&self, m: &mut ModelBuilder<'_>, path: &str, x: ValueId) -> Result<ValueId, IrError> {
        let (config, bias) = (self.config, self.config.block.mlp_bias);
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |m: &mut ModelBuilder<'_>, name: &str, x, sizes| {
            m.linear(&format!("{path}.{name}"), x, sizes, bias, self.layout())
        };
        let act = format!("{path}.act");
        let (activated, down) = match config.block.mlp {
            Mlp::Gated { inner: [gate, up], down, activation } => {
                let gate = linear(m, gate, x, (width, inner))?;
                let up = linear(m, up, x, (width, inner))?;
                (gated(m, &act, activation, [gate, up])?, down)
            }
            Mlp::GatedFused { inner: name, down, activation } => {
                let fused = linear(m, name, x, (width, 2 * inner))?;
                let split = Split { sizes: vec![inner; 2], groups: 1, behind: 0 };
                let cut = m.b.op(&format!("{path}.gate_up"), split, &[fused])?;
                (gated(m, &act, activation, [cut[0], cut[1]])?, down)
            }
            Mlp::Plain { up, down, gelu } => {
                let up = linear(m, up, x, (width, inner))?;
                (m.b.op1(&act, Gelu { form: form(gelu) }, &[up])?, down)
            }
        };
        let out = linear(m, down, activated, (inner, width))?;
        m.b.dropout(&format!("{path}.dropout"), out, config.dropout.residual as f32)
    }

    fn layout(&self) -> Layout {
        if self.config.block.weights_in_out { Layout::InOut } else { Layout::OutIn }
    }
}
