//! Norms of tensors with channels.

use crate::graph::{Graph, Tensor};
use crate::{Error, ops};
use remat_ir::{IrError, OpDef};

/// How [`Graph::batch_norm`] is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormOptions {
    /// Whether the statistics are the batch's own, and update the running ones; else the running ones are used. Where nothing is
    /// said, as the graph is: of training, or a [`Graph::evaluation`].
    pub training: Option<bool>,
    /// Weight of a batch's statistics in the running ones.
    pub momentum: f32,
    /// Added to variances.
    pub eps: f32,
}

impl Default for BatchNormOptions {
    /// As the graph is, with a momentum of 0.1 and an epsilon of 1e-5: PyTorch's.
    fn default() -> Self {
        BatchNormOptions { training: None, momentum: 0.1, eps: 1e-5 }
    }
}

impl Graph {
    /// (x − mean)/deviation·w + b over each group of channels of each image: x [B, C, ..], w and b [C]; y like x.
    ///
    /// # Errors
    /// Operands that do not fit, groups that do not divide the channels.
    pub fn group_norm(&mut self, x: Tensor, groups: usize, [w, b]: [Tensor; 2], eps: f32) -> Result<Tensor, Error> {
        self.op1("group_norm", ops::GroupNorm { groups, eps }, &[x, w, b])
    }

    /// As [`Graph::group_norm`] with a group for each channel.
    ///
    /// # Errors
    /// Operands that do not fit.
    pub fn instance_norm(&mut self, x: Tensor, parameters: [Tensor; 2], eps: f32) -> Result<Tensor, Error> {
        let groups = self.ty(x)?.shape.dims().get(1).copied().unwrap_or(1);
        self.group_norm(x, groups, parameters, eps)
    }

    /// (x − mean)/deviation·w + b by channel: x [B, C, ..], w and b [C]; y like x. `running` are the running mean and variance,
    /// f32 [C], made by [`Graph::buffer`] with [`crate::Init::Zeros`] and [`crate::Init::Ones`]. In training the statistics are
    /// those of the batch, and each run moves the running ones by `momentum` towards them (the variance unbiased), once for
    /// each micro-batch, as torch.nn.BatchNorm2d does, and never again when the layer is recomputed. In a [`Graph::evaluation`]
    /// the running statistics are used and stay as they are: those of the step that [`crate::Options::evaluation`] is given to,
    /// or what [`crate::Step::copy_parameters_from`] copied. `options.training` says otherwise for one layer.
    ///
    /// # Errors
    /// Operands that do not fit, one element in each channel, running statistics of training that are no buffers.
    pub fn batch_norm(
        &mut self,
        x: Tensor,
        [w, b]: [Tensor; 2],
        running: [Tensor; 2],
        options: BatchNormOptions,
    ) -> Result<Tensor, Error> {
        let BatchNormOptions { training, momentum, eps } = options;
        let [mean, variance] = [self.buffer_now(running[0])?, self.buffer_now(running[1])?];
        if !training.unwrap_or(self.is_training()) {
            return self.op1("batch_norm", ops::BatchNorm { eps, running: true }, &[x, w, b, mean, variance]);
        }
        for buffer in running {
            if !self.is_buffer(buffer)? {
                let fault =
                    format!("\"{}\" is not a buffer: make running statistics with Graph::buffer", self.name(buffer)?);
                return Err(operands_error("batch_norm", fault));
            }
        }
        let made = self.op("batch_norm", ops::BatchNorm { eps, running: false }, &[x, w, b])?;
        let shape = &self.ty(x)?.shape;
        let op = ops::BatchNormUpdate { momentum, count: shape.numel() / shape[1] };
        let types = [mean, variance, made[1], made[2]].map(|tensor| self.ty(tensor).cloned());
        let types = types.into_iter().collect::<Result<Vec<_>, _>>()?;
        op.infer(&types.iter().collect::<Vec<_>>()).map_err(|fault| operands_error("batch_norm", fault))?;
        let updated = self.op("batch_norm_update", op, &[mean, variance, made[1], made[2]])?;
        self.set_buffer_now(running[0], updated[0])?;
        self.set_buffer_now(running[1], updated[1])?;
        Ok(made[0])
    }
}

fn operands_error(node: &str, message: String) -> Error {
    Error::Graph(IrError::Operands { op: node.to_string(), node: node.to_string(), message })
}
