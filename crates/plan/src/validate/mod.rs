//! Validation of a run: recomputed values against the first computation, and every value against its definition.
//!
//! The first is exact: a value that is computed again must have the same bits, so each is hashed when it is made. The
//! second holds each result, in the arena or in a state, to the naive f64 `eval` of its op on what the device itself made
//! of the operands, as they were when they were made: so roundings of earlier ops are no part of a difference, and bytes
//! that change between a value and its reader are. `bound` says how much may differ. Invariant: the run that is validated
//! is an ordinary run; nothing but time and memory tells the difference.

mod bound;

use crate::{Action, Device, DeviceError, Observer, Place, Plan, ProgramId, StepId, StepMemory};
use bound::{Bound, Operand};
use remat_ir::{Array, Graph, Node, Op, OpDef, OpId, Phase, Storage, ValueId};
use remat_tensor::HostTensor;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Work above which the definition would take minutes: FLOPs of the whole graph.
const MOST_REFERENCE_FLOPS: f64 = 5e8;

/// What a validation compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Validation {
    /// Recomputed values whose bits were compared with the first computation's.
    pub replayed_values: usize,
    /// Values compared with their definition; 0 where the step is too large for it.
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
}

/// Whether definitions can follow a graph: small enough, without weights or states in blocks, and without other ranks.
pub fn has_reference(graph: &Graph) -> bool {
    let flops = |node: &Node| {
        let (inputs, outputs) = graph.node_types(node);
        node.op.cost(&inputs, &outputs).flops
    };
    let in_blocks = graph.values.iter().any(|value| value.ty.dtype.quant_format().is_some());
    let alone = graph.nodes.iter().all(|node| node.op.collective().is_none());
    alone && !in_blocks && graph.nodes.iter().map(flops).sum::<f64>() <= MOST_REFERENCE_FLOPS
}

/// Runs a program once on the present inputs and compares every recomputed value, bit by bit, with what the forward made;
/// and, `against_reference` and where there is one, every value with its definition.
///
/// # Errors
/// The first value that differs; a run that fails.
pub fn validate(
    device: &mut dyn Device,
    program: ProgramId,
    against_reference: bool,
) -> Result<Validation, ValidationError> {
    let graph = &device.plan(program).graph.clone();
    let reference = match against_reference && has_reference(graph) {
        true => Some(Reference::new(graph, sources(device, graph)?)),
        false => None,
    };
    let mut watch = Watch { reference, ..Watch::default() };
    device.observe(program, &mut watch)?;
    // What was written into states, as the whole run leaves it.
    let states = watch.reference.as_mut().map(|reference| std::mem::take(&mut reference.states)).unwrap_or_default();
    for (root, expected) in states {
        let value = expected.value;
        let bytes: Vec<u8> = device.read_all(device.known(Storage::State, &graph.value(root).name)?)?;
        let Some(got) = array(graph, value, &bytes) else { continue };
        watch.compare(graph, value, &got, &expected.want, &expected.bound);
    }
    match watch.fault {
        Some(fault) => Err(ValidationError::Differs(fault)),
        None => Ok(Validation { replayed_values: watch.replayed, reference_values: watch.compared }),
    }
}

/// What the program reads, as definitions take it.
fn sources(device: &dyn Device, graph: &Graph) -> Result<HashMap<ValueId, Array>, ValidationError> {
    let mut sources = HashMap::new();
    for (index, value) in graph.values.iter().enumerate().filter(|(_, value)| value.producer.is_none()) {
        let bytes: Vec<u8> = device.read_all(device.known(value.storage, &value.name)?)?;
        let id = ValueId(index as u32);
        let array = array(graph, id, &bytes);
        let array = array.ok_or_else(|| ValidationError::Differs(format!("\"{}\" has odd bytes", value.name)))?;
        sources.insert(id, array);
    }
    Ok(sources)
}

/// A value's bytes as numbers.
fn array(graph: &Graph, value: ValueId, bytes: &[u8]) -> Option<Array> {
    let ty = graph.ty(value);
    HostTensor::from_le_bytes(ty.shape.clone(), ty.dtype, bytes).map(|tensor| Array::from_host(&tensor))
}

/// What a state has to be when the run has ended.
struct Expected {
    /// The last value that it takes on.
    value: ValueId,
    want: Array,
    bound: Bound,
}

/// What definitions are evaluated on: the device's own values, for as long as somebody reads them.
struct Reference {
    values: HashMap<ValueId, Array>,
    /// Readers of each value that have not run yet.
    readers: Vec<usize>,
    /// By the state that is written. Its bytes are seen at the end only: what reads it before takes the definition's
    /// value, and what that may be off by is part of the reader's bound.
    states: HashMap<ValueId, Expected>,
}

impl Reference {
    fn new(graph: &Graph, values: HashMap<ValueId, Array>) -> Self {
        let readers = graph.users().counts().collect();
        Reference { values, readers, states: HashMap::new() }
    }

    /// The results of a node by definition, on the device's operands, each with what it may be off by.
    fn expected(&self, graph: &Graph, node: &Node, got: &[Option<Array>]) -> Vec<(Array, Bound)> {
        let operand = |id: &ValueId| Operand { values: &self.values[id], dtype: graph.ty(*id).dtype };
        let operands: Vec<Operand<'_>> = node.inputs.iter().map(operand).collect();
        let (_, types) = graph.node_types(node);
        let eval = |inputs: &[&Array]| node.op.eval(inputs, &types);
        let expected = bound::expected(&operands, &types, &eval, got);
        // A state that was written in this run is known as well as its own bound says.
        let read = self.states.values().filter(|state| node.inputs.contains(&state.value));
        let slack: f64 = read.map(|state| state.bound.whole()).sum();
        expected.into_iter().map(|(want, bound)| (want, bound.with_slack(slack))).collect()
    }

    /// Takes what a node made, and lets go of what nobody reads any more.
    fn made(&mut self, node: &Node, results: Vec<Array>) {
        for (&id, result) in node.outputs.iter().zip(results) {
            if self.readers[id.index()] > 0 {
                self.values.insert(id, result);
            }
        }
        for (at, id) in node.inputs.iter().enumerate() {
            // An op that reads a value twice is one reader.
            if node.inputs[..at].contains(id) {
                continue;
            }
            let left = &mut self.readers[id.index()];
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.values.remove(id);
            }
        }
    }
}

/// Looks at every result as it is made.
#[derive(Default)]
struct Watch {
    /// Hashes of the forward's values.
    made: HashMap<ValueId, u64>,
    reference: Option<Reference>,
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
        let (graph, node) = (&plan.graph, plan.graph.node(op));
        let mut got = Vec::with_capacity(node.outputs.len());
        for (index, (&value, place)) in node.outputs.iter().zip(&step.writes).enumerate() {
            let Place::Arena(_) = place else {
                got.push(None);
                continue;
            };
            let mut bytes = std::mem::take(&mut self.buffer);
            bytes.resize(graph.ty(value).bytes(), 0);
            memory.read(place, 0, &mut bytes);
            self.replay(graph, op, index, value, &bytes);
            got.push(self.reference.as_ref().and_then(|_| array(graph, value, &bytes)));
            self.buffer = bytes;
        }
        self.hold(graph, node, &step.writes, got);
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

    /// Against the definition.
    fn hold(&mut self, graph: &Graph, node: &Node, places: &[Place], got: Vec<Option<Array>>) {
        let Some(mut reference) = self.reference.take() else { return };
        let expected = reference.expected(graph, node, &got);
        let mut results = Vec::with_capacity(got.len());
        for (((&value, place), got), (want, bound)) in node.outputs.iter().zip(places).zip(got).zip(expected) {
            if let Some(got) = &got {
                self.compare(graph, value, got, &want, &bound);
            }
            if let Place::State(root) | Place::Spilled(root) = place {
                reference.states.insert(*root, Expected { value, want: want.clone(), bound });
            }
            results.push(got.unwrap_or(want));
        }
        reference.made(node, results);
        self.reference = Some(reference);
    }

    fn compare(&mut self, graph: &Graph, value: ValueId, got: &Array, want: &Array, bound: &Bound) {
        if !graph.ty(value).dtype.is_float() {
            return;
        }
        self.compared += 1;
        if let Some(difference) = bound.exceeded(got, want) {
            let name = &graph.value(value).name;
            self.report(graph, value, format!("\"{name}\" differs from its definition {difference}"));
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
