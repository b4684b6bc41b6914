//! Walks over shapes by strides as arguments: `struct Walk` of kernels/walk.cuh.

use crate::launch::Argument;
use remat_ir::axes::MOST_AXES;

/// A walk over a shape, with the strides of some tensors along it.
pub fn walk(shape: &[usize], tensors: &[&[usize]]) -> Argument {
    let padded = |numbers: &[usize], with: usize| {
        let front = vec![with; MOST_AXES - numbers.len()];
        front.into_iter().chain(numbers.iter().copied()).collect::<Vec<_>>()
    };
    let numbers = tensors.iter().flat_map(|strides| padded(strides, 0));
    let all = padded(shape, 1).into_iter().chain(numbers);
    Argument::Bytes(all.flat_map(|number| (number as u64).to_le_bytes()).collect())
}
