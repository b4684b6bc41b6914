//! Small operand sets on which every op is tested: against central differences, and by executors against `eval`.

use crate::{Array, Op, OpDef, Type};
use remat_tensor::{DType, HostTensor, Philox, Shape, stream_of_name};

/// One op with concrete operands.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The op under test.
    pub op: Op,
    /// Operand types.
    pub types: Vec<Type>,
    /// Operand values, exactly representable in their dtype.
    pub inputs: Vec<Array>,
}

impl Sample {
    /// A sample without operands yet.
    pub fn new(op: impl Into<Op>) -> Self {
        Sample { op: op.into(), types: Vec::new(), inputs: Vec::new() }
    }

    /// The results: `infer`, then `eval`.
    pub fn eval(&self) -> Vec<Array> {
        let types: Vec<&Type> = self.types.iter().collect();
        let results = self.op.infer(&types).unwrap_or_else(|fault| panic!("sample of {}: {fault}", self.op.name()));
        self.op.eval(&self.inputs.iter().collect::<Vec<_>>(), &results.iter().collect::<Vec<_>>())
    }

    /// The generator of the next operand. The op's name is part of the stream: a gradient op's dy must not repeat
    /// the numbers of its forward's x, or an exchange of the two would go unseen.
    fn philox(&self) -> Philox {
        Philox::new(0x5eed, stream_of_name(self.op.name()).wrapping_add(self.inputs.len() as u64))
    }

    fn push(mut self, dtype: DType, shape: Shape, data: Vec<f64>) -> Self {
        self.types.push(Type::new(dtype, shape.clone()));
        self.inputs.push(Array::new(shape, data));
        self
    }

    /// Adds an f32 operand of normal numbers with the given mean and deviation.
    pub fn normal_around(self, shape: impl Into<Shape>, mean: f32, deviation: f32) -> Self {
        let shape = shape.into();
        let philox = self.philox();
        let data = (0..shape.numel() as u64).map(|i| f64::from(mean + deviation * philox.normal(i))).collect();
        self.push(DType::F32, shape, data)
    }

    /// Adds an f32 operand of standard normal numbers.
    pub fn normal(self, shape: impl Into<Shape>) -> Self {
        self.normal_around(shape, 0.0, 1.0)
    }

    /// Adds an f32 operand with these values.
    pub fn f32(self, shape: impl Into<Shape>, data: Vec<f64>) -> Self {
        let rounded = data.iter().map(|&x| f64::from(x as f32)).collect();
        self.push(DType::F32, shape.into(), rounded)
    }

    /// Changes the dtype of operand `index` to another float dtype, its values rounded to it.
    pub fn in_dtype(mut self, index: usize, dtype: DType) -> Self {
        let shape = self.types[index].shape.clone();
        let data = HostTensor::from_f64(shape.clone(), dtype, &self.inputs[index].data).to_f64();
        self.types[index] = Type::new(dtype, shape.clone());
        self.inputs[index] = Array::new(shape, data);
        self
    }

    /// The sample with its activations, weights and cotangents in another dtype: as many real operands as the op takes
    /// in it together. The others (statistics, gradients, losses, moments) are f32 by the op's `infer`. `None` if the op
    /// takes no operand in that dtype.
    pub fn with_activations(&self, dtype: DType) -> Option<Self> {
        let real: Vec<usize> = (0..self.types.len()).filter(|&i| self.types[i].dtype == DType::F32).collect();
        let chosen = |set: u32| real.iter().enumerate().filter(move |(bit, _)| set >> bit & 1 == 1).map(|(_, &i)| i);
        let fits = |set: u32| {
            let mut types = self.types.clone();
            chosen(set).for_each(|index| types[index].dtype = dtype);
            self.op.infer(&types.iter().collect::<Vec<_>>()).is_ok()
        };
        let set = (1..1u32 << real.len()).filter(|&set| fits(set)).max_by_key(|set| set.count_ones())?;
        Some(chosen(set).fold(self.clone(), |sample, index| sample.in_dtype(index, dtype)))
    }

    /// Adds an i32 operand with these values.
    pub fn i32(self, shape: impl Into<Shape>, data: Vec<i32>) -> Self {
        self.push(DType::I32, shape.into(), data.into_iter().map(f64::from).collect())
    }

    /// Adds a u8 operand with these values.
    pub fn u8(self, values: Array) -> Self {
        self.push(DType::U8, values.shape, values.data)
    }

    /// Adds an operand of another sample.
    pub fn operand(self, of: &Sample, index: usize) -> Self {
        let ty = of.types[index].clone();
        self.push(ty.dtype, ty.shape, of.inputs[index].data.clone())
    }

    /// Adds an i32 operand of numbers below `bound`.
    pub fn ids(self, shape: impl Into<Shape>, bound: u32) -> Self {
        let shape = shape.into();
        let philox = self.philox();
        let data = (0..shape.numel() as u64).map(|i| (philox.word(i) % bound) as i32).collect();
        self.i32(shape, data)
    }

    /// Adds the generator key operand of the random ops, `u32[4]`.
    pub fn rng(self) -> Self {
        self.push(DType::U32, Shape::from([4]), vec![7.0, 1.0, 3.0, 2.0])
    }

    /// Adds an earlier result, rounded to f32: for samples of gradient ops, whose residuals must fit their operands.
    pub fn array(self, array: &Array) -> Self {
        self.f32(array.shape.clone(), array.data.clone())
    }
}
