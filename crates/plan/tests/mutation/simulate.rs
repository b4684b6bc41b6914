//! What a plan computes, by walking its steps: places hold arrays, and what is written over is gone.
//!
//! Method: the naive twin of an executor. Steps run one after another in some order that queues and waits allow. A write to
//! a slot wipes every buffer that shares a byte with it, a workspace likewise; reading what was wiped or never written is the
//! fault that the checker must have found.

use super::Draw;
use remat_ir::{Array, Graph, Interpreter, OpDef, Storage, ValueId};
use remat_plan::{Action, Place, Plan, Queue, Slot, Step, Tier};
use remat_tensor::DType;
use std::collections::HashMap;

/// Outputs, then states as they end, by name: of a graph, in f64.
pub(super) fn reference(graph: &Graph) -> Vec<(String, Array)> {
    let values = Interpreter::exact().run(graph, &sources(graph)).expect("all sources are given");
    let outputs = graph.outputs.iter().map(|&id| (graph.value(id).name.clone(), values[id.index()].clone()));
    let mut last: HashMap<ValueId, ValueId> = HashMap::new();
    for id in graph.value_ids().filter(|&id| graph.value(id).storage == Storage::State) {
        let latest = last.entry(graph.storage_root(id)).or_insert(id);
        *latest = id.max(*latest);
    }
    let states = last.iter().map(|(root, last)| (graph.value(*root).name.clone(), values[last.index()].clone()));
    let mut states: Vec<(String, Array)> = states.collect();
    states.sort_by(|a, b| a.0.cmp(&b.0));
    outputs.chain(states).collect()
}

/// Small numbers that every op can take: token ids among them.
fn sources(graph: &Graph) -> HashMap<String, Array> {
    let sources = graph.values.iter().filter(|value| value.producer.is_none());
    let array = |value: &remat_ir::Value| {
        let salt = value.name.bytes().fold(7usize, |sum, byte| (sum * 31 + usize::from(byte)) % 1009);
        let element = |i: usize| match value.ty.dtype {
            DType::I32 | DType::U32 => ((i * 7 + salt) % 5) as f64,
            _ => ((i * 31 + salt) % 17) as f64 / 8.0 - 1.0,
        };
        Array::new(value.ty.shape.clone(), (0..value.ty.shape.numel()).map(element).collect())
    };
    sources.map(|value| (value.name.clone(), array(value))).collect()
}

struct Machine<'a> {
    plan: &'a Plan,
    sources: HashMap<String, Array>,
    buffers: Vec<Option<Array>>,
    states: HashMap<ValueId, Array>,
    away: HashMap<(ValueId, Tier), Array>,
}

/// As [`reference`], of a plan that the checker accepts.
///
/// # Errors
/// The first step that reads what is not there.
pub(super) fn simulate(plan: &Plan, draw: &mut Draw<'_>) -> Result<Vec<(String, Array)>, String> {
    let (graph, sources) = (&plan.graph, sources(&plan.graph));
    let mut machine = Machine {
        plan,
        sources,
        buffers: vec![None; plan.buffers.len()],
        states: HashMap::new(),
        away: HashMap::new(),
    };
    let mut done = vec![false; plan.steps.len()];
    for _ in 0..plan.steps.len() {
        // The first step of each queue that has not run, if it waits for nothing.
        let first = |queue| (0..plan.steps.len()).find(|&at| !done[at] && plan.steps[at].queue == queue);
        let may =
            |at: &usize| plan.steps[*at].waits.iter().all(|on| done[on.index()] && plan.steps[on.index()].signals);
        let ready: Vec<usize> = Queue::ALL.into_iter().filter_map(first).filter(may).collect();
        if ready.is_empty() {
            return Err("every queue waits".to_string());
        }
        let at = ready[draw.below(ready.len())];
        machine.step(&plan.steps[at]).map_err(|error| format!("step {at} {error}"))?;
        done[at] = true;
    }
    let mut results = Vec::new();
    for &output in &graph.outputs {
        let name = graph.value(output).name.clone();
        let array = match graph.value(output).storage {
            Storage::Arena => {
                machine.buffers[plan.buffers.iter().rposition(|b| b.value == output).expect("checked")].clone()
            }
            _ => machine.states.get(&graph.storage_root(output)).or_else(|| machine.sources.get(&name)).cloned(),
        };
        results.push((name.clone(), array.ok_or_else(|| format!("output {name} is gone"))?));
    }
    let is_state = |id: &ValueId| graph.value(*id).storage == Storage::State && graph.storage_root(*id) == *id;
    let mut states: Vec<(String, Array)> =
        graph.value_ids().filter(is_state).map(|id| (graph.value(id).name.clone(), machine.state(id))).collect();
    states.sort_by(|a, b| a.0.cmp(&b.0));
    results.extend(states);
    Ok(results)
}

impl Machine<'_> {
    fn state(&self, root: ValueId) -> Array {
        let name = &self.plan.graph.value(root).name;
        self.states.get(&root).unwrap_or_else(|| &self.sources[name]).clone()
    }

    fn read(&self, place: &Place) -> Result<Array, String> {
        match *place {
            Place::Arena(id) => {
                self.buffers[id.index()].clone().ok_or_else(|| format!("reads b{}, which is gone", id.0))
            }
            Place::State(root) | Place::Spilled(root) => Ok(self.state(root)),
            Place::Weight(weight) => Ok(self.sources[&self.plan.graph.value(weight.value).name].clone()),
            Place::Input(id) => Ok(self.sources[&self.plan.graph.value(id).name].clone()),
        }
    }

    /// A weight or a state; where only looked-up rows come, all others are NaN.
    fn fetched(&self, value: ValueId, rows: Option<ValueId>, reads: &[Array]) -> Array {
        let mut array = self.state(value);
        if rows.is_some() {
            let fetched: Vec<usize> = reads[0].data.iter().map(|&id| id as usize).collect();
            for row in (0..array.rows()).filter(|row| !fetched.contains(row)) {
                array.row_mut(row).fill(f64::NAN);
            }
        }
        array
    }

    fn wipe(&mut self, slot: Slot) {
        for (held, buffer) in self.buffers.iter_mut().zip(&self.plan.buffers) {
            if buffer.slot.overlaps(slot) {
                *held = None;
            }
        }
    }

    fn write(&mut self, place: &Place, array: Array) {
        match *place {
            Place::Arena(id) => {
                self.wipe(self.plan.buffers[id.index()].slot);
                self.buffers[id.index()] = Some(array);
            }
            Place::State(root) | Place::Spilled(root) => drop(self.states.insert(root, array)),
            Place::Weight(_) | Place::Input(_) => unreachable!("the checker refuses it"),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let reads: Vec<Array> = step.reads.iter().map(|place| self.read(place)).collect::<Result<_, _>>()?;
        let results = match step.action {
            Action::Compute(op) => {
                let node = self.plan.graph.node(op);
                let (_, types) = self.plan.graph.node_types(node);
                node.op.eval(&reads.iter().collect::<Vec<_>>(), &types)
            }
            Action::Evict { value, .. } if self.plan.graph.value(value).storage == Storage::State => {
                self.states.insert(value, reads[0].clone());
                Vec::new()
            }
            Action::Evict { value, tier } => {
                self.away.insert((value, tier), reads[0].clone());
                Vec::new()
            }
            Action::Fetch { value, rows, .. } if self.plan.graph.value(value).storage != Storage::Arena => {
                vec![self.fetched(value, rows, &reads)]
            }
            Action::Fetch { value, tier, .. } => {
                vec![self.away.get(&(value, tier)).ok_or("fetches what is not there")?.clone()]
            }
        };
        // A kernel may use its workspace until it has written its last result, and read its operands until then.
        for (place, array) in step.writes.iter().zip(results) {
            self.write(place, array);
        }
        if let Some(slot) = step.workspace {
            self.wipe(slot);
        }
        Ok(())
    }
}
