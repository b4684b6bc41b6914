//! A unit written tile by tile: rows are taken where they are read, results that others read are put together in place,
//! sums go from tile to tile.
//!
//! Invariant: every value that is read outside the unit exists under its own name once the last tile has run.

use super::unit::Unit;
use crate::rebuild::Rebuild;
use remat_ir::ops::{SliceRows, WriteRows, Zeros};
use remat_ir::{Graph, Node, Op, OpDef, OpId, Phase, Storage, Type, Users, Value, ValueId};
use remat_plan::tile_name;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// What earlier units left behind.
pub(super) struct Written {
    users: Users,
    /// Where a node's tile is in the copy, by its first row.
    tiles: HashMap<(OpId, usize), OpId>,
    units: usize,
}

impl Written {
    pub(super) fn of(graph: &Graph) -> Self {
        Written { users: graph.users(), tiles: HashMap::new(), units: 0 }
    }
}

/// Writes a unit into the copy.
pub(super) fn tiled(graph: &Graph, copy: &mut Rebuild<'_>, written: &mut Written, unit: &Unit) {
    let inside: HashSet<OpId> = unit.nodes.iter().copied().collect();
    let is_read = |value: &ValueId| {
        let outside = written.users[value.index()].iter().any(|user| !inside.contains(user));
        outside || graph.outputs.contains(value)
    };
    let made = unit.nodes.iter().flat_map(|&id| &graph.node(id).outputs);
    let handed_on: HashSet<ValueId> =
        made.filter(|value| graph.value(**value).storage == Storage::Arena && is_read(value)).copied().collect();
    written.units += 1;
    let phase = match super::unit::is_late(graph.node(unit.nodes[0])) {
        true => Phase::Backward,
        false => Phase::Forward,
    };
    let mut writer = Writer { graph, copy, written, phase, handed_on, here: HashMap::new(), so_far: HashMap::new() };
    for first in (0..unit.rows).step_by(unit.tile_rows) {
        let rows = first..(first + unit.tile_rows).min(unit.rows);
        writer.here.clear();
        for &id in &unit.nodes {
            writer.tile(id, &rows, rows.end == unit.rows);
        }
    }
}

struct Writer<'g, 'c, 's> {
    graph: &'g Graph,
    copy: &'c mut Rebuild<'s>,
    written: &'c mut Written,
    phase: Phase,
    handed_on: HashSet<ValueId>,
    /// Rows of the present tile, in the copy: taken or made.
    here: HashMap<ValueId, ValueId>,
    /// Results as far as earlier tiles made them, in the copy.
    so_far: HashMap<ValueId, ValueId>,
}

impl Writer<'_, '_, '_> {
    /// One node on these rows.
    fn tile(&mut self, id: OpId, rows: &Range<usize>, is_last: bool) {
        let graph = self.graph;
        let node = graph.node(id);
        let by_row = node.op.row_operands().expect("nodes of a unit can be cut");
        let donations = node.op.donations();
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for (index, &input) in node.inputs.iter().enumerate() {
            let state = donations.iter().find(|donation| donation.0 == index && rows.start > 0);
            inputs.push(match state {
                Some(&(_, result)) => self.so_far[&node.outputs[result]],
                None if by_row.contains(&index) => self.rows_of(node, input, rows),
                None => self.copy.get(input),
            });
        }
        let op = node.op.of_rows(rows.start, graph.ty(node.inputs[by_row[0]]).shape.last());
        let origin = node.recompute_of;
        let recompute_of = origin.map(|origin| {
            let tile = self.written.tiles.get(&(origin, rows.start)).copied();
            tile.unwrap_or_else(|| self.copy.node(origin))
        });
        let value = |&output: &ValueId| {
            let value = graph.value(output);
            let ty = if donations.is_empty() { of_rows(&value.ty, rows) } else { value.ty.clone() };
            let is_whole = is_last && !donations.is_empty();
            let name = if is_whole { value.name.clone() } else { tile_name(&value.name, rows) };
            Value { name, ty, ..value.clone() }
        };
        let values: Vec<Value> = node.outputs.iter().map(value).collect();
        let name = tile_name(&node.name, rows);
        let (new, results) = self.copy.emit(Node { op, name, inputs, recompute_of, ..node.clone() }, values);
        self.written.tiles.insert((id, rows.start), new);
        if rows.start == 0 {
            self.copy.node_stands_for(id, new);
        }
        for (&output, result) in node.outputs.iter().zip(results) {
            if donations.is_empty() {
                self.here.insert(output, result);
                if self.handed_on.contains(&output) {
                    self.put_together(node, output, result, rows, is_last);
                }
            } else {
                self.so_far.insert(output, result);
                self.copy.value_stands_for(output, result);
            }
        }
    }

    /// The rows of an operand: made by this tile, or taken once per tile.
    fn rows_of(&mut self, reader: &Node, input: ValueId, rows: &Range<usize>) -> ValueId {
        if let Some(&value) = self.here.get(&input) {
            return value;
        }
        let value = self.graph.value(input);
        let name = format!("{}@{}", tile_name(&value.name, rows), self.written.units);
        let op = SliceRows { first: rows.start, rows: rows.len() };
        let taken = self.emit(reader, op, vec![self.copy.get(input)], name, of_rows(&value.ty, rows));
        self.here.insert(input, taken);
        taken
    }

    /// Writes a tile of a result into the whole.
    fn put_together(&mut self, maker: &Node, output: ValueId, tile: ValueId, rows: &Range<usize>, is_last: bool) {
        let Value { name, ty, .. } = self.graph.value(output);
        let whole = match self.so_far.get(&output) {
            Some(&whole) => whole,
            None => {
                let zeros = Zeros { dtype: ty.dtype, shape: ty.shape.to_vec() };
                self.emit(maker, zeros, Vec::new(), format!("{name}[..0]"), ty.clone())
            }
        };
        let (op, part) = (WriteRows { first: rows.start }, format!("{name}[..{}]", rows.end));
        let value_name = if is_last { name.clone() } else { part.clone() };
        let whole = self.emit_named(maker, op, vec![whole, tile], part, value_name, ty.clone());
        self.so_far.insert(output, whole);
        self.copy.value_stands_for(output, whole);
    }

    fn emit(&mut self, like: &Node, op: impl Into<Op>, inputs: Vec<ValueId>, name: String, ty: Type) -> ValueId {
        self.emit_named(like, op, inputs, name.clone(), name, ty)
    }

    /// A node of the same region as another, on the unit's side of the turn.
    fn emit_named(
        &mut self,
        like: &Node,
        op: impl Into<Op>,
        inputs: Vec<ValueId>,
        name: String,
        value_name: String,
        ty: Type,
    ) -> ValueId {
        let (phase, region) = (self.phase, like.region);
        let node = Node { op: op.into(), name, inputs, outputs: Vec::new(), phase, region, recompute_of: None };
        let value = Value {
            name: value_name,
            ty,
            storage: Storage::Arena,
            role: None,
            producer: None,
            donated_from: None,
            checkpoint_name: None,
        };
        self.copy.emit(node, vec![value]).1[0]
    }
}

fn of_rows(ty: &Type, rows: &Range<usize>) -> Type {
    Type::new(ty.dtype, [rows.len(), ty.shape.last()])
}
