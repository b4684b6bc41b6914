//! Parts of a weight W [out, in] that adapters start with: B·A of its largest singular values, or of its QR decomposition.
//!
//! All in f64, over products with W alone, each of which reads it once; nothing is split by thread, so that bits follow
//! from W and the seed. Singular values to convergence: a block Krylov space of WᵀW, kept orthogonal, and the Ritz pairs in it,
//! with restarts (Golub and Underwood, *The block Lanczos method*, 1977; Musco and Musco, 2015); so many iterations: Halko,
//! Martinsson and Tropp, *Finding structure with randomness*, 2011, as `torch.svd_lowrank`. Cost: 4·in·out·(r + 8) FLOPs a
//! block, 8 blocks a space, at most 8 spaces. QR: Householder's, with LAPACK's signs, of the first r columns; 4·in·out·r.

use remat_tensor::Philox;

/// Vectors in a block beside as many as are wanted.
const MORE: usize = 8;
/// Blocks of a space.
const BLOCKS: usize = 8;
/// Spaces, at most: what has not converged by then lies among values so near to each other that it matters little which is
/// taken.
const MOST_SPACES: usize = 8;
/// A residual of WᵀW v = σ² v, relative to the largest σ², with which v is taken: that of f32.
const CONVERGED: f64 = 1e-7;
/// What is left of a vector that lies in a space is zero below this part of it.
const DEPENDENT: f64 = 1e-11;

/// Columns of f64 numbers, row by row.
#[derive(Clone)]
pub(super) struct Block {
    pub rows: usize,
    pub columns: usize,
    pub data: Vec<f64>,
}

impl Block {
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Block { rows, columns, data: vec![0.0; rows * columns] }
    }

    pub fn row(&self, row: usize) -> &[f64] {
        &self.data[row * self.columns..(row + 1) * self.columns]
    }

    pub fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.data[row * self.columns..(row + 1) * self.columns]
    }

    fn normal(rows: usize, columns: usize, seed: u64, stream: u64) -> Self {
        let philox = Philox::new(seed, stream);
        let data = (0..rows * columns).map(|i| f64::from(philox.normal(i as u64))).collect();
        Block { rows, columns, data }
    }

    /// selfᵀ · other.
    fn transposed_times(&self, other: &Block) -> Block {
        let mut product = Block::zeros(self.columns, other.columns);
        for row in 0..self.rows {
            for (i, &x) in self.row(row).iter().enumerate() {
                product.row_mut(i).iter_mut().zip(other.row(row)).for_each(|(sum, &y)| *sum += x * y);
            }
        }
        product
    }

    /// Adds factor · left · right.
    fn add(&mut self, factor: f64, left: &Block, right: &Block) {
        for row in 0..self.rows {
            for (k, &x) in left.row(row).iter().enumerate() {
                let x = factor * x;
                self.row_mut(row).iter_mut().zip(right.row(k)).for_each(|(sum, &y)| *sum += x * y);
            }
        }
    }

    fn column_norm(&self, column: usize) -> f64 {
        (0..self.rows).map(|row| self.row(row)[column].powi(2)).sum::<f64>().sqrt()
    }

    /// Makes the columns orthonormal, and orthogonal to those of other blocks; a column that depends on others becomes zero.
    /// Returns how many do not.
    fn orthonormalise(&mut self, others: &[Block]) -> usize {
        let before: Vec<f64> = (0..self.columns).map(|column| self.column_norm(column)).collect();
        let mut kept = 0;
        // Twice is enough: what rounding leaves of the others after the first time is gone after the second.
        for round in 0..2 {
            for other in others {
                let inside = other.transposed_times(self);
                self.add(-1.0, other, &inside);
            }
            for (column, &before) in before.iter().enumerate() {
                for earlier in 0..column {
                    let dot: f64 = (0..self.rows).map(|row| self.row(row)[earlier] * self.row(row)[column]).sum();
                    (0..self.rows).for_each(|row| self.row_mut(row)[column] -= dot * self.row(row)[earlier]);
                }
                let norm = self.column_norm(column);
                let is_zero = round == 0 && norm <= DEPENDENT * before;
                let factor = if is_zero || norm == 0.0 { 0.0 } else { 1.0 / norm };
                (0..self.rows).for_each(|row| self.row_mut(row)[column] *= factor);
                kept += usize::from(round == 1 && factor > 0.0);
            }
        }
        kept
    }
}

/// Products with a weight W [out, in].
pub(super) trait Weight {
    /// What can go wrong with reading it.
    type Error;

    /// in and out.
    fn fans(&self) -> (usize, usize);

    /// W · x.
    fn times(&self, x: &Block) -> Result<Block, Self::Error>;

    /// Wᵀ · y.
    fn transposed_times(&self, y: &Block) -> Result<Block, Self::Error>;
}

/// A [r, in] and B [out, r].
pub(super) struct Factors {
    pub a: Vec<f32>,
    pub b: Vec<f32>,
}

/// B·A = U S Vᵀ / scale of the `rank` largest singular values, A and B with the root of each, so that W − scale·B·A is W without
/// them.
pub(super) fn singular<W: Weight>(
    weight: &W,
    rank: usize,
    scale: f32,
    iterations: Option<usize>,
    key: (u64, u64),
) -> Result<Factors, W::Error> {
    let (right, values) = match iterations {
        None => converged(weight, rank, key)?,
        Some(iterations) => randomised(weight, rank, iterations, key)?,
    };
    let left = weight.times(&right)?;
    let roots: Vec<f64> = values.iter().map(|value| (value.max(0.0) / f64::from(scale)).sqrt()).collect();
    let (fan_in, fan_out) = weight.fans();
    let mut factors = Factors { a: vec![0.0; rank * fan_in], b: vec![0.0; fan_out * rank] };
    for (r, &root) in roots.iter().enumerate() {
        (0..fan_in).for_each(|i| factors.a[r * fan_in + i] = (root * right.row(i)[r]) as f32);
        // U is W v / σ; of a σ that is zero, nothing is taken.
        let factor = if values[r] > 0.0 { root / values[r] } else { 0.0 };
        (0..fan_out).for_each(|o| factors.b[o * rank + r] = (factor * left.row(o)[r]) as f32);
    }
    Ok(factors)
}

/// The right singular vectors [in, rank] and values, to convergence: a space of a few blocks, and again one from the best that
/// was in it.
fn converged<W: Weight>(weight: &W, rank: usize, (seed, stream): (u64, u64)) -> Result<(Block, Vec<f64>), W::Error> {
    let fan_in = weight.fans().0;
    let width = (rank + MORE).min(fan_in);
    let mut best = Ritz { vectors: Block::normal(fan_in, width, seed, stream), values: Vec::new(), residual: 0.0 };
    for _ in 0..MOST_SPACES {
        let (mut space, mut images): (Vec<Block>, Vec<Block>) = (Vec::new(), Vec::new());
        let mut block = best.vectors.clone();
        while space.len() < BLOCKS && block.orthonormalise(&space) > 0 {
            let image = weight.transposed_times(&weight.times(&block)?)?;
            space.push(std::mem::replace(&mut block, image.clone()));
            images.push(image);
        }
        if space.is_empty() {
            // The weight is zero.
            break;
        }
        best = ritz_pairs(&space, &images, rank);
        if best.residual <= CONVERGED * best.values[0].abs() {
            break;
        }
    }
    best.values.resize(rank, 0.0);
    let values = best.values.iter().map(|square| square.max(0.0).sqrt()).collect();
    let mut right = Block::zeros(fan_in, rank);
    (0..fan_in).for_each(|i| right.row_mut(i).copy_from_slice(&best.vectors.row(i)[..rank]));
    Ok((right, values))
}

/// Ritz vectors [in, block], the largest first, their values, and the largest residual of as many as are wanted.
struct Ritz {
    vectors: Block,
    values: Vec<f64>,
    residual: f64,
}

/// The largest Ritz pairs of WᵀW in a space of blocks, of which the images under WᵀW are given.
fn ritz_pairs(space: &[Block], images: &[Block], rank: usize) -> Ritz {
    let width = space[0].columns;
    let size = space.len() * width;
    let mut projected = Block::zeros(size, size);
    for (i, left) in space.iter().enumerate() {
        for (j, right) in images.iter().enumerate() {
            let part = left.transposed_times(right);
            for row in 0..width {
                projected.row_mut(i * width + row)[j * width..(j + 1) * width].copy_from_slice(part.row(row));
            }
        }
    }
    let (mut values, coordinates) = eigen(projected);
    values.truncate(width);
    let rows = space[0].rows;
    let (mut vectors, mut residuals) = (Block::zeros(rows, width), Block::zeros(rows, width));
    for (number, (block, image)) in space.iter().zip(images).enumerate() {
        let mut part = Block::zeros(width, width);
        (0..width).for_each(|row| {
            part.row_mut(row).copy_from_slice(&coordinates.row(number * width + row)[..width]);
        });
        vectors.add(1.0, block, &part);
        residuals.add(1.0, image, &part);
    }
    for row in 0..rows {
        for (r, value) in values.iter().enumerate() {
            residuals.row_mut(row)[r] -= value * vectors.row(row)[r];
        }
    }
    let residual = (0..rank).map(|r| residuals.column_norm(r)).fold(0.0, f64::max);
    Ritz { vectors, values, residual }
}

/// The right singular vectors and values of W in the space of a few iterations from random vectors.
fn randomised<W: Weight>(
    weight: &W,
    rank: usize,
    iterations: usize,
    (seed, stream): (u64, u64),
) -> Result<(Block, Vec<f64>), W::Error> {
    let fan_in = weight.fans().0;
    let mut left = weight.times(&Block::normal(fan_in, rank, seed, stream))?;
    left.orthonormalise(&[]);
    for _ in 0..iterations {
        let mut right = weight.transposed_times(&left)?;
        right.orthonormalise(&[]);
        left = weight.times(&right)?;
        left.orthonormalise(&[]);
    }
    // What W has in that space is (QᵀW)ᵀ = WᵀQ [in, rank]: its left singular vectors are W's right ones.
    let image = weight.transposed_times(&left)?;
    let (squares, vectors) = eigen(image.transposed_times(&image));
    let values: Vec<f64> = squares.iter().map(|square| square.max(0.0).sqrt()).collect();
    let mut right = Block::zeros(fan_in, rank);
    right.add(1.0, &image, &vectors);
    for row in 0..fan_in {
        for (r, &value) in values.iter().enumerate() {
            right.row_mut(row)[r] *= if value > 0.0 { 1.0 / value } else { 0.0 };
        }
    }
    Ok((right, values))
}

/// Eigenvalues of a symmetric matrix, the largest first, and their vectors as columns: Jacobi's method, cyclic by rows.
fn eigen(mut matrix: Block) -> (Vec<f64>, Block) {
    let size = matrix.rows;
    // Rows of this are the vectors until the end: rotations walk along rows.
    let mut vectors = Block::zeros(size, size);
    (0..size).for_each(|i| vectors.row_mut(i)[i] = 1.0);
    let norm = matrix.data.iter().map(|x| x * x).sum::<f64>();
    for _ in 0..60 {
        let mut off = 0.0;
        for p in 0..size {
            for q in p + 1..size {
                let (app, aqq, apq) = (matrix.row(p)[p], matrix.row(q)[q], matrix.row(p)[q]);
                off += apq * apq;
                if apq == 0.0 {
                    continue;
                }
                let theta = (aqq - app) / (2.0 * apq);
                let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
                let sine = tangent * cosine;
                rotate_rows(&mut matrix, p, q, cosine, sine);
                for row in 0..size {
                    let (x, y) = (matrix.row(row)[p], matrix.row(row)[q]);
                    matrix.row_mut(row)[p] = cosine * x - sine * y;
                    matrix.row_mut(row)[q] = sine * x + cosine * y;
                }
                rotate_rows(&mut vectors, p, q, cosine, sine);
            }
        }
        if off <= 1e-30 * norm {
            break;
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&i, &j| matrix.row(j)[j].total_cmp(&matrix.row(i)[i]));
    let mut sorted = Block::zeros(size, size);
    for (to, &from) in order.iter().enumerate() {
        (0..size).for_each(|row| sorted.row_mut(row)[to] = vectors.row(from)[row]);
    }
    (order.iter().map(|&i| matrix.row(i)[i]).collect(), sorted)
}

fn rotate_rows(matrix: &mut Block, p: usize, q: usize, cosine: f64, sine: f64) {
    let columns = matrix.columns;
    let (head, tail) = matrix.data.split_at_mut(q * columns);
    let (upper, lower) = (&mut head[p * columns..(p + 1) * columns], &mut tail[..columns]);
    for (x, y) in upper.iter_mut().zip(lower) {
        (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
    }
}

/// B = Q[:, :rank] and A = R[:rank] of W = Q·R.
pub(super) fn orthogonal<W: Weight>(weight: &W, rank: usize) -> Result<Factors, W::Error> {
    let (fan_in, fan_out) = weight.fans();
    let mut units = Block::zeros(fan_in, rank);
    (0..rank).for_each(|r| units.row_mut(r)[r] = 1.0);
    let q = householder(weight.times(&units)?);
    let r = weight.transposed_times(&q)?;
    let a = (0..rank).flat_map(|row| (0..fan_in).map(move |i| (row, i))).map(|(row, i)| r.row(i)[row] as f32).collect();
    let b = (0..fan_out).flat_map(|o| q.row(o).iter().map(|&x| x as f32)).collect();
    Ok(Factors { a, b })
}

/// Q of the QR decomposition of columns, with the signs of LAPACK's `geqrf`: R's diagonal has the sign that its column's
/// first element did not have.
fn householder(mut columns: Block) -> Block {
    let (rows, count) = (columns.rows, columns.columns);
    let mut reflections: Vec<(Vec<f64>, f64)> = Vec::with_capacity(count);
    for k in 0..count {
        let column: Vec<f64> = (k..rows).map(|row| columns.row(row)[k]).collect();
        let below = column[1..].iter().map(|x| x * x).sum::<f64>();
        let mut reflection = (column.clone(), 0.0);
        if below > 0.0 {
            let norm = (column[0] * column[0] + below).sqrt();
            let beta = if column[0] >= 0.0 { -norm } else { norm };
            reflection.0[0] = column[0] - beta;
            reflection.1 = 2.0 / (reflection.0[0].powi(2) + below);
        }
        reflect(&mut columns, &reflection, k);
        reflections.push(reflection);
    }
    let mut q = Block::zeros(rows, count);
    (0..count).for_each(|k| q.row_mut(k)[k] = 1.0);
    for (k, reflection) in reflections.iter().enumerate().rev() {
        reflect(&mut q, reflection, k);
    }
    q
}

/// Applies 1 − factor·v·vᵀ to all columns, from row `first` on.
fn reflect(columns: &mut Block, (v, factor): &(Vec<f64>, f64), first: usize) {
    let mut dots = vec![0.0; columns.columns];
    for (offset, &x) in v.iter().enumerate() {
        dots.iter_mut().zip(columns.row(first + offset)).for_each(|(dot, &y)| *dot += x * y);
    }
    for (offset, &x) in v.iter().enumerate() {
        columns.row_mut(first + offset).iter_mut().zip(&dots).for_each(|(y, dot)| *y -= factor * x * dot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    struct Dense(Block);

    impl Weight for Dense {
        type Error = Infallible;

        fn fans(&self) -> (usize, usize) {
            (self.0.columns, self.0.rows)
        }

        fn times(&self, x: &Block) -> Result<Block, Infallible> {
            let mut product = Block::zeros(self.0.rows, x.columns);
            product.add(1.0, &self.0, x);
            Ok(product)
        }

        fn transposed_times(&self, y: &Block) -> Result<Block, Infallible> {
            Ok(self.0.transposed_times(y))
        }
    }

    /// A weight [out, in] of known singular values.
    fn of_values(values: &[f64], fan_in: usize, fan_out: usize) -> Dense {
        let basis = |rows: usize, stream| {
            let mut block = Block::normal(rows, values.len(), 3, stream);
            assert_eq!(block.orthonormalise(&[]), values.len());
            block
        };
        let (mut left, right) = (basis(fan_out, 1), basis(fan_in, 2));
        for row in 0..fan_out {
            left.row_mut(row).iter_mut().zip(values).for_each(|(x, value)| *x *= value);
        }
        let mut weight = Block::zeros(fan_out, fan_in);
        let mut turned = Block::zeros(values.len(), fan_in);
        (0..fan_in).for_each(|i| (0..values.len()).for_each(|k| turned.row_mut(k)[i] = right.row(i)[k]));
        weight.add(1.0, &left, &turned);
        Dense(weight)
    }

    /// The singular values of W − scale·B·A.
    fn rest(weight: &Dense, factors: &Factors, rank: usize, scale: f32) -> Vec<f64> {
        let (fan_in, fan_out) = weight.fans();
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect();
        let a = Block { rows: rank, columns: fan_in, data: wide(&factors.a) };
        let b = Block { rows: fan_out, columns: rank, data: wide(&factors.b) };
        let mut rest = weight.0.clone();
        rest.add(-f64::from(scale), &b, &a);
        eigen(rest.transposed_times(&rest)).0.into_iter().map(|square| square.max(0.0).sqrt()).collect()
    }

    #[test]
    fn what_is_left_has_the_other_singular_values() {
        // Slowly falling values, as of a trained weight; then some that are equal, and fewer than the rank.
        let slow: Vec<f64> = (0..40).map(|k| 3.0 / (1.0 + 0.05 * f64::from(k))).collect();
        for (values, fan_in, fan_out, rank) in [
            (slow.clone(), 40, 70, 4),
            (slow, 120, 40, 5),
            (vec![2.0, 2.0, 2.0, 1.0, 0.5], 30, 20, 3),
            (vec![1.0, 0.5], 12, 9, 4),
        ] {
            let weight = of_values(&values, fan_in, fan_out);
            let factors = singular(&weight, rank, 2.0, None, (7, 1)).expect("infallible");
            let left = rest(&weight, &factors, rank, 2.0);
            let expected = values.iter().skip(rank).copied().chain(std::iter::repeat(0.0));
            for (found, expected) in left.into_iter().zip(expected).take(values.len()) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }

    #[test]
    fn a_few_iterations_come_near_and_more_come_nearer() {
        let values: Vec<f64> = (0..40).map(|k| 0.9f64.powi(k)).collect();
        let weight = of_values(&values, 60, 50);
        let largest = |iterations| {
            let factors = singular(&weight, 6, 1.0, Some(iterations), (7, 1)).expect("infallible");
            rest(&weight, &factors, 6, 1.0)[0] - values[6]
        };
        let [none, four, twenty] = [0, 4, 20].map(largest);
        assert!(none > four && four > twenty, "{none} {four} {twenty}");
        assert!(four < 0.05 && twenty < 1e-3, "{four} {twenty}");
    }

    #[test]
    fn the_qr_decomposition_has_orthonormal_columns_and_the_signs_of_lapack() {
        let weight = Dense(Block::normal(20, 30, 5, 6));
        let Factors { a, b } = orthogonal(&weight, 4).expect("infallible");
        for k in 0..4 {
            let dot = |j: usize| (0..20).map(|o| f64::from(b[o * 4 + k]) * f64::from(b[o * 4 + j])).sum::<f64>();
            (0..4).for_each(|j| assert!((dot(j) - f64::from(u8::from(j == k))).abs() < 1e-6));
            // R is upper triangular, and the first rows of W's first columns come back.
            (0..k).for_each(|i| assert!(a[k * 30 + i].abs() < 1e-6));
        }
        assert!(a[0] * weight.0.row(0)[0] as f32 <= 0.0, "the first element of R has the other sign");
        for o in 0..20 {
            let first: f32 = (0..4).map(|k| b[o * 4 + k] * a[k * 30 + 2]).sum();
            assert!((f64::from(first) - weight.0.row(o)[2]).abs() < 1e-5);
        }
    }
}
