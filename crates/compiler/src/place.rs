//! Placement: every arena value and workspace gets an offset, so that the arena is as small as the order allows.
//!
//! Method: lifetimes from the order; values that an op may overwrite in place share one allocation with their operand;
//! then greedy first fit over allocations sorted by size (Pisarchyk and Lee, *Efficient memory management for deep neural
//! net inference*, 2020), tried with several sort keys, the smallest arena wins. An allocation meets those that live when it
//! does: few for most, so the cost is far from the worst case, O(n²) in allocations. All of it works on a [`Sequence`], so
//! that a search can ask for arenas of plans that are never written out.

use crate::facts::Facts;
use crate::sequence::Sequence;
use crate::tiers::windows::Window;
use remat_ir::{Graph, Node, OpId, Storage, ValueId};
use remat_plan::{Action, Buffer, BufferId, DeviceProfile, Place, Plan, Policy, Queue, Slot, Step, StepId, Tier};
use remat_plan::{KernelRules, WeightLayout, WeightOperand, can_stream};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Where an offloaded value lives: until a node, and again from a later one on. Both in nodes of the graph's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Residence {
    /// The last node of its first stay.
    pub until: u32,
    /// The first node of its second.
    pub from: u32,
}

/// What stays in the arena beside the values that nodes make there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stays<'a> {
    /// Offloaded values, each with its two stays.
    pub apart: &'a [(ValueId, Residence)],
    /// Weights and states that are fetched.
    pub windows: &'a [Window],
    /// States off memory, by their roots, in ascending order.
    pub states: &'a [ValueId],
}

impl Stays<'_> {
    /// Nothing.
    pub(crate) const NONE: Stays<'static> = Stays { apart: &[], windows: &[], states: &[] };

    fn is_off(&self, root: ValueId) -> bool {
        self.states.binary_search(&root).is_ok()
    }
}

/// Assigns slots and writes the plan down: one compute step per node, in the graph's order.
pub fn place(graph: impl Into<Arc<Graph>>, policy: &Policy, profile: &DeviceProfile) -> Plan {
    place_with(graph.into(), policy, profile, Stays::NONE)
}

/// As [`place`], with two buffers for each value of `apart`: the second ones stand behind all first ones, in the order of
/// `apart`, and behind them a buffer for each window. The steps that copy are not there yet.
pub(crate) fn place_with(graph: Arc<Graph>, policy: &Policy, profile: &DeviceProfile, stays: Stays<'_>) -> Plan {
    place_within(graph, policy, profile, stays, usize::MAX).expect("every arena is small enough")
}

/// As [`place_with`], but `None` if the arena would take more than `most_bytes`: found out before anything is placed where
/// what is alive at once is more already.
pub(crate) fn place_within(
    graph: Arc<Graph>,
    policy: &Policy,
    profile: &DeviceProfile,
    stays: Stays<'_>,
    most_bytes: usize,
) -> Option<Plan> {
    debug_assert!(profile.rules.slot_alignment_bytes.is_power_of_two());
    let apart = Apart::of(&graph, profile, stays);
    let allocations = &apart.allocations;
    let offsets = best_fit(&allocations.list, profile.rules.slot_alignment_bytes, most_bytes)?;
    let residents = Residents::of(&graph, &apart, &offsets, stays);
    let slot = |allocation: u32| Slot {
        offset: offsets[allocation as usize],
        bytes: allocations.list[allocation as usize].bytes,
    };
    let step = |(id, node): (OpId, &Node)| {
        let workspace = allocations.workspace[id.index()].map(slot);
        let place = |operand: usize, value: ValueId| {
            let held = residents.at(graph.storage_root(value), id);
            place_of(&graph, node, (operand, value), held, stays)
        };
        step(&graph, id, node, &place, workspace)
    };
    let steps = graph.nodes_with_ids().map(step).collect();
    let ends = allocations.list.iter().zip(&offsets).map(|(allocation, offset)| offset + allocation.bytes);
    let arena_bytes = ends.max().unwrap_or(0);
    let fetched = stays.windows.iter().map(|window| window.weight);
    let mut spilled: Vec<ValueId> = fetched.chain(stays.states.iter().copied()).collect();
    spilled.sort_unstable();
    spilled.dedup();
    let buffers = residents.buffers;
    Some(Plan { graph, steps, buffers, arena_bytes, policy: policy.clone(), rules: profile.rules, spilled })
}

/// The buffers of a plan, and which of them holds a value at which node.
struct Residents {
    buffers: Vec<Buffer>,
    buffer_of: Vec<Option<BufferId>>,
    /// The second buffer of a value, and from which node on it is the one.
    second_of: HashMap<ValueId, (u32, BufferId)>,
    /// By weight and reader.
    window_of: HashMap<(ValueId, u32), BufferId>,
}

impl Residents {
    fn of(graph: &Graph, apart: &Apart, offsets: &[usize], stays: Stays<'_>) -> Residents {
        let Apart { allocations, second_from, last_use, first_end } = apart;
        let mut buffers = Vec::new();
        let mut buffer_of = vec![None; graph.values.len()];
        for (index, value) in graph.values.iter().enumerate() {
            let (Some(allocation), Some((producer, _))) = (allocations.of_value[index], value.producer) else {
                continue;
            };
            buffer_of[index] = Some(BufferId(buffers.len() as u32));
            let slot = Slot { offset: offsets[allocation as usize], bytes: value.ty.bytes() };
            let (first, last) = (StepId(producer.0), StepId(first_end[index]));
            buffers.push(Buffer { value: ValueId(index as u32), slot, first, last });
        }
        let mut second_of = HashMap::new();
        let mut later = offsets[*second_from..].iter();
        for ((value, residence), &offset) in stays.apart.iter().zip(&mut later) {
            second_of.insert(*value, (residence.from, BufferId(buffers.len() as u32)));
            let slot = Slot { offset, bytes: graph.ty(*value).bytes() };
            let (first, last) = (StepId(residence.from), StepId(last_use[value.index()]));
            buffers.push(Buffer { value: *value, slot, first, last });
        }
        let mut window_of = HashMap::new();
        for (window, &offset) in stays.windows.iter().zip(&mut later) {
            let id = BufferId(buffers.len() as u32);
            window_of.extend(window.readers.iter().map(|&reader| ((window.weight, reader), id)));
            let (first, last) = (StepId(window.from), StepId(window.until));
            buffers.push(Buffer { value: window.weight, slot: Slot { offset, bytes: window.bytes }, first, last });
        }
        Residents { buffers, buffer_of, second_of, window_of }
    }

    /// The buffer that holds a value where a node reads or makes it.
    fn at(&self, value: ValueId, node: OpId) -> Option<BufferId> {
        let second = || self.second_of.get(&value).filter(|(from, _)| node.0 >= *from).map(|&(_, second)| second);
        let window = self.window_of.get(&(value, node.0)).copied();
        window.or_else(second).or(self.buffer_of[value.index()])
    }
}

/// The most bytes alive at once with such stays.
pub(crate) fn alive_bytes_with(graph: &Graph, profile: &DeviceProfile, stays: Stays<'_>) -> usize {
    Apart::of(graph, profile, stays).allocations.most_alive_bytes()
}

/// Bytes alive at each node with such stays; the last nodes, where nothing is, may be missing.
pub(crate) fn alive_at_nodes(graph: &Graph, profile: &DeviceProfile, stays: Stays<'_>) -> Vec<usize> {
    alive(&Apart::of(graph, profile, stays).allocations.list)
}

/// What a graph in its order has to have placed if some values stay twice.
struct Apart {
    /// Those of second stays stand behind all others, from `second_from` on.
    allocations: Allocations,
    second_from: usize,
    /// Of each value, the last node that reads it, and the last of its first stay.
    last_use: Vec<u32>,
    first_end: Vec<u32>,
}

impl Apart {
    fn of(graph: &Graph, profile: &DeviceProfile, stays: Stays<'_>) -> Apart {
        let Stays { apart, windows, states } = stays;
        let (facts, sequence) = (Facts::of(graph, &profile.rules), Sequence::once(graph));
        let facts = if states.is_empty() { facts } else { facts.with_streams(graph, &|root| stays.is_off(root)) };
        let last_use = last_use(graph, &facts, &sequence);
        let mut first_end = last_use.clone();
        apart.iter().for_each(|(value, residence)| first_end[value.index()] = residence.until);
        let mut allocations = Allocations::until(graph, &facts, &sequence, &last_use, &first_end);
        let second_from = allocations.list.len();
        for (value, residence) in apart {
            let (bytes, last) = (graph.ty(*value).bytes(), last_use[value.index()]);
            allocations.list.push(Allocation { bytes, first: residence.from, last });
        }
        for window in windows {
            allocations.list.push(Allocation { bytes: window.bytes, first: window.from, last: window.until });
        }
        Apart { allocations, second_from, last_use, first_end }
    }
}

/// Where a node finds an operand, or puts the result of that number; `held` is the buffer that holds it there, if one does.
fn place_of(
    graph: &Graph,
    node: &Node,
    (operand, value): (usize, ValueId),
    held: Option<BufferId>,
    stays: Stays<'_>,
) -> Place {
    match (graph.value(value).storage, held) {
        (Storage::Input, _) => Place::Input(value),
        (_, Some(buffer)) => Place::Arena(buffer),
        (Storage::Weight, None) => {
            Place::Weight(WeightOperand { value, tier: Tier::Resident, layout: WeightLayout::RowMajor })
        }
        (Storage::State, None) => {
            let root = graph.storage_root(value);
            let streams = stays.is_off(root) && can_stream(node, operand);
            if streams { Place::Spilled(root) } else { Place::State(root) }
        }
        (Storage::Arena, None) => unreachable!("every arena value has a buffer"),
    }
}

/// The step of a node; `place` says where an operand of it lies, and a result that replaces one.
fn step(
    graph: &Graph,
    id: OpId,
    node: &Node,
    place: &dyn Fn(usize, ValueId) -> Place,
    workspace: Option<Slot>,
) -> Step {
    let replaced = |output: &ValueId| {
        let donor = graph.value(*output).donated_from;
        node.inputs.iter().position(|input| Some(*input) == donor).unwrap_or(0)
    };
    Step {
        action: Action::Compute(id),
        queue: Queue::Compute,
        reads: node.inputs.iter().enumerate().map(|(operand, &value)| place(operand, value)).collect(),
        writes: node.outputs.iter().map(|output| place(replaced(output), *output)).collect(),
        workspace,
        waits: Vec::new(),
        signals: false,
    }
}

/// For each instance, the index of the last run that reads it; its producer's if none does; the end for an output.
fn last_use(graph: &Graph, facts: &Facts, sequence: &Sequence) -> Vec<u32> {
    let mut last: Vec<u32> = vec![0; sequence.instances()];
    for run in 0..sequence.len() {
        sequence.operands(run).iter().for_each(|&operand| last[operand as usize] = run as u32);
        sequence.results(graph, run).for_each(|result| last[result as usize] = run as u32);
    }
    for &output in graph.outputs.iter().filter(|&&output| facts.is_output(output)) {
        last[output.index()] = (sequence.len() as u32).saturating_sub(1);
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

/// What a sequence of runs has to have placed.
pub(crate) struct Allocations {
    list: Vec<Allocation>,
    /// By instance.
    of_value: Vec<Option<u32>>,
    /// By run.
    workspace: Vec<Option<u32>>,
}

impl Allocations {
    /// Of a sequence of a graph's nodes.
    pub(crate) fn of(graph: &Graph, facts: &Facts, sequence: &Sequence) -> Allocations {
        let last_use = last_use(graph, facts, sequence);
        Allocations::until(graph, facts, sequence, &last_use, &last_use)
    }

    /// Everything to place, in the order it is made. `first_end` is the last run of an instance's first stay.
    fn until(graph: &Graph, facts: &Facts, sequence: &Sequence, last_use: &[u32], first_end: &[u32]) -> Allocations {
        let mut all = Allocations {
            list: Vec::with_capacity(sequence.instances()),
            of_value: vec![None; sequence.instances()],
            workspace: vec![None; sequence.len()],
        };
        let mut made_at: Vec<u32> = vec![0; sequence.instances()];
        for run in 0..sequence.len() {
            let workspace = facts.workspace_bytes(sequence.node(run));
            if workspace > 0 {
                all.workspace[run] = Some(all.list.len() as u32);
                all.list.push(Allocation { bytes: workspace, first: run as u32, last: run as u32 });
            }
            for (index, result) in sequence.results(graph, run).enumerate() {
                let bytes = facts.arena_bytes(sequence.value(result));
                if bytes == 0 {
                    continue;
                }
                made_at[result as usize] = run as u32;
                let last = first_end[result as usize];
                let taken = taken_over(facts, sequence, (run, index, bytes), last_use, &made_at, &all);
                let allocation = taken.unwrap_or(all.list.len() as u32);
                match taken {
                    Some(allocation) => all.list[allocation as usize].last = last,
                    None => all.list.push(Allocation { bytes, first: run as u32, last }),
                }
                all.of_value[result as usize] = Some(allocation);
            }
        }
        all
    }

    /// The largest sum of bytes alive at once: no arena is smaller.
    pub(crate) fn most_alive_bytes(&self) -> usize {
        alive(&self.list).into_iter().max().unwrap_or(0)
    }

    /// The size of the arena that they are placed in.
    pub(crate) fn arena_bytes(&self, alignment: usize) -> usize {
        let offsets = best_fit(&self.list, alignment, usize::MAX).expect("every arena is small enough");
        let ends = self.list.iter().zip(&offsets).map(|(allocation, offset)| offset + allocation.bytes);
        ends.max().unwrap_or(0)
    }
}

/// The allocation that result `index` of a run can take over from an operand which dies there.
fn taken_over(
    facts: &Facts,
    sequence: &Sequence,
    (run, index, bytes): (usize, usize, usize),
    last_use: &[u32],
    made_at: &[u32],
    all: &Allocations,
) -> Option<u32> {
    let operands = sequence.operands(run);
    let pairs = facts.in_place(sequence.node(run)).iter();
    pairs.filter(|&&(_, result)| result as usize == index).find_map(|&(operand, _)| {
        let instance = operands[operand as usize];
        let allocation = all.of_value[instance as usize]?;
        let value = sequence.value(instance);
        let dies = last_use[instance as usize] == run as u32 && made_at[instance as usize] != run as u32;
        let once = operands.iter().filter(|&&other| other == instance).count() == 1;
        let free = all.list[allocation as usize].last == run as u32;
        let kept = facts.is_output(value) && sequence.is_first(instance);
        (dies && once && free && facts.arena_bytes(value) == bytes && !kept).then_some(allocation)
    })
}

/// Bytes alive at each node of a graph in its order; and as many if each value takes what `bytes` says, where two that
/// share an allocation count once.
pub(crate) fn alive_bytes(
    graph: &Graph,
    rules: &KernelRules,
    bytes: impl Fn(ValueId) -> usize,
) -> (Vec<usize>, Vec<usize>) {
    let mut allocations = Allocations::of(graph, &Facts::of(graph, rules), &Sequence::once(graph));
    let whole = alive(&allocations.list);
    let mut largest: Vec<usize> = vec![0; allocations.list.len()];
    for (value, allocation) in graph.value_ids().zip(&allocations.of_value) {
        let Some(allocation) = *allocation else { continue };
        let largest = &mut largest[allocation as usize];
        *largest = (*largest).max(bytes(value));
    }
    let values = allocations.list.iter_mut().zip(largest).filter(|(_, bytes)| *bytes > 0);
    values.for_each(|(allocation, bytes)| allocation.bytes = bytes);
    (whole, alive(&allocations.list))
}

/// Offsets by greedy first fit, under the best of a few sort orders; of equal ones the first. An order that reaches what
/// is alive at once cannot be beaten, and one that is no better than the best so far is given up as soon as it shows.
/// The later orders place what is alive at the fullest node before all else, so that nothing lies between. `None` if none
/// of them comes to `most_bytes` or less.
fn best_fit(allocations: &[Allocation], alignment: usize, most_bytes: usize) -> Option<Vec<usize>> {
    let alive = alive(allocations);
    let least_bytes = alive.iter().copied().max().unwrap_or(0);
    if least_bytes > most_bytes {
        return None;
    }
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
    let (mut arena, mut offsets) = (most_bytes.saturating_add(1), None);
    // Of very many allocations the long-lived ones come first: what waits for backward then lies in one piece.
    let orders = if allocations.len() > MANY { [2, 3, 4, 0, 1] } else { [0, 1, 2, 3, 4] };
    for order in orders {
        if arena <= least_bytes {
            break;
        }
        let mut sorted: Vec<usize> = (0..allocations.len()).collect();
        sorted.sort_by_key(|&index| key(order, &allocations[index]));
        if let Some((better, placed)) = first_fit(allocations, &sorted, alignment, arena) {
            (arena, offsets) = (better, Some(placed));
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

/// Very many allocations.
const MANY: usize = 1 << 14;

/// What is placed already, as first fit walks over it.
#[derive(Clone, Copy)]
struct Placed {
    start: usize,
    end: usize,
    first: u32,
    last: u32,
}

/// All that is placed, by block of nodes: what lives briefly meets few others.
struct Placements {
    blocks: Vec<Block>,
}

/// What is alive in a block of nodes. Whatever is alive all over it meets all of that, so unions do there: a chain's
/// residuals are one piece.
#[derive(Clone, Default)]
struct Block {
    /// Alive in some of its nodes, the lowest offset first.
    partly: Vec<Placed>,
    /// Bytes that are taken in all of its nodes, and in any of them: pieces that do not touch, the lowest first.
    in_all: Vec<(usize, usize)>,
    in_any: Vec<(usize, usize)>,
}

impl Placements {
    /// Nodes of a block.
    const BLOCK: u32 = 256;

    fn new(last: u32) -> Placements {
        Placements { blocks: vec![Block::default(); Self::blocks_of(0, last).count()] }
    }

    fn blocks_of(first: u32, last: u32) -> RangeInclusive<usize> {
        (first / Self::BLOCK) as usize..=(last / Self::BLOCK) as usize
    }

    /// The first and the last node of a block.
    fn nodes_of(block: usize) -> (u32, u32) {
        (block as u32 * Self::BLOCK, block as u32 * Self::BLOCK + Self::BLOCK - 1)
    }

    /// The lowest offset from which so many bytes are free between two nodes. Each block moves it up as far as it has to,
    /// until none does.
    fn lowest(&self, first: u32, last: u32, bytes: usize, alignment: usize) -> usize {
        let mut offset = 0;
        loop {
            let before = offset;
            for block in Self::blocks_of(first, last) {
                let (from, to) = Self::nodes_of(block);
                let block = &self.blocks[block];
                offset = match first <= from && last >= to {
                    true => lowest_between(&block.in_any, offset, bytes, alignment),
                    false => block.lowest(first, last, (offset, bytes), alignment),
                };
            }
            if offset == before || Self::blocks_of(first, last).count() == 1 {
                return offset;
            }
        }
    }

    fn insert(&mut self, placed: Placed) {
        for index in Self::blocks_of(placed.first, placed.last) {
            let (from, to) = Self::nodes_of(index);
            let block = &mut self.blocks[index];
            join(&mut block.in_any, placed.start, placed.end);
            if placed.first <= from && placed.last >= to {
                join(&mut block.in_all, placed.start, placed.end);
            } else {
                let at = block.partly.partition_point(|other| other.start <= placed.start);
                block.partly.insert(at, placed);
            }
        }
    }
}

impl Block {
    /// The lowest offset from `offset` on that is free between two nodes.
    fn lowest(&self, first: u32, last: u32, (mut offset, bytes): (usize, usize), alignment: usize) -> usize {
        loop {
            let before = offset;
            offset = lowest_between(&self.in_all, offset, bytes, alignment);
            // Sorted by offset, so one walk finds the lowest gap.
            for other in &self.partly {
                if other.first > last || other.last < first || other.end <= offset {
                    continue;
                }
                if other.start >= offset + bytes {
                    break;
                }
                offset = other.end.next_multiple_of(alignment);
            }
            if offset == before {
                return offset;
            }
        }
    }
}

/// The lowest offset from `offset` on with so many bytes free between pieces.
fn lowest_between(pieces: &[(usize, usize)], mut offset: usize, bytes: usize, alignment: usize) -> usize {
    let from = pieces.partition_point(|piece| piece.1 <= offset);
    for piece in &pieces[from..] {
        if piece.0 >= offset + bytes {
            break;
        }
        offset = offset.max(piece.1.next_multiple_of(alignment));
    }
    offset
}

/// Adds a piece; those that touch it become one with it.
fn join(pieces: &mut Vec<(usize, usize)>, start: usize, end: usize) {
    let at = pieces.partition_point(|piece| piece.1 < start);
    let touching = pieces[at..].iter().take_while(|piece| piece.0 <= end).count();
    let (mut start, mut end) = (start, end);
    for piece in &pieces[at..at + touching] {
        (start, end) = (start.min(piece.0), end.max(piece.1));
    }
    pieces.splice(at..at + touching, [(start, end)]);
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
    let mut placements = Placements::new(end);
    let mut offsets = vec![0; allocations.len()];
    let mut arena = 0;
    for &index in order {
        let &Allocation { bytes, first, last } = &allocations[index];
        let offset = placements.lowest(first, last, bytes, alignment);
        offsets[index] = offset;
        arena = arena.max(offset + bytes);
        if arena >= below {
            return None;
        }
        placements.insert(Placed { start: offset, end: offset + bytes, first, last });
    }
    Some((arena, offsets))
}
