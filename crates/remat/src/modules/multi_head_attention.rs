//! torch.nn.MultiheadAttention: of a sequence with itself or with another, masked, causal, with dropout.

use crate::modules::Linear;
use crate::{AttentionOptions, Error, Graph, Init, Tensor};
use std::ops::Range;

/// Attention of several heads, with the parameters of torch.nn.MultiheadAttention under its names: `in_proj_weight`, or
/// `q_proj_weight`, `k_proj_weight` and `v_proj_weight` where keys or values have a width of their own; `in_proj_bias`;
/// `out_proj.weight` and `out_proj.bias`. Sequences are [B, T, width], PyTorch's `batch_first`.
#[derive(Debug, Clone, Copy)]
pub struct MultiHeadAttention {
    /// What queries, keys and values are made by.
    pub in_proj: InProjection,
    /// `in_proj_bias` [3·width], at first 0: of queries, keys and values, in this order.
    pub in_proj_bias: Option<Tensor>,
    /// `out_proj.weight` [width, width], at first uniform in ±1/√width, and `out_proj.bias`, at first 0.
    pub out_proj: Linear,
    /// Probability of dropping a pair in training.
    pub dropout: f32,
    heads: usize,
    width: usize,
}

/// The weights of queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub enum InProjection {
    /// `in_proj_weight` [3·width, width], at first uniform in ±√(6/(4·width)) (Glorot): all three in one.
    Joint(Tensor),
    /// `q_proj_weight` [width, width], `k_proj_weight` [width, key width] and `v_proj_weight` [width, value width], each at
    /// first uniform in ±√(6/(rows + columns)).
    Separate([Tensor; 3]),
}

/// How a [`MultiHeadAttention`] is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MultiHeadAttentionOptions {
    /// Probability of dropping a pair in training, in [0, 1).
    pub dropout: f32,
    /// Whether there are `in_proj_bias` and `out_proj.bias`.
    pub bias: bool,
    /// Width of what keys are made of, PyTorch's `kdim`; the module's if not given.
    pub key_width: Option<usize>,
    /// Width of what values are made of, PyTorch's `vdim`; the module's if not given.
    pub value_width: Option<usize>,
}

impl Default for MultiHeadAttentionOptions {
    /// Nothing is dropped, biases, one width: PyTorch's.
    fn default() -> Self {
        MultiHeadAttentionOptions { dropout: 0.0, bias: true, key_width: None, value_width: None }
    }
}

impl MultiHeadAttention {
    /// Makes the parameters, below `<name>`.
    ///
    /// # Errors
    /// A name that exists, a width that `heads` does not divide, a width of 0, a dropout outside [0, 1).
    pub fn new(
        g: &mut Graph,
        name: &str,
        width: usize,
        heads: usize,
        options: MultiHeadAttentionOptions,
    ) -> Result<Self, Error> {
        if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
            let message = format!("attention \"{name}\": a width of {width} is not {heads} heads of one size");
            return Err(Error::NotCompiledFor(message));
        }
        let MultiHeadAttentionOptions { dropout, bias, key_width, value_width } = options;
        if !(0.0..1.0).contains(&dropout) {
            let message = format!("attention \"{name}\": dropout = {dropout} must be in [0, 1)");
            return Err(Error::NotCompiledFor(message));
        }
        let widths = [key_width.unwrap_or(width), value_width.unwrap_or(width)];
        g.scope(name, |g| {
            let in_proj = InProjection::new(g, width, widths)?;
            let in_proj_bias = bias.then(|| g.parameter("in_proj_bias", &[3 * width], Init::Zeros)).transpose()?;
            let out_proj = g.scope("out_proj", |g| {
                let weight = g.parameter("weight", &[width, width], Init::Linear)?;
                let bias = bias.then(|| g.parameter("bias", &[width], Init::Zeros)).transpose()?;
                Ok::<_, Error>(Linear { weight, bias })
            })?;
            Ok(MultiHeadAttention { in_proj, in_proj_bias, out_proj, dropout, heads, width })
        })
    }

    /// Attention of queries [B, T, width] to keys [B, S, key width] and values [B, S, value width]; y like the queries. The
    /// same tensor three times is self-attention; with every key seen unless `mask` and `is_causal` say otherwise, as for
    /// [`Graph::scaled_dot_product_attention`]: a mask of i32 is 1 where a key is seen and 0 where it is hidden, the
    /// opposite of the boolean masks that torch.nn.MultiheadAttention takes (`key_padding_mask`, here of shape [B, S], and
    /// `attn_mask`); one of f32 is added to the scores. A query that sees no key gives the bias of `out_proj`.
    ///
    /// ```
    /// use remat::modules::{MultiHeadAttention, MultiHeadAttentionOptions};
    /// use remat::{DType, Graph};
    ///
    /// # fn main() -> Result<(), remat::Error> {
    /// let mut g = Graph::new();
    /// let (decoded, encoded) = (g.input("decoded", DType::F32, &[2, 5, 8])?, g.input("encoded", DType::F32, &[2, 7, 8])?);
    /// let seen = g.input("seen", DType::I32, &[2, 7])?;
    /// let options = MultiHeadAttentionOptions { dropout: 0.1, ..MultiHeadAttentionOptions::default() };
    /// let crossed = MultiHeadAttention::new(&mut g, "crossed", 8, 2, options)?;
    /// let y = crossed.forward(&mut g, [decoded, encoded, encoded], Some(seen), false)?;
    /// assert_eq!(g.ty(y)?.to_string(), "f32[2, 5, 8]");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Operands that do not fit, a mask of another dtype or shape.
    pub fn forward(
        &self,
        g: &mut Graph,
        sequences: [Tensor; 3],
        mask: Option<Tensor>,
        is_causal: bool,
    ) -> Result<Tensor, Error> {
        let qkv = self.projected(g, sequences)?;
        let options = AttentionOptions { mask, is_causal, dropout: self.dropout, ..AttentionOptions::new(self.heads) };
        let y = g.scaled_dot_product_attention(qkv, options)?;
        self.out_proj.forward(g, y)
    }

    /// Causal self-attention where rows hold packed documents: x [B, T, width]; segment_start i32 [B, T], the first position
    /// that each token sees (all zero for one sequence per row); y like x.
    ///
    /// # Errors
    /// Operands that do not fit; a module with dropout, which this attention does not have.
    pub fn forward_packed(&self, g: &mut Graph, x: Tensor, segment_start: Tensor) -> Result<Tensor, Error> {
        if self.dropout > 0.0 {
            let remedy = "make the module without dropout, or call MultiHeadAttention::forward";
            return Err(Error::NotCompiledFor(format!("attention of packed documents drops nothing: {remedy}")));
        }
        let qkv = self.projected(g, [x; 3])?;
        let y = g.causal_attention(qkv, segment_start, self.heads, self.heads)?;
        self.out_proj.forward(g, y)
    }

    /// Queries, keys and values: a tensor that is several of them is multiplied once.
    fn projected(&self, g: &mut Graph, [query, key, value]: [Tensor; 3]) -> Result<[Tensor; 3], Error> {
        match self.in_proj {
            InProjection::Joint(w) if query == key && key == value => {
                let qkv = g.linear(query, w, self.in_proj_bias)?;
                let parts = g.split(qkv, &[self.width; 3])?;
                Ok([parts[0], parts[1], parts[2]])
            }
            InProjection::Joint(w) if key == value => {
                let q = self.part(g, query, w, 0..1)?;
                let kv = self.part(g, key, w, 1..3)?;
                let parts = g.split(kv, &[self.width; 2])?;
                Ok([q, parts[0], parts[1]])
            }
            InProjection::Joint(w) => {
                Ok([self.part(g, query, w, 0..1)?, self.part(g, key, w, 1..2)?, self.part(g, value, w, 2..3)?])
            }
            InProjection::Separate([q, k, v]) => {
                let biases = [self.bias(g, 0..1)?, self.bias(g, 1..2)?, self.bias(g, 2..3)?];
                Ok([g.linear(query, q, biases[0])?, g.linear(key, k, biases[1])?, g.linear(value, v, biases[2])?])
            }
        }
    }

    /// x by some thirds of the joint weight.
    fn part(&self, g: &mut Graph, x: Tensor, weight: Tensor, thirds: Range<usize>) -> Result<Tensor, Error> {
        let weight = g.narrow(weight, 0, thirds.start * self.width, thirds.len() * self.width)?;
        let bias = self.bias(g, thirds)?;
        g.linear(x, weight, bias)
    }

    /// Some thirds of the bias.
    fn bias(&self, g: &mut Graph, thirds: Range<usize>) -> Result<Option<Tensor>, Error> {
        let narrowed = |bias| g.narrow(bias, 0, thirds.start * self.width, thirds.len() * self.width);
        self.in_proj_bias.map(narrowed).transpose()
    }
}

impl InProjection {
    /// Joint unless the widths of keys and values, in this order, are others.
    fn new(g: &mut Graph, width: usize, widths: [usize; 2]) -> Result<Self, Error> {
        let mut weight = |name: &str, rows: usize, columns: usize| {
            let glorot = (6.0 / (rows + columns) as f32).sqrt();
            g.parameter(name, &[rows, columns], Init::Uniform(glorot))
        };
        if widths == [width; 2] {
            return Ok(InProjection::Joint(weight("in_proj_weight", 3 * width, width)?));
        }
        let query = weight("q_proj_weight", width, width)?;
        let key = weight("k_proj_weight", width, widths[0])?;
        Ok(InProjection::Separate([query, key, weight("v_proj_weight", width, widths[1])?]))
    }
}
