//! Models of random calls, and what is to be true of them.

use crate::ops::{MODULES, Module, binary, module, unary};
use proptest::collection::vec;
use proptest::prelude::*;
use remat::{AdamWSettings, DType, Error, Graph, Init, LionSettings, Optimizer, SgdSettings, Step, Tensor, bf16, f16};

/// Names that users give, among them those of ops, of what training adds, and of what the library numbers.
const NAMES: [&str; 22] = [
    "x",
    "y",
    "w",
    "gelu",
    "gelu_2",
    "gelu#2",
    "linear",
    "frozen",
    "rng",
    "dloss",
    "lr",
    "step",
    "grad_norm",
    "w.grad",
    "w.m",
    "gelu.result",
    "rms_norm.rstd",
    "loss_in_f32",
    "d.gelu",
    "a.b",
    "",
    "dropout",
];

const DTYPES: [DType; 8] =
    [DType::F32, DType::F32, DType::F32, DType::BF16, DType::F16, DType::I32, DType::U32, DType::Nf4];

/// One call; tensors are counted in the order they came to be, and wrap around.
#[derive(Debug, Clone)]
pub enum Call {
    Input(usize, usize, Vec<usize>),
    Parameter(usize, Vec<usize>),
    Frozen(usize, Vec<usize>),
    Unary(usize, usize),
    Binary(usize, usize, usize),
    Dense(usize, usize, usize),
    Module(usize, usize, usize),
    Buffer(usize, usize, Vec<usize>),
    Name(usize, usize),
    Output(usize),
    Scope(usize, Vec<Call>),
    Region(usize, Vec<Call>),
}

pub fn calls() -> impl Strategy<Value = Vec<Call>> {
    let name = || 0..NAMES.len();
    let tensor = || 0..64_usize;
    let shape = || prop_oneof![8 => vec(1..5_usize, 1..3), 2 => Just(vec![4, 4]), 1 => vec(0..3_usize, 0..3)];
    let leaf = prop_oneof![
        2 => (name(), 0..DTYPES.len(), shape()).prop_map(|(name, dtype, shape)| Call::Input(name, dtype, shape)),
        3 => (name(), shape()).prop_map(|(name, shape)| Call::Parameter(name, shape)),
        1 => (name(), shape()).prop_map(|(name, shape)| Call::Frozen(name, shape)),
        6 => (0..32_usize, tensor()).prop_map(|(op, x)| Call::Unary(op, x)),
        4 => (0..20_usize, tensor(), tensor()).prop_map(|(op, x, y)| Call::Binary(op, x, y)),
        3 => (name(), tensor(), 1..5_usize).prop_map(|(name, x, width)| Call::Dense(name, x, width)),
        3 => (0..MODULES, name(), tensor()).prop_map(|(kind, name, x)| Call::Module(kind, name, x)),
        1 => (name(), tensor(), shape()).prop_map(|(name, x, shape)| Call::Buffer(name, x, shape)),
        2 => (tensor(), name()).prop_map(|(x, name)| Call::Name(x, name)),
        1 => tensor().prop_map(Call::Output),
    ];
    let nested = leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            4 => inner.clone(),
            1 => (name(), vec(inner.clone(), 0..6)).prop_map(|(name, body)| Call::Scope(name, body)),
            2 => (name(), vec(inner, 0..6)).prop_map(|(name, body)| Call::Region(name, body)),
        ]
    });
    vec(nested, 1..14)
}

/// A model under construction, with what is to be true of it afterwards.
pub struct Made {
    pub graph: Graph,
    tensors: Vec<Tensor>,
    /// Parameters of modules, which begin as the modules say.
    pub of_modules: Vec<Tensor>,
    /// Names of parameters, and how many elements of 0.5 each begins with.
    pub parameters: Vec<(String, usize)>,
    pub frozen: Vec<Tensor>,
    pub inputs: Vec<(String, DType, usize)>,
}

impl Made {
    /// What calls make of an empty graph.
    pub fn of(graph: Graph, calls: &[Call]) -> Made {
        let (tensors, of_modules, parameters) = (Vec::new(), Vec::new(), Vec::new());
        let mut made = Made { graph, tensors, of_modules, parameters, frozen: Vec::new(), inputs: Vec::new() };
        calls.iter().for_each(|call| made.call(call));
        made
    }

    fn tensor(&self, index: usize) -> Option<Tensor> {
        (!self.tensors.is_empty()).then(|| self.tensors[index % self.tensors.len()])
    }

    /// What is refused makes no tensor.
    fn call(&mut self, call: &Call) {
        match call {
            Call::Input(name, dtype, shape) => {
                if let Ok(x) = self.graph.input(NAMES[*name], DTYPES[*dtype], shape) {
                    let name = self.graph.name(x).expect("its own").to_string();
                    self.inputs.push((name, DTYPES[*dtype], shape.iter().product()));
                    self.tensors.push(x);
                }
            }
            Call::Parameter(name, shape) => {
                let elements = shape.iter().product();
                let made = self.graph.parameter(NAMES[*name], shape, Init::Values(vec![0.5; elements]));
                if let Ok(w) = made {
                    self.parameters.push((self.graph.name(w).expect("its own").to_string(), elements));
                    self.tensors.push(w);
                }
            }
            Call::Frozen(name, shape) => {
                if let Ok(w) = self.graph.frozen(NAMES[*name], shape, Init::Ones) {
                    self.frozen.push(w);
                    self.tensors.push(w);
                }
            }
            Call::Unary(op, x) => self.push(|g, of| unary(g, *op, of(*x)?).ok()),
            Call::Binary(op, x, y) => self.push(|g, of| binary(g, *op, of(*x)?, of(*y)?).ok()),
            Call::Module(kind, name, x) => {
                let Some(x) = self.tensor(*x) else { return };
                let Module { parameters, y } = module(&mut self.graph, *kind, NAMES[*name], x);
                self.of_modules.extend(parameters);
                self.tensors.extend(y);
            }
            Call::Buffer(name, x, shape) => {
                let buffer = self.graph.buffer(NAMES[*name], shape, Init::Values(vec![0.5; shape.iter().product()]));
                let read = buffer.ok().zip(self.tensor(*x)).and_then(|(buffer, x)| self.graph.mul(x, buffer).ok());
                self.tensors.extend(read);
            }
            Call::Dense(name, x, width) => self.dense(NAMES[*name], *x, *width),
            Call::Name(x, name) => drop(self.tensor(*x).map(|x| self.graph.checkpoint_name(x, NAMES[*name]))),
            Call::Output(x) => drop(self.tensor(*x).map(|x| self.graph.output(x))),
            Call::Scope(name, body) => self.nested(|graph, inside| graph.scope(NAMES[*name], inside), body),
            Call::Region(name, body) => self.nested(|graph, inside| graph.checkpoint(NAMES[*name], inside), body),
        }
    }

    fn push(&mut self, make: impl FnOnce(&mut Graph, &dyn Fn(usize) -> Option<Tensor>) -> Option<Tensor>) {
        let tensors = &self.tensors;
        let of = |index: usize| (!tensors.is_empty()).then(|| tensors[index % tensors.len()]);
        let made = make(&mut self.graph, &of);
        self.tensors.extend(made);
    }

    /// A dense layer that fails may leave the parameters that it has made.
    fn dense(&mut self, name: &str, x: usize, width: usize) {
        let Some(x) = self.tensor(x) else { return };
        let Ok(inputs) = self.graph.ty(x).map(|ty| ty.shape.last()) else { return };
        let made = self.graph.scope(name, |g| {
            let weight = g.parameter("weight", &[width, inputs], Init::Values(vec![0.5; width * inputs]));
            let bias = g.parameter("bias", &[width], Init::Values(vec![0.5; width]));
            let (weight, bias) = (weight.ok(), bias.ok());
            let named = [(weight, width * inputs), (bias, width)]
                .map(|(w, elements)| w.map(|w| (g.name(w).expect("its own").to_string(), elements, w)));
            let y = weight.zip(bias).and_then(|(weight, bias)| g.linear(x, weight, Some(bias)).ok());
            (named, y)
        });
        for (name, elements, w) in made.0.into_iter().flatten() {
            self.parameters.push((name, elements));
            self.tensors.push(w);
        }
        self.tensors.extend(made.1);
    }

    fn nested(&mut self, enter: impl FnOnce(&mut Graph, &mut dyn FnMut(&mut Graph)), body: &[Call]) {
        let mut graph = std::mem::take(&mut self.graph);
        let mut inside = |inner: &mut Graph| {
            self.graph = std::mem::take(inner);
            body.iter().for_each(|call| self.call(call));
            *inner = std::mem::take(&mut self.graph);
        };
        enter(&mut graph, &mut inside);
        self.graph = graph;
    }

    /// A loss that every parameter reaches, and the last values of real numbers do.
    pub fn loss(&mut self, bf16_loss: bool) -> Result<Tensor, Error> {
        let g = &mut self.graph;
        let mut loss = None;
        let last = self.tensors.iter().rev().take(3);
        let names: Vec<Tensor> = self.tensors.clone();
        let parameters = names.iter().filter(|&&x| {
            let name = g.name(x).expect("its own").to_string();
            self.parameters.iter().any(|(parameter, _)| *parameter == name)
        });
        let terms: Vec<Tensor> = parameters.chain(&self.of_modules).chain(last).copied().collect();
        for x in terms {
            let Ok(x) = g
                .cast(x, DType::F32)
                .or_else(|_| if g.ty(x)?.dtype == DType::F32 { Ok(x) } else { g.cast(x, DType::F32) })
            else {
                continue;
            };
            let mean = g.mean(x)?;
            loss = Some(loss.map_or(Ok(mean), |loss| g.add(loss, mean))?);
        }
        let loss = loss.ok_or_else(|| Error::NotCompiledFor("nothing".to_string()))?;
        if bf16_loss { g.cast(loss, DType::BF16) } else { Ok(loss) }
    }

    /// The graph without loss, with its last values for outputs.
    pub fn evaluation(mut self) -> Graph {
        for &x in self.tensors.iter().rev().take(3) {
            self.graph.output(x).expect("its own");
        }
        self.graph
    }
}

/// Writes every input.
pub fn fill(step: &mut Step, inputs: &[(String, DType, usize)]) {
    for (name, dtype, elements) in inputs {
        let numbers: Vec<f32> = (0..*elements).map(|i| (i % 5) as f32 / 4.0 - 0.3).collect();
        // What nothing reads is no input of the step, and that is an error by name.
        let written = match dtype {
            DType::F32 => step.set_input(name, &numbers),
            DType::BF16 => step.set_input(name, &numbers.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>()),
            DType::F16 => step.set_input(name, &numbers.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>()),
            DType::I32 => step.set_input(name, &vec![1_i32; *elements]),
            _ => step.set_input(name, &vec![1_u32; *elements]),
        };
        assert!(
            matches!(written, Ok(()) | Err(Error::UnknownName { .. } | Error::WrongElements { .. })),
            "{written:?}"
        );
    }
}

/// Each of the optimizers in turn.
pub fn optimizer(number: usize) -> Optimizer {
    match number % 3 {
        0 => Optimizer::AdamW(AdamWSettings::default()),
        1 => Optimizer::Sgd(SgdSettings { momentum: 0.5, ..SgdSettings::default() }),
        _ => Optimizer::Lion(LionSettings::default()),
    }
}

/// Whether a run was refused for ids, all of which are 1.
pub fn is_of_an_id(error: &Error) -> bool {
    let message = error.to_string();
    message.contains("id 1 lies outside the axis")
}
