//! `square_sums`: sums of squares of gradients, block by block: this rank's share of the norm of all gradients together.
//!
//! Operands: f32 tensors, perhaps none. Result: i32 [2 · total], one f64 for each block of all ranks' tensors, its lower half
//! before its upper; those of this rank's blocks, from `first` on, in the order of the operands, and zeros elsewhere. A block is
//! as long as it would be of the whole tensor that an operand is a piece of, see [`square_block`], so that the sums are the ones
//! of a single process. Look next at `norm_of_squares`.

use super::{OpDef, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};

/// The most blocks of a tensor.
pub const MOST_SQUARE_BLOCKS: usize = 1024;

/// Elements of the smallest block; a multiple of what shares a scale in moments of 8 bits.
const LEAST_SQUARE_BLOCK: usize = 4096;

/// Elements of the blocks in which a tensor of so many is summed: the length alone decides.
pub const fn square_block(elements: usize) -> usize {
    let block = elements.div_ceil(MOST_SQUARE_BLOCKS).next_multiple_of(LEAST_SQUARE_BLOCK);
    if block < LEAST_SQUARE_BLOCK { LEAST_SQUARE_BLOCK } else { block }
}

/// Attributes of `square_sums`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SquareSums {
    /// Elements of a block of each operand.
    pub blocks: Vec<usize>,
    /// Number of the first operand's first block.
    pub first: usize,
    /// Blocks of all ranks together.
    pub total: usize,
}

impl OpDef for SquareSums {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        super::operands(inputs, self.blocks.len())?;
        let mut end = Some(self.first);
        for ((index, ty), &block) in inputs.iter().enumerate().zip(&self.blocks) {
            typed(&format!("gradient {index}"), ty, DType::F32, &ty.shape)?;
            if block == 0 || ty.shape.numel().div_ceil(block) > MOST_SQUARE_BLOCKS {
                return Err(format!("gradient {index} {ty} cannot be cut into blocks of {block}"));
            }
            end = end.and_then(|end| end.checked_add(ty.shape.numel().div_ceil(block)));
        }
        let words = self.total.checked_mul(2).filter(|&words| words > 0);
        match words.zip(end) {
            Some((words, end)) if end <= self.total => Ok(vec![Type::new(DType::I32, [words])]),
            _ => Err(format!("attributes first {} and total {} do not fit the operands", self.first, self.total)),
        }
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::GradNorm
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("square_sums", "it belongs to the update, which is not differentiated"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let elements: f64 = inputs.iter().map(|ty| ty.shape.numel() as f64).sum();
        Cost::new(2.0 * elements, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let sums = inputs.iter().zip(&self.blocks).flat_map(|(g, &block)| g.data.chunks(block));
        let mut words = Array::zeros(results[0].shape.clone());
        for (sum, words) in sums.zip(words.data.chunks_mut(2).skip(self.first)) {
            words.copy_from_slice(&words_of(sum.iter().map(|g| g * g).sum()).map(f64::from));
        }
        vec![words]
    }

    /// Of small whole numbers, whose squares add up without rounding: halves of a number say nothing of how near it is.
    fn samples() -> Vec<Sample> {
        let of = |lengths: &[usize], blocks: &[usize], first, total| {
            let sample = Sample::new(SquareSums { blocks: blocks.to_vec(), first, total });
            let whole = |length: usize| (0..length).map(|i| (i % 13) as f64 - 6.0).collect::<Vec<_>>();
            lengths.iter().fold(sample, |sample, &length| sample.f32([length], whole(length)))
        };
        vec![of(&[], &[], 0, 3), of(&[1], &[4096], 0, 1), of(&[5000, 35], &[4096, 8], 2, 10)]
    }
}

/// The halves of an f64, the lower before the upper.
pub fn words_of(number: f64) -> [i32; 2] {
    let bits = number.to_bits();
    [bits as u32 as i32, (bits >> 32) as u32 as i32]
}

/// The f64 of these halves.
pub fn number_of(words: [i32; 2]) -> f64 {
    f64::from_bits(u64::from(words[0] as u32) | u64::from(words[1] as u32) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_make_the_number_and_blocks_cover_a_tensor() {
        for number in [0.0, 1.0, -2.5e-300, f64::MAX, f64::INFINITY, std::f64::consts::PI] {
            assert_eq!(number_of(words_of(number)), number);
        }
        for elements in [1, 4096, 4097, 1 << 22, (1 << 22) + 1, 525_336_576] {
            let block = square_block(elements);
            assert!(block.is_multiple_of(super::super::MOMENT_BLOCK) && elements.div_ceil(block) <= MOST_SQUARE_BLOCKS);
        }
    }
}
