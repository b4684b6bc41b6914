//! The forward cut into groups that are solved one by one: each region that holds no other, and each run of nodes between
//! such regions.
//!
//! Invariant: every forward node is in exactly one group. The last region and whatever follows it are fixed: backward
//! starts there, so recomputing them would save no memory. Groups of equal structure share one class, and so one solution:
//! structure is types, operand references, prices and what is read from outside, never names.

use crate::kept::may_run_again;
use crate::scopes::blocks;
use remat_ir::{Graph, OpId, Phase, RegionId, Storage, Users, ValueId};
use std::collections::HashMap;

/// One result of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Output {
    pub bytes: usize,
    /// Read by backward, or by a forward node of another group that may itself be recomputed.
    pub demanded: bool,
    /// Read by a forward node of another group.
    pub crosses: bool,
}

/// A forward node as the solver sees it.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub seconds: f64,
    pub may_rerun: bool,
    /// Operands made in this group: the member and which of its outputs.
    pub operands: Vec<(usize, usize)>,
    pub outputs: Vec<Output>,
}

/// A region or a run of nodes between regions.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub nodes: Vec<OpId>,
    pub members: Vec<Member>,
    pub is_region: bool,
    /// Never recomputed.
    pub fixed: bool,
}

/// What two groups must share to have one solution.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Structure {
    members: Vec<MemberStructure>,
    is_region: bool,
    fixed: bool,
}

/// The same of two members: the bits of the price, and the rest of a [`Member`].
type MemberStructure = (u64, bool, Vec<(usize, usize)>, Vec<Output>);

impl Group {
    pub(super) fn structure(&self) -> Structure {
        let member = |m: &Member| (m.seconds.to_bits(), m.may_rerun, m.operands.clone(), m.outputs.clone());
        Structure { members: self.members.iter().map(member).collect(), is_region: self.is_region, fixed: self.fixed }
    }
}

/// The groups of a graph, in execution order. `seconds` are the prices of all nodes.
pub(super) fn groups(graph: &Graph, seconds: &[f64]) -> Vec<Group> {
    let mut keys: Vec<(Option<RegionId>, usize)> = Vec::new();
    let mut index_of: HashMap<(Option<RegionId>, usize), usize> = HashMap::new();
    let mut lists: Vec<Vec<OpId>> = Vec::new();
    let mut group_of: Vec<Option<usize>> = vec![None; graph.nodes.len()];
    let blocks = blocks(graph);
    let mut regions_seen = 0;
    for (id, _) in graph.nodes_with_ids().filter(|(_, node)| node.phase == Phase::Forward) {
        let region = blocks[id.index()];
        let is_new = region.is_some() && !index_of.contains_key(&(region, 0));
        regions_seen += usize::from(is_new);
        let key = (region, if region.is_some() { 0 } else { regions_seen });
        let index = *index_of.entry(key).or_insert_with(|| {
            keys.push(key);
            lists.push(Vec::new());
            lists.len() - 1
        });
        lists[index].push(id);
        group_of[id.index()] = Some(index);
    }
    let first_fixed = keys.iter().rposition(|(region, _)| region.is_some()).unwrap_or(0);
    let users = graph.users();
    let build = |(index, nodes): (usize, Vec<OpId>)| Group {
        members: members(graph, seconds, &nodes, index, first_fixed, &group_of, &users),
        nodes,
        is_region: keys[index].0.is_some(),
        fixed: index >= first_fixed,
    };
    lists.into_iter().enumerate().map(build).collect()
}

fn members(
    graph: &Graph,
    seconds: &[f64],
    nodes: &[OpId],
    group: usize,
    first_fixed: usize,
    group_of: &[Option<usize>],
    users: &Users,
) -> Vec<Member> {
    let local: HashMap<OpId, usize> = nodes.iter().enumerate().map(|(index, &id)| (id, index)).collect();
    let member = |&id: &OpId| {
        let node = graph.node(id);
        let operand = |&value: &ValueId| {
            let (producer, output) = graph.value(value).producer?;
            Some((*local.get(&producer)?, output))
        };
        let output = |&value: &ValueId| {
            let behind = |user: &OpId| graph.node(*user).phase == Phase::Backward;
            let others =
                || users[value.index()].iter().filter_map(|user| group_of[user.index()]).filter(|&g| g != group);
            let crosses = others().next().is_some();
            let rerun_reads = others().any(|other| other < first_fixed);
            let kept_anyway = graph.outputs.contains(&value) || graph.value(value).storage != Storage::Arena;
            Output {
                bytes: if kept_anyway { 0 } else { graph.ty(value).bytes() },
                demanded: rerun_reads || users[value.index()].iter().any(behind),
                crosses,
            }
        };
        let mut operands: Vec<(usize, usize)> = node.inputs.iter().filter_map(operand).collect();
        operands.dedup();
        Member {
            seconds: seconds[id.index()],
            may_rerun: may_run_again(graph, node),
            operands,
            outputs: node.outputs.iter().map(output).collect(),
        }
    };
    nodes.iter().map(member).collect()
}
