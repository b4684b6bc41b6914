//! The head's loss and gradients in one pass: each chunk's logits are made once. The same bits as the two ops apart.

use super::linear_cross_entropy::Head;
use super::linear_cross_entropy_grad::{HeadGrad, chunked_gradients};
use crate::element::Element;
use crate::pool::ThreadPool;

/// Loss per token and gradients for the per-token cotangents `dloss`.
pub fn linear_cross_entropy_with_grad<T: Element, W: Element>(
    pool: &ThreadPool,
    head: Head<'_, T, W>,
    dloss: &[f32],
    workspace: &mut [f32],
    loss: &mut [f32],
    grad: HeadGrad<'_, T>,
) {
    chunked_gradients(pool, head, dloss, workspace, Some(loss), grad);
}
