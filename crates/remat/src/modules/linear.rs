//! torch.nn.Linear.

use crate::{Error, Graph, Init, Tensor};

/// x·Wᵀ + b, as torch.nn.Linear. Its bias begins as PyTorch's, while that of [`Graph::dense`] begins at 0.
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    /// [outputs, inputs]; at first uniform in ±1/√inputs.
    pub weight: Tensor,
    /// [outputs]; at first uniform in ±1/√inputs.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// Makes `<name>.weight` and, with a `bias`, `<name>.bias`.
    ///
    /// ```
    /// use remat::{DType, Graph, Options, modules::Linear};
    ///
    /// # fn main() -> Result<(), remat::Error> {
    /// let mut g = Graph::new();
    /// let x = g.input("x", DType::F32, &[4, 8])?;
    /// let fc = Linear::new(&mut g, "fc", 8, 8, true)?;
    /// // Two layers with one set of weights.
    /// let h = fc.forward(&mut g, x)?;
    /// let h = fc.forward(&mut g, h)?;
    /// let loss = g.sum(h)?;
    /// let step = g.compile(loss, Options::new())?;
    /// assert_eq!(step.parameter_names(), ["fc.weight", "fc.bias"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A name that exists, sizes of 0.
    pub fn new(g: &mut Graph, name: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Self, Error> {
        g.scope(name, |g| {
            let weight = g.parameter("weight", &[outputs, inputs], Init::Linear)?;
            let bound = 1.0 / (inputs as f32).sqrt();
            let bias = bias.then(|| g.parameter("bias", &[outputs], Init::Uniform(bound))).transpose()?;
            Ok(Linear { weight, bias })
        })
    }

    /// x [.., inputs]; y [.., outputs].
    ///
    /// # Errors
    /// An x that does not fit.
    pub fn forward(&self, g: &mut Graph, x: Tensor) -> Result<Tensor, Error> {
        g.linear(x, self.weight, self.bias)
    }
}
