//! Validation of a run: recomputed values against the first computation, and every value against the interpreter.
//!
//! The first is exact: a value that is computed again must have the same bits, so each is hashed when it is made. The
//! second holds every result, in the arena or in a state, to the naive f64 evaluation of the same graph, each result
//! rounded to its dtype, within a bound on the norm of the difference. Invariant: the run that is validated is an ordinary
//! run; nothing but time and memory tells the difference. Look next at `remat_ir::Interpreter` for the definition.

use crate::{Action, Device, DeviceError, Observer, Place, Plan, ProgramId, StepId, StepMemory};
use remat_ir::{Array, Graph, Interpreter, IrError, Op, OpDef, OpId, Phase, Rounding, Storage, ValueId};
use remat_tensor::{DType, HostTensor};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Work above which the interpreter would take minutes: FLOPs of the whole graph.
const MOST_REFERENCE_FLOPS: f64 = 5e8;

/// What a validation compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Validation {
    /// Recomputed values whose bits were compared with the first computation's.
    pub replayed_values: usize,
    /// Values compared with the interpreter; 0 where the step is too large for it.
    pub reference_values: usize,
}

/// Why a validation ended without one.
#[derive(Debug, thiserror::Error)]
pub enum ValidationError {
    /// A value that differs, by name, op and layer.
    #[error("{0}")]
    Differs(String),
    /// The run itself failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The interpreter refused the graph.
    #[error(transparent)]
    Interpreter(#[from] IrError),
}

/// Whether the interpreter can follow a graph: small enough, and without weights or states in blocks.
pub fn has_reference(graph: &Graph) -> bool {
    let flops = |node: &remat_ir::Node| {
        let (inputs, outputs) = graph.node_types(node);
        node.op.cost(&inputs, &outputs).flops
    };
    let in_blocks = graph.values.iter().any(|value| value.ty.dtype.quant_format().is_some());
    !in_blocks && graph.nodes.iter().map(flops).sum::<f64>() <= MOST_REFERENCE_FLOPS
}

/// Runs a program once on the present inputs and compares every recomputed value, bit by bit, with what the forward made;
/// and, `against_reference` and where there is one, every value with the interpreter.
///
/// # Errors
/// The first value that differs; a run that fails.
pub fn validate(
    device: &mut dyn Device,
    program: ProgramId,
    against_reference: bool,
) -> Result<Validation, ValidationError> {
    let graph = &device.plan(program).graph.clone();
    let reference = if against_reference && has_reference(graph) {
        Some(Interpreter { rounding: Rounding::ToDtype }.run(graph, &sources(device, graph)?)?)
    } else {
        None
    };
    let mut watch = Watch { reference, ..Watch::default() };
    device.observe(program, &mut watch)?;
    // What was written into states, as the whole run leaves it.
    for (root, value) in std::mem::take(&mut watch.states) {
        let state = device.known(Storage::State, &graph.value(root).name)?;
        watch.compare(graph, value, &device.read_all::<u8>(state)?);
    }
    match watch.fault {
        Some(fault) => Err(ValidationError::Differs(fault)),
        None => Ok(Validation { replayed_values: watch.replayed, reference_values: watch.compared }),
    }
}

/// What the program reads, as the interpreter takes it.
fn sources(device: &dyn Device, graph: &Graph) -> Result<HashMap<String, Array>, ValidationError> {
    let mut sources = HashMap::new();
    for value in graph.values.iter().filter(|value| value.producer.is_none()) {
        let bytes: Vec<u8> = device.read_all(device.known(value.storage, &value.name)?)?;
        let tensor = HostTensor::from_le_bytes(value.ty.shape.clone(), value.ty.dtype, &bytes);
        let tensor = tensor.ok_or_else(|| ValidationError::Differs(format!("\"{}\" has odd bytes", value.name)))?;
        sources.insert(value.name.clone(), Array::from_host(&tensor));
    }
    Ok(sources)
}

/// Looks at every result as it is made.
#[derive(Default)]
struct Watch {
    /// Hashes of the forward's values.
    made: HashMap<ValueId, u64>,
    /// The last value that a state takes on, by the state.
    states: HashMap<ValueId, ValueId>,
    reference: Option<Vec<Array>>,
    replayed: usize,
    compared: usize,
    fault: Option<String>,
    /// The value that is looked at.
    buffer: Vec<u8>,
}

impl Observer for Watch {
    fn after_step(&mut self, plan: &Plan, id: StepId, memory: &dyn StepMemory) {
        let step = &plan.steps[id.index()];
        let Action::Compute(op) = step.action else { return };
        let node = plan.graph.node(op);
        for (index, (&value, place)) in node.outputs.iter().zip(&step.writes).enumerate() {
            match place {
                Place::Arena(_) => {
                    let mut bytes = std::mem::take(&mut self.buffer);
                    bytes.resize(plan.graph.ty(value).bytes(), 0);
                    memory.read(place, 0, &mut bytes);
                    self.replay(&plan.graph, op, index, value, &bytes);
                    self.compare(&plan.graph, value, &bytes);
                    self.buffer = bytes;
                }
                Place::State(root) => drop(self.states.insert(*root, value)),
                Place::Weight(_) | Place::Input(_) => {}
            }
        }
    }
}

impl Watch {
    /// Against the value that is repeated.
    fn replay(&mut self, graph: &Graph, op: OpId, index: usize, value: ValueId, bytes: &[u8]) {
        let node = graph.node(op);
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let hash = hasher.finish();
        let Some(origin) = node.recompute_of else {
            if node.phase == Phase::Forward {
                self.made.insert(value, hash);
            }
            return;
        };
        let first = graph.node(origin).outputs[index];
        // A tile of what ran in one piece, or the other way round, has no bits to compare with.
        if graph.ty(first) != graph.ty(value) {
            return;
        }
        self.replayed += 1;
        if self.made.get(&first) != Some(&hash) {
            let name = &graph.value(first).name;
            let problem =
                "was computed again with other bits than in the forward; an op that is not deterministic must say so";
            self.report(graph, first, format!("\"{name}\" {problem}"));
        }
    }

    /// Against the interpreter.
    fn compare(&mut self, graph: &Graph, value: ValueId, bytes: &[u8]) {
        let Some(reference) = &self.reference else { return };
        let ty = graph.ty(value);
        if !ty.dtype.is_float() {
            return;
        }
        let Some(tensor) = HostTensor::from_le_bytes(ty.shape.clone(), ty.dtype, bytes) else { return };
        let (got, want) = (tensor.to_f64(), &reference[value.index()].data);
        let norm = |x: &mut dyn Iterator<Item = f64>| x.fold(0.0, |sum: f64, x| sum + x * x).sqrt();
        let difference = norm(&mut got.iter().zip(want).map(|(a, b)| a - b));
        let size = norm(&mut want.iter().copied());
        // Roundings of all ops before this one add up; a wrong op is off by the order of the value itself.
        let bound = if graph.values.iter().any(|v| v.ty.dtype == DType::BF16) { 0.1 } else { 1e-3 };
        self.compared += 1;
        // NaN is a difference, too.
        if difference.is_nan() || difference > bound * size + 1e-6 {
            let name = &graph.value(value).name;
            let message = format!("\"{name}\" differs from the reference by {difference:.3e} in norm, of {size:.3e}");
            self.report(graph, value, message);
        }
    }

    /// Keeps the first difference, with the op and the layer that it is of.
    fn report(&mut self, graph: &Graph, value: ValueId, message: String) {
        let node = graph.value(value).producer.map(|(op, _)| graph.node(op));
        let op = node.map_or("source", |node| node.op.name());
        let custom = node.and_then(|node| if let Op::Custom(op) = &node.op { Some(op.custom_name()) } else { None });
        let layer = graph.outermost_region(node.and_then(|node| node.region));
        let layer = layer.map_or(String::new(), |id| format!(" in {}", graph.regions[id.index()].name));
        let op = custom.map_or(op.to_string(), |name| format!("{op} \"{name}\""));
        self.fault.get_or_insert(format!("{message} ({op}{layer})"));
    }
}
