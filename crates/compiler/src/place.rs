//! Placement: every arena value and workspace gets an offset, so that the arena is as small as the order allows.
//!
//! Method: lifetimes from the order; values that an op may overwrite in place share one allocation with their operand;
//! then greedy first fit over allocations sorted by size (Pisarchyk and Lee, *Efficient memory management for deep neural
//! net inference*, 2020), tried with several sort keys, the smallest arena wins. An allocation meets those that live when it
//! does: few for most, so the cost is far from the worst case, O(n²) in allocations.

use remat_ir::{Graph, Node, OpDef, OpId, Storage, ValueId};
use remat_plan::{Action, Buffer, BufferId, DeviceProfile, Place, Plan, Policy, Queue, Slot, Step, StepId, Tier};
use remat_plan::{WeightLayout, WeightOperand};
use std::cmp::Reverse;
use std::ops::RangeInclusive;

/// Where an offloaded value lives: until a node, and again from a later one on. Both in nodes of the graph's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Residence {
    /// The last node of its first stay.
    pub until: u32,
    /// The first node of its second.
    pub from: u32,
}

/// Assigns slots and writes the plan down: one compute step per node, in the graph's order.
pub fn place(graph: Graph, policy: &Policy, profile: &DeviceProfile) -> Plan {
    place_apart(graph, policy, profile, &[])
}

/// As [`place`], with two buffers for each value of `apart`: the second ones stand behind all first ones, in the order of
/// `apart`. The steps that copy are not there yet.
pub(crate) fn place_apart(
    graph: Graph,
    policy: &Policy,
    profile: &DeviceProfile,
    apart: &[(ValueId, Residence)],
) -> Plan {
    let last_use = last_use(&graph);
    let mut first_end = last_use.clone();
    apart.iter().for_each(|(value, residence)| first_end[value.index()] = residence.until);
    let mut allocations = allocations(&graph, &last_use, &first_end, profile);
    let second_from = allocations.list.len();
    for (value, residence) in apart {
        let (bytes, last) = (graph.ty(*value).bytes(), last_use[value.index()]);
        allocations.list.push(Allocation { bytes, first: residence.from, last });
    }
    let offsets = best_fit(&allocations.list, profile.rules.slot_alignment_bytes);
    let mut buffers = Vec::new();
    let mut buffer_of = vec![None; graph.values.len()];
    for (index, value) in graph.values.iter().enumerate() {
        let (Some(allocation), Some((producer, _))) = (allocations.of_value[index], value.producer) else { continue };
        buffer_of[index] = Some(BufferId(buffers.len() as u32));
        buffers.push(Buffer {
            value: ValueId(index as u32),
            slot: Slot { offset: offsets[allocation], bytes: value.ty.bytes() },
            first: StepId(producer.0),
            last: StepId(first_end[index]),
        });
    }
    let mut second_of = vec![None; graph.values.len()];
    for (index, (value, residence)) in apart.iter().enumerate() {
        second_of[value.index()] = Some((residence.from, BufferId(buffers.len() as u32)));
        buffers.push(Buffer {
            value: *value,
            slot: Slot { offset: offsets[second_from + index], bytes: graph.ty(*value).bytes() },
            first: StepId(residence.from),
            last: StepId(last_use[value.index()]),
        });
    }
    let steps = graph
        .nodes_with_ids()
        .map(|(id, node)| {
            let buffer_at = |value: ValueId| match second_of[value.index()] {
                Some((from, second)) if id.0 >= from => Some(second),
                _ => buffer_of[value.index()],
            };
            step(&graph, profile, id, node, &buffer_at, allocations.workspace[id.index()].map(|a| offsets[a]))
        })
        .collect();
    let ends = allocations.list.iter().zip(&offsets).map(|(allocation, offset)| offset + allocation.bytes);
    let arena_bytes = ends.max().unwrap_or(0);
    Plan { graph, steps, buffers, arena_bytes, policy: policy.clone(), rules: profile.rules }
}

fn step(
    graph: &Graph,
    profile: &DeviceProfile,
    id: OpId,
    node: &Node,
    buffer_at: &dyn Fn(ValueId) -> Option<BufferId>,
    workspace: Option<usize>,
) -> Step {
    let place = |&value: &ValueId| match graph.value(value).storage {
        Storage::Input => Place::Input(value),
        Storage::Weight => Place::Weight(WeightOperand { value, tier: Tier::Resident, layout: WeightLayout::RowMajor }),
        Storage::State => Place::State(graph.storage_root(value)),
        Storage::Arena => Place::Arena(buffer_at(value).expect("every arena value has a buffer")),
    };
    Step {
        action: Action::Compute(id),
        queue: Queue::Compute,
        reads: node.inputs.iter().map(place).collect(),
        writes: node.outputs.iter().map(place).collect(),
        workspace: workspace
            .map(|offset| Slot { offset, bytes: profile.rules.workspace_bytes(&node.op, &graph.node_types(node).0) }),
        waits: Vec::new(),
        signals: false,
    }
}

/// For each value, the index of the last node that reads it; its producer if none does; the end for an output.
fn last_use(graph: &Graph) -> Vec<u32> {
    let mut last: Vec<u32> = graph.values.iter().map(|v| v.producer.map_or(0, |(id, _)| id.0)).collect();
    for (id, node) in graph.nodes_with_ids() {
        for input in &node.inputs {
            last[input.index()] = id.0;
        }
    }
    for output in &graph.outputs {
        last[output.index()] = (graph.nodes.len() as u32).saturating_sub(1);
    }
    last
}

/// Bytes with a lifetime, both ends included.
#[derive(Debug, Clone)]
struct Allocation {
    bytes: usize,
    first: u32,
    last: u32,
}

struct Allocations {
    list: Vec<Allocation>,
    of_value: Vec<Option<usize>>,
    workspace: Vec<Option<usize>>,
}

/// Bytes alive at each node if each value takes as many as `bytes` says; two that share an allocation count once.
pub(crate) fn alive_bytes(graph: &Graph, profile: &DeviceProfile, bytes: impl Fn(ValueId) -> usize) -> Vec<usize> {
    let last_use = last_use(graph);
    let mut allocations = allocations(graph, &last_use, &last_use, profile);
    let mut largest: Vec<usize> = vec![0; allocations.list.len()];
    for (value, allocation) in graph.value_ids().zip(&allocations.of_value) {
        let Some(allocation) = *allocation else { continue };
        largest[allocation] = largest[allocation].max(bytes(value));
    }
    let values = allocations.list.iter_mut().zip(largest).filter(|(_, bytes)| *bytes > 0);
    values.for_each(|(allocation, bytes)| allocation.bytes = bytes);
    alive(&allocations.list)
}

/// Everything to place, in the order it is made. `first_end` is the last node of a value's first stay.
fn allocations(graph: &Graph, last_use: &[u32], first_end: &[u32], profile: &DeviceProfile) -> Allocations {
    debug_assert!(profile.rules.slot_alignment_bytes.is_power_of_two());
    let mut all = Allocations {
        list: Vec::new(),
        of_value: vec![None; graph.values.len()],
        workspace: vec![None; graph.nodes.len()],
    };
    for (id, node) in graph.nodes_with_ids() {
        let workspace = profile.rules.workspace_bytes(&node.op, &graph.node_types(node).0);
        if workspace > 0 {
            all.workspace[id.index()] = Some(all.list.len());
            all.list.push(Allocation { bytes: workspace, first: id.0, last: id.0 });
        }
        for (index, &output) in node.outputs.iter().enumerate() {
            if graph.value(output).storage != Storage::Arena {
                continue;
            }
            let last = first_end[output.index()];
            if let Some(allocation) = taken_over(graph, id, node, index, last_use, &all) {
                all.list[allocation].last = last;
                all.of_value[output.index()] = Some(allocation);
            } else {
                all.of_value[output.index()] = Some(all.list.len());
                all.list.push(Allocation { bytes: graph.ty(output).bytes(), first: id.0, last });
            }
        }
    }
    all
}

/// The allocation that result `index` can take over from an operand which dies at this node.
fn taken_over(
    graph: &Graph,
    id: OpId,
    node: &Node,
    index: usize,
    last_use: &[u32],
    all: &Allocations,
) -> Option<usize> {
    node.op.in_place().into_iter().filter(|&(_, result)| result == index).find_map(|(operand, _)| {
        let value = node.inputs[operand];
        let allocation = all.of_value[value.index()]?;
        let dies = last_use[value.index()] == id.0 && graph.value(value).producer.is_some_and(|(maker, _)| maker != id);
        let once = node.inputs.iter().filter(|&&input| input == value).count() == 1;
        let free = all.list[allocation].last == id.0;
        let fits = graph.ty(value).bytes() == graph.ty(node.outputs[index]).bytes();
        (dies && once && free && fits && !graph.outputs.contains(&value)).then_some(allocation)
    })
}

/// Offsets by greedy first fit, under the best of a few sort orders; of equal ones the first. An order that reaches what
/// is alive at once cannot be beaten, and one that is no better than the best so far is given up as soon as it shows.
/// The later orders place what is alive at the fullest node before all else, so that nothing lies between.
fn best_fit(allocations: &[Allocation], alignment: usize) -> Vec<usize> {
    let alive = alive(allocations);
    let least_bytes = alive.iter().copied().max().unwrap_or(0);
    let fullest = alive.iter().position(|&bytes| bytes == least_bytes).unwrap_or(0) as u32;
    let span = |a: &Allocation| u64::from(a.last - a.first) + 1;
    let elsewhere = |a: &Allocation| !(a.first..=a.last).contains(&fullest);
    let key = |order: usize, a: &Allocation| match order {
        0 => (false, Reverse(a.bytes as u64), Reverse(0), a.first),
        1 => (false, Reverse(span(a) * a.bytes as u64), Reverse(0), 0),
        2 => (false, Reverse(span(a)), Reverse(a.bytes), a.first),
        3 => (elsewhere(a), Reverse(span(a)), Reverse(a.bytes), a.first),
        _ => (elsewhere(a), Reverse(a.bytes as u64), Reverse(0), a.first),
    };
    let (mut arena, mut offsets) = (usize::MAX, Vec::new());
    for order in 0..5 {
        if arena <= least_bytes {
            break;
        }
        let mut sorted: Vec<usize> = (0..allocations.len()).collect();
        sorted.sort_by_key(|&index| key(order, &allocations[index]));
        if let Some(better) = first_fit(allocations, &sorted, alignment, arena) {
            (arena, offsets) = better;
        }
    }
    offsets
}

/// The sum of bytes alive at each node: no arena is smaller than the largest.
fn alive(allocations: &[Allocation]) -> Vec<usize> {
    let nodes = allocations.iter().map(|allocation| allocation.last as usize + 1).max().unwrap_or(0);
    let (mut begins, mut ends) = (vec![0; nodes], vec![0; nodes + 1]);
    for allocation in allocations {
        begins[allocation.first as usize] += allocation.bytes;
        ends[allocation.last as usize + 1] += allocation.bytes;
    }
    let mut alive = 0;
    for (begin, end) in begins.iter_mut().zip(&ends) {
        alive = alive + *begin - end;
        *begin = alive;
    }
    begins
}

/// What is placed already, as first fit walks over it.
#[derive(Clone, Copy)]
struct Placed {
    start: usize,
    end: usize,
    first: u32,
    last: u32,
}

/// All that is placed, sorted by offset; and the same for each block of nodes alone, since most allocations live briefly
/// and meet few others.
struct Placements {
    all: Vec<Placed>,
    blocks: Vec<Vec<Placed>>,
}

impl Placements {
    /// Nodes of a block.
    const BLOCK: u32 = 256;

    fn blocks_of(first: u32, last: u32) -> RangeInclusive<usize> {
        (first / Self::BLOCK) as usize..=(last / Self::BLOCK) as usize
    }

    /// What may be alive between two nodes, the lowest offset first.
    fn near(&self, first: u32, last: u32) -> &[Placed] {
        let blocks = Self::blocks_of(first, last);
        if blocks.start() == blocks.end() { &self.blocks[*blocks.start()] } else { &self.all }
    }

    fn insert(&mut self, placed: Placed) {
        let blocks = &mut self.blocks[Self::blocks_of(placed.first, placed.last)];
        for list in std::iter::once(&mut self.all).chain(blocks) {
            let at = list.partition_point(|other| other.start <= placed.start);
            list.insert(at, placed);
        }
    }
}

/// Places allocations in the given order, each at the lowest aligned offset free over its lifetime. `None` if that takes
/// an arena of `below` bytes or more.
fn first_fit(
    allocations: &[Allocation],
    order: &[usize],
    alignment: usize,
    below: usize,
) -> Option<(usize, Vec<usize>)> {
    let end = allocations.iter().map(|allocation| allocation.last).max().unwrap_or(0);
    let blocks = vec![Vec::new(); Placements::blocks_of(0, end).count()];
    let mut placements = Placements { all: Vec::with_capacity(order.len()), blocks };
    let mut offsets = vec![0; allocations.len()];
    let mut arena = 0;
    for &index in order {
        let &Allocation { bytes, first, last } = &allocations[index];
        let mut offset = 0;
        // Sorted by offset, so one walk finds the lowest gap.
        for other in placements.near(first, last) {
            if other.first > last || other.last < first {
                continue;
            }
            if other.start >= offset + bytes {
                break;
            }
            offset = offset.max(other.end.next_multiple_of(alignment));
        }
        offsets[index] = offset;
        arena = arena.max(offset + bytes);
        if arena >= below {
            return None;
        }
        placements.insert(Placed { start: offset, end: offset + bytes, first, last });
    }
    Some((arena, offsets))
}
