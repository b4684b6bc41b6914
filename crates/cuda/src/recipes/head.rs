//! Launches of the language-model head: for each chunk of tokens its logits in workspace, their softmax, and the products of
//! what that makes of them.

use super::pointwise::zeroed;
use super::tile::Tile;
use crate::call::{OpTypes, float_bytes};
use crate::launch::Launch;
use crate::rules::RULES;
use remat_ir::ops::{self, IGNORED};
use remat_tensor::DType;

type Launches = Result<Vec<Launch>, String>;

/// For f32, and for bf16 on tensor cores.
const MODULES: [&str; 2] = ["linear_cross_entropy", "linear_cross_entropy_bf16"];

/// `linear_cross_entropy`.
pub fn linear_cross_entropy(op: &ops::LinearCrossEntropy, call: &OpTypes<'_>) -> Launches {
    Head { op: op.clone(), call: *call, loss: Some(0), dloss: None }.chunks(|_, _| Ok(Vec::new()))
}

/// `linear_cross_entropy_grad`, with its results from `first` on; behind the loss where that is one, too.
pub fn linear_cross_entropy_grad(op: &ops::LinearCrossEntropyGrad, call: &OpTypes<'_>, first: usize) -> Launches {
    let head = Head { op: op.forward(), call: *call, loss: (first > 0).then_some(0), dloss: Some(op.dloss_operand()) };
    head.chunks(|head, chunk| head.products(op, first, chunk))
}

/// Some tokens.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    first: usize,
    tokens: usize,
}

struct Head<'a> {
    op: ops::LinearCrossEntropy,
    call: OpTypes<'a>,
    /// The result that holds losses.
    loss: Option<usize>,
    /// The operand that holds their cotangents.
    dloss: Option<usize>,
}

impl Head<'_> {
    fn vocab(&self) -> usize {
        self.call.shape(1)[0]
    }

    fn module(&self) -> &'static str {
        MODULES[usize::from(self.call.reads[0].dtype == DType::BF16)]
    }

    /// Logits, their softmax, and what `then` does with it, chunk by chunk.
    fn chunks(&self, then: impl Fn(&Self, Chunk) -> Launches) -> Launches {
        let (tokens, step) = (self.call.rows(0), RULES.head_tokens(self.vocab()));
        let mut launches = Vec::new();
        for first in (0..tokens).step_by(step) {
            let chunk = Chunk { first, tokens: step.min(tokens - first) };
            launches.push(self.logits(chunk)?);
            launches.push(self.softmax(chunk)?);
            launches.extend(then(self, chunk)?);
        }
        Ok(launches)
    }

    /// Adds the address of a chunk's rows of an operand.
    fn rows_of(&self, launch: Launch, operand: usize, chunk: Chunk) -> Launch {
        let ty = self.call.reads[operand];
        launch.read_at(operand, chunk.first * ty.shape.last() * float_bytes(ty))
    }

    fn logits(&self, chunk: Chunk) -> Result<Launch, String> {
        let (vocab, width) = (self.vocab(), self.call.last(0));
        let tile = Tile::of(self.call.reads[0], chunk.tokens, vocab);
        let launch = tile.launch(MODULES, "head_logits", &self.call, 0, "")?;
        let launch = self.rows_of(launch, 0, chunk).read(1);
        let (launch, rank) = match self.op.u_operand() {
            Some(at) => (self.rows_of(launch, at, chunk).read(at + 1), self.call.last(at)),
            None => (launch.null().null(), 0),
        };
        let launch = launch.workspace().u32(chunk.tokens).u32(vocab).u32(width).u32(rank);
        Ok(tile.cover(launch, chunk.tokens, vocab, true))
    }

    fn softmax(&self, chunk: Chunk) -> Result<Launch, String> {
        let at = chunk.first * size_of::<f32>();
        let launch = Launch::of(self.module(), self.call.named("head_softmax", 0)?).workspace();
        let launch = launch.maybe_read(self.op.bias.then_some(2)).read_at(self.op.targets_operand(), at);
        let launch = match self.dloss {
            Some(operand) => launch.read_at(operand, at),
            None => launch.null(),
        };
        let launch = match self.loss {
            Some(result) => launch.write_at(result, at),
            None => launch.null(),
        };
        let launch = launch.f32(self.op.softcap.unwrap_or(0.0)).i32(IGNORED);
        Ok(launch.u32(self.vocab()).u32(chunk.tokens).warps(chunk.tokens))
    }

    /// The wanted gradients of a chunk.
    fn products(&self, op: &ops::LinearCrossEntropyGrad, first: usize, chunk: Chunk) -> Launches {
        let at = |name: &str| op.result(name).map(|result| first + result);
        let (accumulate, up) = (op.accumulate || chunk.first > 0, self.op.u_operand());
        let mut launches = Vec::new();
        if let Some(result) = at("dh") {
            launches.push(self.dx(result, 1, chunk)?);
        }
        if let Some((result, up)) = at("du").zip(up) {
            launches.push(self.dx(result, up + 1, chunk)?);
        }
        if let Some(result) = at("dw") {
            launches.push(self.dw(result, 0, chunk, accumulate)?);
        }
        if let Some(result) = at("db") {
            let launch =
                Launch::of(self.module(), self.call.named("head_db", 0)?).workspace().write(result).flag(accumulate);
            launches.push(launch.u32(self.vocab()).u32(chunk.tokens).over(self.vocab()));
        }
        if let Some((result, u)) = at("dup").zip(up) {
            launches.push(self.dw(result, u, chunk, accumulate)?);
        }
        Ok(launches)
    }

    /// A chunk's rows of a result: dlogits times the weight at operand `weight`.
    fn dx(&self, result: usize, weight: usize, chunk: Chunk) -> Result<Launch, String> {
        let (width, vocab) = (self.call.last(weight), self.vocab());
        let tile = Tile::of(self.call.reads[0], chunk.tokens, width);
        let launch = tile.launch(MODULES, "head_dx", &self.call, weight, "")?;
        let offset = chunk.first * width * float_bytes(self.call.writes[result]);
        let launch = launch.workspace().read(weight).write_at(result, offset);
        Ok(tile.cover(launch.u32(chunk.tokens).u32(width).u32(vocab), chunk.tokens, width, true))
    }

    /// A result, plus a chunk's dlogitsᵀ times its rows of operand `x`.
    fn dw(&self, result: usize, x: usize, chunk: Chunk, accumulate: bool) -> Result<Launch, String> {
        let (width, vocab) = (self.call.last(x), self.vocab());
        let tile = Tile::of(self.call.reads[0], vocab, width);
        let launch = tile.launch(MODULES, "head_dw", &self.call, x, "")?.workspace();
        let launch = self.rows_of(launch, x, chunk).write(result).u32(vocab).u32(width).u32(chunk.tokens);
        Ok(tile.cover(launch.flag(accumulate), vocab, width, true))
    }
}

/// `embedding_grad`: zeros where nothing is there to be added onto, then a block for each token.
pub fn embedding_grad(op: &ops::EmbeddingGrad, call: &OpTypes<'_>) -> Launches {
    let (width, tokens) = (call.last(0), call.numel(1));
    let launch = Launch::of("embedding_grad", call.named("embedding_grad", 0)?).read(0).read(1).write(0);
    let launch = launch.u32(op.rows).u32(width).u32(tokens).grid([crate::launch::blocks(tokens, 1), 1, 1], 128);
    let first = (!op.accumulate).then(|| zeroed(call, 0));
    Ok(first.into_iter().chain([launch]).collect())
}

/// `embedding`.
pub fn embedding(call: &OpTypes<'_>) -> Launches {
    let count = call.result_numel(0);
    let launch = Launch::of("embedding", call.named("embedding", 0)?).read(0).read(1).write(0);
    Ok(vec![launch.u32(call.shape(0)[0]).u32(call.last(0)).u64(count).over(count)])
}
