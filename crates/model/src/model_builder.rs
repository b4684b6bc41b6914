//! What a decoder is built with: parameters that are frozen or trained by method, linears with their adapters, attention
//! over a sequence or over caches.
//!
//! Invariant: the decoder asks for a linear or an attention and does not know which of these it gets. Look next at
//! `decoder`, which asks.

use crate::adapter::{AdapterStart, Adapters, BaseLinear, HeadFactors, TokenRows};
use crate::graph_builder::GraphBuilder;
use crate::stored::StoredQuantised;
use crate::{Method, ModelError, Precision, Quant};
use remat_formats::{ModelConfig, SettingName};
use remat_ir::ops::{Attention, CacheWrite, CachedAttention, Embedding, GroupedLinear, Layout};
use remat_ir::{IrError, ParameterKind, SourceRole, Storage, Type, ValueId};
use remat_tensor::{DType, stream_of_name};

/// Ends of the names of the states that hold an attention's keys and values.
const K_CACHE: &str = ".k_cache";
const V_CACHE: &str = ".v_cache";

/// What graphs are made of: a configuration, the precision, and the weights that the files hold quantised.
#[derive(Clone, Copy)]
pub(crate) struct Base<'a> {
    pub config: &'a ModelConfig,
    pub precision: Precision,
    pub stored: &'a StoredQuantised,
    /// Size of the noise on embeddings in training; 0 is none.
    pub noise: f32,
}

/// Static shape of a micro-batch: rows and tokens per row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Rows.
    pub batch: usize,
    /// Tokens per row.
    pub seq_len: usize,
}

/// Values that every decoder reads, each by the name of its field.
pub(crate) struct Inputs {
    pub ids: ValueId,
    pub positions: ValueId,
}

/// Where attention's keys and values come from.
enum Keys {
    /// The tokens' own sequence, from this input on: the start of each token's segment.
    Sequence(ValueId),
    /// Caches of so many tokens, into which the tokens' own are written first.
    Cache { capacity: usize },
}

/// One attention as a decoder asks for it.
pub(crate) struct Heads {
    /// H.
    pub heads: usize,
    /// K; divides H.
    pub kv_heads: usize,
    /// Factor of q·kᵀ.
    pub scale: f32,
    /// How many keys a token sees at most, itself included.
    pub window: Option<usize>,
    /// What scores stay within.
    pub softcap: Option<f32>,
    /// Dropout of the probabilities in training.
    pub dropout: f32,
}

/// A model's graph under construction.
pub(crate) struct ModelBuilder<'a> {
    pub b: GraphBuilder,
    pub inputs: Inputs,
    keys: Keys,
    adapters: Adapters<'a>,
    /// Trained rows of the embedding, which a tied head has, too.
    token_rows: Option<TokenRows>,
    train_base: bool,
    noise: f32,
    stored: &'a StoredQuantised,
    /// What linears that the files hold otherwise are quantised to.
    quant: Option<Quant>,
}

impl<'a> ModelBuilder<'a> {
    /// A builder whose attention reads the sequence itself. Inputs are `<prefix>ids` and the like.
    pub fn new(
        base: Base<'a>,
        method: Option<&'a Method>,
        shape: BatchShape,
        training: bool,
        prefix: &str,
    ) -> Result<Self, ModelError> {
        let BatchShape { batch, seq_len } = shape;
        let limit = base.config.positions_end();
        if batch == 0 || seq_len == 0 {
            return Err(ModelError::Setting("batch size and sequence length must be at least 1".to_string()));
        }
        if seq_len > limit {
            let message = format!(
                "{key} {seq_len}: this model has {limit} positions; use {key} {limit} or less",
                key = SettingName("seq-len")
            );
            return Err(ModelError::Setting(message));
        }
        let mut b = GraphBuilder::new(base.precision, training);
        let mut input = |name: &str| b.input(&format!("{prefix}{name}"), Type::new(DType::I32, [batch, seq_len]));
        let inputs = Inputs { ids: input("ids"), positions: input("positions") };
        let keys = Keys::Sequence(input("segment_start"));
        ModelBuilder::of(base, method, b, inputs, keys)
    }

    /// A builder whose attention reads caches of `capacity` tokens, with new ones in `shape`, [rows, tokens]. Inputs are
    /// `<prefix>.ids` and `<prefix>.positions`, since graphs that share sources cannot differ in an input's shape.
    pub fn cached(
        base: Base<'a>,
        method: Option<&'a Method>,
        (prefix, shape): (&str, [usize; 2]),
        capacity: usize,
    ) -> Result<Self, ModelError> {
        let mut b = GraphBuilder::new(base.precision, false);
        let mut input = |name: &str| b.input(&format!("{prefix}.{name}"), Type::new(DType::I32, shape));
        let inputs = Inputs { ids: input("ids"), positions: input("positions") };
        ModelBuilder::of(base, method, b, inputs, Keys::Cache { capacity })
    }

    fn of(
        Base { config, stored, noise, .. }: Base<'a>,
        method: Option<&'a Method>,
        b: GraphBuilder,
        inputs: Inputs,
        keys: Keys,
    ) -> Result<Self, ModelError> {
        let adapters = Adapters::new(method.and_then(Method::adapter), config)?;
        let train_base = method == Some(&Method::Full);
        if let (true, Some(stored)) = (train_base, stored.first()) {
            let message = format!(
                "{method} full: the weights of this model are stored in {stored} and cannot be trained; \
                 use {method} lora, or the unquantised model",
                method = SettingName("method")
            );
            return Err(ModelError::Setting(message));
        }
        let quant = method.and_then(Method::quant);
        let start = method.and_then(Method::adapter).map_or(AdapterStart::Default, |lora| lora.start);
        if let (AdapterStart::Pissa(_), Some(quant)) = (start, quant.or(stored.first())) {
            let key = SettingName("init-lora-weights");
            let problem =
                format!("takes singular values out of weights of 16 or 32 bits, as in PEFT, and these are in {quant}");
            return Err(ModelError::Setting(format!("{key} {start}: {problem}; use olora, or the unquantised model")));
        }
        let quantised = |name: &&str| name.ends_with(".weight") && stored.dtype(name, quant).is_some();
        let linears = config.linear_names().into_iter().map(|module| format!("{module}.weight"));
        let linears: Vec<String> = linears.filter(|name| adapters.trained_base.contains(name)).collect();
        if let Some(name) = linears.iter().map(String::as_str).find(quantised) {
            let key = SettingName("modules-to-save");
            let problem = "is held in few bits and cannot be trained whole; target it with an adapter";
            return Err(ModelError::Setting(format!("{key}: {name} {problem}")));
        }
        if let Some((quant, stored)) = quant.and_then(|quant| Some((quant, stored.other_than(quant)?))) {
            let message = format!(
                "{key} {quant}: weights of this model are stored in {stored}; use {key} {stored}, or the \
                 unquantised model",
                key = SettingName("quant")
            );
            return Err(ModelError::Setting(message));
        }
        Ok(ModelBuilder { b, inputs, keys, adapters, token_rows: None, train_base, noise, stored, quant })
    }

    /// Embeddings with the noise of training on them, if there is any (Jain et al., *NEFTune*, 2023).
    fn noisy(&mut self, path: &str, x: ValueId) -> Result<ValueId, IrError> {
        match self.keys {
            Keys::Sequence(segment_start) => self.b.noise(&format!("{path}.noise"), x, segment_start, self.noise),
            Keys::Cache { .. } => Ok(x),
        }
    }

    /// How long a sequence is that positions count: with caches, as long as these get.
    pub fn tokens(&self) -> usize {
        match self.keys {
            Keys::Sequence(_) => self.b.ty(self.inputs.positions).shape.last(),
            Keys::Cache { capacity } => capacity,
        }
    }

    /// Refuses settings that train nothing of this graph.
    pub fn all_settings_used(&self) -> Result<(), ModelError> {
        self.adapters.trained_base.all_used()
    }

    /// Whether embedding and head are one parameter where the configuration ties them.
    pub fn keeps_tie(&self) -> bool {
        self.adapters.trained_base.keeps_tie
    }

    /// The embeddings of `ids` named `path`, with the adapter and the noise of training on them.
    pub fn embedding(&mut self, path: &str, table: ValueId) -> Result<ValueId, IrError> {
        let (ids, sizes) = (self.inputs.ids, self.sizes_of(table));
        let x = self.b.op1(path, Embedding, &[table, ids])?;
        let x = self.adapters.emit_embedding(&mut self.b, path, (ids, x), sizes)?;
        let (x, rows) = self.adapters.trained_tokens.emit_embedding(&mut self.b, path, (table, ids, x))?;
        self.token_rows = rows;
        self.noisy(path, x)
    }

    /// What an adapter adds to the logits of `hidden`, as two factors, if the head has one.
    pub fn head_factors(&mut self, hidden: ValueId, head: ValueId) -> Result<Option<HeadFactors>, IrError> {
        let sizes = self.sizes_of(head);
        match self.adapters.emit_head(&mut self.b, hidden, sizes)? {
            Some(factors) => Ok(Some(factors)),
            None => self.adapters.trained_tokens.emit_head(&mut self.b, (hidden, head), self.token_rows),
        }
    }

    /// [V, D] of a table of tokens.
    fn sizes_of(&self, table: ValueId) -> [usize; 2] {
        let shape = &self.b.ty(table).shape;
        [shape[0], shape[1]]
    }

    /// Causal attention named `path`, of the sequence itself or over caches.
    pub fn attention(&mut self, path: &str, heads: Heads, [q, k, v]: [ValueId; 3]) -> Result<ValueId, IrError> {
        let Heads { heads, kv_heads, scale, window, softcap, dropout } = heads;
        match self.keys {
            Keys::Sequence(segment_start) => {
                let (dropout, rng) = self.b.inner_dropout(dropout);
                let op = Attention { heads, kv_heads, scale, window, softcap, dropout, stream: stream_of_name(path) };
                let mut operands = vec![q, k, v, segment_start];
                operands.extend(rng);
                self.b.op1(path, op, &operands)
            }
            Keys::Cache { capacity } => {
                let k = self.written(&format!("{path}{K_CACHE}"), k, capacity)?;
                let v = self.written(&format!("{path}{V_CACHE}"), v, capacity)?;
                let op = CachedAttention { heads, kv_heads, scale, window, softcap };
                self.b.op1(path, op, &[q, k, v, self.inputs.positions])
            }
        }
    }

    /// The cache of this name with the tokens' own rows in it.
    fn written(&mut self, name: &str, rows: ValueId, capacity: usize) -> Result<ValueId, IrError> {
        let ty = self.b.ty(rows);
        let ty = Type::new(ty.dtype, [ty.shape[0], capacity, ty.shape.last()]);
        let cache = self.b.source(name, ty, Storage::State, SourceRole::KvCache);
        self.b.op1(&format!("{name}.write"), CacheWrite, &[cache, rows, self.inputs.positions])
    }

    /// A base parameter: a trained state under full fine-tuning, else a frozen weight.
    pub fn parameter(&mut self, name: &str, shape: &[usize]) -> ValueId {
        match self.train_base || self.adapters.trained_base.take(name) {
            true => self.b.trained(name, ParameterKind::Base, shape, shape.len() > 1),
            false => self.b.frozen(name, shape),
        }
    }

    /// The dtype of a linear's weight, if it is held quantised.
    fn quantised(&self, name: &str) -> Option<DType> {
        self.stored.dtype(name, self.quant)
    }

    /// A linear module: the base product, plus its adapter where the method targets it. `path` is the module's name;
    /// its parameters are `<path>.weight` and `<path>.bias`.
    pub fn linear(
        &mut self,
        path: &str,
        x: ValueId,
        (fan_in, fan_out): (usize, usize),
        bias: bool,
        layout: Layout,
    ) -> Result<ValueId, IrError> {
        let name = format!("{path}.weight");
        let (layout, weight) = match (self.quantised(&name), layout) {
            (Some(dtype), _) => (Layout::OutIn, self.b.weight(&name, Type::new(dtype, [fan_out, fan_in]))),
            (None, Layout::OutIn) => (layout, self.parameter(&name, &[fan_out, fan_in])),
            (None, Layout::InOut) => (layout, self.parameter(&name, &[fan_in, fan_out])),
        };
        let bias = bias.then(|| self.parameter(&format!("{path}.bias"), &[fan_out]));
        let base = BaseLinear { weight, layout, bias };
        self.adapters.emit(&mut self.b, path, (x, base), (fan_in, fan_out))
    }

    /// One linear of all experts, `modules`, on rows that are sorted by expert and end where `ends` says, with its adapters.
    pub fn linear_of_experts(
        &mut self,
        path: &str,
        modules: &[String],
        (ends, x): (ValueId, ValueId),
        (fan_in, fan_out): (usize, usize),
    ) -> Result<ValueId, IrError> {
        let mut operands = vec![ends, x];
        for module in modules {
            let name = format!("{module}.weight");
            operands.push(match self.quantised(&name) {
                Some(dtype) => self.b.weight(&name, Type::new(dtype, [fan_out, fan_in])),
                None => self.parameter(&name, &[fan_out, fan_in]),
            });
        }
        let y = self.b.op1(path, GroupedLinear::plain(Layout::OutIn), &operands)?;
        self.adapters.emit_of_experts(&mut self.b, (path, modules), (ends, x, y), (fan_in, fan_out))
    }
}
