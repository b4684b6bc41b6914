//! Random small models: chains of random layers in nested regions, some parameters trained and some frozen, with dropout,
//! attention, values that cross regions and a cross-entropy at the end.
//!
//! Invariant: a seed gives one model; every model has at least one trained parameter that the loss depends on.

use remat_compiler::{Target, differentiate};
use remat_ir::ops::{
    Add, Attention, Dropout, Embedding, Gelu, Layout, Linear, LinearCrossEntropy, RmsNorm, Scale, Sum,
};
use remat_ir::ops::{
    Binary, BinaryFunction, Compare, Concat, Gather, LayerNorm, MaskedFill, Matmul, Pad, Reduce, Reduction, Relation,
    Reshape, Rope, Select, Slice, Softmax, Split, Swiglu, TakeAlongAxis, Transpose, Unary, UnaryFunction,
};
use remat_ir::{Builder, Graph, ParameterKind, StateRole, Type, ValueId};
use remat_tensor::{DType, Philox, stream_of_name};

const BATCH: usize = 2;
const TOKENS: usize = 5;
const WIDTH: usize = 8;
const VOCAB: usize = 11;
/// Kinds of layers that decoders have, and kinds made of single ops.
const LAYERS: u32 = 9;
const FUNCTIONS: u32 = 6;

/// A forward graph and what is to be differentiated.
#[derive(Debug, Clone)]
pub struct TestModel {
    /// The forward graph.
    pub graph: Graph,
    /// Scalar loss.
    pub loss: ValueId,
    /// The loss's cotangent input.
    pub dloss: ValueId,
    /// Trained parameters, each with its gradient state.
    pub targets: Vec<Target>,
}

impl TestModel {
    /// Forward and backward.
    pub fn with_backward(&self) -> Graph {
        let gradient = differentiate(self.graph.clone(), self.loss, self.dloss, &self.targets);
        gradient.expect("test models are differentiable").graph
    }
}

struct Maker {
    b: Builder,
    philox: Philox,
    drawn: u64,
    targets: Vec<Target>,
    rng: ValueId,
    positions: ValueId,
    segment_start: ValueId,
    layer: usize,
    tokens: usize,
    /// Kinds of layers that are drawn from.
    kinds: u32,
}

impl Maker {
    fn draw(&mut self, bound: u32) -> u32 {
        self.drawn += 1;
        self.philox.word(self.drawn) % bound
    }

    fn parameter(&mut self, name: &str, shape: &[usize], trained: bool) -> ValueId {
        let ty = Type::new(DType::F32, shape);
        if !trained {
            return self.b.weight(name, ty);
        }
        let value = self.b.state(name, ty.clone());
        let gradient = self.b.state_of(name, ParameterKind::Base, StateRole::Gradient, ty);
        self.targets.push(Target { value, accumulate_into: Some(gradient) });
        value
    }

    fn linear(&mut self, name: &str, x: ValueId, fan_out: usize) -> ValueId {
        let (trained, bias) = (self.draw(3) > 0, self.draw(2) == 0);
        let layout = if self.draw(2) == 0 { Layout::OutIn } else { Layout::InOut };
        let fan_in = self.b.ty(x).shape.last();
        let shape = match layout {
            Layout::OutIn => [fan_out, fan_in],
            Layout::InOut => [fan_in, fan_out],
        };
        let mut operands = vec![x, self.parameter(&format!("{name}.weight"), &shape, trained)];
        if bias {
            operands.push(self.parameter(&format!("{name}.bias"), &[fan_out], trained));
        }
        self.b.op1(name, Linear { bias, ..Linear::plain(layout) }, &operands).expect("shapes fit")
    }

    fn layer(&mut self, x: ValueId) -> ValueId {
        self.layer += 1;
        let name = format!("l{}", self.layer);
        let kind = self.draw(self.kinds);
        let b = |maker: &mut Maker, op: remat_ir::Op, operands: &[ValueId]| {
            maker.b.op1(&name, op, operands).expect("shapes fit")
        };
        match kind {
            0 => self.linear(&name, x, WIDTH),
            1 => {
                let trained = self.draw(2) == 0;
                let w = self.parameter(&format!("{name}.weight"), &[WIDTH], trained);
                b(self, RmsNorm { eps: 1e-5, unit_offset: false }.into(), &[x, w])
            }
            2 => {
                let trained = self.draw(2) == 0;
                let w = self.parameter(&format!("{name}.weight"), &[WIDTH], trained);
                let bias = self.parameter(&format!("{name}.bias"), &[WIDTH], trained);
                b(self, LayerNorm { eps: 1e-5 }.into(), &[x, w, bias])
            }
            3 => b(self, Gelu::TANH.into(), &[x]),
            4 => {
                let gate = self.linear(&format!("{name}.gate"), x, 12);
                let up = self.linear(&format!("{name}.up"), x, 12);
                let act = b(self, Swiglu.into(), &[gate, up]);
                let down = self.linear(&format!("{name}.down"), act, WIDTH);
                self.b.op1(&format!("{name}.residual"), Add, &[x, down]).expect("shapes fit")
            }
            5 => b(self, Scale { factor: 0.5 }.into(), &[x]),
            6 => {
                let op = Dropout::new(0.25, stream_of_name(&name));
                let rng = self.rng;
                b(self, op.into(), &[x, rng])
            }
            7 => self.attention(&name, x),
            9 => self.function(&name, x),
            10 => self.centred(&name, x),
            11 => self.written_out_attention(&name, x),
            12 => self.moved(&name, x),
            13 => self.numbered(&name, x),
            14 => self.masked(&name, x),
            _ => {
                let y = self.linear(&format!("{name}.inner"), x, WIDTH);
                b(self, Add.into(), &[x, y])
            }
        }
    }

    /// An op on values that fit it.
    fn apply(&mut self, name: &str, op: impl Into<remat_ir::Op>, operands: &[ValueId]) -> ValueId {
        self.b.op1(name, op, operands).expect("shapes fit")
    }

    fn binary(&mut self, name: &str, function: BinaryFunction, x: ValueId, y: ValueId) -> ValueId {
        let op = Binary::of(function, self.b.ty(x), self.b.ty(y));
        self.apply(name, op, &[x, y])
    }

    /// One function of each element, without a kink that a value may be near.
    fn function(&mut self, name: &str, x: ValueId) -> ValueId {
        let functions = [
            UnaryFunction::Tanh,
            UnaryFunction::Sigmoid,
            UnaryFunction::Silu,
            UnaryFunction::Softplus,
            UnaryFunction::Sin,
            UnaryFunction::Elu { alpha: 1.0 },
            UnaryFunction::AddScalar { value: 0.5 },
        ];
        let function = functions[self.draw(functions.len() as u32) as usize];
        self.apply(name, Unary { function }, &[x])
    }

    /// A norm of single ops: less the mean of each row, times a row of weights.
    fn centred(&mut self, name: &str, x: ValueId) -> ValueId {
        let trained = self.draw(2) == 0;
        let weight = self.parameter(&format!("{name}.weight"), &[WIDTH], trained);
        let mean = Reduce { reduction: Reduction::Mean, axes: vec![-1] };
        let mean = self.apply(&format!("{name}.mean"), mean, &[x]);
        let rest = self.binary(&format!("{name}.rest"), BinaryFunction::Sub, x, mean);
        self.binary(name, BinaryFunction::Mul, rest, weight)
    }

    fn written_out_attention(&mut self, name: &str, x: ValueId) -> ValueId {
        let q = self.linear(&format!("{name}.q"), x, WIDTH);
        let scores = Matmul { transpose_a: false, transpose_b: true };
        let scores = self.apply(&format!("{name}.scores"), scores, &[q, x]);
        let scores = self.apply(&format!("{name}.scaled"), Scale { factor: 0.3 }, &[scores]);
        let weights = self.apply(&format!("{name}.weights"), Softmax { log: false }, &[scores]);
        self.apply(name, Matmul::PLAIN, &[weights, x])
    }

    /// Taken apart, turned, cut and put together.
    fn moved(&mut self, name: &str, x: ValueId) -> ValueId {
        let turned = self.apply(&format!("{name}.turned"), Transpose { permutation: vec![0, 2, 1] }, &[x]);
        let split = Split { sizes: vec![3, WIDTH - 3], groups: 1, behind: 1 };
        let parts = self.b.op(&format!("{name}.parts"), split, &[turned]).expect("shapes fit");
        let whole = Concat { groups: 1, behind: 1 };
        let joined = self.apply(&format!("{name}.joined"), whole, &[parts[1], parts[0]]);
        let cut = Slice { starts: vec![0, 1, 0], ends: vec![BATCH, WIDTH, self.tokens], steps: vec![1, 2, 1] };
        let cut = self.apply(&format!("{name}.cut"), cut, &[joined]);
        let pad = Pad { low: vec![0, 1, 0], high: vec![0, 0, 0], between: vec![0, 1, 0], value: 0.25 };
        let padded = self.apply(&format!("{name}.padded"), pad, &[cut]);
        self.apply(name, Transpose { permutation: vec![0, 2, 1] }, &[padded])
    }

    /// Tokens by their number, and elements of them; positions are numbers of tokens.
    fn numbered(&mut self, name: &str, x: ValueId) -> ValueId {
        let positions = self.positions;
        let taken = self.apply(&format!("{name}.taken"), Gather { axis: 1 }, &[x, positions]);
        let mean = Reduce { reduction: Reduction::Mean, axes: vec![-3] };
        let mean = self.apply(&format!("{name}.mean"), mean, &[taken]);
        let shape = vec![BATCH, self.tokens, WIDTH];
        let flat = self.apply(&format!("{name}.flat"), Reshape { shape }, &[mean]);
        // The first token's elements along the sequence: positions of a row as one column of numbers.
        let column = Reshape { shape: vec![BATCH, self.tokens, 1] };
        let column = self.apply(&format!("{name}.column"), column, &[positions]);
        let turned =
            self.apply(&format!("{name}.first"), Slice::along(&[BATCH, self.tokens, WIDTH], 2, 0, 1, 1), &[flat]);
        let each = self.apply(&format!("{name}.each"), TakeAlongAxis { axis: 1 }, &[turned, column]);
        self.binary(name, BinaryFunction::Add, flat, each)
    }

    /// Every other token filled, and what stays chosen against a row of weights.
    fn masked(&mut self, name: &str, x: ValueId) -> ValueId {
        let trained = self.draw(2) == 0;
        let row = self.parameter(&format!("{name}.weight"), &[WIDTH], trained);
        let relation = if self.draw(2) == 0 { Relation::Greater } else { Relation::Equal };
        let (positions, starts) = (self.positions, self.segment_start);
        let mask = self.apply(&format!("{name}.mask"), Compare { relation }, &[positions, starts]);
        let column = Reshape { shape: vec![BATCH, self.tokens, 1] };
        let mask = self.apply(&format!("{name}.column"), column, &[mask]);
        let filled = self.apply(&format!("{name}.filled"), MaskedFill { value: 0.5, filled: true }, &[x, mask]);
        self.apply(name, Select, &[mask, filled, row])
    }

    fn attention(&mut self, name: &str, x: ValueId) -> ValueId {
        let q = self.linear(&format!("{name}.q"), x, 8);
        let k = self.linear(&format!("{name}.k"), x, 4);
        let v = self.linear(&format!("{name}.v"), x, 4);
        let inv_freq = self.b.constant(&format!("{name}.inv_freq"), Type::new(DType::F32, [2]));
        let rope = Rope { head_size: 4, inverse: false, scale: 1.0 };
        let q = self.b.op1(&format!("{name}.q_rope"), rope, &[q, self.positions, inv_freq]).expect("shapes fit");
        let window = (self.draw(2) == 0).then_some(3);
        let softcap = window.map(|_| 1.5);
        let op = Attention { heads: 2, kv_heads: 1, scale: 0.5, window, softcap, dropout: 0.0, stream: 0 };
        self.b.op1(name, op, &[q, k, v, self.segment_start]).expect("shapes fit")
    }

    /// A region of random layers, possibly with a region inside.
    fn region(&mut self, name: &str, x: ValueId, depth: usize) -> ValueId {
        self.b.enter_region(name);
        let mut x = x;
        for index in 0..1 + self.draw(3) {
            x = if depth < 2 && self.draw(4) == 0 {
                self.region(&format!("{name}.{index}"), x, depth + 1)
            } else {
                self.layer(x)
            };
        }
        self.b.leave_region();
        x
    }
}

/// The model of a seed.
pub fn random_model(seed: u64) -> TestModel {
    random_model_of(seed, TOKENS)
}

/// The same with layers of single ops besides: functions, reductions, products of activations, shapes, numbers and masks.
pub fn random_model_of_functions(seed: u64) -> TestModel {
    made(seed, TOKENS, LAYERS + FUNCTIONS)
}

/// As [`random_model`], on rows of so many tokens.
pub fn random_model_of(seed: u64, row_tokens: usize) -> TestModel {
    made(seed, row_tokens, LAYERS)
}

fn made(seed: u64, row_tokens: usize, kinds: u32) -> TestModel {
    let mut b = Builder::new();
    let tokens = || Type::new(DType::I32, [BATCH, row_tokens]);
    let ids = b.input("ids", tokens());
    let positions = b.input("positions", tokens());
    let segment_start = b.input("segment_start", tokens());
    let rng = b.random_key();
    let philox = Philox::new(seed, stream_of_name("random_model"));
    let targets = Vec::new();
    let mut m =
        Maker { b, philox, drawn: 0, targets, rng, positions, segment_start, layer: 0, tokens: row_tokens, kinds };
    let embed_trained = m.draw(2) == 0;
    let table = m.parameter("embed", &[VOCAB, WIDTH], embed_trained);
    let mut x = m.b.op1("x0", Embedding, &[table, ids]).expect("shapes fit");
    let first = x;
    let regions = 1 + m.draw(4);
    for index in 0..regions {
        x = if m.draw(6) == 0 { m.layer(x) } else { m.region(&format!("r{index}"), x, 0) };
    }
    // A value of the very beginning used at the very end, and one parameter that always trains.
    let last = m.parameter("last.weight", &[WIDTH, WIDTH], true);
    x = m.b.op1("last", Linear::plain(Layout::OutIn), &[x, last]).expect("shapes fit");
    if m.draw(2) == 0 {
        x = m.b.op1("skip", Add, &[x, first]).expect("shapes fit");
    }
    let head = if m.draw(2) == 0 { table } else { m.parameter("head", &[VOCAB, WIDTH], false) };
    finish(m, x, head)
}

fn finish(mut m: Maker, x: ValueId, head: ValueId) -> TestModel {
    let targets = m.b.input("targets", Type::new(DType::I32, [BATCH, m.tokens]));
    let nll = m.b.op1("nll", LinearCrossEntropy::PLAIN, &[x, head, targets]).expect("shapes fit");
    let loss = m.b.op1("loss", Sum, &[nll]).expect("shapes fit");
    m.b.output(loss);
    let dloss = m.b.scalar("dloss", DType::F32);
    TestModel { graph: m.b.finish(), loss, dloss, targets: m.targets }
}

/// Two regions of one linear and one GELU each, all trained: small enough to follow by hand.
pub fn two_layer_mlp() -> TestModel {
    let mut b = Builder::new();
    let tokens = || Type::new(DType::I32, [BATCH, TOKENS]);
    let ids = b.input("ids", tokens());
    let positions = b.input("positions", tokens());
    let segment_start = b.input("segment_start", tokens());
    let rng = b.random_key();
    let philox = Philox::new(0, 0);
    let targets = Vec::new();
    let mut m =
        Maker { b, philox, drawn: 0, targets, rng, positions, segment_start, layer: 0, tokens: TOKENS, kinds: LAYERS };
    let table = m.parameter("embed", &[VOCAB, WIDTH], false);
    let mut x = m.b.op1("x0", Embedding, &[table, ids]).expect("shapes fit");
    for name in ["r0", "r1"] {
        m.b.enter_region(name);
        let w = m.parameter(&format!("{name}.weight"), &[WIDTH, WIDTH], true);
        x = m.b.op1(&format!("{name}.linear"), Linear::plain(Layout::OutIn), &[x, w]).expect("shapes fit");
        x = m.b.op1(&format!("{name}.gelu"), Gelu::TANH, &[x]).expect("shapes fit");
        m.b.leave_region();
    }
    finish(m, x, table)
}
