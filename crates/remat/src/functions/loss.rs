//! Losses from logits and from pairs of numbers.

use crate::graph::{Graph, Tensor};
use crate::{Error, ops};
use ops::PairFunction;

/// What becomes of the losses of rows or elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// They stay as they are.
    None,
    /// Their sum, of shape [1].
    Sum,
    /// Their mean, of shape [1]: PyTorch's default.
    #[default]
    Mean,
}

/// How [`Graph::cross_entropy_of_logits`] is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossEntropyOptions {
    /// Weights of the classes, f32 [C], frozen or an input; without any, all are 1.
    pub weight: Option<Tensor>,
    /// The target of rows that take no part.
    pub ignore_index: i32,
    /// How much of each target is spread over all classes, in [0, 1].
    pub label_smoothing: f32,
    /// What becomes of the rows' losses. A mean is over the weights of the targets' classes, ignored rows left out; of no
    /// row at all it is not a number, as in PyTorch.
    pub reduction: Reduction,
}

impl Default for CrossEntropyOptions {
    /// No weights, −100 ignored, no smoothing, the mean: PyTorch's.
    fn default() -> Self {
        let (ignore_index, label_smoothing) = (ops::IGNORED, 0.0);
        CrossEntropyOptions { weight: None, ignore_index, label_smoothing, reduction: Reduction::Mean }
    }
}

impl Graph {
    /// The cross entropy of logits [.., C] with targets i32 [..], classes 0..C: f32 [..], or [1] if reduced. Where the logits
    /// come from one matrix, [`Graph::cross_entropy`] never has them in memory.
    ///
    /// # Errors
    /// Operands that do not fit, a smoothing outside [0, 1]. A target that is no class is an error of the run.
    pub fn cross_entropy_of_logits(
        &mut self,
        logits: Tensor,
        targets: Tensor,
        options: CrossEntropyOptions,
    ) -> Result<Tensor, Error> {
        let CrossEntropyOptions { weight, ignore_index: ignored, label_smoothing: smoothing, reduction } = options;
        let (weighted, weights) = (weight.is_some(), weight.into_iter());
        let operands: Vec<Tensor> = [logits, targets].into_iter().chain(weights.clone()).collect();
        let op = ops::CrossEntropy { smoothing, ignored, weighted };
        let losses = self.op1("cross_entropy_of_logits", op, &operands)?;
        match reduction {
            Reduction::None => Ok(losses),
            Reduction::Sum => self.sum(losses),
            Reduction::Mean => {
                let operands: Vec<Tensor> = [targets].into_iter().chain(weights).collect();
                let shares = self.op1("target_weight", ops::TargetWeight { ignored, weighted }, &operands)?;
                let (sum, total) = (self.sum(losses)?, self.sum(shares)?);
                self.div(sum, total)
            }
        }
    }

    /// (x − y)² of each element, or their mean or sum: x and y [..]; f32.
    ///
    /// # Errors
    /// Operands of two types.
    pub fn mse_loss(&mut self, x: Tensor, y: Tensor, reduction: Reduction) -> Result<Tensor, Error> {
        self.pair_loss("mse_loss", PairFunction::Mse, &[x, y], reduction)
    }

    /// |x − y| of each element, or their mean or sum: x and y [..]; f32.
    ///
    /// # Errors
    /// Operands of two types.
    pub fn l1_loss(&mut self, x: Tensor, y: Tensor, reduction: Reduction) -> Result<Tensor, Error> {
        self.pair_loss("l1_loss", PairFunction::L1, &[x, y], reduction)
    }

    /// Half of (x − y)² where |x − y| ≤ delta, else delta·(|x − y| − delta/2): x and y [..]; f32. PyTorch's delta is 1.
    ///
    /// # Errors
    /// Operands of two types, a delta that is not above 0.
    pub fn huber_loss(&mut self, x: Tensor, y: Tensor, delta: f32, reduction: Reduction) -> Result<Tensor, Error> {
        self.pair_loss("huber_loss", PairFunction::Huber { delta }, &[x, y], reduction)
    }

    /// (x − y)²/(2·beta) where |x − y| < beta, else |x − y| − beta/2: x and y [..]; f32. PyTorch's beta is 1.
    ///
    /// # Errors
    /// Operands of two types, a negative beta.
    pub fn smooth_l1_loss(&mut self, x: Tensor, y: Tensor, beta: f32, reduction: Reduction) -> Result<Tensor, Error> {
        self.pair_loss("smooth_l1_loss", PairFunction::SmoothL1 { beta }, &[x, y], reduction)
    }

    /// The binary cross entropy of logits x with probabilities y of one type [.., C]; f32. With `pos_weight`, f32 [C], what y
    /// says is true counts so much.
    ///
    /// # Errors
    /// Operands that do not fit.
    pub fn binary_cross_entropy_with_logits(
        &mut self,
        x: Tensor,
        y: Tensor,
        pos_weight: Option<Tensor>,
        reduction: Reduction,
    ) -> Result<Tensor, Error> {
        let operands: Vec<Tensor> = [x, y].into_iter().chain(pos_weight).collect();
        self.pair_loss("binary_cross_entropy_with_logits", PairFunction::BceWithLogits, &operands, reduction)
    }

    fn pair_loss(
        &mut self,
        name: &str,
        function: PairFunction,
        operands: &[Tensor],
        reduction: Reduction,
    ) -> Result<Tensor, Error> {
        let losses = self.op1(name, ops::PairLoss { function, pos_weight: operands.len() > 2 }, operands)?;
        match reduction {
            Reduction::None => Ok(losses),
            Reduction::Sum => self.sum(losses),
            Reduction::Mean => self.mean(losses),
        }
    }
}
