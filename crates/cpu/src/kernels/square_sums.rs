//! Sums of squares of gradients, block by block, as halves of f64. Bound by reading the gradients once.

use super::block_sums::{Square, sums_of_blocks};
use crate::pool::ThreadPool;
use remat_ir::ops::{MOST_SQUARE_BLOCKS, words_of};

/// The sums of each gradient's blocks, `(gradient, elements of a block)`, from block `first` of `words` on; all other words are 0.
pub fn square_sums<'a>(
    pool: &ThreadPool,
    gradients: impl IntoIterator<Item = (&'a [f32], usize)>,
    first: usize,
    words: &mut [i32],
) {
    words.fill(0);
    let mut words = words.as_chunks_mut::<2>().0[first..].iter_mut();
    for (gradient, block) in gradients {
        let mut sums = [0.0; MOST_SQUARE_BLOCKS];
        for (sum, words) in sums_of_blocks::<Square>(pool, gradient, block, &mut sums).iter().zip(words.by_ref()) {
            *words = words_of(*sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::grad_norm::grad_norm;
    use crate::testing::{every_level, normals};
    use remat_ir::ops::{NormOfSquares, number_of, square_block};

    /// Tensors of one block, of several, and of blocks longer than the least; cut between two blocks anywhere.
    #[test]
    fn blocks_of_pieces_make_the_norm_of_the_whole() {
        let tensors = [normals(37, 1), normals(3 * 4096 + 5, 2), normals((1 << 22) + 4097, 3)];
        let cut = |tensor: &[f32], part: usize| {
            let (block, blocks) = (square_block(tensor.len()), tensor.len().div_ceil(square_block(tensor.len())));
            ((blocks * part / 3) * block).min(tensor.len())
        };
        every_level(
            |pool| {
                let want = grad_norm(pool, tensors.iter().map(Vec::as_slice));
                let (mut all, mut runs, mut first) = (Vec::new(), vec![Vec::new(); tensors.len()], 0);
                for part in 0..3 {
                    for (tensor, runs) in tensors.iter().zip(&mut runs) {
                        let piece = &tensor[cut(tensor, part)..cut(tensor, part + 1)];
                        let count = piece.len().div_ceil(square_block(tensor.len()));
                        let mut words = vec![7; 2 * (count + 1)];
                        square_sums(pool, [(piece, square_block(tensor.len()))], 1, &mut words);
                        assert_eq!(words[..2], [0, 0]);
                        all.extend(words[2..].chunks(2).map(|words| number_of([words[0], words[1]])));
                        runs.push([first, count]);
                        first += count;
                    }
                }
                let got = NormOfSquares { tensors: runs }.norm(&all) as f32;
                assert_eq!(got.to_bits(), want.to_bits());
                vec![vec![got]]
            },
            |_, _| {},
        );
    }
}
