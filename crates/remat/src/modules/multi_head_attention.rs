//! torch.nn.MultiheadAttention of a sequence with itself, causal.

use crate::modules::Linear;
use crate::{Error, Graph, Init, Tensor};

/// Causal self-attention of several heads, with the parameters of torch.nn.MultiheadAttention.
#[derive(Debug, Clone, Copy)]
pub struct MultiHeadAttention {
    /// `in_proj_weight` [3·width, width], at first uniform in ±√(6/(4·width)) (Glorot), and `in_proj_bias`, at first 0: queries,
    /// keys and values in one.
    pub in_proj: Linear,
    /// `out_proj.weight` [width, width], at first uniform in ±1/√width, and `out_proj.bias`, at first 0.
    pub out_proj: Linear,
    heads: usize,
    width: usize,
}

impl MultiHeadAttention {
    /// Makes the four parameters, below `<name>`.
    ///
    /// # Errors
    /// A name that exists, a width that `heads` does not divide.
    pub fn new(g: &mut Graph, name: &str, width: usize, heads: usize) -> Result<Self, Error> {
        if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
            let message = format!("attention \"{name}\": a width of {width} is not {heads} heads of one size");
            return Err(Error::NotCompiledFor(message));
        }
        g.scope(name, |g| {
            let glorot = Init::Uniform((6.0 / (4 * width) as f32).sqrt());
            let weight = g.parameter("in_proj_weight", &[3 * width, width], glorot)?;
            let bias = g.parameter("in_proj_bias", &[3 * width], Init::Zeros)?;
            let in_proj = Linear { weight, bias: Some(bias) };
            let out_proj = g.scope("out_proj", |g| {
                let weight = g.parameter("weight", &[width, width], Init::Linear)?;
                Ok::<_, Error>(Linear { weight, bias: Some(g.parameter("bias", &[width], Init::Zeros)?) })
            })?;
            Ok(MultiHeadAttention { in_proj, out_proj, heads, width })
        })
    }

    /// x [B, T, width]; segment_start i32 [B, T], the first position that each token sees (all zero for one sequence per row);
    /// y like x.
    ///
    /// # Errors
    /// Operands that do not fit.
    pub fn forward(&self, g: &mut Graph, x: Tensor, segment_start: Tensor) -> Result<Tensor, Error> {
        let qkv = self.in_proj.forward(g, x)?;
        let parts = g.split(qkv, &[self.width; 3])?;
        let y = g.causal_attention([parts[0], parts[1], parts[2]], segment_start, self.heads, self.heads)?;
        self.out_proj.forward(g, y)
    }
}
