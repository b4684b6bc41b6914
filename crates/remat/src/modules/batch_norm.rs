//! torch.nn.BatchNorm1d and BatchNorm2d.

use crate::{BatchNormOptions, Error, Graph, Init, Tensor};

/// Normalisation of each channel over a batch of rows or sequences, [B, C] or [B, C, W], as torch.nn.BatchNorm1d.
pub type BatchNorm1d = BatchNorm<1>;

/// Normalisation of each channel over a batch of images, [B, C, H, W], as torch.nn.BatchNorm2d.
pub type BatchNorm2d = BatchNorm<2>;

/// Normalisation of each channel over a batch of images with so many axes, 1 or 2. PyTorch's `num_batches_tracked`, which a given
/// momentum never reads, is not among the buffers.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<const AXES: usize> {
    /// [channels]; at first 1.
    pub weight: Tensor,
    /// [channels]; at first 0.
    pub bias: Tensor,
    /// Buffer, [channels]; at first 0.
    pub running_mean: Tensor,
    /// Buffer, [channels]; at first 1. Moved by the unbiased variance of a batch.
    pub running_var: Tensor,
    /// Which statistics are used, the weight of a new batch in the running ones, and the epsilon.
    pub options: BatchNormOptions,
}

impl<const AXES: usize> BatchNorm<AXES> {
    /// Makes the parameters `<name>.weight` and `<name>.bias` and the buffers `<name>.running_mean` and `<name>.running_var`.
    ///
    /// ```
    /// use remat::{BatchNormOptions, DType, Error, Graph, Options, Tensor, modules::BatchNorm1d};
    ///
    /// fn model(mut g: Graph) -> Result<(Graph, Tensor), Error> {
    ///     let x = g.input("x", DType::F32, &[2, 1])?;
    ///     let norm = BatchNorm1d::new(&mut g, "norm", 1, BatchNormOptions::default())?;
    ///     let y = norm.forward(&mut g, x)?;
    ///     g.output(y)?;
    ///     let loss = g.sum(y)?;
    ///     Ok((g, loss))
    /// }
    ///
    /// # fn main() -> Result<(), Error> {
    /// let (evaluation, _) = model(Graph::evaluation())?;
    /// let (graph, loss) = model(Graph::new())?;
    /// let mut step = graph.compile(loss, Options::new().evaluation(evaluation))?;
    /// step.set_input("x", &[10.0_f32, 10.0])?;
    /// step.run()?;
    /// assert_eq!(step.buffer("norm.running_mean")?, [1.0]);
    /// // With the running statistics, which an evaluation leaves as they are.
    /// step.evaluate()?;
    /// assert!((step.evaluation_output("batch_norm")?[0] - 9.0 / 0.9_f32.sqrt()).abs() < 1e-4);
    /// assert_eq!(step.buffer("norm.running_mean")?, [1.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A name that exists, 0 channels.
    pub fn new(g: &mut Graph, name: &str, channels: usize, options: BatchNormOptions) -> Result<Self, Error> {
        g.scope(name, |g| {
            Ok(BatchNorm {
                weight: g.parameter("weight", &[channels], Init::Ones)?,
                bias: g.parameter("bias", &[channels], Init::Zeros)?,
                running_mean: g.buffer("running_mean", &[channels], Init::Zeros)?,
                running_var: g.buffer("running_var", &[channels], Init::Ones)?,
                options,
            })
        })
    }

    /// x [B, channels, ..]; y like x. See [`Graph::batch_norm`] for when the running statistics move.
    ///
    /// # Errors
    /// An x that does not fit or is of other axes; in training, one element in each channel.
    pub fn forward(&self, g: &mut Graph, x: Tensor) -> Result<Tensor, Error> {
        let axes = g.ty(x)?.shape.len();
        let (fits, wanted) = match AXES {
            1 => (axes == 2 || axes == 3, "[B, C] or [B, C, W]"),
            _ => (axes == 4, "[B, C, H, W]"),
        };
        if !fits {
            let message = format!("BatchNorm{AXES}d: \"{}\" is {}, not {wanted}", g.name(x)?, g.ty(x)?);
            return Err(Error::NotCompiledFor(message));
        }
        g.batch_norm(x, [self.weight, self.bias], [self.running_mean, self.running_var], self.options)
    }
}
