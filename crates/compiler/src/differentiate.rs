//! Reverse-mode differentiation: backward as ordinary IR.
//!
//! Nodes are visited in reverse; each op's VJP emits its backward. Only what lies between a target and the loss is
//! visited, so there is no work for frozen weights and none below the lowest adapter. Cotangents of one value are added
//! as they arrive, in this fixed order, so that sums have one order under every plan. Linear in the nodes.
//! Griewank and Walther, *Evaluating derivatives*, 2008, for the method.

use crate::CompileError;
use remat_ir::ops::{Accumulate, Add, Scale};
use remat_ir::{Builder, Graph, OpDef, OpId, Phase, ValueId, Vjp};

/// A value whose gradient is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The parameter or input.
    pub value: ValueId,
    /// The gradient state of the same shape (f32) to add onto in place; `None` makes the gradient an output.
    pub accumulate_into: Option<ValueId>,
}

/// The graph with its backward.
#[derive(Debug, Clone)]
pub struct Gradient {
    /// Forward and backward.
    pub graph: Graph,
    /// The gradient of each target, in their order: an output, or the final accumulated state.
    pub gradients: Vec<ValueId>,
}

/// Appends the backward of `loss` (shape [1]) to `forward`. `dloss` is the cotangent of the loss: a value of shape [1],
/// an input that the caller sets to 1/N, with N the trained tokens of the whole accumulated batch.
///
/// # Errors
/// A loss that is not scalar, no targets, a target that the loss does not depend on, an op without derivative.
pub fn differentiate(
    forward: Graph,
    loss: ValueId,
    dloss: ValueId,
    targets: &[Target],
) -> Result<Gradient, CompileError> {
    let shape = &forward.ty(loss).shape;
    if shape.dims() != [1] {
        return Err(CompileError::LossNotScalar { name: forward.value(loss).name.clone(), shape: shape.to_string() });
    }
    if targets.is_empty() {
        return Err(CompileError::NothingTrainable);
    }
    let needed = needed(&forward, targets);
    let forward_nodes = forward.nodes.len();
    let mut pass = Pass {
        cotangents: vec![None; forward.values.len()],
        accumulators: vec![None; forward.values.len()],
        builder: Builder::extend(forward),
        needed,
    };
    for target in targets {
        pass.accumulators[target.value.index()] = target.accumulate_into;
    }
    let loss_needs = pass.needed[loss.index()];
    if loss_needs {
        pass.cotangents[loss.index()] = Some(dloss);
    }
    for index in (0..forward_nodes).rev() {
        pass.visit(OpId(index as u32))?;
    }
    let mut gradients = Vec::with_capacity(targets.len());
    for target in targets {
        let gradient = pass.cotangents[target.value.index()];
        let Some(mut gradient) = gradient else {
            return Err(CompileError::NotReached { name: pass.builder.graph().value(target.value).name.clone() });
        };
        if target.accumulate_into.is_none() {
            gradient = pass.made(target.value, gradient)?;
            pass.builder.output(gradient);
        }
        gradients.push(gradient);
    }
    Ok(Gradient { graph: pass.builder.finish(), gradients })
}

/// For each value, whether its cotangent leads to a target: the value is a target or computed from one.
fn needed(graph: &Graph, targets: &[Target]) -> Vec<bool> {
    let mut needed = vec![false; graph.values.len()];
    for target in targets {
        needed[target.value.index()] = true;
    }
    for node in &graph.nodes {
        if node.inputs.iter().any(|input| needed[input.index()]) {
            for output in &node.outputs {
                if graph.ty(*output).dtype.is_float() {
                    needed[output.index()] = true;
                }
            }
        }
    }
    needed
}

struct Pass {
    builder: Builder,
    needed: Vec<bool>,
    cotangents: Vec<Option<ValueId>>,
    accumulators: Vec<Option<ValueId>>,
}

impl Pass {
    fn visit(&mut self, id: OpId) -> Result<(), CompileError> {
        let node = self.builder.graph().node(id).clone();
        let cotangents: Vec<Option<ValueId>> = node.outputs.iter().map(|id| self.cotangents[id.index()]).collect();
        let needs: Vec<bool> = node.inputs.iter().map(|id| self.needed[id.index()]).collect();
        if cotangents.iter().all(Option::is_none) || !needs.contains(&true) {
            return Ok(());
        }
        self.builder.set_context(Phase::Backward, node.region);
        let contributions = node.op.vjp(&mut Vjp {
            builder: &mut self.builder,
            name: &node.name,
            inputs: &node.inputs,
            outputs: &node.outputs,
            cotangents: &cotangents,
            needs: &needs,
        })?;
        for ((&input, contribution), need) in node.inputs.iter().zip(contributions).zip(needs) {
            if let Some(contribution) = contribution.filter(|_| need) {
                self.contribute(input, contribution)?;
            }
        }
        Ok(())
    }

    /// A gradient that is made by an op: where it is the loss's cotangent itself, or another source, a copy of that, since what is
    /// read after a run is what the run has made.
    fn made(&mut self, value: ValueId, gradient: ValueId) -> Result<ValueId, CompileError> {
        if self.builder.graph().value(gradient).producer.is_some() {
            return Ok(gradient);
        }
        let name = format!("grad.{}", self.builder.graph().value(value).name);
        self.builder.set_context(Phase::Backward, None);
        Ok(self.builder.op1(&name, Scale { factor: 1.0 }, &[gradient])?)
    }

    /// Adds one contribution to a value's cotangent, or onto its gradient state.
    fn contribute(&mut self, value: ValueId, contribution: ValueId) -> Result<(), CompileError> {
        let name = format!("grad.{}", self.builder.graph().value(value).name);
        let sum = match (self.accumulators[value.index()], self.cotangents[value.index()]) {
            (Some(state), before) => self.builder.op1(&name, Accumulate, &[before.unwrap_or(state), contribution])?,
            (None, Some(before)) => self.builder.op1(&name, Add, &[before, contribution])?,
            (None, None) => contribution,
        };
        self.cotangents[value.index()] = Some(sum);
        Ok(())
    }
}
