//! A convolutional network on images of handwritten digits (LeCun et al., *Gradient-based learning applied to document
//! recognition*, 1998), with batch norm (Ioffe and Szegedy, 2015): four blocks, each a checkpoint region.
//!
//! The images are scikit-learn's digits, 1,797 of 8 × 8 pixels: E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten
//! Digits*, UCI Machine Learning Repository, 1998, doi.org/10.24432/C50P49, licence CC BY 4.0. Every fifth is held out.
//!
//! Run: `cargo run -p remat --example digits_cnn`. It prints accuracy and memory with and without checkpointing.

use remat::modules::{BatchNorm2d, Conv2d};
use remat::{
    AdamWSettings, BatchNormOptions, CheckpointPolicy, ConvOptions, CrossEntropyOptions, DType, Error, Graph,
    Optimizer, Options, PoolOptions, Schedule, Step, Tensor,
};

/// One image a line: 64 pixels from 0 to 16, row by row, and the class.
const DIGITS: &str = include_str!("digits.csv");
const SIDE: usize = 8;
const CLASSES: usize = 10;
const BATCH: usize = 60;
const UPDATES: usize = 90;

/// Convolution, batch norm, ReLU. In training each run moves the running statistics once, whatever is computed again; in an
/// evaluation they stand for the batch's.
fn block(g: &mut Graph, x: Tensor, channels: usize) -> Result<Tensor, Error> {
    let from = g.ty(x)?.shape[1];
    let same_size = ConvOptions { padding: [1, 1], ..ConvOptions::default() };
    let conv = Conv2d::new(g, "conv", [from, channels], [3, 3], same_size, false)?;
    let norm = BatchNorm2d::new(g, "norm", channels, BatchNormOptions::default())?;
    let y = conv.forward(g, x)?;
    let y = norm.forward(g, y)?;
    g.relu(y)
}

/// Logits [BATCH, CLASSES] of images [BATCH, 1, SIDE, SIDE]: two blocks, half the rows and columns, two blocks, the mean of each
/// channel.
fn network(g: &mut Graph) -> Result<Tensor, Error> {
    let mut h = g.input("images", DType::F32, &[BATCH, 1, SIDE, SIDE])?;
    for (number, channels) in [16, 16, 32, 32].into_iter().enumerate() {
        h = g.checkpoint(&format!("blocks.{number}"), |g| {
            let y = block(g, h, channels)?;
            if number == 1 { g.max_pool2d(y, PoolOptions::new([2, 2])) } else { Ok(y) }
        })?;
    }
    let h = g.global_avg_pool2d(h)?;
    let h = g.flatten(h, 1, -1)?;
    g.dense("head", h, CLASSES)
}

/// The step, and the name of the logits of its evaluation, which reads the parameters and running statistics that it trains.
fn compiled(policy: CheckpointPolicy) -> Result<(Step, String), Error> {
    let mut evaluation = Graph::evaluation();
    let logits = network(&mut evaluation)?;
    evaluation.output(logits)?;
    let name = evaluation.name(logits)?.to_string();
    let mut g = Graph::new();
    let logits = network(&mut g)?;
    let classes = g.input("classes", DType::I32, &[BATCH])?;
    let loss = g.cross_entropy_of_logits(logits, classes, CrossEntropyOptions::default())?;
    let optimizer = Optimizer::AdamW(AdamWSettings { weight_decay: 0.01, ..AdamWSettings::default() });
    let options = Options::new().policy(policy).optimizer(optimizer).evaluation(evaluation).seed(1);
    Ok((g.compile(loss, options)?, name))
}

struct Digit {
    pixels: Vec<f32>,
    class: i32,
}

/// Images for training, and every fifth held out. Pixels from 0 to 1.
fn digits() -> (Vec<Digit>, Vec<Digit>) {
    let (mut training, mut held_out) = (Vec::new(), Vec::new());
    for (number, line) in DIGITS.lines().enumerate() {
        let mut pixels: Vec<f32> = line.split(',').map(|field| field.parse().expect("a number")).collect();
        let class = pixels.pop().expect("a class") as i32;
        pixels.iter_mut().for_each(|pixel| *pixel /= 16.0);
        let set = if number % 5 == 0 { &mut held_out } else { &mut training };
        set.push(Digit { pixels, class });
    }
    (training, held_out)
}

fn set_images<'a>(step: &mut Step, images: impl Iterator<Item = &'a Digit>) -> Result<(), Error> {
    let pixels: Vec<f32> = images.flat_map(|image| image.pixels.iter().copied()).collect();
    step.set_input("images", &pixels)
}

/// The share of images whose class has the largest logit.
fn accuracy(step: &mut Step, logits: &str, images: &[Digit]) -> Result<f64, Error> {
    let mut right = 0;
    for batch in images.chunks_exact(BATCH) {
        set_images(step, batch.iter())?;
        step.evaluate()?;
        let logits = step.evaluation_output(logits)?;
        right += logits.chunks(CLASSES).zip(batch).filter(|(row, image)| largest(row) == image.class as usize).count();
    }
    Ok(right as f64 / images.len() as f64)
}

fn largest(row: &[f32]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0)
}

struct Trained {
    losses: Vec<f32>,
    accuracy: f64,
    /// What lives from forward to backward.
    kept_bytes: usize,
    arena_bytes: usize,
}

fn train(policy: CheckpointPolicy) -> Result<Trained, Error> {
    let (training, held_out) = digits();
    let (mut step, logits) = compiled(policy)?;
    let schedule = Schedule::cosine(1e-2, 10, UPDATES as u64);
    let mut losses = Vec::new();
    for update in 0..UPDATES {
        // A prime step through the images: each comes once before any comes again.
        let batch = (update * BATCH..(update + 1) * BATCH).map(|i| &training[i * 641 % training.len()]);
        set_images(&mut step, batch.clone())?;
        step.set_input("classes", &batch.map(|image| image.class).collect::<Vec<_>>())?;
        losses.push(step.run()?);
        step.update(schedule.rate(update as u64) as f32)?;
    }
    let accuracy = accuracy(&mut step, &logits, &held_out)?;
    let memory = step.memory();
    Ok(Trained { losses, accuracy, kept_bytes: memory.activation_bytes, arena_bytes: memory.arena_bytes })
}

/// More than 97 of 100 held-out images are told right, and checkpointing keeps less than half and changes no bit.
fn compare() -> Result<(), Error> {
    let plain = train(CheckpointPolicy::none())?;
    let checkpointed = train(CheckpointPolicy::full())?;
    for (name, run) in [("none", &plain), ("full", &checkpointed)] {
        let Trained { losses, accuracy, kept_bytes, arena_bytes } = run;
        println!(
            "{name}: loss {:.4} -> {:.4}; {:.1} % of held-out digits right; keeps {kept_bytes} bytes, arena {arena_bytes}",
            losses[0],
            losses[UPDATES - 1],
            100.0 * accuracy
        );
    }
    assert!(plain.accuracy > 0.97, "{}", plain.accuracy);
    assert!(plain.losses == checkpointed.losses && plain.accuracy == checkpointed.accuracy, "equal to the last bit");
    assert!(2 * checkpointed.kept_bytes < plain.kept_bytes && checkpointed.arena_bytes < plain.arena_bytes);
    Ok(())
}

fn main() -> Result<(), Error> {
    compare()
}

#[cfg(test)]
mod tests {
    #[test]
    fn tells_digits_apart_and_loses_no_bit_to_checkpointing() {
        super::compare().expect("trains");
    }
}
