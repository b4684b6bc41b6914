//! A recurrent network unrolled over time, one weight for all steps: the chain for which checkpointing was invented
//! (Griewank and Walther, *Revolve*, 2000). Segments of several time steps trade memory for time; the optimizer, plain SGD,
//! is the user's own.
//!
//! Run: `cargo run -p remat --example recurrent_chain`.

use remat::{CheckpointPolicy, DType, Error, Graph, Init, Options, Step, Tensor};

const ROWS: usize = 16;
const WIDTH: usize = 32;
const TIME: usize = 24;

/// h ← h + gelu(W·[h; x_t]), then two classes: whether more inputs were positive than negative.
fn model() -> Result<(Graph, Tensor), Error> {
    let mut g = Graph::new();
    let w = g.parameter("w", &[WIDTH, WIDTH + 4], Init::Normal(0.02))?;
    let bias = g.parameter("bias", &[WIDTH], Init::Zeros)?;
    let mut h = g.input("h0", DType::F32, &[ROWS, WIDTH])?;
    for time in 0..TIME {
        let x = g.input(&format!("x.{time}"), DType::F32, &[ROWS, 4])?;
        h = g.checkpoint(&format!("time.{time}"), |g| {
            let both = g.concat(&[h, x])?;
            let change = g.linear(both, w, Some(bias))?;
            let change = g.gelu(change)?;
            g.add(h, change)
        })?;
    }
    let head = g.parameter("head", &[2, WIDTH], Init::Normal(0.1))?;
    let classes = g.input("classes", DType::I32, &[ROWS])?;
    let sum = g.cross_entropy(h, head, classes)?;
    let loss = g.scale(sum, 1.0 / ROWS as f32)?;
    Ok((g, loss))
}

/// One batch of signs by an equation, so that the example needs no data: the majority decides the class.
fn feed(step: &mut Step, batch: usize) -> Result<(), Error> {
    let sign = |row: usize, time: usize| {
        if (row * 31 + time * 17 + batch * 7 + row * time) % 5 < 2 + row % 2 { 1.0 } else { -1.0 }
    };
    for time in 0..TIME {
        let x: Vec<f32> = (0..ROWS * 4).map(|i| sign(i / 4, time)).collect();
        step.set_input(&format!("x.{time}"), &x)?;
    }
    let majority = |row: usize| i32::from((0..TIME).map(|time| sign(row, time)).sum::<f32>() > 0.0);
    step.set_input("classes", &(0..ROWS).map(majority).collect::<Vec<i32>>())
}

fn train(policy: CheckpointPolicy, updates: usize) -> Result<(Vec<f32>, usize), Error> {
    let (graph, loss) = model()?;
    let mut step = graph.compile(loss, Options::new().policy(policy))?;
    let mut losses = Vec::new();
    for batch in 0..updates {
        feed(&mut step, batch)?;
        losses.push(step.run()?);
        step.update_with(|_name, value, gradient| value.iter_mut().zip(gradient).for_each(|(v, g)| *v -= 0.005 * g))?;
    }
    Ok((losses, step.memory().activation_bytes))
}

fn main() -> Result<(), Error> {
    for policy in ["none", "every:2", "every:4", "every:8", "full"] {
        let (losses, kept) = train(policy.parse()?, 40)?;
        println!("{policy:8} keeps {kept:>7} bytes; loss {:.4} -> {:.4}", losses[0], losses[losses.len() - 1]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_keep_less_and_change_no_bit_under_an_optimizer_of_ones_own() {
        let (losses, kept) = train(CheckpointPolicy::none(), 30).expect("trains");
        for segment in [1, 4, 8] {
            let (same, less) = train(CheckpointPolicy::every(segment), 30).expect("trains");
            assert!(same == losses && less < kept, "segments of {segment}: {less} of {kept}");
        }
        assert!(losses.iter().all(|loss| loss.is_finite()) && losses[29] < losses[0], "{losses:?}");
    }
}
