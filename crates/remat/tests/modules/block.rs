//! A block of a decoder.

use crate::reference::Reference;
use remat::modules::{Embedding, LayerNorm, Linear, MultiHeadAttention, MultiHeadAttentionOptions, RmsNorm};
use remat::{DType, Error, Graph, Options, Step};

const SHAPE: [usize; 2] = [2, 5];
pub const WIDTH: usize = 8;

pub fn block() -> Result<Step, Error> {
    let mut g = Graph::new();
    let ids = g.input("ids", DType::I32, &SHAPE)?;
    let segment_start = g.input("segment_start", DType::I32, &SHAPE)?;
    let embed = Embedding::new(&mut g, "embed", 11, WIDTH)?;
    let ln = LayerNorm::new(&mut g, "ln", WIDTH, 1e-5)?;
    let attn = MultiHeadAttention::new(&mut g, "attn", WIDTH, 2, MultiHeadAttentionOptions::default())?;
    let norm = RmsNorm::new(&mut g, "norm", WIDTH, f32::EPSILON)?;
    let fc = Linear::new(&mut g, "fc", WIDTH, WIDTH, true)?;
    let x = embed.forward(&mut g, ids)?;
    let h = ln.forward(&mut g, x)?;
    let h = attn.forward_packed(&mut g, h, segment_start)?;
    let x = g.add(x, h)?;
    let h = norm.forward(&mut g, x)?;
    let h = fc.forward(&mut g, h)?;
    let h = g.gelu(h)?;
    let y = fc.forward(&mut g, h)?;
    g.output(y)?;
    let loss = g.sum(y)?;
    g.compile(loss, Options::new().threads(1))
}

#[test]
fn a_block_has_the_names_outputs_and_gradients_of_torchs() {
    let reference = Reference::open("block");
    let mut step = block().expect("compiles");
    reference.load_into(&mut step);
    step.set_input("ids", &reference.read_i32("ids")).expect("fits");
    step.run().expect("runs");
    reference.assert_near(&step.output("linear_4").expect("an output"), "y");
    reference.assert_gradients_near(&step);
}
