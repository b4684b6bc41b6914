//! A deep MLP on real text: predicts a byte from the eight before it (Bengio et al., *A neural probabilistic language model*,
//! 2003), with twelve residual layers, each a checkpoint region.
//!
//! Run: `cargo run -p remat --example deep_mlp`. It prints memory and losses with and without checkpointing.

use remat::{AdamWSettings, CheckpointPolicy, DType, Error, Graph, Init, Options, Tensor};

/// English text of the repository itself.
const TEXT: &[u8] = include_bytes!("../../../LICENSE-APACHE");
const CONTEXT: usize = 8;
const ROWS: usize = 128;
const WIDTH: usize = 64;

/// The model: eight embedded bytes side by side, the layers, and a distribution over the next byte.
fn model() -> Result<(Graph, Tensor), Error> {
    let mut g = Graph::new();
    let table = g.parameter("bytes", &[256, 16], Init::Normal(0.1))?;
    let embedded = |g: &mut Graph, back: usize| {
        let ids = g.input(&format!("byte.{back}"), DType::I32, &[ROWS])?;
        g.embedding(table, ids)
    };
    let context: Vec<Tensor> = (0..CONTEXT).map(|back| embedded(&mut g, back)).collect::<Result<_, _>>()?;
    let context = g.concat(&context)?;
    let mut h = g.dense("first", context, WIDTH)?;
    for layer in 0..12 {
        h = g.checkpoint(&format!("layers.{layer}"), |g| {
            let weight = g.parameter("norm", &[WIDTH], Init::Ones)?;
            let inner = g.rms_norm(h, weight, 1e-5)?;
            let inner = g.dense("up", inner, 4 * WIDTH)?;
            let inner = g.gelu(inner)?;
            let out = g.dense("down", inner, WIDTH)?;
            g.add(h, out)
        })?;
    }
    let head = g.parameter("head", &[256, WIDTH], Init::Linear)?;
    let next = g.input("next", DType::I32, &[ROWS])?;
    let sum = g.cross_entropy(h, head, next)?;
    let loss = g.scale(sum, 1.0 / ROWS as f32)?;
    Ok((g, loss))
}

/// Trains under a policy; returns the losses, and the bytes of kept activations and of the whole step.
fn train(policy: CheckpointPolicy, updates: usize) -> Result<(Vec<f32>, usize, usize), Error> {
    let (graph, loss) = model()?;
    let mut step = graph.compile(loss, Options::new().policy(policy).adamw(AdamWSettings::default()).seed(1))?;
    let mut losses = Vec::new();
    for update in 0..updates {
        // Rows lie apart by a prime, so that a batch is spread over the text.
        let start = |row: usize| (update * 7919 + row * 83) % (TEXT.len() - CONTEXT - 1);
        for back in 0..CONTEXT {
            let bytes: Vec<i32> = (0..ROWS).map(|row| i32::from(TEXT[start(row) + back])).collect();
            step.set_input(&format!("byte.{back}"), &bytes)?;
        }
        let next: Vec<i32> = (0..ROWS).map(|row| i32::from(TEXT[start(row) + CONTEXT])).collect();
        step.set_input("next", &next)?;
        losses.push(step.run()?);
        step.update(2e-3)?;
    }
    let memory = step.memory();
    Ok((losses, memory.activation_bytes, memory.planned_peak))
}

fn main() -> Result<(), Error> {
    for policy in [CheckpointPolicy::none(), CheckpointPolicy::dots_saveable(), CheckpointPolicy::full()] {
        let name = policy.to_string();
        let (losses, kept, peak) = train(policy, 60)?;
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        println!("{name:14} keeps {kept:>8} bytes, peak {peak:>9}; loss {first:.4} -> {last:.4} nats per byte");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_and_loses_no_bit_to_checkpointing() {
        let (plain, kept, peak) = train(CheckpointPolicy::none(), 40).expect("trains");
        let (checkpointed, kept_less, peak_less) = train(CheckpointPolicy::full(), 40).expect("trains");
        assert!(plain == checkpointed, "the losses are equal to the last bit");
        assert!(kept_less * 4 < kept && peak_less < peak, "{kept_less} of {kept}, {peak_less} of {peak}");
        assert!(plain[39] < 0.7 * plain[0], "{} from {}", plain[39], plain[0]);
    }
}
