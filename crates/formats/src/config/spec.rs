//! A decoder as data: what the one builder of graphs reads, whatever family the model is of.
//!
//! Invariant: nothing here is read from a file; each family's own file fills it in from its keys. A field is there because
//! some families differ in it. Look next at `llama.rs` for a family, and at the crate `model` for the builder.

use super::activation::{Activation, GeluForm};
use super::experts::Experts;
use super::rotary::Rotary;
use super::sliding_window::SlidingWindow;

/// The configuration of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// `model_type`.
    pub family: &'static str,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of one head; the heads together need not be `hidden_size` wide.
    pub head_dim: usize,
    /// Factor of the embeddings.
    pub embedding_multiplier: f64,
    /// Whether that factor is rounded to the embeddings' number format before it multiplies.
    pub rounded_embedding_multiplier: bool,
    /// How a token knows its place.
    pub positions: Positions,
    /// Longest sequence the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// How many keys a token sees, and in which layers; `None` if all of them everywhere.
    pub sliding_window: Option<SlidingWindow>,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Dropout in training.
    pub dropout: Dropouts,
    /// What a block is made of.
    pub block: BlockSpec,
    /// What the logits are divided by.
    pub logits_divisor: f64,
    /// What the logits z stay within, as cap · tanh(z / cap).
    pub logits_softcap: Option<f64>,
    /// Whether the head has a bias.
    pub head_bias: bool,
    /// Ids that begin a sequence. Like the others, not checked against `vocab_size`: transformers does not either.
    pub bos_token_ids: Vec<u32>,
    /// Ids that end a sequence.
    pub eos_token_ids: Vec<u32>,
}

/// How a token knows its place.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// A trained table of this name, added to the embedding: a row per position, and no more positions than rows.
    Learned(&'static str),
    /// Queries and keys are rotated; there is no last position.
    Rotary(Rotary),
}

/// Probabilities of dropout in training.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Dropouts {
    /// Of the embeddings.
    pub embedding: f64,
    /// Of attention's probabilities.
    pub attention: f64,
    /// Of what attention and MLP add.
    pub residual: f64,
}

/// What a block is made of, and under which names.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSpec {
    /// Names of the modules.
    pub names: Names,
    /// All norms but those of single heads are of this kind.
    pub norm: Norm,
    /// Added to the mean square, or the variance, under the root.
    pub norm_eps: f64,
    /// The projections to queries, keys and values.
    pub projections: Projections,
    /// Whether those have biases.
    pub qkv_bias: bool,
    /// An RMSNorm of queries and keys, before their rotation.
    pub qk_norm: Option<QkNorm>,
    /// Factor of q·kᵀ; `None` is 1/√E.
    pub attention_scale: Option<f64>,
    /// What attention's scores s stay within, as cap · tanh(s / cap).
    pub attention_softcap: Option<f64>,
    /// Whether attention's output projection has a bias.
    pub output_bias: bool,
    /// The MLP.
    pub mlp: Mlp,
    /// Whether its linears have biases.
    pub mlp_bias: bool,
    /// The experts that stand in for it in some or all layers.
    pub experts: Option<Experts>,
    /// Factor of what attention and MLP add.
    pub residual_multiplier: f64,
    /// Whether the MLP reads what the block reads, and not what attention has added to; without a norm of its own before it,
    /// it reads what attention reads.
    pub parallel_residual: bool,
    /// Whether the checkpoint stores the weights of linears [in, out].
    pub weights_in_out: bool,
}

/// Names of modules in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Names {
    /// What holds everything but the head.
    pub outer: &'static str,
    /// The embedding, in it.
    pub embedding: &'static str,
    /// The blocks, in it.
    pub layers: &'static str,
    /// The last norm, in it.
    pub final_norm: &'static str,
    /// The head, beside it.
    pub head: &'static str,
    /// Attention, in a block.
    pub attention: &'static str,
    /// Its output projection, in it.
    pub output: &'static str,
    /// The norms around attention.
    pub attention_norms: NormPlaces,
    /// The MLP, in a block.
    pub mlp: &'static str,
    /// The norms around the MLP.
    pub mlp_norms: NormPlaces,
}

/// The norms around a part of a block, by name, where there are any.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormPlaces {
    /// Of what the part reads.
    pub before: Option<&'static str>,
    /// Of what it adds to the residual stream.
    pub after: Option<&'static str>,
}

/// Kinds of norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// RMSNorm, with a weight.
    Rms,
    /// RMSNorm whose factor is 1 + its weight; those of single heads, too.
    RmsUnitOffset,
    /// LayerNorm, with a weight and a bias.
    Layer,
}

/// What an RMSNorm of queries and keys is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head by itself, with one weight for all heads.
    Head,
    /// All heads together.
    Width,
}

/// The projections to queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projections {
    /// Three linears.
    Separate([&'static str; 3]),
    /// One linear, whose result is cut into queries, keys and values.
    Fused(&'static str),
    /// One linear, whose result holds for each head its queries, keys and values; as many heads of all three.
    FusedByHead(&'static str),
}

/// An MLP, by the names of its linears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mlp {
    /// `down(activation(gate(x)) · up(x))`.
    Gated {
        /// Names of `gate` and `up`.
        inner: [&'static str; 2],
        /// Name of `down`.
        down: &'static str,
        /// What the gate goes through.
        activation: Activation,
    },
    /// The same with one linear whose result is cut into gate and up.
    GatedFused {
        /// Its name.
        inner: &'static str,
        /// Name of `down`.
        down: &'static str,
        /// What the gate goes through.
        activation: Activation,
    },
    /// `down(gelu(up(x)))`.
    Plain {
        /// Name of `up`.
        up: &'static str,
        /// Name of `down`.
        down: &'static str,
        /// How GELU is computed.
        gelu: GeluForm,
    },
}

impl NormPlaces {
    /// A norm of what a part reads, and none behind it.
    pub(super) const fn before(name: &'static str) -> Self {
        NormPlaces { before: Some(name), after: None }
    }

    /// A norm of what a part adds, and none before it.
    pub(super) const fn after(name: &'static str) -> Self {
        NormPlaces { before: None, after: Some(name) }
    }
}

impl Projections {
    fn names(&self) -> &[&'static str] {
        match self {
            Projections::Separate(names) => names,
            Projections::Fused(name) | Projections::FusedByHead(name) => std::slice::from_ref(name),
        }
    }
}

impl Mlp {
    fn names(&self) -> Vec<&'static str> {
        match *self {
            Mlp::Gated { inner: [gate, up], down, .. } => vec![gate, up, down],
            Mlp::GatedFused { inner, down, .. } => vec![inner, down],
            Mlp::Plain { up, down, .. } => vec![up, down],
        }
    }
}

impl ModelConfig {
    /// The same without any dropout in training.
    pub fn without_dropout(self) -> Self {
        ModelConfig { dropout: Dropouts::default(), ..self }
    }

    /// How many keys a token of this layer sees at most, itself included; `None` if all before it.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.as_ref().and_then(|window| window.layers.contains(layer).then_some(window.tokens))
    }

    /// Whether some layer has a sliding window.
    pub fn has_window(&self) -> bool {
        (0..self.num_hidden_layers).any(|layer| self.window(layer).is_some())
    }

    /// Rotary positions, if the model has them.
    pub fn rotary(&self) -> Option<&Rotary> {
        match &self.positions {
            Positions::Learned(_) => None,
            Positions::Rotary(rotary) => Some(rotary),
        }
    }

    /// How many positions there are. A longer sequence than a model with rotary ones was made for is the user's decision.
    pub fn positions_end(&self) -> usize {
        match self.positions {
            Positions::Learned(_) => self.max_position_embeddings,
            Positions::Rotary(_) => i32::MAX as usize,
        }
    }

    /// The full name of a module outside the blocks.
    pub fn outer(&self, name: &str) -> String {
        format!("{}.{name}", self.block.names.outer)
    }

    /// The full name of a block.
    pub fn layer(&self, layer: usize) -> String {
        let Names { outer, layers, .. } = self.block.names;
        format!("{outer}.{layers}.{layer}")
    }

    /// Name of the head's weight.
    pub fn head_weight(&self) -> String {
        format!("{}.weight", self.block.names.head)
    }

    /// Name of the embedding's weight.
    pub fn embedding_weight(&self) -> String {
        format!("{}.weight", self.outer(self.block.names.embedding))
    }

    /// The experts of a layer, where it has any.
    pub fn experts(&self, layer: usize) -> Option<&Experts> {
        self.block.experts.as_ref().filter(|experts| experts.layers.get(layer).copied().unwrap_or(false))
    }

    /// Full names of the linear modules of all blocks, in graph order. Routers are none of them: they choose, are never quantised
    /// and have no adapter.
    pub fn linear_names(&self) -> Vec<String> {
        (0..self.num_hidden_layers).flat_map(|layer| self.linears_of_layer(layer).concat()).collect()
    }

    /// The linears of experts that run as one: full names, those of all experts of one layer and place together.
    pub fn expert_linears(&self) -> Vec<Vec<String>> {
        let names = self.block.mlp.names();
        let of_layer = |layer: usize| {
            let mlp = format!("{}.{}", self.layer(layer), self.block.names.mlp);
            let experts = self.experts(layer);
            names.iter().filter_map(move |name| Some(experts?.of_linear(&mlp, name))).collect::<Vec<_>>()
        };
        (0..self.num_hidden_layers).flat_map(of_layer).collect()
    }

    /// The linears of one layer, those of experts that run as one together.
    fn linears_of_layer(&self, layer: usize) -> Vec<Vec<String>> {
        let BlockSpec { names: Names { attention, output, mlp, .. }, projections, mlp: linears, .. } = &self.block;
        let path = self.layer(layer);
        let of_attention =
            projections.names().iter().chain([output]).map(|name| vec![format!("{path}.{attention}.{name}")]);
        let mlp = format!("{path}.{mlp}");
        let of_mlp = match self.experts(layer) {
            None => linears.names().into_iter().map(|name| vec![format!("{mlp}.{name}")]).collect(),
            Some(experts) => experts.linears(&mlp, &linears.names()),
        };
        of_attention.chain(of_mlp).collect()
    }
}
