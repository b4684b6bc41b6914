//! An encoder and a decoder with attention from one to the other (Vaswani et al., *Attention is all you need*, 2017): reads a
//! sequence of symbols and writes it backwards. Sequences are of several lengths, with padding that masks hide.
//!
//! Run: `cargo run -p remat --example encoder_decoder`. It prints losses, memory, and how many unseen sequences it gets right.

use remat::{
    AdamWSettings, AttentionOptions, CheckpointPolicy, CrossEntropyOptions, DType, Error, Graph, Init, Options,
    Schedule, Step, Tensor,
};

const BATCH: usize = 64;
/// The longest sequence.
const SOURCE: usize = 7;
/// Its symbols backwards, and the end.
const TARGET: usize = SOURCE + 1;
const SHORTEST: usize = 3;

const PADDING: i32 = 0;
const START: i32 = 1;
const END: i32 = 2;
const FIRST_SYMBOL: i32 = 3;
const SYMBOLS: usize = 8;
const VOCABULARY: usize = FIRST_SYMBOL as usize + SYMBOLS;
/// The target of places that take no part in the loss.
const IGNORED: i32 = -100;

const WIDTH: usize = 32;
const HEADS: usize = 4;
const UPDATES: usize = 180;

/// Attention of the places of `x` to those of `memory`, added to x: x [B, T, D], memory [B, S, D].
fn attend(g: &mut Graph, name: &str, x: Tensor, memory: Tensor, options: AttentionOptions) -> Result<Tensor, Error> {
    let change = g.scope(name, |g| {
        let (q, k, v) = (g.dense("q", x, WIDTH)?, g.dense("k", memory, WIDTH)?, g.dense("v", memory, WIDTH)?);
        let y = g.scaled_dot_product_attention([q, k, v], options)?;
        g.dense("out", y, WIDTH)
    })?;
    let sum = g.add(x, change)?;
    norm(g, &format!("{name}_norm"), sum)
}

fn norm(g: &mut Graph, name: &str, x: Tensor) -> Result<Tensor, Error> {
    let weight = g.parameter(name, &[WIDTH], Init::Ones)?;
    g.rms_norm(x, weight, 1e-5)
}

fn mlp(g: &mut Graph, x: Tensor) -> Result<Tensor, Error> {
    let up = g.dense("up", x, 2 * WIDTH)?;
    let up = g.gelu(up)?;
    let down = g.dense("down", up, WIDTH)?;
    let sum = g.add(x, down)?;
    norm(g, "mlp_norm", sum)
}

/// Symbols with their places: ids i32 [B, T]; [B, T, D].
fn embed(g: &mut Graph, name: &str, places: usize) -> Result<Tensor, Error> {
    let ids = g.input(name, DType::I32, &[BATCH, places])?;
    g.scope(&format!("{name}.embedding"), |g| {
        let symbols = g.parameter("symbols", &[VOCABULARY, WIDTH], Init::Normal(0.5))?;
        let places = g.parameter("places", &[places, WIDTH], Init::Normal(0.5))?;
        let h = g.embedding(symbols, ids)?;
        g.add(h, places)
    })
}

/// Logits [B, TARGET, VOCABULARY] of the next symbol at each place of the target. Neither attention to the source sees its
/// padding; the target's own is causal, so that its padding, at the end, is seen by nothing that counts.
fn network(g: &mut Graph) -> Result<Tensor, Error> {
    let mask = g.input("source_mask", DType::I32, &[BATCH, SOURCE])?;
    let of_source = AttentionOptions { mask: Some(mask), ..AttentionOptions::new(HEADS) };
    let of_target = AttentionOptions { is_causal: true, ..AttentionOptions::new(HEADS) };
    let mut memory = embed(g, "source", SOURCE)?;
    for layer in 0..2 {
        memory = g.checkpoint(&format!("encoder.{layer}"), |g| {
            let h = attend(g, "attention", memory, memory, of_source)?;
            mlp(g, h)
        })?;
    }
    let mut h = embed(g, "target", TARGET)?;
    for layer in 0..2 {
        h = g.checkpoint(&format!("decoder.{layer}"), |g| {
            let h = attend(g, "attention", h, h, of_target)?;
            let h = attend(g, "crossed", h, memory, of_source)?;
            mlp(g, h)
        })?;
    }
    g.dense("head", h, VOCABULARY)
}

/// The step, and the name of the logits of its evaluation.
fn compiled(policy: CheckpointPolicy) -> Result<(Step, String), Error> {
    let mut evaluation = Graph::evaluation();
    let logits = network(&mut evaluation)?;
    evaluation.output(logits)?;
    let name = evaluation.name(logits)?.to_string();
    let mut g = Graph::new();
    let logits = network(&mut g)?;
    let next = g.input("next", DType::I32, &[BATCH, TARGET])?;
    let loss = g.cross_entropy_of_logits(logits, next, CrossEntropyOptions::default())?;
    let options = Options::new().policy(policy).adamw(AdamWSettings::default()).evaluation(evaluation).seed(1);
    Ok((g.compile(loss, options)?, name))
}

/// Sequences without end, each by its number alone: lengths and symbols by SplitMix64 (Steele et al., 2014).
fn sequence(number: u64) -> Vec<i32> {
    let draw = |at: u64, below: usize| {
        let mut x = (number << 8 | at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % below as u64) as usize
    };
    let length = SHORTEST + draw(0, SOURCE - SHORTEST + 1);
    (1..=length as u64).map(|at| FIRST_SYMBOL + draw(at, SYMBOLS) as i32).collect()
}

fn batch(number: usize) -> Vec<Vec<i32>> {
    (number * BATCH..(number + 1) * BATCH).map(|row| sequence(row as u64)).collect()
}

/// Rows of one length, with `filler` behind what there is.
fn padded(rows: impl Iterator<Item = Vec<i32>>, length: usize, filler: i32) -> Vec<i32> {
    rows.flat_map(|mut row| {
        row.resize(length, filler);
        row
    })
    .collect()
}

fn set_sources(step: &mut Step, sources: &[Vec<i32>]) -> Result<(), Error> {
    step.set_input("source", &padded(sources.iter().cloned(), SOURCE, PADDING))?;
    step.set_input("source_mask", &padded(sources.iter().map(|row| vec![1; row.len()]), SOURCE, 0))
}

/// What is to be written, as the decoder reads it and as it is to say it: one place apart.
fn set_targets(step: &mut Step, sources: &[Vec<i32>]) -> Result<(), Error> {
    let backwards = || sources.iter().map(|row| row.iter().rev().copied());
    let read = backwards().map(|row| [START].into_iter().chain(row).collect());
    step.set_input("target", &padded(read, TARGET, PADDING))?;
    let next = backwards().map(|row| row.chain([END]).collect());
    step.set_input("next", &padded(next, TARGET, IGNORED))
}

fn train(step: &mut Step, updates: usize) -> Result<Vec<f32>, Error> {
    let schedule = Schedule::cosine(5e-3, 20, UPDATES as u64);
    let mut losses = Vec::new();
    for update in 0..updates {
        let sources = batch(update);
        set_sources(step, &sources)?;
        set_targets(step, &sources)?;
        losses.push(step.run()?);
        step.update(schedule.rate(update as u64) as f32)?;
    }
    Ok(losses)
}

/// Writes greedily: at each place the symbol with the largest logit, which the next place reads, up to the end.
fn write(step: &mut Step, logits: &str, sources: &[Vec<i32>]) -> Result<Vec<Vec<i32>>, Error> {
    set_sources(step, sources)?;
    let mut written = vec![vec![START]; sources.len()];
    for place in 0..TARGET {
        step.set_input("target", &padded(written.iter().cloned(), TARGET, PADDING))?;
        step.evaluate()?;
        let logits = step.evaluation_output(logits)?;
        for (row, logits) in written.iter_mut().zip(logits.chunks(TARGET * VOCABULARY)) {
            row.push(largest(&logits[place * VOCABULARY..][..VOCABULARY]));
        }
    }
    let until_end = |row: &Vec<i32>| row[1..].iter().copied().take_while(|&symbol| symbol != END).collect();
    Ok(written.iter().map(until_end).collect())
}

fn largest(row: &[f32]) -> i32 {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0) as i32
}

/// The share of unseen sequences that are written backwards without a mistake.
fn share_right(step: &mut Step, logits: &str) -> Result<f64, Error> {
    const BATCHES: usize = 3;
    let mut right = 0;
    for number in UPDATES..UPDATES + BATCHES {
        let sources = batch(number);
        let written = write(step, logits, &sources)?;
        right +=
            sources.iter().zip(&written).filter(|(source, written)| source.iter().rev().eq(written.iter())).count();
    }
    Ok(right as f64 / (BATCHES * BATCH) as f64)
}

/// More than 95 of 100 unseen sequences are right, and checkpointing keeps less than half and changes no bit.
fn learn() -> Result<(), Error> {
    let (mut plain, _) = compiled(CheckpointPolicy::none())?;
    let (mut step, logits) = compiled(CheckpointPolicy::full())?;
    let expected = train(&mut plain, 5)?;
    let losses = train(&mut step, UPDATES)?;
    let right = share_right(&mut step, &logits)?;
    let (kept, all) = (step.memory().activation_bytes, plain.memory().activation_bytes);
    println!("loss {:.4} -> {:.4}; keeps {kept} of {all} bytes", losses[0], losses[UPDATES - 1]);
    println!("{:.1} % of unseen sequences right", 100.0 * right);
    assert!(right > 0.95, "{right}");
    assert!(losses[..5] == expected && 2 * kept < all, "{kept} of {all}, {:?} and {expected:?}", &losses[..5]);
    Ok(())
}

fn main() -> Result<(), Error> {
    learn()
}

#[cfg(test)]
mod tests {
    #[test]
    fn writes_unseen_sequences_backwards() {
        super::learn().expect("trains");
    }
}
