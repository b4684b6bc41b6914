//! Ops and modules by number.

use remat::modules::{
    BatchNorm1d, BatchNorm2d, Conv1d, Conv2d, Dropout, Embedding, GroupNorm, InProjection, LayerNorm, Linear,
    MultiHeadAttention, MultiHeadAttentionOptions, RmsNorm,
};
use remat::{BatchNormOptions, ConvOptions, DType, Error, Graph, Reduction, Tensor};

/// One of the ops of one tensor.
pub fn unary(g: &mut Graph, op: usize, x: Tensor) -> Result<Tensor, Error> {
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

/// One of the ops of two tensors.
pub fn binary(g: &mut Graph, op: usize, x: Tensor, y: Tensor) -> Result<Tensor, Error> {
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
        // Scaled, so that no gradient cancels: of 0.5 and 1, and with the mean's, it would.
        15 => g.mse_loss(x, y, Reduction::None).and_then(|y| g.scale(y, 0.37)),
        16 => g.smooth_l1_loss(x, y, 0.5, Reduction::Sum).and_then(|y| g.scale(y, 0.37)),
        17 => g.binary_cross_entropy_with_logits(x, y, None, Reduction::Mean).and_then(|y| g.scale(y, 0.37)),
        18 => g.instance_norm(x, [y, y], 1e-5),
        _ => g.concat(&[x, y]),
    }
}

/// How many kinds of modules there are.
pub const MODULES: usize = 11;

/// What a module leaves in a graph: parameters, even where it refuses x, and a value.
pub struct Module {
    pub parameters: Vec<Tensor>,
    pub y: Option<Tensor>,
}

impl Module {
    fn of(parameters: impl IntoIterator<Item = Tensor>, y: Result<Tensor, Error>) -> Self {
        Module { parameters: parameters.into_iter().collect(), y: y.ok() }
    }
}

/// A module of a kind that fits x where one can.
pub fn module(g: &mut Graph, kind: usize, name: &str, x: Tensor) -> Module {
    made(g, kind, name, x).unwrap_or(Module { parameters: Vec::new(), y: None })
}

fn made(g: &mut Graph, kind: usize, name: &str, x: Tensor) -> Result<Module, Error> {
    let shape = g.ty(x)?.shape.to_vec();
    let (width, channels) = (shape.last().copied().unwrap_or(1), shape.get(1).copied().unwrap_or(2));
    Ok(match kind {
        0 => {
            let module = Linear::new(g, name, width, 3, true)?;
            Module::of([module.weight].into_iter().chain(module.bias), module.forward(g, x))
        }
        1 => {
            let module = LayerNorm::new(g, name, width, 1e-5)?;
            Module::of([module.weight, module.bias], module.forward(g, x))
        }
        2 => {
            let module = RmsNorm::new(g, name, width, 1e-5)?;
            Module::of([module.weight], module.forward(g, x))
        }
        3 | 4 => {
            let module = BatchNorm1d::new(g, name, channels, BatchNormOptions::default())?;
            Module::of([module.weight, module.bias], module.forward(g, x))
        }
        5 => {
            let module = GroupNorm::new(g, name, 1 + channels % 2, channels, 1e-5)?;
            Module::of([module.weight, module.bias], module.forward(g, x))
        }
        6 => {
            let module = Conv1d::new(g, name, [channels, 2], 2, ConvOptions::default(), true)?;
            let y = g.unsqueeze(x, -1).and_then(|x| g.expand(x, &[shape[0], channels, 4]));
            let y = y.and_then(|x| module.forward(g, x));
            Module::of([module.weight].into_iter().chain(module.bias), y)
        }
        7 => {
            let module = Embedding::new(g, name, 3, 4)?;
            Module::of([module.weight], module.forward(g, x))
        }
        8 => {
            let options = MultiHeadAttentionOptions { dropout: 0.25, ..MultiHeadAttentionOptions::default() };
            let module = MultiHeadAttention::new(g, name, width, 1 + (width + 1) % 2, options)?;
            let weights = match module.in_proj {
                InProjection::Joint(weight) => vec![weight],
                InProjection::Separate(weights) => weights.to_vec(),
            };
            let y = g.unsqueeze(x, 0).and_then(|x| module.forward(g, [x; 3], None, true));
            let biases = module.in_proj_bias.into_iter().chain(module.out_proj.bias);
            Module::of(weights.into_iter().chain([module.out_proj.weight]).chain(biases), y)
        }
        9 => images(g, name, x)?,
        _ => Module::of([], Dropout { p: 0.5 }.forward(g, x)),
    })
}

/// A convolution and a norm of what is taken for images of one channel.
fn images(g: &mut Graph, name: &str, x: Tensor) -> Result<Module, Error> {
    let conv = Conv2d::new(g, name, [1, 2], [2, 2], ConvOptions::default(), false)?;
    let y = g.unsqueeze(x, 1).and_then(|x| g.unsqueeze(x, 1)).and_then(|x| conv.forward(g, x));
    let norm = g.scope(name, |g| BatchNorm2d::new(g, "norm", 2, BatchNormOptions::default()));
    let parameters = [conv.weight].into_iter().chain(norm.iter().flat_map(|norm| [norm.weight, norm.bias]));
    let parameters: Vec<Tensor> = parameters.collect();
    Ok(Module::of(parameters, y.and_then(|y| norm.and_then(|norm| norm.forward(g, y)))))
}
