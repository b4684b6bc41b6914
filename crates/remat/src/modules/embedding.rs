//! torch.nn.Embedding.

use crate::{Error, Graph, Init, Tensor};

/// A table of rows looked up by id, as torch.nn.Embedding.
#[derive(Debug, Clone, Copy)]
pub struct Embedding {
    /// [rows, width]; at first standard normal. As the weight of a head it ties the two.
    pub weight: Tensor,
}

impl Embedding {
    /// Makes `<name>.weight`.
    ///
    /// # Errors
    /// A name that exists, sizes of 0.
    pub fn new(g: &mut Graph, name: &str, rows: usize, width: usize) -> Result<Self, Error> {
        g.scope(name, |g| Ok(Embedding { weight: g.parameter("weight", &[rows, width], Init::Normal(1.0))? }))
    }

    /// ids i32 [..]; y [.., width].
    ///
    /// # Errors
    /// Ids of another dtype.
    pub fn forward(&self, g: &mut Graph, ids: Tensor) -> Result<Tensor, Error> {
        g.embedding(self.weight, ids)
    }
}
