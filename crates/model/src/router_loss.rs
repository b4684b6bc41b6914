//! The loss that balances experts: E · Σₑ fₑ · pₑ over the experts e, where fₑ is the share of the tokens' choices that fell on an
//! expert, times k, and pₑ its mean score. Fedus et al., *Switch Transformers*, 2021, equations 4 to 6; as in transformers 5
//! (`load_balancing_loss_func`), which takes tokens of all layers together and no padding.
//!
//! Invariant: what a layer adds is two rows of E numbers, whatever the batch; only the scores are differentiated. Without a token it
//! is 0. Look next at `experts`, which hands over what routers decided, and at `objective`, which adds the loss.

use crate::graph_builder::GraphBuilder;
use remat_ir::ops::{
    Add, Binary, BinaryFunction, Expand, GatherGrad, IGNORED, Reduce, Reduction, Reshape, Scale, TargetWeight, Unary,
    UnaryFunction, Zeros,
};
use remat_ir::{IrError, Type, ValueId};
use remat_tensor::DType;

/// Name of the input that says which tokens are no padding: i32 [B, T], 0 for padding.
const MASK: &str = "attention_mask";

/// What the routers of a graph decided.
pub(crate) struct RouterLoss {
    factor: f64,
    /// 1 for each token, 0 for padding: f32 [N, 1].
    mask: ValueId,
    /// Of each layer the sums of scores and of choices, f32 [1, E] each.
    layers: Vec<[ValueId; 2]>,
}

impl RouterLoss {
    /// Declares what is read of a batch beside its `ids`, i32 [B, T]; the loss is multiplied by `factor`.
    pub fn begin(b: &mut GraphBuilder, ids: ValueId, prefix: &str, factor: f64) -> Result<Self, IrError> {
        let shape = b.ty(ids).shape.to_vec();
        let tokens: usize = shape.iter().product();
        let given = b.input(&format!("{prefix}{MASK}"), Type::new(DType::I32, shape));
        let is_token = TargetWeight { ignored: 0, weighted: false };
        let mask = b.op1("router_loss.is_token", is_token, &[given])?;
        let mask = b.op1("router_loss.mask", Reshape { shape: vec![tokens, 1] }, &[mask])?;
        Ok(RouterLoss { factor, mask, layers: Vec::new() })
    }

    /// Takes in what a router decided: scores f32 [N, E] and choices i32 [N, k].
    pub fn add_layer(
        &mut self,
        b: &mut GraphBuilder,
        router: &str,
        [scores, choices]: [ValueId; 2],
    ) -> Result<(), IrError> {
        let experts = b.ty(scores).shape.last();
        let [tokens, each] = b.ty(choices).shape[..] else { unreachable!("a router reads rows") };
        let of_tokens = binary(b, &format!("{router}.masked"), BinaryFunction::Mul, [scores, self.mask])?;
        let scores = b.op1(&format!("{router}.score_sums"), sum(vec![-2]), &[of_tokens])?;
        let counted = Expand { shape: vec![tokens, each] };
        let counted = b.op1(&format!("{router}.mask"), counted, &[self.mask])?;
        let rows = tokens * each;
        let counted = b.op1(&format!("{router}.mask_rows"), Reshape { shape: vec![rows, 1] }, &[counted])?;
        let choices = b.op1(&format!("{router}.choice_rows"), Reshape { shape: vec![rows] }, &[choices])?;
        let counts = GatherGrad { axis: 0, size: experts };
        let counts = b.op1(&format!("{router}.counts"), counts, &[counted, choices])?;
        let counts = b.op1(&format!("{router}.count_row"), Reshape { shape: vec![1, experts] }, &[counts])?;
        self.layers.push([scores, counts]);
        Ok(())
    }

    /// The loss times its factor, f32 [1]; `None` where no layer has a router.
    pub fn finish(self, b: &mut GraphBuilder) -> Result<Option<ValueId>, IrError> {
        let RouterLoss { factor, mask, layers } = self;
        let count = layers.len();
        let Some(mut sums) = layers.first().copied() else { return Ok(None) };
        for (layer, more) in layers.into_iter().enumerate().skip(1) {
            for (name, (sum, more)) in ["scores", "counts"].into_iter().zip(sums.iter_mut().zip(more)) {
                *sum = b.op1(&format!("router_loss.{name}.{layer}"), Add, &[*sum, more])?;
            }
        }
        let experts = b.ty(sums[0]).shape.last();
        let rows = rows(b, mask, count)?;
        let mean = |b: &mut GraphBuilder, name: &str, sum| binary(b, name, BinaryFunction::Div, [sum, rows]);
        let (scores, counts) = (mean(b, "router_loss.mean_scores", sums[0])?, mean(b, "router_loss.shares", sums[1])?);
        let products = binary(b, "router_loss.products", BinaryFunction::Mul, [scores, counts])?;
        let loss = b.op1("router_loss.sum", sum(vec![-2, -1]), &[products])?;
        let loss = b.op1("router_loss.number", Reshape { shape: vec![1] }, &[loss])?;
        let factor = (experts as f64 * factor) as f32;
        Ok(Some(b.op1("router_loss", Scale { factor }, &[loss])?))
    }
}

/// The tokens that all layers saw together, at least 1: f32 [1, 1].
fn rows(b: &mut GraphBuilder, mask: ValueId, layers: usize) -> Result<ValueId, IrError> {
    let tokens = b.op1("router_loss.tokens", sum(vec![-2]), &[mask])?;
    let rows = b.op1("router_loss.all_rows", Scale { factor: layers as f32 }, &[tokens])?;
    let zero = b.op1("router_loss.zero", Zeros { dtype: DType::F32, shape: vec![1, 1] }, &[])?;
    let one = b.op1("router_loss.one", Unary { function: UnaryFunction::Exp }, &[zero])?;
    binary(b, "router_loss.rows", BinaryFunction::Maximum, [rows, one])
}

/// How many tokens a batch trains, f32 [1], counted from their targets.
pub(crate) fn trained_tokens(b: &mut remat_ir::Builder, targets: ValueId) -> Result<ValueId, IrError> {
    let is_trained = TargetWeight { ignored: IGNORED, weighted: false };
    let is_trained = b.op1("router_loss.is_trained", is_trained, &[targets])?;
    b.op1("router_loss.trained", remat_ir::ops::Sum, &[is_trained])
}

fn sum(axes: Vec<i64>) -> Reduce {
    Reduce { reduction: Reduction::Sum, axes }
}

fn binary(
    b: &mut GraphBuilder,
    name: &str,
    function: BinaryFunction,
    operands: [ValueId; 2],
) -> Result<ValueId, IrError> {
    let op = Binary::of(function, b.ty(operands[0]), b.ty(operands[1]));
    b.op1(name, op, &operands)
}
