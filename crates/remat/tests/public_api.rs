//! Whatever is called in whatever order, with whatever names, types and shapes: an error or a step that means what was
//! written. Never a panic, a parameter of zeros that nothing reaches, or an input that another name shadows.

use proptest::collection::vec;
use proptest::prelude::*;
use remat::{
    AdamWSettings, CheckpointPolicy, DType, Error, Graph, Init, LionSettings, Moment, Optimizer, Options,
    ParameterGroup, Reduction, Rules, SgdSettings, Step, Tensor, bf16, f16,
};

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
enum Call {
    Input(usize, usize, Vec<usize>),
    Parameter(usize, Vec<usize>),
    Frozen(usize, Vec<usize>),
    Unary(usize, usize),
    Binary(usize, usize, usize),
    Dense(usize, usize, usize),
    Name(usize, usize),
    Output(usize),
    Scope(usize, Vec<Call>),
    Region(usize, Vec<Call>),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
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
struct Made {
    graph: Graph,
    tensors: Vec<Tensor>,
    /// Names of parameters, and how many elements of 0.5 each begins with.
    parameters: Vec<(String, usize)>,
    frozen: Vec<Tensor>,
    inputs: Vec<(String, DType, usize)>,
}

impl Made {
    fn of(calls: &[Call]) -> Made {
        let (graph, tensors) = (Graph::new(), Vec::new());
        let mut made = Made { graph, tensors, parameters: Vec::new(), frozen: Vec::new(), inputs: Vec::new() };
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
    fn loss(&mut self, bf16_loss: bool) -> Result<Tensor, Error> {
        let g = &mut self.graph;
        let mut loss = None;
        let last = self.tensors.iter().rev().take(3);
        let names: Vec<Tensor> = self.tensors.clone();
        let parameters = names.iter().filter(|&&x| {
            let name = g.name(x).expect("its own").to_string();
            self.parameters.iter().any(|(parameter, _)| *parameter == name)
        });
        let terms: Vec<Tensor> = parameters.chain(last).copied().collect();
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
}

fn unary(g: &mut Graph, op: usize, x: Tensor) -> Result<Tensor, Error> {
    match op {
        0 | 1 => g.gelu(x),
        2 => g.scale(x, 0.5),
        3 => g.cast(x, DType::BF16),
        4 => g.cast(x, DType::F32),
        5 => g.dropout(x, 0.25),
        6 => g.sum(x),
        7 => g.mean(x),
        8 => g.tanh(x),
        9 => g.silu(x),
        10 => g.leaky_relu(x, 0.1),
        11 => g.softplus(x),
        12 => g.add_scalar(x, 0.25),
        13 => g.clamp(x, -1.0, 2.0),
        // Scaled, so that no gradient cancels.
        14 => g.neg(x).and_then(|y| g.scale(y, 0.37)),
        15 => g.sin(x),
        16 => g.softmax(x, 0),
        17 => g.log_softmax(x, -1),
        18 => g.sum_dim(x, &[-1], true),
        19 => g.mean_dim(x, &[0], false),
        20 => g.amax(x, &[1, 0], false),
        21 => g.transpose(x, 0, -1),
        22 => g.reshape(x, &[-1, 2]),
        23 => g.unsqueeze(x, 1),
        24 => g.narrow(x, 0, 1, 2),
        25 => g.pad(x, &[(1, 0), (0, 2)], 0.5),
        26 => g.expand(x, &[3, 4, 4]),
        27 => g.flatten(x, 0, -1),
        28 => g.exp(x).and_then(|y| g.log(y)),
        _ => g.split(x, &[1, 1]).map(|parts| parts[0]),
    }
}

fn binary(g: &mut Graph, op: usize, x: Tensor, y: Tensor) -> Result<Tensor, Error> {
    match op {
        0 => g.add(x, y),
        1 => g.swiglu(x, y),
        2 => g.rms_norm(x, y, 1e-5),
        3 => g.matmul(x, y),
        4 => g.scale(y, 0.37).and_then(|y| g.sub(x, y)),
        5 => g.mul(x, y),
        6 => g.add_scalar(y, 4.0).and_then(|y| g.div(x, y)),
        7 => g.maximum(x, y),
        8 => g.matmul_transposed(x, y),
        9 => g.cat(&[x, y], 0),
        10 => g.stack(&[x, y], -1),
        11 => g.index_select(x, 0, y),
        12 => g.gather(x, -1, y),
        13 => g.masked_fill(x, y, 0.5),
        14 => g.gt(x, y).and_then(|mask| g.where_mask(mask, x, y)),
        15 => g.mse_loss(x, y, Reduction::None),
        16 => g.smooth_l1_loss(x, y, 0.5, Reduction::Sum),
        17 => g.binary_cross_entropy_with_logits(x, y, None, Reduction::Mean),
        18 => g.instance_norm(x, [y, y], 1e-5),
        _ => g.concat(&[x, y]),
    }
}

fn fill(step: &mut Step, inputs: &[(String, DType, usize)]) {
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

/// Loss and all gradients of a compiled model, with what has to be true of any.
fn checked(calls: &[Call], bf16_loss: bool, policy: CheckpointPolicy) -> Option<Vec<u32>> {
    let mut made = Made::of(calls);
    let loss = made.loss(bf16_loss).ok()?;
    let frozen: Vec<String> = made.frozen.iter().map(|&w| made.graph.name(w).expect("its own").to_string()).collect();
    let Made { graph, parameters, inputs, .. } = made;
    let optimizer = match calls.len() % 3 {
        0 => Optimizer::AdamW(AdamWSettings::default()),
        1 => Optimizer::Sgd(SgdSettings { momentum: 0.5, ..SgdSettings::default() }),
        _ => Optimizer::Lion(LionSettings::default()),
    };
    let options = Options::new().threads(1).seed(3).policy(policy).optimizer(optimizer);
    let options = options.group(ParameterGroup::named("all", "*").rate_factor(0.5));
    // A graph without parameters, or with what has no derivative on the way, is refused in words.
    let mut step = match graph.compile(loss, options) {
        Ok(step) => step,
        Err(error) => {
            assert!(!error.to_string().contains("defect"), "{error}");
            return None;
        }
    };
    assert_eq!(step.parameter_names().len(), parameters.len(), "each parameter is trained: {parameters:?}");
    for (name, elements) in &parameters {
        assert_eq!(step.parameter(name).expect("a parameter"), vec![0.5; *elements], "{name} begins as was asked");
    }
    assert!(frozen.iter().all(|name| step.parameter(name).is_err()), "frozen stays frozen");
    fill(&mut step, &inputs);
    let first = match step.run() {
        Ok(loss) => loss,
        // All ids are 1.
        Err(error) => {
            assert!(error.to_string().contains("id 1 lies outside the axis"), "{error}");
            return None;
        }
    };
    let mut bits = vec![first.to_bits()];
    for (name, _) in &parameters {
        let gradient = step.gradient(name).expect("a trained parameter");
        assert!(gradient.iter().any(|&g| g != 0.0), "{name}: its mean is in the loss, so its gradient is not zero");
        bits.extend(gradient.iter().map(|g| g.to_bits()));
    }
    step.update(1e-2).expect("updates");
    for (name, elements) in &parameters {
        assert_ne!(step.parameter(name).expect("a parameter"), vec![0.5; *elements], "{name} is updated");
        assert_eq!(step.moment(name, Moment::First).expect("every optimizer here has it").len(), *elements);
    }
    assert_eq!((step.updates(), step.random_key()), (1, [3, 0, 1, 0]));
    Some(bits)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_give_an_error_or_a_step_that_means_what_was_written(calls in calls(), bf16_loss in any::<bool>()) {
        let plain = checked(&calls, bf16_loss, CheckpointPolicy::none());
        for policy in [CheckpointPolicy::full(), CheckpointPolicy::dots_saveable(), CheckpointPolicy::budget(1 << 20)] {
            let text = policy.to_string();
            prop_assert!(checked(&calls, bf16_loss, policy) == plain, "{}", text);
        }
        let rules = CheckpointPolicy::rules(Rules::new().otherwise(remat::Decision::PreferRecompute));
        prop_assert!(checked(&calls, bf16_loss, rules) == plain);
    }
}
