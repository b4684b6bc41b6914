//! The ops as methods of [`Graph`], under the names of `torch.nn.functional`. Shapes: B batch, T tokens, D width; `..`
//! stands for any leading axes.
//!
//! Invariant: a method adds no semantics to its op. Look next at `functions` for sums, products, shapes and the like, and at
//! [`crate::ops`] for the ops themselves.

use crate::graph::{Graph, Init, Tensor};
use crate::{Error, ops};
use ops::Layout;
use remat_tensor::{DType, stream_of_name};

impl Graph {
    /// x·Wᵀ + b: x [.., in], w [out, in], b [out]; y [.., out].
    ///
    /// # Errors
    /// Operands that do not fit.
    pub fn linear(&mut self, x: Tensor, w: Tensor, bias: Option<Tensor>) -> Result<Tensor, Error> {
        let mut operands = vec![x, w];
        operands.extend(bias);
        self.op1("linear", ops::Linear { bias: bias.is_some(), ..ops::Linear::plain(Layout::OutIn) }, &operands)
    }

    /// A linear layer with parameters of its own, `<name>.weight` [out, in], at first as torch.nn.Linear's, uniform in ±1/√in,
    /// and `<name>.bias` [out], at first 0. The bias of [`crate::modules::Linear`] begins as PyTorch's, uniform in ±1/√in.
    ///
    /// # Errors
    /// A name that exists, an x without axes.
    pub fn dense(&mut self, name: &str, x: Tensor, outputs: usize) -> Result<Tensor, Error> {
        let inputs = self.ty(x)?.shape.last();
        self.scope(name, |g| {
            let w = g.parameter("weight", &[outputs, inputs], Init::Linear)?;
            let b = g.parameter("bias", &[outputs], Init::Zeros)?;
            g.linear(x, w, Some(b))
        })
    }

    /// x/rms(x)·w over the last axis: x [.., D], w [D].
    ///
    /// # Errors
    /// Operands that do not fit.
    pub fn rms_norm(&mut self, x: Tensor, w: Tensor, eps: f32) -> Result<Tensor, Error> {
        self.op1("rms_norm", ops::RmsNorm { eps, unit_offset: false }, &[x, w])
    }

    /// (x − mean)/deviation·w + b over the last axis: x [.., D], w [D], b [D].
    ///
    /// # Errors
    /// Operands that do not fit.
    pub fn layer_norm(&mut self, x: Tensor, w: Tensor, b: Tensor, eps: f32) -> Result<Tensor, Error> {
        self.op1("layer_norm", ops::LayerNorm { eps }, &[x, w, b])
    }

    /// GELU in its tanh form, element-wise.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn gelu(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.op1("gelu", ops::Gelu::TANH, &[x])
    }

    /// silu(gate)·up, element-wise.
    ///
    /// # Errors
    /// Operands of two types.
    pub fn swiglu(&mut self, gate: Tensor, up: Tensor) -> Result<Tensor, Error> {
        self.op1("swiglu", ops::Swiglu, &[gate, up])
    }

    /// factor·x.
    ///
    /// # Errors
    /// A factor that is not finite.
    pub fn scale(&mut self, x: Tensor, factor: f32) -> Result<Tensor, Error> {
        self.op1("scale", ops::Scale { factor }, &[x])
    }

    /// x in another dtype, each element rounded once.
    ///
    /// # Errors
    /// A dtype that does not hold real numbers.
    pub fn cast(&mut self, x: Tensor, to: DType) -> Result<Tensor, Error> {
        self.op1("cast", ops::Cast { to, into: false }, &[x])
    }

    /// Zeroes each element with probability `p` and scales the others by 1/(1 − p). The mask is a function of the step's
    /// seed, its number and the op's name, so that recomputation replays it. In a [`Graph::evaluation`] it is x.
    ///
    /// # Errors
    /// A `p` outside [0, 1).
    pub fn dropout(&mut self, x: Tensor, p: f32) -> Result<Tensor, Error> {
        if !self.is_training() {
            self.id(x, "dropout")?;
            return match (0.0..1.0).contains(&p) {
                true => Ok(x),
                false => Err(Error::NotCompiledFor(format!("dropout: p = {p} must be in [0, 1)"))),
            };
        }
        let name = self.unique_node_name("dropout");
        let rng = self.rng();
        let op = ops::Dropout::new(p, stream_of_name(&name));
        Ok(self.op_named(&name, op, &[x, rng])?[0])
    }

    /// table[ids]: table [V, D], ids i32 [..]; y [.., D].
    ///
    /// # Errors
    /// Operands that do not fit.
    pub fn embedding(&mut self, table: Tensor, ids: Tensor) -> Result<Tensor, Error> {
        self.op1("embedding", ops::Embedding, &[table, ids])
    }

    /// Cuts the last axis into pieces of these sizes.
    ///
    /// # Errors
    /// Sizes that do not sum to the axis.
    pub fn split(&mut self, x: Tensor, sizes: &[usize]) -> Result<Vec<Tensor>, Error> {
        self.op("split", ops::Split { sizes: sizes.to_vec(), groups: 1, behind: 0 }, &[x])
    }

    /// Joins along the last axis.
    ///
    /// # Errors
    /// Operands that differ in another axis.
    pub fn concat(&mut self, parts: &[Tensor]) -> Result<Tensor, Error> {
        self.op1("concat", ops::Concat::WHOLE, parts)
    }

    /// Causal attention of `heads` heads: q [B, T, H·E], k and v [B, T, K·E], segment_start i32 [B, T], the first position
    /// that each token sees (all zero for one sequence per row); y like q.
    ///
    /// # Errors
    /// Operands that do not fit, heads that do not divide.
    pub fn causal_attention(
        &mut self,
        [q, k, v]: [Tensor; 3],
        segment_start: Tensor,
        heads: usize,
        kv_heads: usize,
    ) -> Result<Tensor, Error> {
        let head_size = self.ty(q)?.shape.last().checked_div(heads).unwrap_or(0).max(1);
        let scale = 1.0 / (head_size as f32).sqrt();
        let op = ops::Attention { heads, kv_heads, scale, window: None, softcap: None, dropout: 0.0, stream: 0 };
        self.op1("attention", op, &[q, k, v, segment_start])
    }

    /// The summed cross entropy of logits h·Wᵀ with the targets, without a logits tensor: h [.., D], w [V, D], targets i32
    /// [..], −100 where a row takes no part; a tensor of shape [1]. Divide by the rows with [`Graph::scale`].
    ///
    /// # Errors
    /// Operands that do not fit.
    pub fn cross_entropy(&mut self, h: Tensor, w: Tensor, targets: Tensor) -> Result<Tensor, Error> {
        let each = self.op1("cross_entropy", ops::LinearCrossEntropy::PLAIN, &[h, w, targets])?;
        self.sum(each)
    }

    /// The sum of all elements: x f32, or bf16 widened; y f32 [1].
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn sum(&mut self, x: Tensor) -> Result<Tensor, Error> {
        let is_narrow = matches!(self.ty(x)?.dtype, DType::BF16 | DType::F16);
        let x = if is_narrow { self.cast(x, DType::F32)? } else { x };
        self.op1("sum", ops::Sum, &[x])
    }

    /// The mean of all elements: x f32, or bf16 widened; y f32 [1].
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn mean(&mut self, x: Tensor) -> Result<Tensor, Error> {
        let elements = self.ty(x)?.shape.numel();
        let sum = self.sum(x)?;
        self.scale(sum, 1.0 / elements as f32)
    }
}
