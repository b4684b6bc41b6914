//! Units: nodes of one region and one side (forward, or recomputation and backward) that are cut into tiles together.
//!
//! Method: a value is wide if its rows are longer than those of anything that its innermost region takes in or hands on.
//! Nodes that wide values join are one unit, if all of them can be cut by rows. A unit then takes in neighbours that add
//! no bytes to what it reads and hands on: the norm before it, thin products of adapters, gradients that read what only it
//! makes. Linear in nodes and operands of a region, times the rounds of growth.

use crate::scopes::blocks;
use remat_ir::{Graph, Node, OpDef, OpId, Phase, RegionId, Storage, Users, ValueId};
use std::collections::{BTreeSet, HashMap};

/// Nodes that are cut together, in execution order.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub nodes: Vec<OpId>,
    /// What they make for each other alone.
    pub inside: Vec<ValueId>,
    /// Rows of all values that are cut.
    pub rows: usize,
    /// Rows of a tile.
    pub tile_rows: usize,
}

/// How long rows are, in bytes, where values enter and leave a region.
struct Widths {
    handed_on: HashMap<RegionId, usize>,
}

impl Widths {
    fn of(graph: &Graph, blocks: &[Option<RegionId>]) -> Widths {
        let mut handed_on: HashMap<RegionId, usize> = HashMap::new();
        for (id, node) in graph.nodes_with_ids().filter(|(_, node)| !is_late(node)) {
            let region = blocks[id.index()];
            for &input in &node.inputs {
                let value = graph.value(input);
                let Some((producer, _)) = value.producer.filter(|_| value.storage == Storage::Arena) else { continue };
                let from = blocks[producer.index()];
                for region in [region, from].into_iter().flatten().filter(|_| region != from) {
                    let width = handed_on.entry(region).or_default();
                    *width = (*width).max(row_bytes(graph, input));
                }
            }
        }
        Widths { handed_on }
    }

    /// Whether the rows of a value that this region makes are longer than those it hands on.
    fn is_wide(&self, graph: &Graph, region: Option<RegionId>, value: ValueId) -> bool {
        let handed_on = region.and_then(|region| self.handed_on.get(&region));
        handed_on.is_some_and(|&bytes| row_bytes(graph, value) > bytes)
    }
}

/// Whether a node runs behind the forward.
pub(super) fn is_late(node: &Node) -> bool {
    node.phase == Phase::Backward || node.recompute_of.is_some()
}

fn row_bytes(graph: &Graph, value: ValueId) -> usize {
    let ty = graph.ty(value);
    ty.bytes() / ty.shape.rows()
}

/// How a node reads its operands, looked up once: it is asked of every node and each of its readers.
struct Reading {
    /// The operands that it reads row by row.
    by_row: Vec<usize>,
    /// Its rows, if it can run on some of them at a time.
    cut_rows: Option<usize>,
}

impl Reading {
    fn of(graph: &Graph, node: &Node) -> Reading {
        let by_row = node.op.row_operands();
        let cut_rows = by_row.as_ref().and_then(|by_row| cut_rows(graph, node, by_row));
        Reading { by_row: by_row.unwrap_or_default(), cut_rows }
    }

    /// Whether all that the node reads of a value it reads row by row.
    fn reads_by_row(&self, node: &Node, value: ValueId) -> bool {
        node.inputs.iter().enumerate().all(|(index, &input)| input != value || self.by_row.contains(&index))
    }
}

/// The rows of a node that can run on some of them at a time; `None` if it cannot.
fn cut_rows(graph: &Graph, node: &Node, by_row: &[usize]) -> Option<usize> {
    let rows = graph.ty(node.inputs[*by_row.first()?]).shape.rows();
    let alike = by_row.iter().all(|&index| graph.ty(node.inputs[index]).shape.rows() == rows);
    let read_whole = node
        .inputs
        .iter()
        .enumerate()
        .any(|(index, input)| !by_row.contains(&index) && by_row.iter().any(|&other| node.inputs[other] == *input));
    (alike && !read_whole).then_some(rows)
}

/// The units of a rematerialised graph. `tile_rows` says how many rows a tile has where there are so many in all.
pub(super) fn units(graph: &Graph, tile_rows: impl Fn(usize) -> Option<usize>) -> Vec<Unit> {
    let mut finder = Finder::new(graph);
    let mut units = Vec::new();
    for (rows, nodes) in finder.joined_by_wide_values() {
        let Some(tile_rows) = tile_rows(rows) else { continue };
        if finder.can_be_cut(&nodes, rows) {
            let nodes = finder.grown(nodes, rows);
            let inside = finder.inside(&nodes);
            units.push(Unit { nodes: nodes.into_iter().collect(), inside, rows, tile_rows });
        }
    }
    units
}

/// Forward values that could stay in tiles if backward's reading them did not count: wide, and read row by row in their own
/// region alone. `can_be_cut` says whether so many rows can.
pub(super) fn wide_values(graph: &Graph, can_be_cut: impl Fn(usize) -> bool) -> Vec<ValueId> {
    let finder = Finder::new(graph);
    let stays = |id: OpId, value: ValueId| finder.stays_inside(id, value, |user| finder.region[user.index()]);
    let mut wide = Vec::new();
    for (id, node) in graph.nodes_with_ids().filter(|(_, node)| !is_late(node)) {
        if finder.readings[id.index()].cut_rows.is_some_and(&can_be_cut) {
            wide.extend(node.outputs.iter().copied().filter(|&value| stays(id, value)));
        }
    }
    wide
}

struct Finder<'a> {
    graph: &'a Graph,
    users: Users,
    readings: Vec<Reading>,
    region: Vec<Option<RegionId>>,
    widths: Widths,
    is_output: Vec<bool>,
    /// Nodes that a unit has.
    taken: Vec<bool>,
    /// Nodes of one region and side that can be cut, in execution order.
    neighbours: HashMap<(RegionId, bool), Vec<OpId>>,
}

impl<'a> Finder<'a> {
    fn new(graph: &'a Graph) -> Self {
        let region = blocks(graph);
        let readings: Vec<Reading> = graph.nodes.iter().map(|node| Reading::of(graph, node)).collect();
        let mut neighbours: HashMap<(RegionId, bool), Vec<OpId>> = HashMap::new();
        for (id, node) in graph.nodes_with_ids() {
            if let (Some(region), Some(_)) = (region[id.index()], readings[id.index()].cut_rows) {
                neighbours.entry((region, is_late(node))).or_default().push(id);
            }
        }
        let mut is_output = vec![false; graph.values.len()];
        graph.outputs.iter().for_each(|output| is_output[output.index()] = true);
        Finder {
            graph,
            users: graph.users(),
            readings,
            widths: Widths::of(graph, &region),
            region,
            is_output,
            taken: vec![false; graph.nodes.len()],
            neighbours,
        }
    }

    fn cut_rows(&self, id: OpId) -> Option<usize> {
        self.readings[id.index()].cut_rows
    }

    fn reads_by_row(&self, id: OpId, value: ValueId) -> bool {
        self.readings[id.index()].reads_by_row(self.graph.node(id), value)
    }

    fn place(&self, id: OpId) -> (Option<RegionId>, bool) {
        (self.region[id.index()], is_late(self.graph.node(id)))
    }

    /// Nodes joined by wide values that never leave them, with their rows; ordered by their first node.
    fn joined_by_wide_values(&self) -> Vec<(usize, BTreeSet<OpId>)> {
        let graph = self.graph;
        let mut leader: Vec<usize> = (0..graph.nodes.len()).collect();
        fn find(leader: &mut [usize], mut at: usize) -> usize {
            while leader[at] != at {
                leader[at] = leader[leader[at]];
                at = leader[at];
            }
            at
        }
        let mut joined: Vec<(OpId, usize)> = Vec::new();
        for (id, node) in graph.nodes_with_ids() {
            let Some(rows) = self.cut_rows(id) else { continue };
            for &value in node.outputs.iter().filter(|&&value| self.stays_inside(id, value, |id| self.place(id))) {
                joined.push((id, rows));
                for user in &self.users[value.index()] {
                    joined.push((*user, rows));
                    let (a, b) = (find(&mut leader, id.index()), find(&mut leader, user.index()));
                    leader[a.max(b)] = a.min(b);
                }
            }
        }
        let mut components: std::collections::BTreeMap<usize, (usize, BTreeSet<OpId>)> = Default::default();
        for (id, rows) in joined {
            let component = components.entry(find(&mut leader, id.index())).or_insert((rows, BTreeSet::new()));
            component.1.insert(id);
        }
        components.into_values().collect()
    }

    /// Whether a value is wide and read row by row in its producer's own place alone.
    fn stays_inside<P: PartialEq>(&self, producer: OpId, value: ValueId, place: impl Fn(OpId) -> P) -> bool {
        let inside = |&user: &OpId| {
            place(user) == place(producer) && self.cut_rows(user).is_some() && self.reads_by_row(user, value)
        };
        self.graph.value(value).storage == Storage::Arena
            && self.widths.is_wide(self.graph, self.region[producer.index()], value)
            && !self.is_output[value.index()]
            && !self.users[value.index()].is_empty()
            && self.users[value.index()].iter().all(inside)
    }

    /// Whether nodes can be cut together: one number of rows, and nothing that one of them makes is read whole by another.
    fn can_be_cut(&self, nodes: &BTreeSet<OpId>, rows: usize) -> bool {
        nodes.iter().all(|&id| self.cut_rows(id) == Some(rows) && self.fits_into(nodes, id))
    }

    /// Whether nothing that a node reads whole is made by these nodes, and the other way round.
    fn fits_into(&self, nodes: &BTreeSet<OpId>, id: OpId) -> bool {
        let node = self.graph.node(id);
        let by_row = &self.readings[id.index()].by_row;
        let made_here =
            |input: &ValueId| self.graph.value(*input).producer.is_some_and(|(producer, _)| nodes.contains(&producer));
        let reads_whole =
            node.inputs.iter().enumerate().any(|(index, input)| !by_row.contains(&index) && made_here(input));
        let read_whole = node.outputs.iter().any(|&output| {
            let whole = |&user: &OpId| nodes.contains(&user) && !self.reads_by_row(user, output);
            self.users[output.index()].iter().any(whole)
        });
        !reads_whole && !read_whole
    }

    /// With every neighbour that adds no bytes to what the unit reads and hands on.
    fn grown(&mut self, mut nodes: BTreeSet<OpId>, rows: usize) -> BTreeSet<OpId> {
        let first = *nodes.first().expect("a unit has nodes");
        let (Some(region), late) = self.place(first) else { return nodes };
        nodes.iter().for_each(|id| self.taken[id.index()] = true);
        let neighbours = self.neighbours.get(&(region, late)).cloned().unwrap_or_default();
        // Statistics of a norm are a few bytes beside its rows.
        let slack = (self.widths.handed_on.get(&region).copied().unwrap_or(0) / 64).max(8) as isize;
        loop {
            let before = nodes.len();
            for &id in &neighbours {
                let free = !self.taken[id.index()] && self.cut_rows(id) == Some(rows);
                if free
                    && self.added_bytes(&nodes, id).is_some_and(|bytes| bytes <= slack)
                    && self.fits_into(&nodes, id)
                {
                    self.taken[id.index()] = true;
                    nodes.insert(id);
                }
            }
            if nodes.len() == before {
                return nodes;
            }
        }
    }

    /// What nodes make for each other alone.
    fn inside(&self, nodes: &BTreeSet<OpId>) -> Vec<ValueId> {
        let made = nodes.iter().flat_map(|&id| self.graph.node(id).outputs.iter().copied());
        let stays = |value: &ValueId| {
            let in_arena = self.graph.value(*value).storage == Storage::Arena;
            in_arena
                && !self.is_output[value.index()]
                && self.users[value.index()].iter().all(|user| nodes.contains(user))
        };
        made.filter(stays).collect()
    }

    /// Bytes per row that a node would add to what the unit reads and hands on; `None` if they have nothing in common.
    fn added_bytes(&self, nodes: &BTreeSet<OpId>, id: OpId) -> Option<isize> {
        let node = self.graph.node(id);
        let bytes = |value: ValueId| row_bytes(self.graph, value) as isize;
        let inside = |value: ValueId| {
            let stays = |user: &OpId| *user == id || nodes.contains(user);
            !self.is_output[value.index()] && self.users[value.index()].iter().all(stays)
        };
        let is_read = |value: ValueId| self.users[value.index()].iter().any(|user| nodes.contains(user));
        let (mut added, mut touches) = (0, false);
        let mut operands: Vec<ValueId> =
            self.readings[id.index()].by_row.iter().map(|&index| node.inputs[index]).collect();
        operands.sort_unstable();
        operands.dedup();
        for operand in operands {
            let made_here = self.graph.value(operand).producer.is_some_and(|(producer, _)| nodes.contains(&producer));
            touches |= made_here;
            if made_here && inside(operand) {
                added -= bytes(operand);
            } else if !made_here && !is_read(operand) {
                added += bytes(operand);
            }
        }
        for &result in node.outputs.iter().filter(|_| node.op.donations().is_empty()) {
            touches |= is_read(result);
            match (is_read(result), inside(result)) {
                (true, true) => added -= bytes(result),
                (true, false) | (false, true) => {}
                (false, false) => added += bytes(result),
            }
        }
        touches.then_some(added)
    }
}
