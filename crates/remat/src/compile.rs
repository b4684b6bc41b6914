//! From a graph to a [`Step`]: backward, then what `recipe` makes of it, then the first values.

use crate::graph::{DLOSS, Graph, Source, Tensor};
use crate::groups::{Grouped, grouped};
use crate::recipe::Recipe;
use crate::step::Step;
use crate::{Error, Options, evaluation};
use remat_ir::ops::Cast;
use remat_ir::{Parameter, ParameterKind, StateRole, Training, ValueId};
use remat_step::{Group, Trained, TrainingStep};
use remat_tensor::DType;

impl Graph {
    /// Compiles a training step: `loss` has shape [1], f32 or bf16. Parameters get their first values.
    ///
    /// # Errors
    /// A loss that no parameter reaches, or a parameter that does not reach it; a policy that cannot be met.
    pub fn compile(mut self, loss: Tensor, options: Options) -> Result<Step, Error> {
        let loss = self.id(loss, "compile")?;
        if self.b.graph().value(loss).producer.is_none() {
            let name = self.b.graph().value(loss).name.clone();
            return Err(Error::NotCompiledFor(format!(
                "the loss \"{name}\" is not computed: it is an input or weight"
            )));
        }
        let loss = self.in_f32(loss)?;
        self.b.output(loss);
        options.refuse_generation()?;
        let forward = options.evaluation.as_ref().map(|graph| evaluation::checked(graph, &self)).transpose()?;
        let named: Vec<(&str, &[usize])> = self.sources.iter().filter(|source| source.trained).map(described).collect();
        let Grouped { groups, frozen } = grouped(&options.groups, &named, options.optimizer.is_some())?;
        self.check_rates(&groups)?;
        let wanted: Vec<_> = match &options.gradients_of {
            Some(tensors) => tensors.iter().map(|&x| self.id(x, "gradients_of")).collect::<Result<_, _>>()?,
            None => self.sources.iter().filter(|source| source.trained).map(|source| source.id).collect(),
        };
        let (mut parameters, mut others): (Vec<Parameter>, Vec<_>) = (Vec::new(), Vec::new());
        for &value in &wanted {
            if others.contains(&value) || parameters.iter().any(|parameter| parameter.value == value) {
                continue;
            }
            match self.sources.iter().find(|source| source.id == value && source.trained) {
                Some(source) if frozen.contains(&source.name) => {}
                Some(source) => {
                    let (name, ty) = (&source.name, source.ty.clone());
                    let gradient = self.b.state_of(name, ParameterKind::Base, StateRole::Gradient, ty);
                    parameters.push(parameter(source, gradient));
                }
                None => others.push(value),
            }
        }
        let dloss = self.b.scalar(DLOSS, DType::F32);
        let (sources, random) = (self.sources, self.rng.is_some());
        let training = Training { graph: self.b.finish(), loss, dloss, parameters, wanted: others, random };
        let TrainingStep { graph, trained } = TrainingStep::new(training, options.rule(groups).as_ref())?;
        let loss = Some(trained.loss.clone());
        Graph::started(Recipe { graph, loss, trained, forward, weights_are_own: true, options }, &sources)
    }

    /// Compiles the forward alone, to what [`Graph::output`] named: nothing is kept for a backward that does not exist,
    /// and regions cost nothing.
    ///
    /// # Errors
    /// No outputs; options of training.
    pub fn compile_forward(self, options: Options) -> Result<Step, Error> {
        if !options.groups.is_empty() || options.evaluation.is_some() {
            let message = "nothing is trained here: leave groups and the evaluation out, or use Graph::compile";
            return Err(Error::NotCompiledFor(message.to_string()));
        }
        options.refuse_generation()?;
        if self.b.graph().outputs.is_empty() {
            return Err(Error::NotCompiledFor("nothing is wanted: name a value with Graph::output".to_string()));
        }
        let trained = Trained { random: self.rng.is_some(), ..Trained::default() };
        let (graph, forward) = (self.b.finish(), None);
        Graph::started(Recipe { graph, loss: None, trained, forward, weights_are_own: true, options }, &self.sources)
    }

    /// Refuses a group whose rate would have the name of a value.
    fn check_rates(&self, groups: &[Group]) -> Result<(), Error> {
        let taken = |group: &&Group| group.has_own_rate && self.has_name(&group.rate_input());
        match groups.iter().find(taken) {
            None => Ok(()),
            Some(group) => {
                let problem = format!("its rate would be called \"{}\", which is taken: rename it", group.rate_input());
                Err(Error::ParameterGroup { group: group.name.clone(), problem })
            }
        }
    }

    /// The loss as the cotangent is: f32, a bf16 one rounded no further.
    fn in_f32(&mut self, loss: ValueId) -> Result<ValueId, Error> {
        let ty = self.b.ty(loss).clone();
        match ty.dtype {
            DType::F32 => Ok(loss),
            DType::BF16 | DType::F16 => {
                let name = self.unique_node_name("loss_in_f32");
                Ok(self.b.op1(&name, Cast { to: DType::F32, into: false }, &[loss])?)
            }
            _ => Err(Error::NotCompiledFor(format!(
                "the loss \"{}\" is {ty}: a loss is one real number, f32 or bf16",
                self.b.graph().value(loss).name
            ))),
        }
    }

    /// Loads a step and fills in parameters and weights.
    fn started(recipe: Recipe, sources: &[Source]) -> Result<Step, Error> {
        let (seed, policy) = (recipe.options.seed, recipe.options.policy.clone().unwrap_or_default());
        let mut step = Step::load(recipe, policy)?;
        for source in sources {
            step.fill_source(source.storage, &source.name, &|first, target| {
                source.init.fill(&source.name, &source.ty, seed, first, target);
            })?;
        }
        Ok(step)
    }
}

fn described(source: &Source) -> (&str, &[usize]) {
    (&source.name, source.ty.shape.dims())
}

fn parameter(source: &Source, gradient: remat_ir::ValueId) -> Parameter {
    Parameter {
        name: source.name.clone(),
        kind: ParameterKind::Base,
        gated_by: None,
        ty: source.ty.clone(),
        value: source.id,
        has_working_copy: false,
        gradient,
        decay: source.ty.shape.len() > 1,
    }
}
