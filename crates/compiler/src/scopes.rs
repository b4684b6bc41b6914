//! Levels of recomputation: a tree of scopes over the forward, and at which of them each value is at home.
//!
//! A value is at home in the smallest scope that holds the node which makes it and every forward node that reads it: what a
//! scope makes for itself alone is at home there, what it hands to the next one is at home in the scope around both. A copy
//! of a value stays until backward needs it no more if it was made on behalf of something in the value's home; made on
//! behalf of something further out, it goes at once and is made again when backward gets there. So of a scope that is
//! passed through only what it hands on is held: the recursion of nested checkpoints, and with a tree of segments that of
//! Griewank and Walther, *Revolve*, 2000. Invariant: scopes decide how often nodes run and how long copies live, never what
//! they compute.

use remat_ir::{Graph, Phase, RegionId};

/// Index of a scope; 0 is all of the forward.
pub(crate) type Scope = u32;

/// A tree of scopes over the forward of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Scopes {
    /// Per scope, where a walk over the tree enters and leaves it.
    spans: Vec<(u32, u32)>,
    /// Per value, its home. Empty where there is but one scope.
    home: Vec<Scope>,
}

impl Scopes {
    /// One scope for everything: each node runs again at most once.
    pub(crate) fn flat() -> Scopes {
        Scopes::default()
    }

    /// Of each scope the one around it (of scope 0 itself; the outer stands before the inner), of each node its innermost.
    pub(crate) fn new(graph: &Graph, around: &[Scope], of_node: &[Scope]) -> Scopes {
        let mut depth = vec![0u32; around.len()];
        for scope in 1..around.len() {
            depth[scope] = depth[around[scope] as usize] + 1;
        }
        let common = |mut a: Scope, mut b: Scope| {
            while a != b {
                let deeper = if depth[a as usize] >= depth[b as usize] { &mut a } else { &mut b };
                *deeper = around[*deeper as usize];
            }
            a
        };
        let mut home = vec![0; graph.values.len()];
        for (id, node) in graph.nodes_with_ids().filter(|(_, node)| node.phase == Phase::Forward) {
            let scope = of_node[id.index()];
            node.outputs.iter().for_each(|output| home[output.index()] = scope);
            for input in &node.inputs {
                home[input.index()] = common(home[input.index()], scope);
            }
        }
        Scopes { spans: spans(around), home }
    }

    /// Where a value is at home.
    pub(crate) fn home(&self, value: remat_ir::ValueId) -> Scope {
        self.home.get(value.index()).copied().unwrap_or(0)
    }

    /// Whether one scope is the other, or inside it.
    pub(crate) fn is_within(&self, inner: Scope, outer: Scope) -> bool {
        if outer == 0 {
            return true;
        }
        let ((enter, leave), (first, last)) = (self.spans[inner as usize], self.spans[outer as usize]);
        first <= enter && leave <= last
    }
}

/// Per scope, where a walk over the tree enters and leaves it.
fn spans(around: &[Scope]) -> Vec<(u32, u32)> {
    let mut sizes = vec![1u32; around.len()];
    for scope in (1..around.len()).rev() {
        sizes[around[scope] as usize] += sizes[scope];
    }
    let mut spans = vec![(0, 0); around.len()];
    let mut next = vec![0u32; around.len()];
    for scope in 0..around.len() {
        let enter = if scope == 0 { 0 } else { next[around[scope] as usize] };
        spans[scope] = (enter, enter + sizes[scope] - 1);
        next[scope] = enter + 1;
        if scope > 0 {
            next[around[scope] as usize] = enter + sizes[scope];
        }
    }
    spans
}

/// Scopes of a graph's regions, and which of them lie where backward begins.
pub(crate) struct RegionScopes {
    pub(crate) scopes: Scopes,
    /// Per scope, whether it is all of the forward or the last one of such a scope: nothing that is at home there is worth
    /// making again, since backward begins with it.
    pub(crate) is_last: Vec<bool>,
}

impl RegionScopes {
    /// At every level, each run of so many consecutive regions is one scope.
    pub(crate) fn of(graph: &Graph, regions_per_scope: usize) -> RegionScopes {
        let length = regions_per_scope.max(1);
        let mut children: Vec<Vec<RegionId>> = vec![Vec::new(); graph.regions.len()];
        let outermost = in_order(graph, &mut children);
        let (mut around, mut is_last) = (vec![0], vec![true]);
        let mut of_region = vec![0; graph.regions.len()];
        let mut pending = vec![(0, outermost)];
        while let Some((scope, regions)) = pending.pop() {
            let runs = regions.len().div_ceil(length);
            for (index, run) in regions.chunks(length).enumerate() {
                let inner = around.len() as Scope;
                around.push(scope);
                is_last.push(is_last[scope as usize] && index + 1 == runs);
                run.iter().for_each(|region| of_region[region.index()] = inner);
                pending.push((inner, run.iter().flat_map(|region| children[region.index()].clone()).collect()));
            }
        }
        let scope = |node: &remat_ir::Node| node.region.map_or(0, |region| of_region[region.index()]);
        let of_node: Vec<Scope> = graph.nodes.iter().map(scope).collect();
        RegionScopes { scopes: Scopes::new(graph, &around, &of_node), is_last }
    }
}

impl RegionScopes {
    /// One level: a scope for each of the regions that nodes are said to be in.
    pub(crate) fn of_blocks(graph: &Graph, blocks: &[Option<RegionId>]) -> Scopes {
        let mut of_region: Vec<Option<Scope>> = vec![None; graph.regions.len()];
        let mut around = vec![0];
        let mut scope = |region: RegionId| {
            *of_region[region.index()].get_or_insert_with(|| {
                around.push(0);
                around.len() as Scope - 1
            })
        };
        let of_node: Vec<Scope> = blocks.iter().map(|block| block.map_or(0, &mut scope)).collect();
        Scopes::new(graph, &around, &of_node)
    }
}

/// The innermost regions that nodes are in, as far as no other region is inside them.
pub(crate) fn blocks(graph: &Graph) -> Vec<Option<RegionId>> {
    let forward = || graph.nodes.iter().filter(|node| node.phase == Phase::Forward);
    let mut holds_others = vec![false; graph.regions.len()];
    for node in forward() {
        let mut region = node.region.and_then(|region| graph.regions[region.index()].parent);
        while let Some(id) = region.filter(|id| !holds_others[id.index()]) {
            holds_others[id.index()] = true;
            region = graph.regions[id.index()].parent;
        }
    }
    graph.nodes.iter().map(|node| node.region.filter(|region| !holds_others[region.index()])).collect()
}

/// The outermost regions that have forward nodes, and those inside each, in the order in which they run.
fn in_order(graph: &Graph, children: &mut [Vec<RegionId>]) -> Vec<RegionId> {
    let mut seen = vec![false; graph.regions.len()];
    let mut outermost = Vec::new();
    for node in graph.nodes.iter().filter(|node| node.phase == Phase::Forward) {
        let mut region = node.region;
        while let Some(id) = region.filter(|id| !seen[id.index()]) {
            seen[id.index()] = true;
            region = graph.regions[id.index()].parent;
            match region {
                Some(parent) => children[parent.index()].push(id),
                None => outermost.push(id),
            }
        }
    }
    outermost
}
