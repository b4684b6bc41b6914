//! What families build with: parameters that are frozen or trained by method, linears with their adapters, the loss.
//!
//! Invariant: a parameter's value name is its name in the checkpoint (adapters: in PEFT's file), so that loading and
//! saving need no table.

use crate::lora::{Adapters, LoraConfig};
use crate::stored::{Quant, StoredQuantised};
use crate::{ModelError, Precision, family};
use remat_formats::ModelConfig;
use remat_ir::ops::{
    Add, Attention, CacheWrite, CachedAttention, Cast, Dropout, Layout, Linear, LinearCrossEntropy, Sum,
};
use remat_ir::{Builder, Graph, IrError, Parameter, RANDOM_KEY, StateRole, Training, Type, ValueId};
use remat_tensor::{DType, stream_of_name};

/// Ends of the names of the states that hold an attention's keys and values.
pub(crate) const K_CACHE: &str = ".k_cache";
pub(crate) const V_CACHE: &str = ".v_cache";

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Every parameter.
    Full,
    /// Low-rank adapters; the base is frozen.
    Lora(LoraConfig),
    /// Low-rank adapters on a base whose linears are held in few bits (Dettmers et al., *QLoRA*, 2023).
    Qlora(LoraConfig, Quant),
}

impl Method {
    /// The adapters' settings, unless the base itself is trained.
    pub fn adapter(&self) -> Option<&LoraConfig> {
        match self {
            Method::Full => None,
            Method::Lora(lora) | Method::Qlora(lora, _) => Some(lora),
        }
    }
}

/// What graphs are made of: a configuration, the precision, and the weights that the files hold quantised.
#[derive(Clone, Copy)]
pub(crate) struct Base<'a> {
    pub config: &'a ModelConfig,
    pub precision: Precision,
    pub stored: &'a StoredQuantised,
}

/// Static shape of a micro-batch: rows and tokens per row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Rows.
    pub batch: usize,
    /// Tokens per row.
    pub seq_len: usize,
}

/// A forward graph without loss: output `logits`, f32 [B, T, V].
#[derive(Debug, Clone)]
pub struct Inference {
    /// The forward computation.
    pub graph: Graph,
}

/// A forward graph with its loss, without dropout and without gradients: output `loss`, the sum of the negative
/// log-likelihoods, f32 [1]. Weights and states have the names and storage they have in training; inputs are
/// `evaluation.ids`, `.positions`, `.segment_start` and `.targets`, so that its shape may differ from the training's.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The forward computation.
    pub graph: Graph,
}

/// What the names of an evaluation's inputs begin with.
const EVALUATION: &str = "evaluation.";

/// Values that every family reads, each by the name of its field.
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

/// One attention as families ask for it.
pub(crate) struct Heads {
    /// H.
    pub heads: usize,
    /// K; divides H.
    pub kv_heads: usize,
    /// E.
    pub head_size: usize,
    /// How many keys a token sees at most, itself included.
    pub window: Option<usize>,
    /// Dropout of the probabilities in training.
    pub dropout: f32,
}

/// A model's graph under construction.
pub(crate) struct ModelBuilder<'a> {
    pub b: Builder,
    pub inputs: Inputs,
    keys: Keys,
    precision: Precision,
    adapters: Adapters<'a>,
    train_base: bool,
    stored: &'a StoredQuantised,
    /// What linears that the files hold otherwise are quantised to.
    quant: Option<Quant>,
    /// Whether parameters have gradients and dropout applies.
    training: bool,
    rng: Option<ValueId>,
    parameters: Vec<Parameter>,
}

/// The last hidden state and the head's weight [V, D].
pub(crate) struct Hidden {
    pub hidden: ValueId,
    pub head: ValueId,
}

/// The forward graph with its loss, from a configuration alone: what planning needs of a model, without its weights.
///
/// # Errors
/// As [`crate::Model::training`].
pub fn training(
    config: &ModelConfig,
    precision: Precision,
    method: &Method,
    shape: BatchShape,
) -> Result<Training, ModelError> {
    training_of(Base { config, precision, stored: &StoredQuantised::default() }, method, shape)
}

pub(crate) fn training_of(base: Base<'_>, method: &Method, shape: BatchShape) -> Result<Training, ModelError> {
    let config = base.config;
    let mut builder = ModelBuilder::new(base, Some(method), shape, true, "")?;
    let loss = builder.loss(config, shape, "")?;
    let dloss = builder.b.input("dloss", Type::new(DType::F32, [1]));
    let (random, wanted) = (builder.rng.is_some(), Vec::new());
    Ok(Training { graph: builder.b.finish(), loss, dloss, parameters: builder.parameters, wanted, random })
}

pub(crate) fn evaluation(base: Base<'_>, method: Option<&Method>, shape: BatchShape) -> Result<Evaluation, ModelError> {
    let mut builder = ModelBuilder::new(base, method, shape, false, EVALUATION)?;
    builder.loss(base.config, shape, EVALUATION)?;
    Ok(Evaluation { graph: builder.b.finish() })
}

pub(crate) fn inference(base: Base<'_>, method: &Method, shape: BatchShape) -> Result<Inference, ModelError> {
    let mut builder = ModelBuilder::new(base, Some(method), shape, false, "")?;
    builder.logits(base.config)?;
    Ok(Inference { graph: builder.b.finish() })
}

impl<'a> ModelBuilder<'a> {
    fn new(
        base: Base<'a>,
        method: Option<&'a Method>,
        shape: BatchShape,
        training: bool,
        prefix: &str,
    ) -> Result<Self, ModelError> {
        let limit = family::max_positions(base.config);
        if shape.batch == 0 || shape.seq_len == 0 {
            return Err(ModelError::Setting("batch size and sequence length must be at least 1".to_string()));
        }
        if shape.seq_len > limit {
            let BatchShape { seq_len, .. } = shape;
            let message =
                format!("--seq-len {seq_len}: this model has {limit} positions; use --seq-len {limit} or less");
            return Err(ModelError::Setting(message));
        }
        let (mut b, ty) = (Builder::new(), Type::new(DType::I32, [shape.batch, shape.seq_len]));
        let mut input = |name: &str| b.input(&format!("{prefix}{name}"), ty.clone());
        let inputs = Inputs { ids: input("ids"), positions: input("positions") };
        let keys = Keys::Sequence(input("segment_start"));
        ModelBuilder::of(base, method, training, b, inputs, keys)
    }

    /// A builder whose attention reads caches of `capacity` tokens, with `tokens` new ones in one row. Inputs are
    /// `<prefix>.ids` and `<prefix>.positions`, since graphs that share sources cannot differ in an input's shape.
    pub fn cached(
        base: Base<'a>,
        method: Option<&'a Method>,
        (prefix, tokens): (&str, usize),
        capacity: usize,
    ) -> Result<Self, ModelError> {
        let (mut b, ty) = (Builder::new(), Type::new(DType::I32, [1, tokens]));
        let mut input = |name: &str| b.input(&format!("{prefix}.{name}"), ty.clone());
        let inputs = Inputs { ids: input("ids"), positions: input("positions") };
        ModelBuilder::of(base, method, false, b, inputs, Keys::Cache { capacity })
    }

    fn of(
        base: Base<'a>,
        method: Option<&'a Method>,
        training: bool,
        b: Builder,
        inputs: Inputs,
        keys: Keys,
    ) -> Result<Self, ModelError> {
        let Base { config, precision, stored } = base;
        let adapters = match method.and_then(Method::adapter) {
            Some(lora) => Adapters::new(lora, family::linear_names(config))?,
            None => Adapters::none(),
        };
        let train_base = method == Some(&Method::Full);
        if let (true, Some(stored)) = (train_base, stored.first()) {
            let message = format!(
                "--method full: the weights of this model are stored in {stored} and cannot be trained; \
                 use --method lora, or the unquantised model"
            );
            return Err(ModelError::Setting(message));
        }
        let quant = match method {
            Some(Method::Qlora(_, quant)) => Some(*quant),
            Some(Method::Lora(_) | Method::Full) | None => None,
        };
        if let Some((quant, stored)) = quant.and_then(|quant| Some((quant, stored.other_than(quant)?))) {
            let message = format!(
                "--quant {quant}: weights of this model are stored in {stored}; use --quant {stored}, or the \
                 unquantised model"
            );
            return Err(ModelError::Setting(message));
        }
        Ok(ModelBuilder {
            b,
            inputs,
            keys,
            precision,
            adapters,
            train_base,
            stored,
            quant,
            training,
            rng: None,
            parameters: Vec::new(),
        })
    }

    /// The family's graph with its head as output `logits`.
    pub fn logits(&mut self, config: &ModelConfig) -> Result<(), ModelError> {
        let Hidden { hidden, head } = family::forward(config, self)?;
        // Whoever reads logits reads f32; under bf16 they are rounded once, as all results of a linear are.
        let logits = match self.b.ty(hidden).dtype {
            DType::F32 => self.b.op1("logits", Linear::plain(Layout::OutIn), &[hidden, head])?,
            _ => {
                let narrow = self.b.op1("logits.narrow", Linear::plain(Layout::OutIn), &[hidden, head])?;
                self.b.op1("logits", Cast { to: DType::F32, into: false }, &[narrow])?
            }
        };
        self.b.output(logits);
        self.adapters.all_matched()
    }

    /// The family's graph with the sum of the losses as output `loss`.
    fn loss(&mut self, config: &ModelConfig, shape: BatchShape, prefix: &str) -> Result<ValueId, ModelError> {
        let Hidden { hidden, head } = family::forward(config, self)?;
        let targets = self.b.input(&format!("{prefix}targets"), Type::new(DType::I32, [shape.batch, shape.seq_len]));
        let per_token = self.b.op1("nll", LinearCrossEntropy, &[hidden, head, targets])?;
        let loss = self.b.op1("loss", Sum, &[per_token])?;
        self.b.output(loss);
        self.adapters.all_matched()?;
        Ok(loss)
    }

    /// Causal attention named `path`, of the sequence itself or over caches.
    pub fn attention(&mut self, path: &str, heads: Heads, [q, k, v]: [ValueId; 3]) -> Result<ValueId, IrError> {
        let Heads { heads, kv_heads, head_size, window, dropout } = heads;
        let scale = 1.0 / (head_size as f32).sqrt();
        match self.keys {
            Keys::Sequence(segment_start) => {
                let (dropout, rng) = self.inner_dropout(dropout);
                let op = Attention { heads, kv_heads, scale, window, dropout, stream: stream_of_name(path) };
                let mut operands = vec![q, k, v, segment_start];
                operands.extend(rng);
                self.b.op1(path, op, &operands)
            }
            Keys::Cache { capacity } => {
                let k = self.written(&format!("{path}{K_CACHE}"), k, capacity)?;
                let v = self.written(&format!("{path}{V_CACHE}"), v, capacity)?;
                let op = CachedAttention { heads, kv_heads, scale, window };
                self.b.op1(path, op, &[q, k, v, self.inputs.positions])
            }
        }
    }

    /// The cache of this name with the tokens' own rows in it.
    fn written(&mut self, name: &str, rows: ValueId, capacity: usize) -> Result<ValueId, IrError> {
        let ty = self.b.ty(rows);
        let ty = Type::new(ty.dtype, [ty.shape[0], capacity, ty.shape.last()]);
        let cache = self.b.state(name, ty);
        self.b.op1(&format!("{name}.write"), CacheWrite, &[cache, rows, self.inputs.positions])
    }

    /// A base parameter: a trained state under full fine-tuning, else a frozen weight.
    pub fn parameter(&mut self, name: &str, shape: &[usize]) -> ValueId {
        if self.train_base {
            let decay = shape.len() > 1;
            self.trained(name, shape, decay)
        } else {
            self.b.weight(name, Type::new(self.precision.dtype(), shape))
        }
    }

    /// The dtype of a linear's weight, if it is held quantised.
    fn quantised(&self, name: &str) -> Option<DType> {
        self.stored.dtype(name).or(self.quant.map(|quant| quant.format().dtype()))
    }

    fn trained(&mut self, name: &str, shape: &[usize], decay: bool) -> ValueId {
        let ty = Type::new(DType::F32, shape);
        let value = match self.precision {
            Precision::F32 => self.b.state(name, ty.clone()),
            Precision::Bf16 => self.b.state(&StateRole::WorkingCopy.name(name), Type::new(DType::BF16, shape)),
        };
        if !self.training {
            return value;
        }
        let gradient = self.b.state(&StateRole::Gradient.name(name), ty.clone());
        let (name, has_working_copy) = (name.to_string(), self.precision == Precision::Bf16);
        self.parameters.push(Parameter { name, ty, value, has_working_copy, gradient, decay });
        value
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
        let mut operands = vec![x, weight];
        if bias {
            operands.push(self.parameter(&format!("{path}.bias"), &[fan_out]));
        }
        let y = self.b.op1(path, Linear { bias, ..Linear::plain(layout) }, &operands)?;
        let Some(lora) = self.adapters.of(path) else { return Ok(y) };
        let (rank, scale, p) = (lora.rank, lora.scale(), lora.dropout);
        let prefix = format!("base_model.model.{path}");
        let a = self.trained(&format!("{prefix}.lora_A.weight"), &[rank, fan_in], true);
        let b = self.trained(&format!("{prefix}.lora_B.weight"), &[fan_out, rank], true);
        let x = self.dropout(&format!("{path}.lora_dropout"), x, p)?;
        let u = self.b.op1(&format!("{path}.lora_A"), Linear::plain(Layout::OutIn), &[x, a])?;
        let up = Linear { alpha: scale, ..Linear::plain(Layout::OutIn) };
        let delta = self.b.op1(&format!("{path}.lora_B"), up, &[u, b])?;
        self.b.op1(&format!("{path}.adapted"), Add, &[y, delta])
    }

    /// Dropout while training; the value itself otherwise, or if `p` is 0.
    pub fn dropout(&mut self, name: &str, x: ValueId, p: f32) -> Result<ValueId, IrError> {
        if !self.training || p == 0.0 {
            return Ok(x);
        }
        let rng = self.rng();
        self.b.op1(name, Dropout::new(p, stream_of_name(name)), &[x, rng])
    }

    /// The dropout probability to use in an op that has its own, with the generator key if it is not 0.
    fn inner_dropout(&mut self, p: f32) -> (f32, Option<ValueId>) {
        if !self.training || p == 0.0 { (0.0, None) } else { (p, Some(self.rng())) }
    }

    fn rng(&mut self) -> ValueId {
        if let Some(rng) = self.rng {
            return rng;
        }
        let rng = self.b.input(RANDOM_KEY, Type::new(DType::U32, [4]));
        self.rng = Some(rng);
        rng
    }
}
