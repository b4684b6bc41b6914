//! Launches of the ops that walk tensors by axes: broadcasts, reductions, movement, picks by number, products of activations.

use super::pointwise::zeroed;
use super::tile::Tile;
use super::walk::walk;
use crate::call::{OpTypes, float_bytes, float_name};
use crate::launch::Launch;
use remat_ir::axes::{around, strides, strides_within};
use remat_ir::ops::{self, BinaryFunction, MatmulSize, Reduction, Relation, UnaryFunction};
use remat_tensor::DType;

type Launches = Result<Vec<Launch>, String>;

/// Strides of an operand within the result.
fn within(call: &OpTypes<'_>, operand: usize) -> Vec<usize> {
    strides_within(call.shape(operand), call.writes[0].shape.dims())
}

/// Bytes of an element of what can be moved, in a kernel's name.
fn width(call: &OpTypes<'_>) -> Result<usize, String> {
    match call.reads[0].dtype {
        DType::F32 | DType::BF16 => Ok(float_bytes(call.reads[0])),
        DType::I32 => Ok(size_of::<i32>()),
        other => Err(format!("there is no CUDA kernel that moves {other}")),
    }
}

/// As kernels/binary.cu numbers them.
fn number_of_binary(function: BinaryFunction) -> usize {
    match function {
        BinaryFunction::Add => 0,
        BinaryFunction::Sub => 1,
        BinaryFunction::Mul => 2,
        BinaryFunction::Div => 3,
        BinaryFunction::Pow => 4,
        BinaryFunction::Maximum => 5,
        BinaryFunction::Minimum => 6,
    }
}

/// `binary`.
pub fn binary(op: &ops::Binary, call: &OpTypes<'_>) -> Launches {
    let (count, shape) = (call.result_numel(0), call.writes[0].shape.dims());
    let launch = Launch::of("binary", call.named("binary", 0)?).read(0).read(1).write(0);
    let launch = launch.u32(number_of_binary(op.function)).with(walk(shape, &[&within(call, 0), &within(call, 1)]));
    Ok(vec![launch.u64(count).over(count)])
}

/// `binary_grad`.
pub fn binary_grad(op: &ops::BinaryGrad, call: &OpTypes<'_>) -> Launches {
    let (count, shape) = (call.result_numel(0), call.writes[0].shape.dims());
    let launch = Launch::of("binary_grad", call.named("binary_grad", 0)?).read(0).read(1).read(2).write(0);
    let launch = launch.u32(number_of_binary(op.function)).u32(op.operand);
    Ok(vec![launch.with(walk(shape, &[&within(call, 1), &within(call, 2)])).u64(count).over(count)])
}

/// A function as kernels/unary.cu numbers it, and its constants.
fn unary_arguments(launch: Launch, function: UnaryFunction) -> Launch {
    let (number, p, q) = match function {
        UnaryFunction::Relu => (0, 0.0, 0.0),
        UnaryFunction::LeakyRelu { slope } => (1, slope, 0.0),
        UnaryFunction::Elu { alpha } => (2, alpha, 0.0),
        UnaryFunction::Sigmoid => (3, 0.0, 0.0),
        UnaryFunction::Tanh => (4, 0.0, 0.0),
        UnaryFunction::Silu => (5, 0.0, 0.0),
        UnaryFunction::Softplus => (6, 0.0, 0.0),
        UnaryFunction::Exp => (7, 0.0, 0.0),
        UnaryFunction::Log => (8, 0.0, 0.0),
        UnaryFunction::Sqrt => (9, 0.0, 0.0),
        UnaryFunction::Rsqrt => (10, 0.0, 0.0),
        UnaryFunction::Reciprocal => (11, 0.0, 0.0),
        UnaryFunction::Abs => (12, 0.0, 0.0),
        UnaryFunction::Sign => (13, 0.0, 0.0),
        UnaryFunction::Neg => (14, 0.0, 0.0),
        UnaryFunction::Square => (15, 0.0, 0.0),
        UnaryFunction::Pow { exponent } => (16, exponent, 0.0),
        UnaryFunction::Sin => (17, 0.0, 0.0),
        UnaryFunction::Cos => (18, 0.0, 0.0),
        UnaryFunction::Clamp { min, max } => (19, min, max),
        UnaryFunction::AddScalar { value } => (20, value, 0.0),
    };
    launch.u32(number).f32(p).f32(q)
}

/// `unary`.
pub fn unary(op: &ops::Unary, call: &OpTypes<'_>) -> Launches {
    let count = call.result_numel(0);
    let launch = Launch::of("unary", call.named("unary", 0)?).read(0).write(0);
    Ok(vec![unary_arguments(launch, op.function).u64(count).over(count)])
}

/// `unary_grad`.
pub fn unary_grad(op: &ops::UnaryGrad, call: &OpTypes<'_>) -> Launches {
    let count = call.result_numel(0);
    let launch = Launch::of("unary", call.named("unary_grad", 0)?).read(0).read(1).write(0);
    Ok(vec![unary_arguments(launch, op.function).u64(count).over(count)])
}

/// Walks over what is reduced to, and over the terms of one result, with the number of these.
fn reduction(launch: Launch, x: &[usize], y: &[usize]) -> Launch {
    let own = strides(x);
    let is_kept = |axis: usize| y[axis] == x[axis];
    let of = |kept: bool| -> Vec<usize> {
        (0..x.len()).map(|axis| if is_kept(axis) == kept { x[axis] } else { 1 }).collect()
    };
    let (outer, inner) = (of(true), of(false));
    let terms: usize = inner.iter().product();
    let count: usize = outer.iter().product();
    launch.with(walk(&outer, &[&own])).with(walk(&inner, &[&own])).u64(terms).u64(count).over(count)
}

/// `reduce`.
pub fn reduce(op: &ops::Reduce, call: &OpTypes<'_>) -> Launches {
    let number = match op.reduction {
        Reduction::Sum => 0,
        Reduction::Mean => 1,
        Reduction::Max => 2,
        Reduction::Min => 3,
    };
    let launch = Launch::of("reduce", call.named("reduce", 0)?).read(0).write(0).u32(number);
    Ok(vec![reduction(launch, call.shape(0), call.writes[0].shape.dims())])
}

/// `reduce_grad`.
pub fn reduce_grad(call: &OpTypes<'_>) -> Launches {
    let launch = Launch::of("reduce", call.named("reduce_grad", 0)?).read(0).read(1).read(2).write(0);
    Ok(vec![reduction(launch, call.shape(1), call.shape(2))])
}

/// Elements of a walk over `shape`, from x and to y at these strides, from those elements on.
fn moved(call: &OpTypes<'_>, shape: &[usize], x: (usize, &[usize]), y: (usize, &[usize])) -> Launches {
    let launch = Launch::of("strided", format!("strided_{}", width(call)?)).read(0).write(0).u64(x.0).u64(y.0);
    let count: usize = shape.iter().product();
    Ok(vec![launch.with(walk(shape, &[x.1, y.1])).u64(count).over(count)])
}

/// `expand`.
pub fn expand(call: &OpTypes<'_>) -> Launches {
    let shape = call.writes[0].shape.dims();
    moved(call, shape, (0, &within(call, 0)), (0, &strides(shape)))
}

/// `transpose`.
pub fn transpose(op: &ops::Transpose, call: &OpTypes<'_>) -> Launches {
    let (shape, own) = (call.writes[0].shape.dims(), strides(call.shape(0)));
    let turned: Vec<usize> = op.permutation.iter().map(|&axis| own[axis]).collect();
    moved(call, shape, (0, &turned), (0, &strides(shape)))
}

/// `slice`.
pub fn slice(op: &ops::Slice, call: &OpTypes<'_>) -> Launches {
    let (shape, own) = (call.writes[0].shape.dims(), strides(call.shape(0)));
    let first = own.iter().zip(&op.starts).map(|(stride, start)| stride * start).sum();
    let steps: Vec<usize> = own.iter().zip(&op.steps).map(|(stride, step)| stride * step).collect();
    moved(call, shape, (first, &steps), (0, &strides(shape)))
}

/// `pad`: the value everywhere, then x.
pub fn pad(op: &ops::Pad, call: &OpTypes<'_>) -> Launches {
    let own = strides(call.writes[0].shape.dims());
    let first = own.iter().zip(&op.low).map(|(stride, low)| stride * low).sum();
    let steps: Vec<usize> = own.iter().zip(&op.between).map(|(stride, between)| stride * (between + 1)).collect();
    let count = call.result_numel(0);
    let filled = match op.value {
        0.0 => zeroed(call, 0),
        value => {
            let kernel = format!("fill_{}", float_name(call.writes[0])?);
            Launch::of("strided", kernel).write(0).f32(value).u64(count).over(count)
        }
    };
    let moved = moved(call, call.shape(0), (0, &strides(call.shape(0))), (first, &steps))?;
    Ok([filled].into_iter().chain(moved).collect())
}

/// `softmax`.
pub fn softmax(op: &ops::Softmax, call: &OpTypes<'_>) -> Launches {
    let (width, rows) = (call.last(0), call.rows(0));
    let launch = Launch::of("softmax", call.named("softmax", 0)?).read(0).write(0);
    Ok(vec![launch.flag(op.log).u32(width).u32(rows).warps(rows)])
}

/// `softmax_grad`.
pub fn softmax_grad(op: &ops::SoftmaxGrad, call: &OpTypes<'_>) -> Launches {
    let (width, rows) = (call.last(0), call.rows(0));
    let launch = Launch::of("softmax", call.named("softmax_grad", 0)?).read(0).read(1).write(0);
    Ok(vec![launch.flag(op.log).u32(width).u32(rows).warps(rows)])
}

/// Sizes of the numbered axis, of what lies behind it, of the numbers along it, and the results.
fn picked(launch: Launch, call: &OpTypes<'_>, [size, inner, count]: [usize; 3]) -> Launches {
    let results = call.result_numel(0);
    Ok(vec![launch.read(0).read(1).write(0).u64(size).u64(inner).u64(count).u64(results).over(results)])
}

/// `gather`.
pub fn gather(op: &ops::Gather, call: &OpTypes<'_>) -> Launches {
    let [_, size, inner] = around(call.shape(0), op.axis);
    picked(Launch::of("gather", format!("gather_{}", width(call)?)), call, [size, inner, call.numel(1)])
}

/// `gather_grad`.
pub fn gather_grad(op: &ops::GatherGrad, call: &OpTypes<'_>) -> Launches {
    let [_, size, inner] = around(call.writes[0].shape.dims(), op.axis);
    picked(Launch::of("gather", call.named("gather_grad", 0)?), call, [size, inner, call.numel(1)])
}

/// `take_along_axis`.
pub fn take_along_axis(op: &ops::TakeAlongAxis, call: &OpTypes<'_>) -> Launches {
    let [_, size, inner] = around(call.shape(0), op.axis);
    let launch = Launch::of("gather", format!("take_along_axis_{}", width(call)?));
    picked(launch, call, [size, inner, call.shape(1)[op.axis]])
}

/// `take_along_axis_grad`.
pub fn take_along_axis_grad(op: &ops::TakeAlongAxisGrad, call: &OpTypes<'_>) -> Launches {
    let [_, count, inner] = around(call.shape(1), op.axis);
    picked(Launch::of("gather", call.named("take_along_axis_grad", 0)?), call, [op.size, inner, count])
}

/// `compare`.
pub fn compare(op: &ops::Compare, call: &OpTypes<'_>) -> Launches {
    let number = match op.relation {
        Relation::Equal => 0,
        Relation::NotEqual => 1,
        Relation::Less => 2,
        Relation::LessEqual => 3,
        Relation::Greater => 4,
        Relation::GreaterEqual => 5,
    };
    let dtype = if call.reads[0].dtype == DType::I32 { "i32" } else { call.float(0)? };
    let (count, shape) = (call.result_numel(0), call.writes[0].shape.dims());
    let launch = Launch::of("compare", format!("compare_{dtype}")).read(0).read(1).write(0).u32(number);
    Ok(vec![launch.with(walk(shape, &[&within(call, 0), &within(call, 1)])).u64(count).over(count)])
}

/// `select`.
pub fn select(call: &OpTypes<'_>) -> Launches {
    let (count, shape) = (call.result_numel(0), call.writes[0].shape.dims());
    let launch = Launch::of("compare", call.named("select", 1)?).read(0).read(1).read(2).write(0);
    let [mask, a, b] = [0, 1, 2].map(|operand| within(call, operand));
    Ok(vec![launch.with(walk(shape, &[&mask, &a, &b])).u64(count).over(count)])
}

/// `masked_fill`.
pub fn masked_fill(op: &ops::MaskedFill, call: &OpTypes<'_>) -> Launches {
    let (count, shape) = (call.result_numel(0), call.writes[0].shape.dims());
    let launch = Launch::of("compare", call.named("masked_fill", 0)?).read(0).read(1).write(0);
    let launch = launch.f32(op.value).flag(op.filled).with(walk(shape, &[&within(call, 1)]));
    Ok(vec![launch.u64(count).over(count)])
}

/// `matmul`.
pub fn matmul(op: &ops::Matmul, call: &OpTypes<'_>) -> Launches {
    let (MatmulSize { rows, columns, terms }, batch) = op.size(call.reads[0], call.reads[1])?;
    let leading = |operand: usize| &call.shape(operand)[..call.shape(operand).len() - 2];
    let tile = Tile::of(call.reads[0], rows, columns);
    let launch = tile.launch(["matmul", "matmul_bf16"], "matmul", call, 0, "")?.read(0).read(1).write(0);
    let a = if op.transpose_a { [1, rows] } else { [terms, 1] };
    let b = if op.transpose_b { [1, terms] } else { [columns, 1] };
    let launch = a.into_iter().chain(b).fold(launch, Launch::u64).u32(rows).u32(columns).u32(terms);
    let places = [0, 1].map(|operand| strides_within(leading(operand), &batch));
    let mut launch = tile.cover(launch.with(walk(&batch, &[&places[0], &places[1]])), rows, columns, true);
    launch.grid[2] = crate::launch::blocks(batch.iter().product(), 1);
    Ok(vec![launch])
}
