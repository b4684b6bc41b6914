//! A mixture of experts: a router's scores, the tokens sorted by expert, the experts' MLPs on the sorted rows, and their weighted sum.
//! As transformers 5 computes it (`MixtralSparseMoeBlock`, `Qwen2MoeSparseMoeBlock`, `Qwen3MoeSparseMoeBlock`).
//!
//! Invariant: every token has its k experts: the sorted rows are always tokens × k, none is dropped, and sizes are known beforehand. The
//! choice itself is kept by every policy. Look next at `remat_ir::ops::Route`.

use crate::gate::gated;
use crate::model_builder::ModelBuilder;
use remat_formats::{Activation, Experts, Mlp, ModelConfig};
use remat_ir::ops::{
    Add, Binary, BinaryFunction, Cast, Gather, GatherGrad, Layout, Linear, Reduce, Reduction, Reshape, Route, Softmax,
    TakeAlongAxis, Unary, UnaryFunction,
};
use remat_ir::{IrError, ValueId};
use remat_tensor::DType;

/// The experts' sum for x [B, T, D].
pub(crate) fn mixture(
    config: &ModelConfig,
    experts: &Experts,
    m: &mut ModelBuilder<'_>,
    path: &str,
    x: ValueId,
) -> Result<ValueId, IrError> {
    let shape = m.b.ty(x).shape.to_vec();
    let (width, tokens) = (config.hidden_size, shape[..2].iter().product::<usize>());
    let rows = m.b.op1(&format!("{path}.rows"), Reshape { shape: vec![tokens, width] }, &[x])?;
    let routing = routed(experts, m, path, rows)?;
    let sorted = m.b.op1(&format!("{path}.dispatch"), Gather { axis: 0 }, &[rows, routing.tokens])?;
    let out = of_experts(config, experts, m, path, &routing, sorted)?;
    let weighted = product(m, &format!("{path}.weighted"), out, routing.weights)?;
    // Each token's rows are added in the order of experts, as transformers adds them.
    let mut sum =
        m.b.op1(&format!("{path}.combine"), GatherGrad { axis: 0, size: tokens }, &[weighted, routing.tokens])?;
    if let Some(inner) = experts.shared_inner_size {
        let shared = shared(config, m, path, rows, inner)?;
        sum = m.b.op1(&format!("{path}.with_shared"), Add, &[sum, shared])?;
    }
    m.b.op1(&format!("{path}.out"), Reshape { shape }, &[sum])
}

/// What the router decided for N tokens.
struct Routing {
    /// The token of each sorted row, i32 [N·k].
    tokens: ValueId,
    /// Where each expert's rows end, i32 [E].
    ends: ValueId,
    /// The weight of each sorted row, [N·k, 1].
    weights: ValueId,
}

/// Scores of the experts, the choice, and the weights of what was chosen, for x [N, D].
fn routed(experts: &Experts, m: &mut ModelBuilder<'_>, path: &str, x: ValueId) -> Result<Routing, IrError> {
    let router = format!("{path}.{}", Experts::ROUTER);
    let ty = m.b.ty(x).clone();
    let weight = m.parameter(&format!("{router}.weight"), &[experts.count, ty.shape.last()]);
    let logits = m.b.op1(&router, Linear::plain(Layout::OutIn), &[x, weight])?;
    let logits = cast(m, &format!("{router}.f32"), logits, DType::F32)?;
    let scores = m.b.op1(&format!("{router}.scores"), Softmax { log: false }, &[logits])?;
    let route = Route { experts_per_token: experts.per_token };
    let chosen = m.b.op(&format!("{router}.route"), route, &[scores])?;
    let [choice, order, tokens, ends] = chosen[..] else { unreachable!("route has four results") };
    let weights = m.b.op1(&format!("{router}.chosen"), TakeAlongAxis { axis: 1 }, &[scores, choice])?;
    let weights = if experts.normalised { normalised(m, &router, weights)? } else { weights };
    let weights = cast(m, &format!("{router}.weights"), weights, ty.dtype)?;
    let column = Reshape { shape: vec![m.b.ty(weights).shape.numel(), 1] };
    let column = m.b.op1(&format!("{router}.column"), column, &[weights])?;
    let weights = m.b.op1(&format!("{router}.sorted"), Gather { axis: 0 }, &[column, order])?;
    Ok(Routing { tokens, ends, weights })
}

/// Weights that add up to 1 for each token.
fn normalised(m: &mut ModelBuilder<'_>, router: &str, weights: ValueId) -> Result<ValueId, IrError> {
    let sum = m.b.op1(&format!("{router}.sum"), Reduce { reduction: Reduction::Sum, axes: vec![-1] }, &[weights])?;
    let quotient = Binary::of(BinaryFunction::Div, m.b.ty(weights), m.b.ty(sum));
    m.b.op1(&format!("{router}.normalised"), quotient, &[weights, sum])
}

/// Each expert's MLP on its own of the sorted rows.
fn of_experts(
    config: &ModelConfig,
    experts: &Experts,
    m: &mut ModelBuilder<'_>,
    path: &str,
    routing: &Routing,
    x: ValueId,
) -> Result<ValueId, IrError> {
    let ([gate, up], down, activation) = linears(config);
    let (width, inner, place) = (config.hidden_size, experts.inner_size, format!("{path}.experts"));
    let linear = |m: &mut ModelBuilder<'_>, name: &str, x, sizes| {
        let modules = experts.of_linear(path, name);
        m.linear_of_experts(&format!("{place}.{name}"), &modules, (routing.ends, x), sizes)
    };
    let gate = linear(m, gate, x, (width, inner))?;
    let up = linear(m, up, x, (width, inner))?;
    let act = gated(m, &format!("{place}.act"), activation, [gate, up])?;
    linear(m, down, act, (inner, width))
}

/// The expert that every token has, times its gate.
fn shared(
    config: &ModelConfig,
    m: &mut ModelBuilder<'_>,
    path: &str,
    x: ValueId,
    inner: usize,
) -> Result<ValueId, IrError> {
    let ([gate, up], down, activation) = linears(config);
    let (width, place) = (config.hidden_size, format!("{path}.{}", Experts::SHARED));
    let linear = |m: &mut ModelBuilder<'_>, name: &str, x, sizes| m.linear(name, x, sizes, false, Layout::OutIn);
    let gate = linear(m, &format!("{place}.{gate}"), x, (width, inner))?;
    let up = linear(m, &format!("{place}.{up}"), x, (width, inner))?;
    let act = gated(m, &format!("{place}.act"), activation, [gate, up])?;
    let out = linear(m, &format!("{place}.{down}"), act, (inner, width))?;
    let open = linear(m, &format!("{path}.{}", Experts::SHARED_GATE), x, (width, 1))?;
    let open = m.b.op1(&format!("{place}.open"), Unary { function: UnaryFunction::Sigmoid }, &[open])?;
    product(m, &format!("{place}.gated"), out, open)
}

/// Names of an expert's linears, which are the MLP's.
fn linears(config: &ModelConfig) -> ([&'static str; 2], &'static str, Activation) {
    match config.block.mlp {
        Mlp::Gated { inner, down, activation } => (inner, down, activation),
        Mlp::GatedFused { .. } | Mlp::Plain { .. } => unreachable!("families with experts have MLPs with a gate"),
    }
}

/// x times a factor for each of its rows.
fn product(m: &mut ModelBuilder<'_>, name: &str, x: ValueId, factor: ValueId) -> Result<ValueId, IrError> {
    let product = Binary::of(BinaryFunction::Mul, m.b.ty(x), m.b.ty(factor));
    m.b.op1(name, product, &[x, factor])
}

fn cast(m: &mut ModelBuilder<'_>, name: &str, x: ValueId, to: DType) -> Result<ValueId, IrError> {
    if m.b.ty(x).dtype == to { Ok(x) } else { m.b.op1(name, Cast { to, into: false }, &[x]) }
}
