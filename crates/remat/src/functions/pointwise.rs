//! Functions of one and of two tensors, element-wise, and comparisons. `..` stands for any axes; two operands broadcast as in NumPy.

use crate::graph::{Graph, Tensor};
use crate::{Error, ops};
use ops::{BinaryFunction, Relation, UnaryFunction};

impl Graph {
    /// max(x, 0): x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn relu(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("relu", UnaryFunction::Relu, x)
    }

    /// x above 0, slope·x below (PyTorch's default slope is 0.01): x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers. A slope that is not finite.
    pub fn leaky_relu(&mut self, x: Tensor, slope: f32) -> Result<Tensor, Error> {
        self.unary("leaky_relu", UnaryFunction::LeakyRelu { slope }, x)
    }

    /// x above 0, alpha·(eˣ − 1) below (PyTorch's default alpha is 1): x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers. An alpha that is not finite.
    pub fn elu(&mut self, x: Tensor, alpha: f32) -> Result<Tensor, Error> {
        self.unary("elu", UnaryFunction::Elu { alpha }, x)
    }

    /// 1/(1 + e⁻ˣ): x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn sigmoid(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("sigmoid", UnaryFunction::Sigmoid, x)
    }

    /// tanh x: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn tanh(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("tanh", UnaryFunction::Tanh, x)
    }

    /// x·sigmoid(x): x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn silu(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("silu", UnaryFunction::Silu, x)
    }

    /// ln(1 + eˣ): x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn softplus(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("softplus", UnaryFunction::Softplus, x)
    }

    /// eˣ: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn exp(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("exp", UnaryFunction::Exp, x)
    }

    /// ln x; −∞ at 0, NaN below: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn log(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("log", UnaryFunction::Log, x)
    }

    /// √x; NaN below 0: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn sqrt(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("sqrt", UnaryFunction::Sqrt, x)
    }

    /// 1/√x: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn rsqrt(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("rsqrt", UnaryFunction::Rsqrt, x)
    }

    /// 1/x: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn reciprocal(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("reciprocal", UnaryFunction::Reciprocal, x)
    }

    /// |x|; its slope at 0 is 0: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn abs(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("abs", UnaryFunction::Abs, x)
    }

    /// −1, 0 or 1; its derivative is 0: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn sign(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("sign", UnaryFunction::Sign, x)
    }

    /// −x: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn neg(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("neg", UnaryFunction::Neg, x)
    }

    /// x²: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn square(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("square", UnaryFunction::Square, x)
    }

    /// x to the power `exponent`; NaN where x is negative and that is no integer: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers. An exponent that is not finite.
    pub fn pow(&mut self, x: Tensor, exponent: f32) -> Result<Tensor, Error> {
        self.unary("pow", UnaryFunction::Pow { exponent }, x)
    }

    /// sin x, x in radians: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn sin(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("sin", UnaryFunction::Sin, x)
    }

    /// cos x, x in radians: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers.
    pub fn cos(&mut self, x: Tensor) -> Result<Tensor, Error> {
        self.unary("cos", UnaryFunction::Cos, x)
    }

    /// x, but at least `min` and at most `max`, of which either may be infinite: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers. A `min` above `max`.
    pub fn clamp(&mut self, x: Tensor, min: f32, max: f32) -> Result<Tensor, Error> {
        self.unary("clamp", UnaryFunction::Clamp { min, max }, x)
    }

    /// x + value: x [..], f32 or bf16; y like x.
    ///
    /// # Errors
    /// An x that does not hold real numbers. A value that is not finite.
    pub fn add_scalar(&mut self, x: Tensor, value: f32) -> Result<Tensor, Error> {
        self.unary("add_scalar", UnaryFunction::AddScalar { value }, x)
    }

    /// factor·x: x [..], f32 or bf16; y like x. Another name of [`Graph::scale`].
    ///
    /// # Errors
    /// A factor that is not finite.
    pub fn mul_scalar(&mut self, x: Tensor, factor: f32) -> Result<Tensor, Error> {
        self.scale(x, factor)
    }

    fn unary(&mut self, name: &str, function: UnaryFunction, x: Tensor) -> Result<Tensor, Error> {
        self.op1(name, ops::Unary { function }, &[x])
    }

    /// A function of two tensors; a sum of two of one type is the op of its own that residual streams are made of.
    fn binary(&mut self, name: &str, function: BinaryFunction, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        let (a_ty, b_ty) = (self.ty(a)?, self.ty(b)?);
        if function == BinaryFunction::Add && a_ty == b_ty {
            return self.op1(name, ops::Add, &[a, b]);
        }
        let op = ops::Binary::of(function, a_ty, b_ty);
        self.op1(name, op, &[a, b])
    }

    /// a + b: a and b [..], both f32 or both bf16; y of the shape that they broadcast to.
    ///
    /// # Errors
    /// Two dtypes, shapes that do not broadcast.
    pub fn add(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.binary("add", BinaryFunction::Add, a, b)
    }

    /// a − b: a and b [..], both f32 or both bf16; y of the shape that they broadcast to.
    ///
    /// # Errors
    /// Two dtypes, shapes that do not broadcast.
    pub fn sub(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.binary("sub", BinaryFunction::Sub, a, b)
    }

    /// a·b: a and b [..], both f32 or both bf16; y of the shape that they broadcast to.
    ///
    /// # Errors
    /// Two dtypes, shapes that do not broadcast.
    pub fn mul(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.binary("mul", BinaryFunction::Mul, a, b)
    }

    /// a/b: a and b [..], both f32 or both bf16; y of the shape that they broadcast to.
    ///
    /// # Errors
    /// Two dtypes, shapes that do not broadcast.
    pub fn div(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.binary("div", BinaryFunction::Div, a, b)
    }

    /// a to the power b: a and b [..], both f32 or both bf16; y of the shape that they broadcast to.
    ///
    /// # Errors
    /// Two dtypes, shapes that do not broadcast.
    pub fn pow_tensor(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.binary("pow_tensor", BinaryFunction::Pow, a, b)
    }

    /// The larger of a and b; equal ones share the derivative: a and b [..], both f32 or both bf16; y of the shape that they broadcast to.
    ///
    /// # Errors
    /// Two dtypes, shapes that do not broadcast.
    pub fn maximum(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.binary("maximum", BinaryFunction::Maximum, a, b)
    }

    /// The smaller of a and b; equal ones share the derivative: a and b [..], both f32 or both bf16; y of the shape that they broadcast to.
    ///
    /// # Errors
    /// Two dtypes, shapes that do not broadcast.
    pub fn minimum(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.binary("minimum", BinaryFunction::Minimum, a, b)
    }

    /// Whether a = b: a and b [..], of one dtype, f32, bf16 or i32; a mask, i32 of 0 and 1, of the shape that they broadcast to.
    ///
    /// # Errors
    /// Two dtypes, shapes that do not broadcast.
    pub fn eq(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.op1("eq", ops::Compare { relation: Relation::Equal }, &[a, b])
    }

    /// Whether a ≠ b: a and b [..], of one dtype, f32, bf16 or i32; a mask, i32 of 0 and 1, of the shape that they broadcast to.
    ///
    /// # Errors
    /// Two dtypes, shapes that do not broadcast.
    pub fn ne(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.op1("ne", ops::Compare { relation: Relation::NotEqual }, &[a, b])
    }

    /// Whether a < b: a and b [..], of one dtype, f32, bf16 or i32; a mask, i32 of 0 and 1, of the shape that they broadcast to.
    ///
    /// # Errors
    /// Two dtypes, shapes that do not broadcast.
    pub fn lt(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.op1("lt", ops::Compare { relation: Relation::Less }, &[a, b])
    }

    /// Whether a ≤ b: a and b [..], of one dtype, f32, bf16 or i32; a mask, i32 of 0 and 1, of the shape that they broadcast to.
    ///
    /// # Errors
    /// Two dtypes, shapes that do not broadcast.
    pub fn le(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.op1("le", ops::Compare { relation: Relation::LessEqual }, &[a, b])
    }

    /// Whether a > b: a and b [..], of one dtype, f32, bf16 or i32; a mask, i32 of 0 and 1, of the shape that they broadcast to.
    ///
    /// # Errors
    /// Two dtypes, shapes that do not broadcast.
    pub fn gt(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.op1("gt", ops::Compare { relation: Relation::Greater }, &[a, b])
    }

    /// Whether a ≥ b: a and b [..], of one dtype, f32, bf16 or i32; a mask, i32 of 0 and 1, of the shape that they broadcast to.
    ///
    /// # Errors
    /// Two dtypes, shapes that do not broadcast.
    pub fn ge(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, Error> {
        self.op1("ge", ops::Compare { relation: Relation::GreaterEqual }, &[a, b])
    }
}
