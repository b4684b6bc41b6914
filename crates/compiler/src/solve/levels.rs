//! Levels over a chain of blocks: what a budget below one boundary per block, or a small arena, is met with.
//!
//! A chain is cut into segments. What enters a segment is held; inside, it is cut again, and what enters those pieces is
//! made again, at the earliest when backward gets there. With s boundaries to hold beside the one that a block is being
//! repeated from, C(s + 1 + r, r) blocks can be reversed so that none is passed through more than r times: one segment
//! after the other with one boundary less to hold, and a last block. That is Revolve's binomial optimum for equal blocks
//! (Griewank and Walther, *Algorithm 799: revolve*, 2000), written as a tree of scopes. Here the boundaries that live from
//! forward to backward and those that backward holds at any time are two numbers, since a budget is about the former.
//! Invariant: a tree says how often nodes run and how long copies live; what that comes to is measured on the sequence.

use super::group::Group;
use crate::Kept;
use crate::scopes::{Scope, Scopes};
use remat_ir::{Graph, OpId};

/// Boundaries that backward may hold beyond twice those that a budget pays for: without any, a chain of n blocks would be
/// passed through n / 2 times.
const SPARE: usize = 4;

/// A way to treat the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Boundaries between blocks that live from forward to backward.
    pub kept: usize,
    /// Boundaries that are held at any time.
    pub held: usize,
    /// What else is made again.
    pub edges: Edges,
}

/// What is made again beside the boundaries between blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edges {
    /// Nothing.
    Kept,
    /// What comes before the first block.
    LeadAgain,
    /// That, and what the last block hands on: the least that can be kept.
    BothAgain,
}

impl Shape {
    /// How many blocks each segment can take if none is passed through more than `times` times, at most `enough`.
    fn capacities(self, times: usize, enough: usize) -> impl Iterator<Item = usize> {
        (0..=self.kept).map(move |segment| capacity(self.held.saturating_sub(segment) + 1, times).min(enough))
    }

    /// The same with no more held than brings something: as few boundaries as cost no more passes through so many blocks.
    fn trimmed(self, blocks: usize) -> Shape {
        let passes = |held: usize| {
            let shape = Shape { held, ..self };
            let rest = |times: usize| blocks.saturating_sub(shape.capacities(times, blocks).sum::<usize>());
            (0..).map(rest).take_while(|&rest| rest > 0).sum::<usize>()
        };
        let least = passes(self.held);
        let held = (self.kept..self.held).rev().take_while(|&held| passes(held) == least).last();
        Shape { held: held.unwrap_or(self.held), ..self }
    }

    /// How often some of so many blocks are passed through for one backward.
    fn times(self, blocks: usize) -> usize {
        (0..).find(|&times| self.capacities(times, blocks).sum::<usize>() >= blocks).unwrap_or(0)
    }
}

/// The blocks of a graph that may be passed through several times, in order.
#[derive(Debug)]
pub(super) struct Chain {
    /// What comes before the first block.
    lead: Vec<OpId>,
    /// Each region up to the last one, and whatever stands behind it.
    blocks: Vec<Vec<OpId>>,
}

impl Chain {
    /// Of the groups of a graph, in order.
    pub(super) fn of(groups: &[Group]) -> Chain {
        let mut chain = Chain { lead: Vec::new(), blocks: Vec::new() };
        for group in groups.iter().filter(|group| !group.fixed) {
            match chain.blocks.last_mut() {
                _ if group.is_region => chain.blocks.push(group.nodes.clone()),
                Some(block) => block.extend(&group.nodes),
                None => chain.lead.extend(&group.nodes),
            }
        }
        chain
    }

    /// The shapes to weigh, about `most` of each kind: for budgets, where backward may hold twice as much as the forward
    /// keeps and a little more; and for small arenas, where it holds no more than that. None passes through a block more
    /// often than `most_times`.
    pub(super) fn shapes(&self, most: usize, most_times: usize) -> (Vec<Shape>, Vec<Shape>) {
        // Every number up to a third of them, and from there on ever wider apart.
        let (boundaries, near) = (self.blocks.len().saturating_sub(1), most.div_ceil(3));
        let (mut counts, mut count) = (Vec::new(), 0);
        while count < boundaries {
            counts.push(count);
            count += 1 + count / near;
        }
        let least = |held: usize, edges: Edges| Shape { kept: 0, held, edges };
        let least = [least(SPARE - 2, Edges::BothAgain), least(SPARE - 1, Edges::LeadAgain)];
        let least = least.into_iter().filter(|_| !self.blocks.is_empty());
        let budgets = counts.iter().map(|&kept| Shape { kept, held: 2 * kept + SPARE, edges: Edges::Kept });
        let arenas = counts.iter().map(|&kept| Shape { kept, held: kept, edges: Edges::Kept });
        let often = |shape: &Shape| shape.times(self.blocks.len()) <= most_times;
        (
            least.chain(budgets).filter(often).map(|shape| shape.trimmed(self.blocks.len())).collect(),
            arenas.filter(often).collect(),
        )
    }

    /// What a shape keeps, and its levels.
    pub(super) fn kept(&self, graph: &Graph, shape: Shape) -> Kept {
        let mut tree = Tree { around: vec![0], of_block: vec![0; self.blocks.len()] };
        tree.cut(0, 0..self.blocks.len(), shape);
        let mut of_node: Vec<Scope> = vec![0; graph.nodes.len()];
        for (block, &scope) in self.blocks.iter().zip(&tree.of_block) {
            block.iter().for_each(|id| of_node[id.index()] = scope);
        }
        let scopes = Scopes::new(graph, &tree.around, &of_node);
        let mut keep: Vec<bool> = graph.value_ids().map(|id| scopes.home(id) == 0).collect();
        let last = self.blocks.last().map_or(&[][..], Vec::as_slice);
        let again: &[&[OpId]] = match shape.edges {
            Edges::Kept => &[],
            Edges::LeadAgain => &[&self.lead],
            Edges::BothAgain => &[&self.lead, last],
        };
        for &id in again.iter().copied().flatten() {
            graph.node(id).outputs.iter().for_each(|output| keep[output.index()] = false);
        }
        Kept::at_levels(graph, scopes, |id| keep[id.index()])
    }
}

struct Tree {
    /// Of each scope the one around it.
    around: Vec<Scope>,
    of_block: Vec<Scope>,
}

impl Tree {
    fn inside(&mut self, scope: Scope) -> Scope {
        self.around.push(scope);
        self.around.len() as Scope - 1
    }

    /// Cuts blocks of a scope into `shape.kept` segments and one more; the last block of all is followed by one that
    /// needs no room for what enters it.
    fn cut(&mut self, scope: Scope, blocks: std::ops::Range<usize>, shape: Shape) {
        let times = shape.times(blocks.len());
        // Each segment gets what it can take with one time less, and then the rest as it comes: the next block costs the
        // same in any of them. The first ones come last in backward, when most can be held.
        let fewer: Vec<usize> = match times {
            0 => vec![0; shape.kept + 1],
            _ => shape.capacities(times - 1, blocks.len()).collect(),
        };
        let mut rest = blocks.len() - fewer.iter().sum::<usize>().min(blocks.len());
        let mut first = blocks.start;
        for (segment, (least, most)) in fewer.into_iter().zip(shape.capacities(times, blocks.len())).enumerate() {
            let more = rest.min(most - least);
            rest -= more;
            let length = (least + more).min(blocks.end - first);
            if length > 0 {
                self.segment(scope, first..first + length, shape.held.saturating_sub(segment));
            }
            first += length;
        }
    }

    /// A segment with so many boundaries to hold inside it.
    fn segment(&mut self, scope: Scope, blocks: std::ops::Range<usize>, held: usize) {
        let inner = self.inside(scope);
        if blocks.len() == 1 {
            self.of_block[blocks.start] = inner;
            return;
        }
        // The last block is repeated from what enters it, which needs no room of its own.
        let last = blocks.end - 1;
        self.cut(inner, blocks.start..last, Shape { kept: held, held, edges: Edges::Kept });
        self.of_block[last] = self.inside(inner);
    }
}

/// How many blocks can be reversed from `slots` boundaries, the one before the first among them, if none is passed through
/// more than `times` times: C(slots + times, times).
fn capacity(slots: usize, times: usize) -> usize {
    (1..=times.min(slots)).fold(1usize, |product, index| {
        // The product of i consecutive numbers is divisible by i!, so each division is exact.
        product.saturating_mul(slots.max(times) + index) / index
    })
}
