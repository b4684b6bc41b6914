//! The base's parameters as a list, for what writes a model.
//!
//! Invariant: exactly those that a graph of the model names, whatever else its files hold; each is in the files with the
//! shape that the configuration implies.

use crate::build;
use crate::model_builder::{Base, BatchShape};
use crate::{Model, ModelError};
use remat_formats::ModelConfig;
use remat_ir::SourceRole;
use remat_tensor::Shape;
use std::collections::HashSet;

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameter {
    /// Its name, as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Its shape; of a linear's weight [out, in], whatever the files hold.
    pub shape: Shape,
    /// Whether it is the weight of a linear of a block.
    pub is_linear: bool,
}

impl Model {
    /// All parameters of the base.
    pub(crate) fn parameters(&self) -> Result<Vec<Parameter>, ModelError> {
        self.parameters_of(&self.config)
    }

    /// The same of another configuration, whose head is not tied.
    pub(crate) fn parameters_of(&self, config: &ModelConfig) -> Result<Vec<Parameter>, ModelError> {
        let base = Base { config, ..self.base() };
        let graph = build::evaluation(base, None, BatchShape { batch: 1, seq_len: 1 })?.graph;
        self.check_weights(&graph)?;
        let linears: HashSet<String> =
            self.config.linear_names().into_iter().map(|module| format!("{module}.weight")).collect();
        let turned = self.config.block.weights_in_out;
        let weights = graph.values.iter().filter(|value| value.role.is_some_and(SourceRole::is_base_parameter));
        Ok(weights
            .map(|value| {
                let (name, dims) = (value.name.clone(), &value.ty.shape);
                let is_linear = linears.contains(&name);
                // What the files hold quantised is [out, in] already.
                let turned = is_linear && turned && self.stored.get(&name).is_none();
                let shape = if turned { Shape::from([dims[1], dims[0]]) } else { dims.clone() };
                Parameter { name, shape, is_linear }
            })
            .collect())
    }
}
