//! The mean of scales, in the order in which PyTorch adds on the CPU: it is stored in files, so its bits matter.
//!
//! The numbers are read as vectors of 8 lanes and each lane is added for itself, four sums in turn. A sum is kept on four
//! levels: after `2^p` additions a level is emptied into the next one, which bounds the rounding error. The lanes come
//! last, one after the other. (Two threads would split a long sum; the order here is that of one.)

const LANES: usize = 8;
const SUMS: usize = 4;
const LEVELS: usize = 4;

type Vector = [f32; LANES];

/// The mean of `values`; 0 for none.
pub(super) fn mean(values: &[f32]) -> f32 {
    if values.is_empty() { 0.0 } else { sum(values) / values.len() as f32 }
}

fn sum(values: &[f32]) -> f32 {
    let (vectors, rest) = values.as_chunks::<LANES>();
    let (rows, last) = vectors.as_chunks::<SUMS>();
    let mut sums = cascade(rows);
    last.iter().for_each(|vector| add(&mut sums[0], vector));
    for index in 1..SUMS {
        let sum = sums[index];
        add(&mut sums[0], &sum);
    }
    let lanes = rest.iter().chain(&sums[0]);
    lanes.fold(0.0, |total, &lane| total + lane)
}

fn cascade(rows: &[[Vector; SUMS]]) -> [Vector; SUMS] {
    let power = (rows.len().next_power_of_two().ilog2() as usize / LEVELS).max(4);
    let (step, mask) = (1 << power, (1 << power) - 1);
    let mut levels = [[[0.0; LANES]; SUMS]; LEVELS];
    for (index, row) in rows.iter().enumerate() {
        add_all(&mut levels[0], row);
        let done = index + 1;
        if done % step != 0 {
            continue;
        }
        for level in 1..LEVELS {
            let below = std::mem::take(&mut levels[level - 1]);
            add_all(&mut levels[level], &below);
            if done & (mask << (level * power)) != 0 {
                break;
            }
        }
    }
    for level in 1..LEVELS {
        let above = levels[level];
        add_all(&mut levels[0], &above);
    }
    levels[0]
}

fn add_all(sums: &mut [Vector; SUMS], row: &[Vector; SUMS]) {
    sums.iter_mut().zip(row).for_each(|(sum, vector)| add(sum, vector));
}

fn add(sum: &mut Vector, vector: &Vector) {
    sum.iter_mut().zip(vector).for_each(|(sum, lane)| *sum += lane);
}
