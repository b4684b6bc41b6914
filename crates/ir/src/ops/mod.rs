//! The table of ops. An op is one line of the `ops!` macro and one file of the same name here and under `cpu/src/kernels`.
//!
//! Each file defines the attributes, result types (`infer`), derivative (`vjp`, which emits IR), `cost`, the naive
//! f64 `eval` that *is* the op's meaning, and `samples` on which executors are tested against it; and what passes, prices
//! and devices ask of an op, so that none of them has a list of ops.
//! Invariant: every match on [`Op`] is exhaustive, so that a missing kernel does not compile.

use crate::{Array, Collective, Cost, Custom, CustomOps, IrError, OpClass, Sample, Type, ValueId, Vjp, Workspace};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What every op says about itself. Operand and result order stand at the head of each op's file.
pub trait OpDef: Clone + PartialEq {
    /// Result types for these operand types, or what does not fit (with shapes; the op's name is added by the caller).
    /// Called through [`Op::infer`], which has checked every operand with [`Type::check`] and so checks the results.
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String>;

    /// Name of result `index` (results behind the first are named `<node>.<this>`).
    fn result_name(&self, index: usize) -> &'static str {
        let _ = index;
        "result"
    }

    /// Pairs (operand, result): the result replaces the operand's bytes, which must be a state.
    fn donations(&self) -> Vec<(usize, usize)> {
        Vec::new()
    }

    /// Pairs (operand, result): the result may share the operand's slot if this node is the operand's last reader.
    fn in_place(&self) -> Vec<(usize, usize)> {
        Vec::new()
    }

    /// (table, ids): of that operand only the rows are read that these ids name, in their order.
    fn looks_up(&self) -> Option<(usize, usize)> {
        None
    }

    /// Of so many operands, how many elements of the first belong to one element of each, where the op can run on some elements
    /// at a time, in any split at multiples of [`MOMENT_BLOCK`] elements of the first; 0 where all elements need the whole
    /// operand. A result is cut as the state that it replaces; one that replaces none is a sum over the operands, one
    /// after the other, which a device may interrupt between any eight elements. `None` for any other op.
    fn by_element(&self, operands: usize) -> Option<Vec<usize>> {
        let _ = operands;
        None
    }

    /// The operands whose row i (rows: all axes but the last, flattened) is all that row i of each result needs of them; the
    /// other operands are read whole. Where results are donated, they are sums over rows instead, and a call on later rows
    /// continues them. `None` for an op that joins rows in any other way. Such an op can run on a few rows at a time.
    fn row_operands(&self) -> Option<Vec<usize>> {
        None
    }

    /// Whether the op is worth a matrix product to compute again; the planner and its reports tell such ops apart.
    fn is_contraction(&self) -> bool {
        false
    }

    /// Whether a contraction has batch axes as JAX speaks of them: axes of both operands along which it does not sum, one
    /// product for each place.
    fn has_batch_axes(&self, inputs: &[&Type]) -> bool {
        let _ = inputs;
        false
    }

    /// Whether equal operands give equal bits: true of all but what a user declares otherwise. The results of what is not are
    /// kept under every policy.
    fn is_deterministic(&self) -> bool {
        true
    }

    /// What ranks do together here, where that is what the op does.
    fn collective(&self) -> Option<Collective<'_>> {
        None
    }

    /// Whether its results are choices among alternatives, which a policy keeps whatever they cost: they are small, and what
    /// follows from one is never made from another.
    fn is_decision(&self) -> bool {
        false
    }

    /// The same op that adds its gradients of parameters onto states, its last operands, one for each; and the index of its
    /// first such result. `None` for an op that makes none, or adds them already.
    fn accumulating(&self) -> Option<(Op, usize)> {
        None
    }

    /// The op that makes the rows from `first_row` on, where an operand that is cut by rows has `width` elements in each.
    fn of_rows(&self, first_row: usize, width: usize) -> Self {
        let _ = (first_row, width);
        self.clone()
    }

    /// Whether both are one op, perhaps on different rows.
    fn is_same_but_for_rows(&self, other: &Self) -> bool {
        self == other
    }

    /// By which rates its time is predicted.
    fn class(&self, inputs: &[&Type], outputs: &[&Type]) -> OpClass {
        let _ = (inputs, outputs);
        OpClass::Stream
    }

    /// Of so many operands, those that are activations, weights or cotangents: all of one float dtype, in which a device
    /// computes. The others have the dtype that `infer` demands.
    fn activations(&self, operands: usize) -> Range<usize> {
        0..operands
    }

    /// What its kernels need beside operands and results; how many bytes that is, the device's rules say.
    fn workspace(&self, inputs: &[&Type]) -> Workspace {
        let _ = inputs;
        Workspace::None
    }

    /// Emits the vector-Jacobian product and returns one cotangent per operand (`None` where `needs` is false or the
    /// operand has no derivative).
    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError>;

    /// Work for these types.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost;

    /// The meaning: naive, in f64. Operands are known to satisfy `infer`.
    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array>;

    /// Operand sets that every executor is tested on.
    fn samples() -> Vec<Sample>
    where
        Self: Sized;
}

macro_rules! ops {
    ($($variant:ident $module:ident,)*) => {
        $(mod $module; pub use $module::$variant;)*

        /// An op with its attributes: a closed set.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub enum Op { $($variant($variant),)* Custom(Custom) }

        $(impl From<$variant> for Op {
            fn from(op: $variant) -> Op { Op::$variant(op) }
        })*

        impl Op {
            /// The names of all ops of the closed set.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($module),)*];

            /// The op's name, also its file stem.
            pub const fn name(&self) -> &'static str {
                match self { $(Op::$variant(_) => stringify!($module),)* Op::Custom(_) => CUSTOM }
            }

            /// The op's name, of a user's op the one that its definition has.
            pub fn own_name(&self) -> &str {
                if let Op::Custom(op) = self { op.custom_name() } else { self.name() }
            }

            /// The attributes as a JSON object, empty for an op without any.
            pub fn attributes(&self) -> String {
                match self { $(Op::$variant(op) => attributes_of(op),)* Op::Custom(op) => op.to_json() }
            }

            /// The op of this name with these attributes.
            pub(crate) fn from_text(name: &str, attributes: &str, custom: &CustomOps) -> Result<Op, String> {
                match name {
                    $(stringify!($module) => op_of::<$variant>(attributes).map(Op::$variant),)*
                    CUSTOM => custom.read(attributes).map(Op::Custom),
                    _ => Err(format!("there is no op named '{name}'")),
                }
            }
        }

        impl OpDef for Op {
            fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
                // Sizes are checked here for all ops, so that no `infer` can divide by zero or overflow.
                for (index, ty) in inputs.iter().enumerate() {
                    ty.check().map_err(|fault| format!("operand {index} {ty} {fault}"))?;
                }
                let results = match self { $(Op::$variant(op) => op.infer(inputs),)* Op::Custom(op) => op.infer(inputs) }?;
                for (index, ty) in results.iter().enumerate() {
                    ty.check().map_err(|fault| format!("result {index} {ty} {fault}"))?;
                }
                Ok(results)
            }
            fn result_name(&self, index: usize) -> &'static str {
                match self { $(Op::$variant(op) => op.result_name(index),)* Op::Custom(op) => op.result_name(index) }
            }
            fn donations(&self) -> Vec<(usize, usize)> {
                match self { $(Op::$variant(op) => op.donations(),)* Op::Custom(op) => op.donations() }
            }
            fn in_place(&self) -> Vec<(usize, usize)> {
                match self { $(Op::$variant(op) => op.in_place(),)* Op::Custom(op) => op.in_place() }
            }
            fn looks_up(&self) -> Option<(usize, usize)> {
                match self { $(Op::$variant(op) => op.looks_up(),)* Op::Custom(op) => op.looks_up() }
            }
            fn by_element(&self, operands: usize) -> Option<Vec<usize>> {
                match self { $(Op::$variant(op) => op.by_element(operands),)* Op::Custom(op) => op.by_element(operands) }
            }
            fn row_operands(&self) -> Option<Vec<usize>> {
                match self { $(Op::$variant(op) => op.row_operands(),)* Op::Custom(op) => op.row_operands() }
            }
            fn is_contraction(&self) -> bool {
                match self { $(Op::$variant(op) => op.is_contraction(),)* Op::Custom(op) => op.is_contraction() }
            }
            fn has_batch_axes(&self, inputs: &[&Type]) -> bool {
                match self {
                    $(Op::$variant(op) => op.has_batch_axes(inputs),)*
                    Op::Custom(op) => op.has_batch_axes(inputs),
                }
            }
            fn is_deterministic(&self) -> bool {
                match self { $(Op::$variant(op) => op.is_deterministic(),)* Op::Custom(op) => op.is_deterministic() }
            }
            fn collective(&self) -> Option<Collective<'_>> {
                match self { $(Op::$variant(op) => op.collective(),)* Op::Custom(op) => op.collective() }
            }
            fn is_decision(&self) -> bool {
                match self { $(Op::$variant(op) => op.is_decision(),)* Op::Custom(op) => op.is_decision() }
            }
            fn accumulating(&self) -> Option<(Op, usize)> {
                match self { $(Op::$variant(op) => op.accumulating(),)* Op::Custom(op) => op.accumulating() }
            }
            fn of_rows(&self, first_row: usize, width: usize) -> Op {
                match self {
                    $(Op::$variant(op) => op.of_rows(first_row, width).into(),)*
                    Op::Custom(op) => op.of_rows(first_row, width).into(),
                }
            }
            fn is_same_but_for_rows(&self, other: &Op) -> bool {
                match (self, other) {
                    $((Op::$variant(a), Op::$variant(b)) => a.is_same_but_for_rows(b),)*
                    (Op::Custom(a), Op::Custom(b)) => a.is_same_but_for_rows(b),
                    _ => false,
                }
            }
            fn class(&self, inputs: &[&Type], outputs: &[&Type]) -> OpClass {
                match self { $(Op::$variant(op) => op.class(inputs, outputs),)* Op::Custom(op) => op.class(inputs, outputs) }
            }
            fn activations(&self, operands: usize) -> Range<usize> {
                match self { $(Op::$variant(op) => op.activations(operands),)* Op::Custom(op) => op.activations(operands) }
            }
            fn workspace(&self, inputs: &[&Type]) -> Workspace {
                match self { $(Op::$variant(op) => op.workspace(inputs),)* Op::Custom(op) => op.workspace(inputs) }
            }
            fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
                match self { $(Op::$variant(op) => op.vjp(cx),)* Op::Custom(op) => op.vjp(cx) }
            }
            fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
                match self { $(Op::$variant(op) => op.cost(inputs, outputs),)* Op::Custom(op) => op.cost(inputs, outputs) }
            }
            fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
                match self { $(Op::$variant(op) => op.eval(inputs, results),)* Op::Custom(op) => op.eval(inputs, results) }
            }
            fn samples() -> Vec<Sample> {
                let mut all = Vec::new();
                $(all.extend($variant::samples());)*
                all
            }
        }
    };
}

ops! {
    Zeros zeros,
    Embedding embedding,
    EmbeddingGrad embedding_grad,
    Linear linear,
    LinearDw linear_dw,
    GroupedLinear grouped_linear,
    GroupedLinearDw grouped_linear_dw,
    Route route,
    BiasGrad bias_grad,
    RmsNorm rms_norm,
    RmsNormGrad rms_norm_grad,
    RmsNormDw rms_norm_dw,
    LayerNorm layer_norm,
    LayerNormGrad layer_norm_grad,
    LayerNormDw layer_norm_dw,
    Rope rope,
    Attention attention,
    AttentionGrad attention_grad,
    MaskedAttention masked_attention,
    MaskedAttentionGrad masked_attention_grad,
    CacheWrite cache_write,
    CachedAttention cached_attention,
    Swiglu swiglu,
    SwigluGrad swiglu_grad,
    Gelu gelu,
    GeluGrad gelu_grad,
    Geglu geglu,
    GegluGrad geglu_grad,
    Softcap softcap,
    SoftcapGrad softcap_grad,
    Add add,
    Scale scale,
    Cast cast,
    Dropout dropout,
    EmbeddingNoise embedding_noise,
    Split split,
    Concat concat,
    SliceRows slice_rows,
    WriteRows write_rows,
    LinearCrossEntropy linear_cross_entropy,
    LinearCrossEntropyGrad linear_cross_entropy_grad,
    LinearCrossEntropyWithGrad linear_cross_entropy_with_grad,
    Conv2d conv2d,
    Conv2dDx conv2d_dx,
    Conv2dDw conv2d_dw,
    Pool2d pool2d,
    Pool2dGrad pool2d_grad,
    GroupNorm group_norm,
    GroupNormGrad group_norm_grad,
    GroupNormDw group_norm_dw,
    BatchNorm batch_norm,
    BatchNormGrad batch_norm_grad,
    BatchNormDw batch_norm_dw,
    BatchNormUpdate batch_norm_update,
    CrossEntropy cross_entropy,
    CrossEntropyGrad cross_entropy_grad,
    TargetWeight target_weight,
    PairLoss pair_loss,
    PairLossGrad pair_loss_grad,
    Sum sum,
    Broadcast broadcast,
    Accumulate accumulate,
    GradNorm grad_norm,
    ClipScale clip_scale,
    AdamW adamw,
    AdamW8bit adamw8bit,
    Unary unary,
    UnaryGrad unary_grad,
    Binary binary,
    BinaryGrad binary_grad,
    Compare compare,
    Reduce reduce,
    ReduceGrad reduce_grad,
    Expand expand,
    Reshape reshape,
    Transpose transpose,
    Slice slice,
    Pad pad,
    Softmax softmax,
    SoftmaxGrad softmax_grad,
    Matmul matmul,
    Gather gather,
    GatherGrad gather_grad,
    TakeAlongAxis take_along_axis,
    TakeAlongAxisGrad take_along_axis_grad,
    Select select,
    MaskedFill masked_fill,
    AddGradient add_gradient,
    Sgd sgd,
    Lion lion,
    ClipValue clip_value,
    AdaptedNorm adapted_norm,
    ColumnScale column_scale,
    ColumnScaleDw column_scale_dw,
    Selection selection,
    ExchangeShards exchange_shards,
    AddParts add_parts,
    SquareSums square_sums,
    NormOfSquares norm_of_squares,
    GatherShards gather_shards,
}

pub use adamw8bit::MOMENT_BLOCK;
pub use binary::{BinaryFunction, Extent};
pub use compare::Relation;
pub use conv2d::{Window, image_sizes};
pub use gelu::GeluForm;
pub use linear::LowRank;
pub use linear_cross_entropy::MOST_CHUNK;
pub use masked_attention::AttentionMask;
pub use matmul::MatmulSize;
pub use pair_loss::PairFunction;
pub use pool2d::PoolKind;
pub use reduce::Reduction;
pub use square_sums::{MOST_SQUARE_BLOCKS, number_of, square_block, words_of};
pub use unary::{Derivative, UnaryFunction};

impl From<Custom> for Op {
    fn from(op: Custom) -> Op {
        Op::Custom(op)
    }
}

/// What a user's op is called in the text form, before its own name.
const CUSTOM: &str = "custom";

/// How a two-dimensional weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// [out, in], as `torch.nn.Linear`.
    OutIn,
    /// [in, out], as GPT-2's Conv1D; also an `OutIn` weight read as its transpose.
    InOut,
}

impl Layout {
    /// The other one: the same bytes read as the transposed product.
    pub fn flipped(self) -> Layout {
        match self {
            Layout::OutIn => Layout::InOut,
            Layout::InOut => Layout::OutIn,
        }
    }

    /// (in, out) of a weight of this shape.
    pub fn in_out(self, shape: &[usize]) -> (usize, usize) {
        match self {
            Layout::OutIn => (shape[1], shape[0]),
            Layout::InOut => (shape[0], shape[1]),
        }
    }

    /// Index of the element that joins input `i` and output `o`.
    pub fn index(self, i: usize, o: usize, inputs: usize, outputs: usize) -> usize {
        match self {
            Layout::OutIn => o * inputs + i,
            Layout::InOut => i * outputs + o,
        }
    }
}

/// The label of a token that takes no part in the loss.
pub const IGNORED: i32 = -100;

fn attributes_of<T: Serialize>(op: &T) -> String {
    let text = serde_json::to_string(op).expect("attributes are plain numbers, flags and lists");
    if text == "null" || text == "{}" { String::new() } else { text }
}

fn op_of<T: for<'de> Deserialize<'de>>(attributes: &str) -> Result<T, String> {
    let text = if attributes.is_empty() { "null" } else { attributes };
    let read = serde_json::from_str(text).or_else(|error| match attributes {
        // Nor are any written of an op whose attributes are all as by default.
        "" => serde_json::from_str("{}").map_err(|_| error),
        _ => Err(error),
    });
    read.map_err(|error: serde_json::Error| format!("attributes {text:.80}: {error}"))
}

/// Refuses a wrong number of operands.
fn operands(inputs: &[&Type], expected: usize) -> Result<(), String> {
    if inputs.len() == expected { Ok(()) } else { Err(format!("expects {expected} operands, got {}", inputs.len())) }
}

/// Refuses an operand that is not of a float dtype.
fn float(name: &str, ty: &Type) -> Result<(), String> {
    if ty.dtype.is_float() { Ok(()) } else { Err(format!("{name} {ty} must hold real numbers")) }
}

/// Refuses an operand whose elements are neither real numbers nor i32: what an op that only moves elements takes.
fn movable(name: &str, ty: &Type) -> Result<(), String> {
    let known = ty.dtype.is_float() || ty.dtype == DType::I32;
    if known { Ok(()) } else { Err(format!("{name} {ty} must hold real numbers or i32")) }
}

/// Refuses an operand that is not of token ids, labels or positions.
fn integer(name: &str, ty: &Type) -> Result<(), String> {
    if ty.dtype == DType::I32 { Ok(()) } else { Err(format!("{name} {ty} must be i32")) }
}

/// Refuses an operand of another type than expected.
fn typed(name: &str, ty: &Type, dtype: DType, shape: &[usize]) -> Result<(), String> {
    if ty.dtype == dtype && ty.shape.dims() == shape {
        Ok(())
    } else {
        Err(format!("{name} {ty} must be {dtype}{shape:?}"))
    }
}

/// Refuses an operand of any number of axes but `axes`.
fn rank(name: &str, ty: &Type, axes: usize) -> Result<(), String> {
    if ty.shape.len() == axes { Ok(()) } else { Err(format!("{name} {ty} must have {axes} axes")) }
}

/// For attributes that are left out of the text form at their usual value.
fn is_false(flag: &bool) -> bool {
    !flag
}

/// As [`is_false`].
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// As [`is_false`].
fn is_one(count: &usize) -> bool {
    *count == 1
}

/// The value of such a one.
fn one() -> usize {
    1
}

/// Refuses an attribute that is infinite or not a number.
fn finite(name: &str, value: f32) -> Result<(), String> {
    if value.is_finite() { Ok(()) } else { Err(format!("attribute {name} = {value} must be a finite number")) }
}

/// Refuses an epsilon that is negative or not a number.
fn epsilon(value: f32) -> Result<(), String> {
    finite("eps", value)?;
    if value >= 0.0 { Ok(()) } else { Err(format!("attribute eps = {value} must not be negative")) }
}

/// Refuses operands whose types differ.
fn same(a: (&str, &Type), b: (&str, &Type)) -> Result<(), String> {
    if a.1 == b.1 { Ok(()) } else { Err(format!("{} {} and {} {} must have one type", a.0, a.1, b.0, b.1)) }
}
