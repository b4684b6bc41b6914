//! A builder of graphs that also knows which parameters train, in which precision, and where randomness comes from.
//!
//! Invariant: a parameter's value name is its name in the checkpoint (adapters: in PEFT's file), so that loading and
//! saving need no table. Adapters emit themselves with this; look next at `model_builder` for what decoders ask for.

use crate::Precision;
use remat_ir::ops::{Dropout, EmbeddingNoise};
use remat_ir::{Builder, Graph, IrError, Parameter, ParameterKind, StateRole, Type, ValueId};
use remat_tensor::{DType, stream_of_name};
use std::ops::{Deref, DerefMut};

/// A graph under construction.
pub(crate) struct GraphBuilder {
    b: Builder,
    precision: Precision,
    /// Whether parameters have gradients and dropout applies.
    training: bool,
    rng: Option<ValueId>,
    parameters: Vec<Parameter>,
}

/// What was built.
pub(crate) struct Built {
    pub graph: Graph,
    /// What is trained, in graph order.
    pub parameters: Vec<Parameter>,
    /// Whether the graph has an input [`remat_ir::RANDOM_KEY`].
    pub random: bool,
}

impl Deref for GraphBuilder {
    type Target = Builder;

    fn deref(&self) -> &Builder {
        &self.b
    }
}

impl DerefMut for GraphBuilder {
    fn deref_mut(&mut self) -> &mut Builder {
        &mut self.b
    }
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(precision: Precision, training: bool) -> Self {
        GraphBuilder { b: Builder::new(), precision, training, rng: None, parameters: Vec::new() }
    }

    /// Ends construction.
    pub fn finish(self) -> Built {
        Built { graph: self.b.finish(), parameters: self.parameters, random: self.rng.is_some() }
    }

    /// A frozen weight, in the model's precision.
    pub fn frozen(&mut self, name: &str, shape: &[usize]) -> ValueId {
        self.b.weight(name, Type::new(self.precision.dtype(), shape))
    }

    /// A parameter that is trained, with its gradient where gradients are wanted.
    pub fn trained(&mut self, name: &str, kind: ParameterKind, shape: &[usize], decay: bool) -> ValueId {
        let ty = Type::new(DType::F32, shape);
        let read = match self.precision {
            Precision::F32 => StateRole::Value,
            Precision::Bf16 => StateRole::WorkingCopy,
        };
        let value = self.b.state_of(name, kind, read, Type::new(self.precision.dtype(), shape));
        if !self.training {
            return value;
        }
        let gradient = self.b.state_of(name, kind, StateRole::Gradient, ty.clone());
        let (name, has_working_copy) = (name.to_string(), self.precision == Precision::Bf16);
        self.parameters.push(Parameter { name, kind, gated_by: None, ty, value, has_working_copy, gradient, decay });
        value
    }

    /// A parameter that is trained and read in f32 whatever the model's precision is.
    pub fn trained_in_f32(&mut self, name: &str, kind: ParameterKind, shape: &[usize], decay: bool) -> ValueId {
        let precision = std::mem::replace(&mut self.precision, Precision::F32);
        let value = self.trained(name, kind, shape, decay);
        self.precision = precision;
        value
    }

    /// Says that the gradient of one trained parameter is a multiple of another: zero as long as that is.
    pub fn gate(&mut self, gated: &str, by: &str) {
        for parameter in self.parameters.iter_mut().filter(|parameter| parameter.name == gated) {
            parameter.gated_by = Some(by.to_string());
        }
    }

    /// Dropout while training; the value itself otherwise, or if `p` is 0.
    pub fn dropout(&mut self, name: &str, x: ValueId, p: f32) -> Result<ValueId, IrError> {
        let (p, rng) = self.inner_dropout(p);
        match rng {
            Some(rng) => self.b.op1(name, Dropout::new(p, stream_of_name(name)), &[x, rng]),
            None => Ok(x),
        }
    }

    /// Noise on embeddings [B, T, D] while training, of this size; the value itself otherwise, or if it is 0.
    pub fn noise(&mut self, name: &str, x: ValueId, segment_start: ValueId, alpha: f32) -> Result<ValueId, IrError> {
        if !self.training || alpha == 0.0 {
            return Ok(x);
        }
        let (rng, stream) = (self.rng(), stream_of_name(name));
        self.b.op1(name, EmbeddingNoise { alpha, stream }, &[x, segment_start, rng])
    }

    /// The dropout probability to use in an op that has its own, with the generator key if it is not 0.
    pub fn inner_dropout(&mut self, p: f32) -> (f32, Option<ValueId>) {
        if !self.training || p == 0.0 { (0.0, None) } else { (p, Some(self.rng())) }
    }

    fn rng(&mut self) -> ValueId {
        let b = &mut self.b;
        *self.rng.get_or_insert_with(|| b.random_key())
    }
}
