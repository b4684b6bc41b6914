//! One case: its graph, its runs and the comparison with what PyTorch has recorded.
//!
//! Invariant: a cotangent enters backward as it is in the file, whatever ops the library has: the loss is an op of the
//! test's own, Σ y·dy, whose derivative is dy itself.

use remat::{
    Array, CheckpointPolicy, CustomCall, CustomKernel, CustomOp, DType, Error, Graph, IrError, Options, Step, Tensor,
    Type, ValueId, Vjp, bf16,
};
use remat_formats::SafetensorsFile;
use remat_tensor::HostTensor;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// What a case's graph is made by: from its operands to its results.
type Build<'a> = dyn Fn(&mut Graph, &str, &[Tensor]) -> Result<Vec<Tensor>, Error> + 'a;

/// Goes through all cases of a family. `build` is given a case's name without the ending of its dtype.
pub fn check(family: &str, build: impl Fn(&mut Graph, &str, &[Tensor]) -> Result<Vec<Tensor>, Error>) {
    let path = format!("{}/../../fixtures/library/{family}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let file = SafetensorsFile::open(Path::new(&path)).expect("a fixture");
    let names: BTreeSet<String> =
        file.names().map(|name| name.split_once('/').expect("CASE/TENSOR").0.to_string()).collect();
    assert!(!names.is_empty(), "{path} has no cases");
    for name in names {
        let case = Case { file: &file, name };
        let plain = case.run(&build, CheckpointPolicy::none(), 1);
        case.compare(&plain);
        let again = case.run(&build, CheckpointPolicy::full(), 3);
        let bits = |all: &[(String, Vec<f32>)]| -> Vec<Vec<u32>> {
            all.iter().map(|(_, values)| values.iter().map(|x| x.to_bits()).collect()).collect()
        };
        assert_eq!(bits(&plain), bits(&again), "{family}/{}: other bits with recomputation or threads", case.name);
    }
}

struct Case<'a> {
    file: &'a SafetensorsFile,
    name: String,
}

impl Case<'_> {
    fn tensor(&self, which: &str) -> HostTensor {
        self.file.read(&format!("{}/{which}", self.name)).expect("a tensor of the file")
    }

    /// The tensors of a kind, with their numbers, which may have gaps.
    fn numbers(&self, kind: &str) -> Vec<usize> {
        let prefix = format!("{}/{kind}", self.name);
        let mut numbers: Vec<usize> =
            self.file.names().filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Results and gradients by their names in the file.
    fn run(&self, build: &Build<'_>, policy: CheckpointPolicy, threads: usize) -> Vec<(String, Vec<f32>)> {
        let mut g = Graph::new();
        let xs: Vec<Tensor> = self.numbers("x").iter().map(|index| self.input(&mut g, &format!("x{index}"))).collect();
        let case = self.name.strip_suffix(".bf16").unwrap_or(&self.name);
        let ys = g.checkpoint("case", |g| build(g, case, &xs));
        let ys = ys.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert_eq!(ys.len(), self.numbers("y").len(), "{}: number of results", self.name);
        let mut loss = None;
        for index in self.numbers("dy") {
            let dy = self.input(&mut g, &format!("dy{index}"));
            let made = g.custom(&(Arc::new(Probe) as Arc<dyn CustomOp>), "", &[ys[index], dy]).expect("of one type")[0];
            loss = Some(loss.map_or(made, |loss| g.add(loss, made).expect("two numbers")));
        }
        // What a region makes last is kept: another one behind it lets the first be computed again.
        let loss = loss.map(|loss| g.checkpoint("end", |g| g.scale(loss, 1.0)).expect("a number"));
        let mut names = Vec::new();
        for (index, &y) in ys.iter().enumerate() {
            g.output(y).expect("its own");
            let wanted = self.tensor(&format!("y{index}"));
            assert_eq!(&g.ty(y).expect("its own").shape, wanted.shape(), "{}: shape of y{index}", self.name);
            names.push((format!("y{index}"), g.name(y).expect("its own").to_string()));
        }
        let wanted: Vec<Tensor> = self.numbers("dx").iter().map(|&index| xs[index]).collect();
        let options = Options::new().policy(policy).threads(threads).poison(true).kernel("probe", ProbeKernel);
        let step = match loss {
            Some(loss) => g.compile(loss, options.gradients_of(wanted)),
            None => g.compile_forward(options),
        };
        let mut step = step.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        self.fill(&mut step);
        if loss.is_some() { step.run().map(|_| ()) } else { step.run_forward() }.expect("runs");
        let mut read: Vec<(String, Vec<f32>)> =
            names.into_iter().map(|(y, value)| (y, numbers_of(&step, &value))).collect();
        for index in self.numbers("dx") {
            read.push((format!("dx{index}"), step.gradient(&format!("x{index}")).expect("it was wanted")));
        }
        read
    }

    fn input(&self, g: &mut Graph, name: &str) -> Tensor {
        let tensor = self.tensor(name);
        g.input(name, tensor.dtype(), tensor.shape().dims()).expect("a new name")
    }

    fn fill(&self, step: &mut Step) {
        let numbered = ["x", "dy"].map(|kind| self.numbers(kind).into_iter().map(move |i| format!("{kind}{i}")));
        for name in numbered.into_iter().flatten() {
            let tensor = self.tensor(&name);
            let values = tensor.to_f64();
            let written = match tensor.dtype() {
                DType::I32 => step.set_input(&name, &values.iter().map(|&x| x as i32).collect::<Vec<_>>()),
                DType::BF16 => step.set_input(&name, &values.iter().map(|&x| bf16::from_f64(x)).collect::<Vec<_>>()),
                _ => step.set_input(&name, &values.iter().map(|&x| x as f32).collect::<Vec<_>>()),
            };
            // An operand that no gradient needs may be an input of nothing.
            assert!(matches!(written, Ok(()) | Err(Error::UnknownName { .. })), "{}: {written:?}", self.name);
        }
    }

    /// Within 1e-6 of the largest element, and in bf16 within as many roundings as the file says: one moves an element by at
    /// most 2^-8 of itself; where there are more, of the largest.
    fn compare(&self, read: &[(String, Vec<f32>)]) {
        let lines = self.file.metadata().get("roundings").map_or("", String::as_str).lines();
        let of_case = lines.filter_map(|line| line.split_once(' ')).find(|(case, _)| *case == self.name);
        let roundings = of_case.map_or(1, |(_, number)| number.parse().expect("a number"));
        for (name, got) in read {
            let want = self.tensor(name).to_f64();
            assert_eq!(got.len(), want.len(), "{}/{name}: number of elements", self.name);
            let largest = want.iter().fold(0.0f64, |most, x| most.max(x.abs()));
            for (at, (&got, &want)) in got.iter().zip(&want).enumerate() {
                let rounding = match (self.name.ends_with(".bf16"), roundings) {
                    (false, _) => 0.0,
                    (true, 1) => want.abs() / 256.0,
                    (true, more) => f64::from(more) * largest / 256.0,
                };
                let (off, bound) = ((f64::from(got) - want).abs(), 1e-6 * largest + rounding);
                assert!(off <= bound, "{}/{name}[{at}] is {got}, not {want} (off {off:e} of {bound:e})", self.name);
            }
        }
    }
}

/// An output, integers widened as real numbers are.
fn numbers_of(step: &Step, name: &str) -> Vec<f32> {
    match step.output_of::<i32>(name) {
        Ok(integers) => integers.into_iter().map(|x| x as f32).collect(),
        Err(_) => step.output(name).expect("an output"),
    }
}

/// Σ y·dy in f32, with dy for the derivative: the cotangent of the loss is 1.
struct Probe;

impl CustomOp for Probe {
    fn name(&self) -> &str {
        "probe"
    }
    fn infer(&self, _attributes: &str, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        match inputs {
            [y, dy] if y == dy => Ok(vec![Type::new(DType::F32, [1])]),
            _ => Err(format!("expects a result and its cotangent, not {inputs:?}")),
        }
    }
    fn vjp(&self, _attributes: &str, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Ok(vec![Some(cx.inputs[1]), None])
    }
    fn eval(&self, _attributes: &str, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![Array::new([1], vec![inputs[0].zip(inputs[1], |y, dy| y * dy).data.iter().sum()])]
    }
}

struct ProbeKernel;

impl CustomKernel for ProbeKernel {
    fn run(&self, mut call: CustomCall<'_>) -> Result<(), String> {
        let floats = |index: usize| -> Vec<f32> {
            let operand = call.input(index);
            match operand.ty.dtype {
                DType::BF16 => bytemuck::cast_slice::<u8, bf16>(operand.bytes).iter().map(|x| x.to_f32()).collect(),
                _ => bytemuck::cast_slice::<u8, f32>(operand.bytes).to_vec(),
            }
        };
        let sum: f64 = floats(0).iter().zip(floats(1)).map(|(&y, dy)| f64::from(y) * f64::from(dy)).sum();
        bytemuck::cast_slice_mut::<u8, f32>(call.output(0).bytes)[0] = sum as f32;
        Ok(())
    }
}
