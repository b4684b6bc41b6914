//! torch.nn.Dropout.

use crate::{Error, Graph, Tensor};

/// Zeroes elements at random in training and is the identity in a [`Graph::evaluation`], as torch.nn.Dropout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability of each element to be zeroed, in [0, 1).
    pub p: f32,
}

impl Dropout {
    /// x of any shape; y like x. Each call draws a mask of its own.
    ///
    /// # Errors
    /// A `p` outside [0, 1).
    pub fn forward(&self, g: &mut Graph, x: Tensor) -> Result<Tensor, Error> {
        g.dropout(x, self.p)
    }
}
