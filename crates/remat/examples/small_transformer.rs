//! A decoder of four blocks from scratch: token and position embeddings, causal attention, SwiGLU, a tied head. Each block is
//! a region, and a budget in bytes says how much may live from forward to backward.
//!
//! Run: `cargo run -p remat --example small_transformer`.

use remat::{AdamWSettings, CheckpointPolicy, DType, Error, Graph, Init, Options, Step, Tensor};

/// English text of the repository itself, as bytes.
const TEXT: &[u8] = include_bytes!("../../../LICENSE-APACHE");
const BATCH: usize = 2;
const TOKENS: usize = 48;
const WIDTH: usize = 32;
const HEADS: usize = 4;
const BLOCKS: usize = 4;

fn block(g: &mut Graph, h: Tensor, segment_start: Tensor) -> Result<Tensor, Error> {
    let norm = g.parameter("attention_norm", &[WIDTH], Init::Ones)?;
    let x = g.rms_norm(h, norm, 1e-5)?;
    let qkv = g.dense("qkv", x, 3 * WIDTH)?;
    let parts = g.split(qkv, &[WIDTH, WIDTH, WIDTH])?;
    let attended = g.causal_attention([parts[0], parts[1], parts[2]], segment_start, HEADS, HEADS)?;
    let out = g.dense("out", attended, WIDTH)?;
    let h = g.add(h, out)?;
    let norm = g.parameter("mlp_norm", &[WIDTH], Init::Ones)?;
    let x = g.rms_norm(h, norm, 1e-5)?;
    let (gate, up) = (g.dense("gate", x, 2 * WIDTH)?, g.dense("up", x, 2 * WIDTH)?);
    let inner = g.swiglu(gate, up)?;
    let down = g.dense("down", inner, WIDTH)?;
    g.add(h, down)
}

fn model() -> Result<(Graph, Tensor), Error> {
    let mut g = Graph::new();
    let inputs = ["ids", "positions", "segment_start", "targets"];
    let inputs: Vec<Tensor> =
        inputs.iter().map(|name| g.input(name, DType::I32, &[BATCH, TOKENS])).collect::<Result<_, _>>()?;
    let bytes = g.parameter("bytes", &[256, WIDTH], Init::Normal(0.1))?;
    let places = g.parameter("places", &[TOKENS, WIDTH], Init::Normal(0.1))?;
    let (tokens, places) = (g.embedding(bytes, inputs[0])?, g.embedding(places, inputs[1])?);
    let mut h = g.add(tokens, places)?;
    for layer in 0..BLOCKS {
        h = g.checkpoint(&format!("blocks.{layer}"), |g| block(g, h, inputs[2]))?;
    }
    let sum = g.cross_entropy(h, bytes, inputs[3])?;
    let loss = g.scale(sum, 1.0 / (BATCH * TOKENS) as f32)?;
    Ok((g, loss))
}

fn feed(step: &mut Step, batch: usize) -> Result<(), Error> {
    let at = |row: usize| (batch * 977 + row * 4801) % (TEXT.len() - TOKENS - 1);
    let tokens = |shift: usize| -> Vec<i32> {
        (0..BATCH).flat_map(|row| TEXT[at(row) + shift..][..TOKENS].iter().map(|&byte| i32::from(byte))).collect()
    };
    step.set_input("ids", &tokens(0))?;
    step.set_input("targets", &tokens(1))?;
    step.set_input("positions", &(0..BATCH).flat_map(|_| 0..TOKENS as i32).collect::<Vec<_>>())?;
    step.set_input("segment_start", &[0_i32; BATCH * TOKENS])
}

fn train(policy: CheckpointPolicy, updates: usize) -> Result<(Vec<f32>, usize), Error> {
    let (graph, loss) = model()?;
    let mut step = graph.compile(loss, Options::new().policy(policy).adamw(AdamWSettings::default()))?;
    let mut losses = Vec::new();
    for batch in 0..updates {
        feed(&mut step, batch)?;
        losses.push(step.run()?);
        step.update(3e-3)?;
    }
    Ok((losses, step.memory().activation_bytes))
}

fn main() -> Result<(), Error> {
    let all = train(CheckpointPolicy::none(), 0)?.1;
    for share in [4, 3, 2] {
        let budget = all * share / 4;
        let (losses, kept) = train(CheckpointPolicy::budget(budget), 80)?;
        println!("budget {budget:>7}: keeps {kept:>7} bytes; loss {:.4} -> {:.4}", losses[0], losses[losses.len() - 1]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_within_half_of_the_bytes_and_the_same_bits() {
        let (losses, all) = train(CheckpointPolicy::none(), 30).expect("trains");
        let (same, kept) = train(CheckpointPolicy::budget(all / 2), 30).expect("half is enough");
        assert!(kept <= all / 2 && same == losses, "{kept} of {all}");
        assert!(losses[29] < 0.75 * losses[0], "{} from {}", losses[29], losses[0]);
    }
}
