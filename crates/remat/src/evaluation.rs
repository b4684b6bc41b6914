//! Evaluation beside training: a second graph, without loss and backward, whose plan is loaded into the same device.
//!
//! Invariant: it shares parameters, buffers, frozen weights and the arena with the training step, so that nothing is held twice
//! or copied, and changes none of them. Look next at [`crate::Options::evaluation`].

use crate::graph::Source;
use crate::step::Step;
use crate::{Error, Graph};
use remat_ir::Storage;
use remat_tensor::DType;

/// There is one plan without backward.
const EVALUATION: usize = 0;

impl Step {
    /// Runs the evaluation graph on the present inputs and with the present parameters and buffers. These, gradients,
    /// counters and the random key stay as they are; outputs are read by [`Step::evaluation_output`].
    ///
    /// # Errors
    /// A step without one; an input that a kernel refuses.
    pub fn evaluate(&mut self) -> Result<(), Error> {
        self.with_evaluation()?;
        self.prepare()?;
        Ok(self.loaded_mut().forwards().run(EVALUATION)?)
    }

    /// The elements of an output of the evaluation graph, as of the last [`Step::evaluate`], if nothing ran since.
    ///
    /// # Errors
    /// A step without evaluation, a name that is not an output of its graph, elements that are not f32.
    pub fn evaluation_output(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        self.with_evaluation()?;
        let loaded = self.loaded_mut();
        let graph = &loaded.forward_plan(EVALUATION).graph;
        let Some(&id) = graph.outputs.iter().find(|&&id| graph.value(id).name == name) else {
            let names: Vec<&str> = graph.outputs.iter().map(|&id| graph.value(id).name.as_str()).collect();
            let available = names.join(", ");
            return Err(Error::UnknownName { kind: "output of its evaluation", name: name.to_string(), available });
        };
        let ty = graph.ty(id);
        if ty.dtype != DType::F32 {
            return Err(Error::NotCompiledFor(format!(
                "output \"{name}\" is {ty}: give Graph::output its Graph::cast to f32"
            )));
        }
        let mut elements = vec![0.0; ty.shape.numel()];
        loaded.forwards().read_output(EVALUATION, name, &mut elements)?;
        Ok(elements)
    }

    fn with_evaluation(&self) -> Result<(), Error> {
        let missing = || Error::NotCompiledFor("no evaluation here: compile with Options::evaluation".to_string());
        self.recipe().options.evaluation.as_ref().map(|_| ()).ok_or_else(missing)
    }
}

/// Refuses an evaluation graph that wants nothing, sources that the training graph does not have, and updates of buffers.
pub(crate) fn checked(evaluation: &Graph, training: &Graph) -> Result<remat_ir::Graph, Error> {
    let graph = evaluation.b.graph();
    if graph.outputs.is_empty() {
        return Err(Error::NotCompiledFor("the evaluation wants nothing: name a value with Graph::output".to_string()));
    }
    for source in &evaluation.sources {
        let Some(same) = training.sources.iter().find(|other| other.name == source.name) else {
            let names: Vec<&str> = training.sources.iter().map(|other| other.name.as_str()).collect();
            let (kind, name) = ("parameter for its evaluation", source.name.clone());
            return Err(Error::UnknownName { kind, name, available: names.join(", ") });
        };
        let kind = |of: &Source| match (of.trained, of.storage) {
            (true, _) => "parameter",
            (false, Storage::State) => "buffer",
            (false, _) => "frozen weight",
        };
        if same.ty != source.ty || kind(same) != kind(source) {
            let described = |of: &Source| format!("a {} {}", kind(of), of.ty);
            let (expected, given) = (described(same), format!("{} for evaluation", described(source)));
            return Err(Error::WrongElements { kind: "source", name: source.name.clone(), expected, given });
        }
        if evaluation.updates(source.id) {
            return Err(Error::NotCompiledFor(format!(
                "the evaluation would update the buffer \"{}\", which is the training step's: make it in a Graph::evaluation, \
                 without BatchNormOptions::training",
                source.name
            )));
        }
    }
    Ok(graph.clone())
}
